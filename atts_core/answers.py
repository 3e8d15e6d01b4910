"""Answers in texts: find the final one, and bring it into a form that can be compared."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from atts_core.quantities import number, undressed

OPENING, CLOSING = "<think>", "</think>"
"""What reasoning models write, or find in their prompt already, around what they think."""

BOXED = r"\boxed{0}"
"""How a chain gives its answer: what both models of a pair must be able to write and read."""

_BOX = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"(?<!\\)[{}]")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")


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
    text = undressed(answer)
    value = number(text)
    return text_form(_FRACTION.sub(r"(\1)/(\2)", text)) if value is None else value


def text_form(answer: str) -> str:
    """The text without dress, white space and case, in one form of Unicode (NFKC)."""
    text = unicodedata.normalize("NFKC", undressed(answer)).casefold()
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


def equivalent(one: str, other: str) -> bool:
    """Whether two answers have one normal form: enough for numbers and words, not for formulas."""
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
