"""Figures that a document shows are put there by a command, not by hand.

What stands between `<!-- eval NAME ARGUMENTS -->` and `<!-- /eval -->` is replaced.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from atts_core.errors import BadInput

_MARKED = re.compile(r"(<!-- eval (?P<what>[^\n]*?) -->\n).*?(<!-- /eval -->)", re.DOTALL)

Rendered = Callable[[str, Sequence[str]], str]
"""From a mark's name and arguments to the Markdown between the marks."""


def into(document: Path, rendered: Rendered) -> list[str]:
    """Replace what is between the document's marks; returns what they name.

    Raises `BadInput` where there are no marks; the document is then as it was.
    """
    try:
        text = document.read_text()
    except OSError as error:
        raise BadInput(f"--paste: {document}: {error.strerror}", field="paste") from None
    named: list[str] = []

    def filled(found: re.Match[str]) -> str:
        named.append(found["what"])
        name, *arguments = shlex.split(found["what"])
        return f"{found[1]}{rendered(name, arguments).strip()}\n{found[3]}"

    new = _MARKED.sub(filled, text)
    if not named:
        raise BadInput(
            f"--paste: {document} has no mark; figures go between <!-- eval table --> and "
            "<!-- /eval -->",
            field="paste",
        )
    document.write_text(new)
    return named
