"""Answers in texts: find the final one, and say whether two are the same."""

from __future__ import annotations

import re
from fractions import Fraction

OPENING, CLOSING = "<think>", "</think>"
"""What reasoning models write, or find in their prompt already, around what they think."""

BOXED = r"\boxed{0}"
"""How a chain gives its answer: what both models of a pair must be able to write and read."""

_BOX = re.compile(r"\\boxed\s*\{")
_LONGEST_NUMBER = 200
_BRACE = re.compile(r"(?<!\\)[{}]")
_LATEX_NOISE = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|\s)|\$")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def boxed(text: str, *, closed_after: int = 0) -> str | None:
    r"""The content of the last `\boxed{…}` whose brace closes at or after position `closed_after`.

    Braces inside must balance; None where there is no such box.
    """
    found, end = None, -1
    for box in _BOX.finditer(text):
        if box.start() < end:
            continue
        end = _closing(text, box.end())
        if end < 0:
            break  # never closed: what follows is inside it
        if end >= closed_after:
            found = text[box.end() : end].strip()
    return found


def _closing(text: str, begin: int) -> int:
    """Where the brace that is open at `begin` closes; -1 where it does not."""
    depth = 1
    for brace in _BRACE.finditer(text, begin):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return brace.start()
    return -1


def normal_form(answer: str) -> str | Fraction:
    """Equal for equal answers: an exact number where it is one, else the text without its dress."""
    text = _TEXT.sub(r"\1", _LATEX_NOISE.sub("", answer)).strip().rstrip(".").strip()
    text = _FRACTION.sub(r"(\1)/(\2)", text)
    number = _number(text)
    return number if number is not None else re.sub(r"\s+", "", text).casefold()


def _number(text: str) -> Fraction | None:
    """`1,234.5`, `-3/4`, `(3)/(4)` exactly; None for what is no plain number."""
    plain = _THOUSANDS.sub("", re.sub(r"[()\s]", "", text))
    if len(plain) > _LONGEST_NUMBER:
        return None
    if not re.fullmatch(r"[+-]?\d+(?:\.\d+)?(?:/[+-]?\d+(?:\.\d+)?)?", plain):
        return None
    top, _, bottom = plain.partition("/")
    divisor = Fraction(bottom) if bottom else Fraction(1)
    return Fraction(top) / divisor if divisor else None


def equivalent(one: str, other: str) -> bool:
    """Whether two answers say the same."""
    return normal_form(one) == normal_form(other)


def split_reasoning(text: str, handed_over: int = 0) -> tuple[str, str]:
    r"""A chain as (reasoning, final statement).

    The statement is what follows `</think>`, else the last paragraph when it holds the answer's
    `\boxed{…}`; without either all of the text is the statement. Where the target took over within
    that paragraph, at position `handed_over`, and closed a box itself, its words are the statement.
    """
    reasoning, mark, statement = text.rpartition(CLOSING)
    if mark and statement.strip():
        return reasoning.removeprefix(OPENING).strip(), statement.strip()
    begins = text.rstrip().rfind("\n\n") + 2 if "\n\n" in text.rstrip() else 0
    if boxed(text[handed_over:]) is not None:
        begins = max(begins, handed_over)
    if begins and boxed(text[begins:]) is not None:
        return text[:begins].strip(), text[begins:].strip()
    return "", text.strip()
