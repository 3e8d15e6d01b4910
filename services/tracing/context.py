"""The span that this task works for, as W3C's `traceparent`: what is handed on with a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

TRACEPARENT: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""None: nothing is traced."""


@contextmanager
def within(traceparent: str | None) -> Iterator[None]:
    """Whatever is started here belongs to that span."""
    token = TRACEPARENT.set(traceparent)
    try:
        yield
    finally:
        TRACEPARENT.reset(token)


def onward() -> dict[str, str]:
    """Headers by which another server's spans join the trace."""
    traceparent = TRACEPARENT.get()
    return {} if traceparent is None else {"traceparent": traceparent}
