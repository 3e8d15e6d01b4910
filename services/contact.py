"""Exchanges with a process that may be away: said once, tried again less and less often."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from time import monotonic

from atts_core.errors import AttsError

log = logging.getLogger(__name__)


class Contact:
    """How the exchanges with `who` go; `meanwhile` says what the log promises without it.

    `refresh` is the pause between exchanges that succeed, `longest` bounds the one between those
    that fail, `timeout` is what a caller allows one exchange: all in seconds.
    """

    def __init__(
        self, who: str, meanwhile: str, *, refresh: float, longest: float, timeout: float
    ) -> None:
        self.timeout = timeout
        self.failure: str | None = None
        """Why the newest exchange failed; None where it did not."""
        self._who, self._meanwhile = who, meanwhile
        self._refresh, self._longest = refresh, max(refresh, longest)
        self._failures = 0
        self._last: float | None = None

    @property
    def age(self) -> float | None:
        """Seconds since the last exchange that succeeded."""
        return None if self._last is None else monotonic() - self._last

    def pause(self) -> float:
        """Seconds until the next exchange; after failures longer and longer, and never in step
        with the other routers."""
        if not self._failures:
            return self._refresh
        pause = self._refresh * 2.0 ** min(self._failures, 20)
        return min(self._longest, pause) * random.uniform(0.5, 1)

    async def attempt(
        self, exchange: Callable[[], Awaitable[None]], within: float | None = None
    ) -> bool:
        """Whether the exchange succeeded, `within` so many seconds where that is given."""
        try:
            async with asyncio.timeout(within):
                await exchange()
        except TimeoutError:
            self._failed(f"no answer within {self.timeout:g} s")
        except AttsError as error:
            self._failed(str(error))
        except Exception as error:  # another process: anything may come back
            self._failed(f"{type(error).__name__}: {error}")
        else:
            return True
        return False

    def succeeded(self) -> None:
        if self.failure is not None:
            log.warning("the %s is back", self._who)
        self.failure, self._failures = None, 0
        self._last = monotonic()

    def _failed(self, reason: str) -> None:
        if self.failure is None:
            log.warning("no exchange with the %s (%s); %s", self._who, reason, self._meanwhile)
        self.failure = reason
        self._failures += 1
