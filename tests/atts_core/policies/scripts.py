"""What the scripted models of these tests write."""

from __future__ import annotations

from collections.abc import Iterable

from atts_core.engine import Generate, Line

GRADING = "The grade of the last step is: "


def chain(seen: str) -> str:
    """What stands behind the prompt."""
    return seen.partition("<assistant>")[2]


def in_order(*texts: str | Line) -> object:
    """A model of one chain that writes these, one a request."""
    left = iter(texts)
    return lambda seen, request: next(left)


def steps(count: int) -> object:
    """`count` paragraphs that depend on the seed, then an answer that does."""

    def write(seen: str, request: Generate) -> str:
        if chain(seen).count("\n\n") < count:
            return f"wait {request.seed % 1000}\n\n"
        return rf"\boxed{{{request.seed % 3}}}"

    return write


def judging(write: object, grades: Iterable[str] = ()) -> object:
    """A target that also grades: as asked, else a right step 9 and the tried wrong one 1."""
    left = iter(grades)

    def answer(seen: str, request: Generate) -> object:
        if not seen.endswith(GRADING):
            return write(seen, request)  # type: ignore[operator]
        if "12 + 30" in seen:
            return "1" if "71" in seen else "9"
        return next(left, "9")

    return answer
