"""What a request asks of one model, as token ids: refused here where the model cannot do it."""

from __future__ import annotations

import numpy as np

from atts_core.engine import Generate, Rate, Sampling
from atts_core.errors import ContextFull, EngineError
from atts_core.types import History, Ids, Segment, as_ids
from services.engines.text_codec import TextCodec


class Inputs:
    """Turns the requests for one model into ids; what it raises names the model and the chain.

    `max_len` is the context in tokens, `vocabulary_size` the number of ids the model knows.
    """

    def __init__(self, codec: TextCodec, who: str, max_len: int, vocabulary_size: int) -> None:
        self._codec = codec
        self._who = who
        self._max_len = max_len
        self._vocabulary_size = vocabulary_size

    def given(self, chain: str, history: History) -> tuple[Ids, Ids]:
        """The history's ids and, at their end, those of its tail."""
        tail = self._codec.tail_ids(history)
        ids = np.concatenate([as_ids(history.ids), tail])
        if not len(ids):
            raise self.error(chain, "the history is empty")
        self._check(chain, ids)
        return ids, tail

    def rated(self, request: Rate, before: Ids, segment: Segment) -> Ids:
        """The segment's ids in this model's vocabulary, which fit its context behind `before`.

        Empty where the segment's tokens have no text that this model could read.
        """
        ids = self._codec.rated(request.history, segment)
        if not len(ids):
            if not segment.tokens:
                raise self.error(request.chain, "the segment to rate is empty")
            return ids
        self._check(request.chain, ids)
        if len(before) + len(ids) > self._max_len:
            raise ContextFull(
                f"{self._who}, {request.chain}: history and segment have "
                f"{len(before) + len(ids)} tokens, the context is {self._max_len}"
            )
        return ids

    def limit(self, request: Generate, ids: Ids) -> int:
        """How many tokens may be written behind `ids`: at least one, and what the context holds."""
        room = self._max_len - len(ids)
        if request.max_tokens < 1 or room < 1:
            raise ContextFull(
                f"{self._who}, {request.chain}: {len(ids)} tokens leave room for "
                f"{max(0, room)} of the {request.max_tokens} asked for: the context is "
                f"{self._max_len}"
            )
        return min(request.max_tokens, room)

    def sampling(self, request: Generate) -> Sampling:
        sampling = request.sampling
        if sampling.temperature < 0 or not 0 < sampling.top_p <= 1 or sampling.top_k < 0:
            raise self.error(request.chain, f"{sampling} cannot be sampled with")
        return sampling

    def stop(self, request: Generate) -> tuple[str, ...]:
        if not all(isinstance(one, str) and one for one in request.stop):
            raise self.error(
                request.chain, f"a stop is a string that is not empty, not {request.stop!r}"
            )
        return request.stop

    def stop_ids(self, request: Generate) -> list[int]:
        for one in request.stop_ids:
            if not isinstance(one, int) or not 0 <= one < self._vocabulary_size:
                raise self.error(
                    request.chain,
                    f"a stop id is in the vocabulary of {self._vocabulary_size}, not {one!r}",
                )
        return list(request.stop_ids)

    def top_logprobs(self, request: Generate, most: int) -> int:
        if not 0 <= request.top_logprobs <= most:
            raise self.error(
                request.chain, f"{request.top_logprobs} top_logprobs asked for, it tells {most}"
            )
        return request.top_logprobs

    def error(self, chain: str, what: str) -> EngineError:
        return EngineError(f"{self._who}, {chain}: {what}")

    def _check(self, chain: str, ids: Ids) -> None:
        if int(ids.min()) < 0 or int(ids.max()) >= self._vocabulary_size:
            odd = ids[(ids < 0) | (ids >= self._vocabulary_size)][0]
            raise self.error(
                chain, f"token id {odd} is outside the vocabulary of {self._vocabulary_size}"
            )
