"""Numbers as people and models write them, exactly: fractions, percent, powers of ten, units."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 200
"""Characters of a number at most; a longer answer is compared as text."""

_NOISE = re.compile(r"\\(?:left|right|displaystyle|[!()\[\]])|\\?\$|[€£¥]")
_SPACE = re.compile(r"\\[,;:\s]|~")
_TEXT = re.compile(r"\\(?:text|textbf|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "\u2044": "/", "×": "*", "·": "*", "°": " degree", "\xa0": " "}
)
_TIMES_TEN = re.compile(r"\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*(?:\{([+-]?\d{1,3})\}|([+-]?\d))")
_FRACTION = re.compile(
    r"\\[dtc]?frac\s*(?:\{\s*([+-]?[\d.,]+)\s*\}|(\d))\s*(?:\{\s*([+-]?[\d.,]+)\s*\}|(\d))"
)
_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|\.\d+"
_NUMBER = (
    rf"(?P<sign>[+-]?)\s*(?:(?P<whole>\d+)\s+(?P<part>\d+)/(?P<parts>\d+)"
    rf"|(?P<top>{_DECIMAL})(?:\s*/\s*(?P<bottom>[+-]?(?:{_DECIMAL})))?)"
)
_NUMBER_ONLY = re.compile(_NUMBER)
_ANYWHERE = re.compile(rf"(?<![\w.,]){_NUMBER}(?P<percent>\s*(?:\\?%|percent\b))?(?![\w/]|[.,]\d)")
_MEASURE = re.compile(
    rf"{_NUMBER}(?P<unit>\s*\\?%|\s*\^\s*\{{?\\circ\}}?|_\{{?\d+\}}?"
    r"|(?:\^?\{?(?:st|nd|rd|th)\}?(?=\s|$))?(?:\s+[A-Za-z][A-Za-z.]*(?:\^\{?\d\}?|[²³])?)*)"
)
_SYMBOLS = frozenset(re.findall(r"\w+", "mm cm dm m km mg g kg ms s min h ml l"))
"""Units of which two different ones never measure the same number."""
NAMES = frozenset(
    re.findall(
        r"\w+",
        "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt pi inf "
        "infinity and or mod max min lim det gcd lcm abs deg",
    )
)
"""Words that belong to mathematics."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact number and what stands after it; `unit` is empty for a bare number."""

    value: Fraction
    unit: str = ""

    def same(self, other: Quantity, tolerance: float = 0.0) -> bool:
        """Whether both say the same number, within `tolerance` of the larger one's size.

        A missing unit is understood; 50 % is 50 % as well as 50 and 1/2; different bases and
        different metric symbols are different.
        """
        if self.unit == other.unit:
            return close(self.value, other.value, tolerance)
        if self.unit and other.unit and _distinct(self.unit, other.unit):
            return False
        mine, theirs = self.value, other.value
        if close(mine, theirs, tolerance):
            return True
        if self.unit == "%":
            return close(mine / 100, theirs, tolerance)
        return other.unit == "%" and close(mine, theirs / 100, tolerance)


def close(one: Fraction, other: Fraction, tolerance: float) -> bool:
    """Exactly equal, or within `tolerance` times the larger of both sizes."""
    return one == other or abs(one - other) <= Fraction(tolerance) * max(abs(one), abs(other))


def _distinct(one: str, other: str) -> bool:
    return (one.startswith("_") and other.startswith("_")) or {one, other} <= _SYMBOLS


def undressed(answer: str) -> str:
    r"""An answer without `$`, `\left`, `\text{…}` and spacing commands, signs in ASCII."""
    text = _NOISE.sub("", answer.replace("{,}", ",").translate(_SIGNS))
    text = _TEXT.sub(r"\1", _SPACE.sub(" ", text))
    return text.strip().rstrip(".").strip()


def number(text: str) -> Fraction | None:
    r"""`1,234.5`, `-3/4`, `2\frac{1}{2}`, `6.7 \times 10^{-5}` exactly; None for anything else."""
    spelled = _spelled(text)
    return None if spelled is None else _value(_NUMBER_ONLY.fullmatch(spelled))


def quantity(text: str) -> Quantity | None:
    """A number with a percent sign, degrees, a unit, an ordinal's ending, or a base after it."""
    spelled = _spelled(text)
    found = None if spelled is None else _MEASURE.fullmatch(spelled)
    value = _value(found)
    if found is None or value is None:
        return None
    unit = re.sub(r"[\s\\{}]|^\^?\{?(?:st|nd|rd|th)\b\}?", "", found["unit"])
    words = re.findall("[A-Za-z]+", found["unit"])
    if any(word in NAMES or (len(word) == 1 and word not in _SYMBOLS) for word in words):
        return None  # `2 pi`, `5 x`: a product
    return Quantity(value, "%" if unit == "percent" else unit)


def only_number(text: str) -> Fraction | None:
    """The number in a text that holds exactly one: `about 12 cm`; percent are hundredths."""
    spelled = _spelled(undressed(text))
    found = [] if spelled is None else list(_ANYWHERE.finditer(spelled))
    if len(found) != 1:
        return None
    value = _value(found[0])
    return value / 100 if value is not None and found[0]["percent"] else value


def _spelled(text: str) -> str | None:
    """One spelling for fractions and powers of ten; None where the text is too long to be read."""
    if len(text) > LONGEST:
        return None
    text = re.sub("(?<=[0-9])(?=[¼½¾⅐-⅞])", " ", text)
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = _FRACTION.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text)
    text = _TIMES_TEN.sub(lambda m: f"e{m[1] or m[2]}", text)
    text = re.sub(r"\(\s*([+-]?[\d.,]+)\s*\)", r"\1", text)
    return re.sub(r"([+-])\s+(?=[\d.])", r"\1", text).strip()


def _value(found: re.Match[str] | None) -> Fraction | None:
    if found is None:
        return None
    sign = -1 if found["sign"] == "-" else 1
    if found["whole"]:
        parts = int(found["parts"])
        return sign * (int(found["whole"]) + Fraction(int(found["part"]), parts)) if parts else None
    divisor = _decimal(found["bottom"]) if found["bottom"] else Fraction(1)
    return sign * _decimal(found["top"]) / divisor if divisor else None


def _decimal(text: str) -> Fraction:
    return Fraction(re.sub(r"[,\s]", "", text))
