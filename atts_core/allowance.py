"""A cap on what the target writes for one question, shared by its candidates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Grant:
    """Tokens one request may write, and how many it has; all, where it ends without saying."""

    tokens: int
    used: int


class Allowance:
    """Tokens left. A request reserves what it may write, so that requests at once stay within."""

    def __init__(self, tokens: int | None) -> None:
        self._left = tokens

    @property
    def spent(self) -> bool:
        return self._left == 0

    @contextmanager
    def of(self, wanted: int) -> Iterator[Grant]:
        """At most `wanted` tokens; what the request has not used comes back at its end."""
        if self._left is None:
            yield Grant(wanted, wanted)
            return
        tokens = min(wanted, self._left)
        grant = Grant(tokens, tokens)
        self._left -= grant.tokens
        try:
            yield grant
        finally:
            self._left += grant.tokens - grant.used
