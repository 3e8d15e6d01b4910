"""vLLM inside the replica: for large models on GPUs, several of which may share one.

A request's way: `VllmEngine` checks it and turns text into ids, vLLM's `AsyncLLM` carries it to
the process of the steps and its end back, `vllm_scoring` asks for scores and reads them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from time import monotonic
from typing import Any
from weakref import finalize

import numpy as np
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMError
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.executor import Executor

from atts_core.answers import BOXED
from atts_core.engine import Capabilities, Generate
from atts_core.errors import BadInput, EngineUnavailable, ScoreMissing
from atts_core.types import EngineCost, Finish, Ids, Segment, as_ids
from services.engines import tokenizer, vllm_placement, vllm_scoring
from services.engines.chat import Chat
from services.engines.inputs import Inputs
from services.engines.score_memory import LogProbs
from services.engines.settings import VllmSettings
from services.engines.text_codec import TextCodec
from services.engines.text_engine import TextEngine
from services.engines.vllm_status import Status

log = logging.getLogger(__name__)

SCORE, WRITE = 0, 1
"""vLLM's priorities, the lower first: a chain waits for its score, and a score is short."""

_LEAVING_SECONDS = 0.25
"""How long vLLM has at most for the last output of a request that it knows and aborts."""

_BROKEN = (VLLMError, ValueError, OSError, KeyError, TypeError, RuntimeError, ImportError)
"""What vLLM raises for a model that it cannot load."""


class VllmEngine(TextEngine):
    """A language model that continues token ids and rates them: see `atts_core.engine.Engine`."""

    def __init__(self, llm: AsyncLLM, status: Status, words: Any, settings: VllmSettings) -> None:
        super().__init__()
        config = llm.vllm_config
        self._who = settings.model
        self._llm = llm
        self._reported = status
        # One place of the context stays free: vLLM writes a token behind every text it rates.
        max_len = int(config.model_config.max_model_len) - 1
        self._block = int(config.cache_config.block_size)
        self._codec = TextCodec(words)
        self._chat = Chat(words, settings.model, max_len)
        self._inputs = Inputs(
            self._codec, settings.model, max_len, int(config.model_config.get_vocab_size())
        )
        self._scoring = vllm_scoring.choose(config)
        self._capabilities = Capabilities(
            model=settings.model,
            engine="vllm",
            vocabulary=self._codec.vocabulary,
            template=self._chat.template,
            max_len=max_len,
            kv_tokens=int(config.cache_config.num_gpu_blocks) * self._block,
            scores=True,
            reuses_prefix=bool(config.cache_config.enable_prefix_caching),
            aborts=True,
            chats=self._chat.templated,
            writes_answers=self._codec.writes(BOXED),
            top_logprobs=_most_logprobs(config),
        )
        self._totals: Counter[str] = Counter()
        self._under_way: dict[asyncio.Task[Any], str] = {}
        """Requests inside vLLM, and their chains."""
        self._leaving: dict[asyncio.Task[None], str] = {}
        """Requests that are being aborted, and their chains."""
        self._closed = False
        # vLLM's processes must not outlive the replica's.
        finalize(self, llm.shutdown)

    @classmethod
    def load(cls, settings: VllmSettings) -> VllmEngine:
        """Load the model and start vLLM's processes, which takes half a minute or more.

        Raises BadInput where there is no such model or vLLM cannot serve it as configured.
        """
        status = Status()
        try:
            words = tokenizer.load(settings.model, tokenizer.where(settings.model))
            config = vllm_placement.engine_config(_arguments(settings))
            llm = AsyncLLM(
                vllm_config=config,
                executor_class=Executor.get_class(config),
                log_requests=False,
                log_stats=False,
                stat_loggers=[status],
            )
        except _BROKEN as error:
            raise BadInput(
                f"vLLM cannot serve the model {settings.model}: {_line(error)}", field="model"
            ) from error
        return cls(llm, status, words, settings)

    async def _take_out(self, chains: Collection[str]) -> EngineCost:
        for task, chain in list(self._under_way.items()):
            if chain in chains:
                self._abort(task, chain)
        await asyncio.gather(*(task for task, chain in self._leaving.items() if chain in chains))
        return EngineCost()

    async def idle(self) -> bool:
        """Whether vLLM holds no request's KV: the prefix cache can be, and is, emptied."""
        return bool(await self._llm.reset_prefix_cache())

    def check(self, chain: str | None = None) -> None:
        """Raise EngineUnavailable, which names `chain`, when vLLM has died or was closed."""
        who = self._who if chain is None else f"{self._who}, {chain}"
        if self._closed:
            raise EngineUnavailable(f"{who}: the engine was closed")
        if self._llm.errored:
            raise EngineUnavailable(f"{who}: vLLM has died; its log says why")

    def _own_status(self) -> dict[str, Any]:
        """What vLLM does, as it last said, and totals since the start; tokens where not said else.

        `rated_anew` counts scores that had to be computed without the prefix cache.
        """
        totals, tokens = self._totals, self._capabilities.kv_tokens
        # vLLM reports at its steps, and after the last request is aborted it makes none.
        counted = ("prompt_tokens", "cached_tokens", "written_tokens", "rated_tokens", "rated_anew")
        return {
            "running": min(self._reported.running, len(self._under_way)),
            "waiting": min(self._reported.waiting, len(self._under_way)),
            "preempted": self._reported.preempted,
            "steps": self._reported.steps,
            "step_seconds": self._reported.step_seconds,
            "batched_sequences": self._reported.batched,
            "kv_used": round(self._reported.kv_usage * tokens),
            "kv_tokens": tokens,
            "scoring": self._scoring.name,
            **{name: totals[name] for name in counted},
        }

    def close(self) -> None:
        """End vLLM's processes; requests under way fail with EngineUnavailable."""
        if self._closed:
            return
        self._closed = True
        for task in self._under_way:
            task.cancel()
        self._llm.shutdown()

    # ------------------------------------------------------------------ the two verbs

    async def _generate(self, request: Generate) -> Segment:
        ids, tail = self._inputs.given(request.chain, request.history)
        params = self._sampling(request, ids)
        asked = _Asked(self, request.chain)
        written = (await asked.run(ids, params, WRITE)).outputs[0]
        self._totals["written_tokens"] += len(written.token_ids)
        finish, tokens = _ended(written, request.stop_ids)
        whole = tokens[: self._codec.whole(tokens)]
        return Segment(
            text=self._codec.decode(whole),
            ids=as_ids(whole),
            finish=finish,
            vocabulary=self._codec.vocabulary,
            tail_ids=tail,
            cost=asked.cost(len(ids), written=len(written.token_ids)),
            likelihoods=vllm_scoring.likelihoods(written, len(whole), request.top_logprobs),
        )

    def _sampling(self, request: Generate, ids: Ids) -> SamplingParams:
        sampling = self._inputs.sampling(request)
        try:
            return SamplingParams(
                max_tokens=self._inputs.limit(request, ids),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                seed=request.seed,
                stop=list(self._inputs.stop(request)) or None,
                stop_token_ids=self._inputs.stop_ids(request) or None,
                include_stop_str_in_output=True,
                output_kind=RequestOutputKind.FINAL_ONLY,
                logprobs=self._inputs.top_logprobs(request, self._capabilities.top_logprobs)
                or None,
            )
        except (VLLMError, ValueError) as error:
            raise self._inputs.error(request.chain, _line(error)) from error

    async def _logprobs(self, chain: str, ids: Ids, begin: int) -> tuple[LogProbs, EngineCost]:
        asked = _Asked(self, chain)
        logprobs = await self._rate(asked, ids, begin)
        self._totals["rated_tokens"] += len(ids) - begin
        return logprobs, asked.cost(len(ids))

    async def _rate(self, asked: _Asked, ids: Ids, start: int) -> LogProbs:
        """Log-probabilities of `ids[start:]`, with as much of the cache as can be used."""
        if start % self._block:
            found = await self._rows(asked, ids, start)
        else:
            found = await self._parts(asked, ids, start)
        if found is None:
            self._totals["rated_anew"] += 1
            found = await self._rows(asked, ids, start, fresh=True)
        if found is None:
            raise ScoreMissing(
                f"{self._who}, {asked.chain}: vLLM gives no log-probabilities of the segment"
            )
        return found

    async def _rows(
        self, asked: _Asked, ids: Ids, start: int, *, fresh: bool = False
    ) -> LogProbs | None:
        params = self._scoring.params(ids, start, fresh=fresh)
        return self._scoring.read(await asked.run(ids, params, SCORE), ids, start)

    async def _parts(self, asked: _Asked, ids: Ids, start: int) -> LogProbs | None:
        """The first token by itself: the cache may hold the block that predicts it."""
        token = int(ids[start])
        output = await asked.run(ids[:start], vllm_scoring.next_params(token), SCORE)
        first = vllm_scoring.read_next(output, token)
        if first is None or start + 1 == len(ids):
            return first
        others = await self._rows(asked, ids, start + 1)
        return None if others is None else np.concatenate([first, others])

    async def ask(self, chain: str, ids: Ids, params: Any, priority: int) -> Any:
        """One request's final output; cancelling the caller aborts it inside vLLM."""
        self.check(chain)
        self._totals["asked"] += 1
        name = f"{chain}/{self._totals['asked']}"
        task = asyncio.create_task(self._last(name, ids, params, priority), name=name)
        self._under_way[task] = chain
        self._reported.begins()
        task.add_done_callback(self._over)
        try:
            # Not cancelled with us: aborted, it tells what it has written until then.
            last = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by `close`, not by its owner, who must learn why
                self.check(chain)
            writes = priority == WRITE
            if task.done():  # its end was on its way
                self._note(chain, writes, task)
            else:
                task.add_done_callback(partial(self._note, chain, writes))
                self._abort(task, chain)
            raise
        except EngineDeadError:
            raise EngineUnavailable(f"{self._who}, {chain}: vLLM has died") from None
        except (VLLMError, ValueError) as error:
            raise self._inputs.error(chain, _line(error)) from error
        if last is not None and last.outputs[0].finish_reason == "abort":
            self._tell(chain, priority == WRITE, last)
        return self._read(chain, last)

    def _over(self, task: asyncio.Task[Any]) -> None:
        del self._under_way[task]
        if not self._under_way:
            self._reported.rests()

    async def _last(self, name: str, ids: Ids, params: Any, priority: int) -> Any:
        last = None
        prompt = {"type": "token", "prompt_token_ids": ids.tolist()}
        async for output in self._llm.generate(prompt, params, name, priority=priority):
            last = output
        return last

    def _abort(self, task: asyncio.Task[Any], chain: str) -> None:
        name = f"abort {task.get_name()}"
        if task.done() or any(leaving.get_name() == name for leaving in self._leaving):
            return
        leaving = asyncio.create_task(self._leave(task), name=name)
        self._leaving[leaving] = chain
        leaving.add_done_callback(self._left)

    async def _leave(self, task: asyncio.Task[Any]) -> None:
        """Abort a request inside vLLM, and wait until it has ended."""
        await self._llm.abort(task.get_name())
        await asyncio.wait({task}, timeout=_LEAVING_SECONDS)
        if not task.done():  # vLLM did not know it yet: it takes out what it then gets
            task.cancel()
            await asyncio.wait({task})

    def _note(self, chain: str, writes: bool, task: asyncio.Task[Any]) -> None:
        """What a request had cost whose end nobody waits for any more."""
        if not task.cancelled() and task.exception() is None and task.result() is not None:
            self._tell(chain, writes, task.result())

    def _tell(self, chain: str, writes: bool, output: Any) -> None:
        cost = EngineCost(
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens or 0,
            # Behind a text that it rates, vLLM writes a token that nobody wants.
            written_tokens=len(output.outputs[0].token_ids) if writes else 0,
        )
        self._totals["prompt_tokens"] += cost.prompt_tokens
        self._totals["cached_tokens"] += cost.cached_tokens
        self._totals["written_tokens"] += cost.written_tokens
        self._aborted.note(chain, cost)

    def _left(self, leaving: asyncio.Task[None]) -> None:
        del self._leaving[leaving]
        if not leaving.cancelled() and leaving.exception() is not None:
            log.warning("%s: a request was not aborted: %s", self._who, leaving.exception())

    def _read(self, chain: str, output: Any) -> Any:
        if output is None or output.outputs[0].finish_reason not in ("stop", "length"):
            reason = None if output is None else output.outputs[0].finish_reason
            raise self._inputs.error(chain, f"vLLM ended the request: {reason or 'no output'}")
        self._totals["prompt_tokens"] += len(output.prompt_token_ids)
        self._totals["cached_tokens"] += output.num_cached_tokens or 0
        return output


class _Asked:
    """What one request of ours has cost: it may take several of vLLM's."""

    def __init__(self, engine: VllmEngine, chain: str) -> None:
        self.chain = chain
        self._engine = engine
        self._begun = monotonic()
        self._queued = 0.0
        self._cached = 0

    async def run(self, ids: Ids, params: Any, priority: int) -> Any:
        output = await self._engine.ask(self.chain, ids, params, priority)
        if output.metrics is not None:
            self._queued += max(0.0, output.metrics.scheduled_ts - output.metrics.queued_ts)
        self._cached = output.num_cached_tokens or 0
        return output

    def cost(self, prompt_tokens: int, *, written: int = 0) -> EngineCost:
        """`cached_tokens` are those of the last request, which read the whole prompt."""
        return EngineCost(
            queued=self._queued,
            busy=max(0.0, monotonic() - self._begun - self._queued),
            prompt_tokens=prompt_tokens,
            cached_tokens=self._cached,
            written_tokens=written,
        )


def _most_logprobs(config: Any) -> int:
    """vLLM's own limit of log-probabilities a token (-1: the vocabulary)."""
    most = int(config.model_config.max_logprobs)
    return int(config.model_config.get_vocab_size()) if most < 0 else most


def _arguments(settings: VllmSettings) -> AsyncEngineArgs:
    given: dict[str, Any] = {
        "model": settings.model,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "tensor_parallel_size": settings.tensor_parallel,
        "gpu_memory_utilization": settings.gpu_memory,
        "max_num_seqs": settings.max_batch,
        "max_num_batched_tokens": settings.prefill_tokens,
        "max_model_len": settings.max_len,
        "enforce_eager": settings.eager,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
    }
    if current_platform.is_cpu():
        # vLLM (0.33) wants the offset of a seeded request's generator when it reads a prompt in
        # portions. A CPU's has none, and the engine dies of it: prompts are read whole there.
        given |= {"enable_chunked_prefill": False, "max_num_batched_tokens": None}
    if settings.kv_gib is not None:
        given["kv_cache_memory_bytes"] = int(settings.kv_gib * 2**30)
    if settings.block_size is not None:
        given["block_size"] = settings.block_size
    return AsyncEngineArgs(**given)


def _ended(written: Any, stop_ids: Sequence[int]) -> tuple[Finish, list[int]]:
    """Why it ended, and its tokens without the one that ends a text."""
    tokens = [int(token) for token in written.token_ids]
    if written.finish_reason == "length":
        return "length", tokens
    if isinstance(written.stop_reason, str) or tokens[-1] in stop_ids:
        return "stop", tokens
    return "eos", tokens[:-1]  # the model's end of text, or another id of its configuration


def _line(error: BaseException) -> str:
    """The error, or what caused it, in one line."""
    cause = error.__cause__ if not str(error) and error.__cause__ is not None else error
    return " ".join((str(cause) or type(cause).__name__).split())[:300]
