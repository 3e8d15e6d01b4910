"""Scores that were computed before: what a model thinks of a text does not change.

Candidates of one question often take the same step behind the same words, and a short step more
often than a long one. Its scores are computed for the first of them, and known for the others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from atts_core.types import Ids

LogProbs: TypeAlias = npt.NDArray[np.float32]
Key: TypeAlias = bytes

KEPT = 4_000_000
"""Log-probabilities kept at most, 16 MB; each segment counts `_BESIDES` more."""
_BESIDES = 64


class ScoreMemory:
    """The log-probabilities (nats) of rated segments, the least recently used forgotten first.

    Belongs to one event loop. `read` and `rated` count, since the start, the tokens that were given
    with what was known, and those of them that were to be rated.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._size = 0
        self._known: OrderedDict[Key, LogProbs] = OrderedDict()
        self._under_way: dict[Key, asyncio.Future[None]] = {}
        self.read = 0
        self.rated = 0

    @staticmethod
    def key(ids: Ids, begin: int) -> Key:
        """Of the segment `ids[begin:]` behind the rest."""
        return blake2b(ids.tobytes(), digest_size=16, salt=begin.to_bytes(16, "big")).digest()

    async def recall(self, key: Key, tokens: int) -> LogProbs | None:
        """What is known of a segment of a text of `tokens`; None: compute it, and `keep` it.

        Waits where another request computes the same, and may then find that it has failed.
        """
        while (under_way := self._under_way.get(key)) is not None:
            await asyncio.wait([under_way])
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            self.read += tokens
            self.rated += len(known)
        return known

    @contextmanager
    def computing(self, key: Key) -> Iterator[None]:
        """While this lasts, others that want the same wait; entered as soon as nothing is known."""
        ended = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._under_way[key]
            ended.set_result(None)

    def keep(self, key: Key, logprobs: LogProbs) -> None:
        """Remember; they are shared from now on, and not to be written to."""
        logprobs.flags.writeable = False
        self._known[key] = logprobs
        self._size += len(logprobs) + _BESIDES
        while self._size > self._kept:
            _, oldest = self._known.popitem(last=False)
            self._size -= len(oldest) + _BESIDES
