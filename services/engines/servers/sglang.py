"""SGLang's own `/generate` (0.5): token ids in and out, scores of any part of a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atts_core.engine import Generate
from atts_core.errors import EngineError, ScoreMissing
from atts_core.types import Ids
from services.engines.servers.server import Call, Ending, Rated, Reply, Written, token_ids
from services.engines.text_codec import TextCodec


class Sglang:
    """An SGLang server; its radix cache serves scores as well as generations."""

    kind = "sglang"
    scores = True
    reuses_prefix = True

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec

    def generation(self, ids: Ids, limit: int, request: Generate) -> Call:
        sampling = request.sampling
        return Call(
            "/generate",
            {
                "input_ids": ids.tolist(),
                "sampling_params": {
                    "max_new_tokens": limit,
                    "temperature": sampling.temperature,
                    "top_p": sampling.top_p,
                    "top_k": sampling.top_k or -1,
                    "sampling_seed": request.seed,
                    "stop": list(request.stop),
                    "stop_token_ids": list(request.stop_ids),
                    "no_stop_trim": True,
                    **_NEUTRAL,
                },
            },
        )

    def written(self, reply: Reply, request: Generate) -> Written:
        meta = _meta(reply)
        reason = meta.get("finish_reason")
        if not isinstance(reason, Mapping):
            raise EngineError("the answer names no finish_reason")
        matched = reason.get("matched", reason.get("message"))
        ids = token_ids(reply.get("output_ids"))
        ending = Ending(reason.get("type"), matched, request.stop, request.stop_ids)
        return Written(*ending.of(ids, self._codec.decode(ids)), cached=_cached(meta))

    def rating(self, ids: Ids, start: int, *, fresh: bool) -> Call:
        """`fresh` changes nothing: the cache is read up to where the scores begin, no further."""
        return Call(
            "/generate",
            {
                "input_ids": ids.tolist(),
                "sampling_params": {"max_new_tokens": 1, "temperature": 0.0, **_NEUTRAL},
                "return_logprob": True,
                "logprob_start_len": start - 1,
                "top_logprobs_num": 0,
            },
        )

    def rated(self, reply: Reply, ids: Ids, start: int) -> Rated:
        meta = _meta(reply)
        entries = meta.get("input_token_logprobs")
        if not isinstance(entries, list):
            raise ScoreMissing("the answer holds no input_token_logprobs")
        # The first entry rates the token before the segment, which no token predicts: None.
        entries = entries[1:]
        for (_, found, *_), wanted in zip(entries, ids[start:].tolist(), strict=False):
            if found != wanted:
                raise ScoreMissing(f"the server rated token {found} in place of {wanted}")
        return Rated([value for value, *_ in entries], _cached(meta))


_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_p": 0.0,
}
"""Said outright: a server may have other defaults, and penalties count prompt tokens."""


def _meta(reply: Reply) -> Mapping[str, Any]:
    meta = reply.get("meta_info")
    if not isinstance(meta, Mapping):
        raise EngineError("the answer holds no meta_info")
    return meta


def _cached(meta: Mapping[str, Any]) -> int:
    return int(meta.get("cached_tokens") or 0)
