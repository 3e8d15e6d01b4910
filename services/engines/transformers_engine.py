"""The embedded engine: any Hugging Face causal model, batched step by step in this process.

A request's way: `TransformersEngine` checks it and turns text into ids (here, on the event loop),
`StepThread` carries it over to the thread of the steps and its end back, `StepLoop` decides which
requests take part in a step, `PackedForward` (or `PaddedForward`) computes it, `KvStore` remembers
the KV of what was read and written.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from weakref import finalize

import numpy as np

from atts_core.answers import BOXED
from atts_core.engine import Capabilities, Generate
from atts_core.types import EngineCost, Ids, Likelihoods, Segment, as_ids
from services.engines import checkpoint, probe, sampling
from services.engines.chat import Chat
from services.engines.checkpoint import Checkpoint
from services.engines.inputs import Inputs
from services.engines.jobs import GenerateJob, Job, ScoreJob
from services.engines.score_memory import LogProbs
from services.engines.settings import TransformersSettings
from services.engines.step_thread import StepThread
from services.engines.stops import StopStrings
from services.engines.text_codec import TextCodec
from services.engines.text_engine import TextEngine


class TransformersEngine(TextEngine):
    """A language model that continues token ids and rates them: see `atts_core.engine.Engine`."""

    def __init__(self, loaded: Checkpoint, settings: TransformersSettings) -> None:
        super().__init__()
        self._who = loaded.name
        self._codec = TextCodec(loaded.tokenizer)
        self._inputs = Inputs(self._codec, loaded.name, loaded.max_len, loaded.vocabulary_size)
        self._chat = Chat(loaded.tokenizer, loaded.name, loaded.max_len)
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self._steps = probe.working_steps(loaded, settings)
        self._capabilities = Capabilities(
            model=loaded.name,
            engine="transformers",
            vocabulary=self._codec.vocabulary,
            template=self._chat.template,
            max_len=loaded.max_len,
            kv_tokens=settings.kv_tokens,
            scores=True,
            reuses_prefix=True,
            aborts=True,
            chats=self._chat.templated,
            writes_answers=self._codec.writes(BOXED),
            top_logprobs=loaded.vocabulary_size,
        )
        # Where cores compute, who answers clients goes before who computes for them.
        niceness = 4 if loaded.kv.device.type == "cpu" else 0
        self._thread = StepThread(self._steps, loaded.name, loaded.threads, niceness)
        # Torch does not survive a thread that is still in it when the process ends.
        finalize(self, self._thread.close)

    @classmethod
    def load(cls, settings: TransformersSettings) -> TransformersEngine:
        """Load the model and start its thread.

        Raises BadInput where there is no such model or it cannot be served correctly.
        """
        return cls(checkpoint.load(settings), settings)

    async def _take_out(self, chains: Collection[str]) -> EngineCost:
        return await self._thread.abort(chains)

    async def idle(self) -> None:
        """Wait until no request is left."""
        await self._thread.idle()

    def check(self) -> None:
        """Raise EngineUnavailable when the engine has died or was closed."""
        self._thread.check()

    def _own_status(self) -> dict[str, Any]:
        """What the engine does now, and totals since its start; tokens where not said else."""
        steps, store, counters = self._steps, self._steps.store, self._steps.counters
        return {
            "running": steps.running,
            "waiting": steps.waiting,
            "kv_used": store.used,
            "kv_cached": store.tree.size,
            "kv_free": store.free,
            "kv_tokens": store.tokens,
            "steps": counters.steps,
            "step_seconds": counters.step_seconds,
            "batched_sequences": counters.batched_sequences,
            "prompt_tokens": counters.prompt_tokens,
            "cached_tokens": counters.cached_tokens,
            "written_tokens": counters.written_tokens,
            "rated_tokens": counters.rated_tokens,
            "aborted_tokens": counters.aborted_tokens,
        }

    def close(self) -> None:
        """Stop the thread; requests under way fail with EngineUnavailable."""
        self._thread.close()

    # ------------------------------------------------------------------ the two verbs

    async def _generate(self, request: Generate) -> Segment:
        ids, tail = self._inputs.given(request.chain, request.history)
        limit = self._inputs.limit(request, ids)
        job = GenerateJob(
            chain=request.chain,
            ids=ids,
            max_tokens=limit,
            sampling=self._inputs.sampling(request),
            draws=sampling.draws(request.seed, limit),
            stops=self._stop_strings(self._inputs.stop(request)),
            stop_ids=frozenset(self._inputs.stop_ids(request)),
            top_logprobs=self._inputs.top_logprobs(request, self._capabilities.top_logprobs),
        )
        await self._run(job, len(ids) + limit)
        assert job.finish is not None
        written = job.written[:-1] if job.finish == "eos" else job.written
        written = written[: self._codec.whole(written)]
        return Segment(
            text=self._codec.decode(written),
            ids=as_ids(written),
            finish=job.finish,
            vocabulary=self._codec.vocabulary,
            tail_ids=tail,
            cost=job.cost(),
            likelihoods=_likelihoods(job, len(written)),
        )

    async def _logprobs(self, chain: str, ids: Ids, begin: int) -> tuple[LogProbs, EngineCost]:
        job = ScoreJob(chain=chain, ids=ids, start=begin)
        await self._run(job, len(ids))
        return np.concatenate(job.logprobs), job.cost()

    async def _run(self, job: Job, tokens: int) -> None:
        if tokens > self._capabilities.kv_tokens:
            raise self._inputs.error(
                job.chain,
                f"the request may need the KV of {tokens} tokens, kv_tokens is "
                f"{self._capabilities.kv_tokens}",
            )
        await self._thread.run(job)

    def _stop_strings(self, stop: tuple[str, ...]) -> StopStrings | None:
        """Kept between requests: they remember what they have learnt of the vocabulary."""
        if not stop:
            return None
        found = self._stops.pop(stop, None) or StopStrings(self._codec, stop)
        self._stops[stop] = found
        if len(self._stops) > 64:
            del self._stops[next(iter(self._stops))]
        return found


def _likelihoods(job: GenerateJob, tokens: int) -> Likelihoods | None:
    """Of the first `tokens` written, where the request asked."""
    if not job.top_logprobs:
        return None
    return Likelihoods(
        np.array(job.logprobs[:tokens], np.float32), np.array(job.confidences[:tokens], np.float32)
    )
