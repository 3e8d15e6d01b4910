"""How a log-probability of given text is got out of vLLM without trusting what was not computed.

vLLM skips what its prefix cache holds, and log-probabilities of skipped tokens do not exist: older
runners return uninitialised memory in their place, newer ones nothing. So each way of asking says
by itself which answers can be used, and what cannot is asked again with the cache off.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from atts_core.types import Ids, Likelihoods
from services.engines.score_memory import LogProbs

_ALIKE: dict[str, Any] = {
    "max_tokens": 1,  # vLLM has no request that writes nothing
    "temperature": 0.0,
    "detokenize": False,
    "output_kind": RequestOutputKind.FINAL_ONLY,
}


class Scoring(Protocol):
    """One way of asking vLLM for the log-probabilities of `ids[start:]`, `start` at least 1."""

    name: str

    def params(self, ids: Ids, start: int, *, fresh: bool) -> Any:
        """What to send; `fresh` computes everything anew, whatever is cached."""
        ...

    def read(self, output: Any, ids: Ids, start: int) -> LogProbs | None:
        """One value for each of `ids[start:]`, or None where they were not all computed."""
        ...


def choose(config: Any) -> Scoring:
    """The cheapest way that this vLLM has, by what it accepts and the runner it has chosen."""
    known = set(SamplingParams.__struct_fields__)
    rows = {"prompt_logprob_start", "prompt_logprob_token_ids"} <= known
    return SegmentRows() if rows and getattr(config, "use_v2_model_runner", False) else AllRows()


class SegmentRows:
    """Model Runner V2: the head runs on the segment's rows alone.

    Where the cache holds more than the rows' beginning, the result is None by itself.
    """

    name = "segment rows"

    def params(self, ids: Ids, start: int, *, fresh: bool) -> Any:
        return SamplingParams(
            **_ALIKE,
            prompt_logprob_start=start - 1,
            prompt_logprob_token_ids=np.ascontiguousarray(ids[start:, None], dtype=np.int32),
            skip_reading_prefix_cache=fresh,
        )

    def read(self, output: Any, ids: Ids, start: int) -> LogProbs | None:
        rows = output.prompt_token_id_logprobs
        if rows is None or np.shape(rows) != (len(ids) - start, 1):
            return None
        return _plausible(np.array(rows[:, 0], dtype=np.float32))


class AllRows:
    """Model Runner V1: the logits of every token that is computed, whoever asks for how many.

    Its buffer has room for the whole prompt and is filled where something was computed: the rows
    behind the cached tokens, if the request was not interrupted.
    """

    name = "all rows"

    def params(self, ids: Ids, start: int, *, fresh: bool) -> Any:
        return SamplingParams(
            **_ALIKE,
            prompt_logprobs=0,  # of the token that stands there, and no other
            flat_logprobs=True,
            skip_reading_prefix_cache=fresh,
        )

    def read(self, output: Any, ids: Ids, start: int) -> LogProbs | None:
        cached, rows, count = output.num_cached_tokens, output.prompt_logprobs, len(ids) - start
        if rows is None or cached is None or cached > start - 1:
            return None
        if cached and (output.metrics is None or output.metrics.num_preemptions):
            return None  # resumed from a longer prefix than it had begun with
        if len(rows.logprobs) != len(ids) - 1 or rows.token_ids[-count:] != ids[start:].tolist():
            return None
        return _plausible(np.array(rows.logprobs[-count:], dtype=np.float32))


def next_params(token: int) -> Any:
    """Ask for the log-probability of `token` as the one that follows the prompt.

    This always computes the prompt's last block, so that it also serves where a history ends with
    a block, is cached to its end and could not be rated with `Scoring` but by computing all anew.
    """
    return SamplingParams(**_ALIKE, logprobs=1, logprob_token_ids=[token], flat_logprobs=True)


def read_next(output: Any, token: int) -> LogProbs | None:
    rows = output.outputs[0].logprobs
    if rows is None or token not in rows.token_ids:
        return None
    return _plausible(np.array([rows.logprobs[rows.token_ids.index(token)]], dtype=np.float32))


def _plausible(values: LogProbs) -> LogProbs | None:
    """No log-probability is above 0, but for rounding; memory that nobody wrote may be."""
    return values if (values < 1e-3).all() else None


def likelihoods(written: Any, tokens: int, top: int) -> Likelihoods | None:
    """Of the first `tokens` that vLLM wrote, where `top` log-probabilities a place were asked for.

    Beside the likeliest tokens vLLM tells the one that it drew, wherever it ranks.
    """
    if not top:
        return None
    places = list(zip(written.token_ids, written.logprobs, strict=True))[:tokens]
    chosen = [place[token].logprob for token, place in places]
    likeliest = [sorted((one.logprob for one in p.values()), reverse=True)[:top] for _, p in places]
    confidences = [-sum(logprobs) / top for logprobs in likeliest]
    return Likelihoods(np.array(chosen, np.float32), np.array(confidences, np.float32))
