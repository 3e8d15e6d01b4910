"""vLLM's HTTP server: by its token endpoint where it has one, else by `/v1/completions`."""

from __future__ import annotations

import base64
import binascii
from io import BytesIO
from typing import Any, Literal

import numpy as np

from atts_core.engine import Generate
from atts_core.errors import ScoreMissing
from atts_core.types import Ids
from services.engines.servers.server import (
    Call,
    Ending,
    Rated,
    Reply,
    Written,
    cached_tokens,
    choice_of,
    token_ids,
)
from services.engines.text_codec import TextCodec

Way = Literal["chosen", "prompt", "completions"]
"""How a segment is rated: the log-probabilities of chosen ids from a start on (model runner V2);
those of the whole prompt by the token endpoint; or by `/v1/completions`, which never reads the
cache for it."""

WAYS: tuple[Way, ...] = ("chosen", "prompt", "completions")


class Vllm:
    """A vLLM server that is asked in one `way`, the best that works on it."""

    kind = "vllm"
    scores = True

    def __init__(self, model: str, codec: TextCodec, way: Way) -> None:
        self._model = model
        self._codec = codec
        self._way = way
        # Rows of cached tokens are uninitialised memory: without the count of cached tokens
        # (--enable-prompt-tokens-details) nobody can tell, and the cache is not read.
        self._tells_cached = way == "prompt"

    @property
    def reuses_prefix(self) -> bool:
        """Whether scores read the prefix cache."""
        return self._way == "chosen" or self._tells_cached

    def generation(self, ids: Ids, limit: int, request: Generate) -> Call:
        sampling = request.sampling
        return self._call(
            ids,
            {
                "max_tokens": limit,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "seed": request.seed,
                "stop": list(request.stop),
                "stop_token_ids": list(request.stop_ids),
                "include_stop_str_in_output": True,
                **_NEUTRAL,
            },
        )

    def written(self, reply: Reply, request: Generate) -> Written:
        choice = choice_of(reply)
        ids = token_ids(choice.get("token_ids"))
        ending = Ending(
            choice.get("finish_reason"), choice.get("stop_reason"), request.stop, request.stop_ids
        )
        return Written(*ending.of(ids, self._codec.decode(ids)), cached=cached_tokens(reply) or 0)

    def rating(self, ids: Ids, start: int, *, fresh: bool) -> Call:
        asked: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0}
        if self._way == "completions":
            return self._call(ids, {**asked, "prompt_logprobs": 0})
        asked |= {"detokenize": False, "skip_reading_prefix_cache": fresh or not self.reuses_prefix}
        if self._way == "prompt":
            return self._call(ids, {**asked, "prompt_logprobs": 0})
        chosen = [[token] for token in ids[start:].tolist()]
        return self._call(
            ids,
            {**asked, "prompt_logprob_start": start - 1, "prompt_logprob_token_ids": chosen},
        )

    def rated(self, reply: Reply, ids: Ids, start: int) -> Rated | None:
        cached = cached_tokens(reply)
        if self._way == "chosen":
            rows = reply.get("prompt_token_id_logprobs")
            # Where more was cached than lies before the segment there are no rows.
            return None if rows is None else Rated(_array(rows), cached or 0)
        if self._way == "prompt" and self._tells_cached:
            if cached is None:
                self._tells_cached = False
                return None
            if cached > start - 1:
                return None
        found = reply if self._way == "prompt" else choice_of(reply)
        entries = found.get("prompt_logprobs")
        if not isinstance(entries, list):
            raise ScoreMissing("the answer holds no prompt_logprobs")
        wanted = ids[start:].tolist()
        last = entries[max(0, len(entries) - len(wanted)) :]
        return Rated([_value(e, t) for e, t in zip(last, wanted, strict=False)], cached or 0)

    def _call(self, ids: Ids, sampling: dict[str, Any]) -> Call:
        if self._way == "completions":
            asked = {"model": self._model, "prompt": ids.tolist(), "return_token_ids": True}
            return Call("/v1/completions", asked | sampling)
        return Call(
            "/inference/v1/generate",
            {"model": self._model, "token_ids": ids.tolist(), "sampling_params": sampling},
        )


_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_p": 0.0,
}
"""Said outright: a server may have other defaults, and penalties count prompt tokens."""


def _array(rows: Any) -> list[float | None]:
    """A float32 array [tokens, 1] as vLLM packs it: a `.npy` file in base64."""
    try:
        values = np.load(BytesIO(base64.b64decode(rows)), allow_pickle=False)
    except (ValueError, TypeError, EOFError, binascii.Error):
        raise ScoreMissing("prompt_token_id_logprobs is no array") from None
    found: list[float | None] = values.reshape(-1).astype(float).tolist()
    return found


def _value(entry: Any, token: int) -> float | None:
    """The log-probability of `token` in one entry of `prompt_logprobs`; None where it is not."""
    found = (entry or {}).get(str(token))
    return None if found is None else found.get("logprob")
