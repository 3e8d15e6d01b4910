"""Figures that a document shows are put there by a command, not by hand.

What stands between `<!-- eval RUN WHAT ARGUMENTS -->` and `<!-- /eval -->` is replaced. RUN is the
name of the results folder: a document may show several runs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from atts_core.errors import BadInput

_MARKED = re.compile(
    r"(<!-- eval (?P<run>\S+) (?P<what>[^\n]+?) -->\n).*?(<!-- /eval -->)", re.DOTALL
)

Rendered = Callable[[str, Sequence[str]], str]
"""From what a mark names, and its arguments, to the Markdown between the marks."""


def into(document: Path, run: str, rendered: Rendered) -> list[str]:
    """Replace what is between the document's marks of a run; returns what they name.

    Raises `BadInput` where there are none; the document is then as it was.
    """
    try:
        text = document.read_text()
    except OSError as error:
        raise BadInput(f"--paste: {document}: {error.strerror}", field="paste") from None
    named: list[str] = []

    def filled(found: re.Match[str]) -> str:
        if found["run"] != run:
            return found[0]
        named.append(found["what"])
        what, *arguments = shlex.split(found["what"])
        return f"{found[1]}{rendered(what, arguments).strip()}\n{found[4]}"

    new = _MARKED.sub(filled, text)
    if not named:
        raise BadInput(
            f"--paste: {document} has no mark of this run; its figures go between "
            f"<!-- eval {run} table --> and <!-- /eval -->",
            field="paste",
        )
    document.write_text(new)
    return named
