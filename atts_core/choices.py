"""Multiple choice: the options a question lists, and which of them an answer names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from atts_core.quantities import undressed

_OWN_LINE = re.compile(r"^[ \t]*(?:\(([A-J])\)|([A-J])[).:])[ \t]*(\S.*)$", re.MULTILINE)
_INLINE = re.compile(r"(?<![\w)])\(([A-J])\)(?=[\s~}\\])")
_DRESS = re.compile(r"\\(?:text|textbf|mathrm|qquad|quad)\b|[{}~$;]")
_LETTER = re.compile(r"[(\[]?([A-Ja-j])[)\]]?[.:]?")
_LABELLED = re.compile(r"(?:\(([A-J])\)|([A-J])[).:])\s*\S.*", re.DOTALL)
_SAID = re.compile(
    r"(?i:\b(?:answer|option|choice)(?:\s{1,3}is\b|\s{0,3}[:=]))[\s:*$\\]{0,12}"
    r"(?:\\?(?:boxed|text|textbf|mathrm)\{){0,2}\(?([AI](?!\s+[a-z])|[B-H]|J)(?![\w'])"
)


def options(question: str) -> dict[str, str]:
    """The options that a question lists from A on, by letter; empty where it lists none.

    At least two, each on a line of its own (`A. …`, `A) …`, `(A) …`), or three within the text
    as `(A) … (B) … (C) …`.
    """
    lines = {m[1] or m[2]: m[3] for m in _OWN_LINE.finditer(question)}
    if _from_a(list(lines), 2):
        return {letter: _plain(text) for letter, text in lines.items()}
    found = list(_INLINE.finditer(question))
    if not _from_a([m[1] for m in found], 3):
        return {}
    ends = [m.start() for m in found[1:]] + [len(question)]
    return {
        m[1]: _plain(question[m.end() : end].split("\n\n")[0])
        for m, end in zip(found, ends, strict=True)
    }


def letter(answer: str, listed: Mapping[str, str]) -> str | None:
    """The option an answer names: by its letter, bare or dressed, or by the option's own text."""
    text = undressed(answer)
    bare = _LETTER.fullmatch(text)
    if bare:
        return bare[1].upper()
    labelled = _LABELLED.fullmatch(text)
    if labelled:
        return labelled[1] or labelled[2]
    said = stated(text)
    if said:
        return said
    quoted = [letter for letter, option in listed.items() if option and option == _plain(text)]
    return quoted[0] if len(quoted) == 1 else None


def stated(text: str) -> str | None:
    """The letter of the last `Answer: B`, `the answer is (B)` of a text without a box."""
    said = _SAID.findall(text)
    return said[-1] if said else None


def _from_a(letters: list[str], least: int) -> bool:
    return len(letters) >= least and letters == list("ABCDEFGHIJ"[: len(letters)])


def _plain(option: str) -> str:
    text = re.sub(r"\s+", " ", _DRESS.sub(" ", undressed(option)))
    return text.strip(" .,").rstrip("\\ .,").casefold()
