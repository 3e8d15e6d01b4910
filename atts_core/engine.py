"""The seam between the algorithm and the models: an engine continues token ids and rates them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import (
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from atts_core.errors import EngineError, PromptTooLong, ScoreMissing
from atts_core.types import (
    EngineCost,
    Finish,
    History,
    Ids,
    Likelihoods,
    Message,
    Scored,
    Segment,
    as_ids,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do, probed at its start and not believed from a name.

    `vocabulary` is a fingerprint: two engines with the same one exchange ids as they are.
    `max_len` is the context in tokens, `kv_tokens` how many tokens of all requests it can hold.
    `chats` says that the model has a chat template of its own, `writes_answers` that its vocabulary
    can write an answer's box: what two models need in common. `top_logprobs` is how many of the
    likeliest tokens it can tell the log-probabilities of where it writes, 0: none.
    """

    model: str
    engine: str
    vocabulary: str
    template: str
    max_len: int
    kv_tokens: int
    scores: bool = True
    reuses_prefix: bool = False
    aborts: bool = True
    chats: bool = True
    writes_answers: bool = True
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; `temperature` 0 is greedy, `top_k` 0 and `top_p` 1 cut nothing."""

    temperature: float = 0.8
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Generate:
    """Continue a history by at most `max_tokens` tokens.

    A stop string, or a token of `stop_ids` in the engine's own vocabulary, ends the segment and is
    part of it. Where the context has room for fewer than `max_tokens` tokens behind the history,
    the segment ends when it is full, as by `length`; where for none, ContextFull is raised.
    `chain` names the candidate (requests of one chain find its prefix cached on the replica they
    share). Equal seeds draw equal tokens from equal distributions. With `top_logprobs`, at most
    what the engine is capable of, the segment tells its `Likelihoods`.
    """

    chain: str
    history: History
    max_tokens: int
    sampling: Sampling
    seed: int
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """Rate a segment after a history: one log-probability for each of its tokens."""

    chain: str
    history: History


class Pending(Protocol[T_co]):
    """A result under way: await it, or cancel it, which stops the work inside the engine."""

    def __await__(self) -> Generator[Any, None, T_co]: ...
    def done(self) -> bool: ...
    def cancel(self) -> Any: ...


class Engine(Protocol):
    """A language model as the algorithm sees it: it continues token ids and rates them.

    `generate` and `score` start the work and return at once. `score` takes a segment that may
    still be being written, so that it travels from one engine to the other without a stop between.
    Whoever starts a request awaits or cancels it: see `owned`.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    async def render(self, messages: Sequence[Message]) -> Ids:
        """The conversation in the model's chat template, ready for its answer."""
        ...

    def generate(self, request: Generate) -> Pending[Segment]: ...

    def score(self, request: Rate, segment: Pending[Segment]) -> Pending[Scored]: ...

    async def abort(self, received: Mapping[str, int]) -> EngineCost:
        """End chains, each with how many results of this engine its caller has received.

        Takes out what is left of their requests, and tells what those had cost that the caller has
        no result of: cancelled ones, and finished ones whose result was still on its way to it.
        Each is told of once; a failed one costs nothing; an engine that does not know tells
        nothing. Raises nothing: an engine that has died has nothing left.
        """
        ...


@dataclass(slots=True)
class _Chain:
    """What an engine knows of a chain's requests; `results` are the costs of the newest."""

    cancelled: EngineCost = field(default_factory=EngineCost)
    finished: int = 0
    results: list[EngineCost] = field(default_factory=list)
    over: bool = False


class Aborted:
    """What requests had cost, by chain, until somebody asks: see `Engine.abort`.

    One that was cancelled cannot tell any more. One that has finished may have told nobody: its
    caller alone knows how many results it has received. A chain has one request under way in an
    engine, so that those it has not are the newest.
    """

    KEPT = 10_000
    """Chains at most: of runs that nobody waits for any more, nobody asks."""
    RESULTS = 2
    """Of a chain at most: the newest, and one that was asked for again with a lost replica."""

    def __init__(self) -> None:
        self._chains: dict[str, _Chain] = {}

    def note(self, chain: str, cost: EngineCost) -> None:
        """A request was cancelled."""
        known = self._of(chain)
        known.cancelled = EngineCost.total([known.cancelled, cost])

    def finished(self, chain: str, result: Segment | Scored) -> None:
        """A request has its result, which is now on its way."""
        known = self._of(chain)
        known.finished += 1
        known.results.append(whole_cost(result))
        del known.results[: -self.RESULTS]

    def close(self, chains: Iterable[str]) -> None:
        """The chains are `over`: whatever comes for them still, comes too late to be told."""
        for chain in chains:
            self._of(chain).over = True

    def over(self, chain: str) -> bool:
        known = self._chains.get(chain)
        return known is not None and known.over

    def take(self, received: Mapping[str, int]) -> EngineCost:
        """What the chains had cost beyond the results that were received; it is forgotten."""
        costs: list[EngineCost] = []
        for chain, count in received.items():
            known = self._chains.pop(chain, None)
            if known is None:
                continue
            if known.over:
                self._chains[chain] = _Chain(over=True)
            costs.append(known.cancelled)
            lost = min(max(0, known.finished - count), len(known.results))
            costs += known.results[len(known.results) - lost :]
        return EngineCost.total(costs)

    def _of(self, chain: str) -> _Chain:
        """The chain's entry, which is forgotten last from now on."""
        known = self._chains.pop(chain, None) or _Chain()
        self._chains[chain] = known
        if len(self._chains) > self.KEPT:
            del self._chains[next(iter(self._chains))]
        return known


def whole_cost(result: Segment | Scored) -> EngineCost:
    """What a result cost, told without the result: with the tokens that it shows by itself."""
    cost = result.cost
    if isinstance(result, Segment):
        return replace(cost, written_tokens=max(cost.written_tokens, result.tokens))
    return replace(cost, rated_tokens=len(result.ids))


@contextmanager
def owned(*pending: Pending[Any]) -> Iterator[None]:
    """Cancel on the way out whatever is still under way."""
    try:
        yield
    finally:
        for one in pending:
            if not one.done():
                one.cancel()


async def result(pending: Pending[T]) -> T:
    """Await a request; cancelling the caller cancels it."""
    with owned(pending):
        return await pending


class Ready(Generic[T]):
    """A result that is there already, where a request takes one under way."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, T]:
        return self.value
        yield  # a generator that never waits

    def done(self) -> bool:
        return True

    def cancel(self) -> bool:
        return False


def start(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` as a `Pending`, for engines that live in this process."""
    task = asyncio.create_task(work)
    task.add_done_callback(_retrieve)
    return task


async def ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel what is left of `tasks` and wait until they have ended, however they do."""
    for task in tasks:
        if not task.done():
            task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _retrieve(task: asyncio.Task[Any]) -> None:
    # A score whose draft failed fails with it; its owner has seen the draft's error already.
    if not task.cancelled():
        task.exception()


def checked(scored: Scored, who: str) -> Scored:
    """`scored`, if every token of the segment has a finite log-probability."""
    if len(scored.logprobs) != len(scored.ids) or len(scored.ids) == 0:
        raise ScoreMissing(
            f"{who}: {len(scored.logprobs)} log-probabilities for {len(scored.ids)} tokens"
        )
    if not np.isfinite(scored.logprobs).all():
        raise ScoreMissing(f"{who}: a log-probability is not finite")
    return scored


# ---------------------------------------------------------------------------------- the fake


@dataclass(frozen=True, slots=True)
class Line:
    """What the scripted engine writes at a turn: a text, how it ends, how long it takes.

    `confidence` is that of each of its tokens, where it is asked for.
    """

    text: str
    finish: Finish = "stop"
    ticks: int = 1
    confidence: float = 1.0


class ScriptedEngine:
    """An engine that follows a script: one token is one character, time is event loop turns.

    `writes(prompt and chain so far, request)` gives the next line; `rates(segment text)` the mean
    nll (nats a token). Either may raise. `running` names the requests under way and `aborted`
    counts those cancelled, so that tests can see that nothing is left; `spent` is what all requests
    together have cost.
    """

    END = 0

    def __init__(
        self,
        writes: Callable[[str, Generate], Line | str],
        rates: Callable[[str], float] = lambda text: 1.0,
        *,
        name: str = "scripted",
        max_len: int = 100_000,
        top_logprobs: int = 20,
    ) -> None:
        self._writes = writes
        self._rates = rates
        self._capabilities = Capabilities(
            model=name,
            engine="scripted",
            vocabulary="characters",
            template="scripted",
            max_len=max_len,
            kv_tokens=max_len,
            top_logprobs=top_logprobs,
        )
        self.running: list[str] = []
        self.aborted = 0
        self._aborted = Aborted()
        self._requests: dict[asyncio.Task[Any], str] = {}
        """Those under way, and their chains."""
        self.spent = EngineCost()
        self.generated: list[tuple[Generate, str]] = []

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def render(self, messages: Sequence[Message]) -> Ids:
        text = "".join(f"<{m.role}>{m.content}" for m in messages) + "<assistant>"
        if len(text) >= self._capabilities.max_len:
            raise PromptTooLong(
                f"the prompt has {len(text)} tokens, {self._capabilities.model} reads at most "
                f"{self._capabilities.max_len}",
                field="messages",
            )
        return encode_characters(text)

    def generate(self, request: Generate) -> Pending[Segment]:
        return self._started(request.chain, self._generate(request))

    def score(self, request: Rate, segment: Pending[Segment]) -> Pending[Scored]:
        return self._started(request.chain, self._score(request, segment))

    async def abort(self, received: Mapping[str, int]) -> EngineCost:
        """Of a line that was cut, as many tokens were written as it had taken ticks."""
        await ended([task for task, chain in self._requests.items() if chain in received])
        return self._aborted.take(received)

    async def _generate(self, request: Generate) -> Segment:
        with self._tracked(request.chain):
            begun = monotonic()
            seen = decode_characters(request.history.ids) + request.history.tail
            line = self._writes(seen, request)
            if isinstance(line, str):
                line = Line(line)
            written = 0
            try:
                for _ in range(line.ticks):
                    await asyncio.sleep(0)
                    written += 1
            except asyncio.CancelledError:
                cost = EngineCost(prompt_tokens=len(seen), written_tokens=written)
                self._aborted.note(request.chain, cost)
                self._spend(cost)
                raise
            text, finish = line.text, line.finish
            if len(text) > request.max_tokens:
                text, finish = text[: request.max_tokens], "length"
            for place, character in enumerate(text):
                if ord(character) in request.stop_ids:
                    text, finish = text[: place + 1], "stop"
                    break
            self.generated.append((request, text))
            segment = Segment(
                text=text,
                ids=encode_characters(text),
                finish=finish,
                vocabulary=self._capabilities.vocabulary,
                tail_ids=encode_characters(request.history.tail),
                cost=EngineCost(busy=monotonic() - begun, prompt_tokens=len(seen)),
                likelihoods=_alike(len(text), line.confidence) if request.top_logprobs else None,
            )
            self._finished(request.chain, segment)
            return segment

    async def _score(self, request: Rate, segment: Pending[Segment]) -> Scored:
        text = (await segment).text
        with self._tracked(request.chain):
            await asyncio.sleep(0)
            nll = self._rates(text)
            if math.isnan(nll):
                raise EngineError(f"{self._capabilities.model}: scoring {request.chain} failed")
            scored = checked(
                Scored(
                    ids=encode_characters(text),
                    logprobs=np.full(len(text), -nll, dtype=np.float32),
                    tail_ids=encode_characters(request.history.tail),
                    cost=EngineCost(prompt_tokens=len(request.history.ids) + len(text)),
                ),
                f"{self._capabilities.model}, {request.chain}",
            )
            self._finished(request.chain, scored)
            return scored

    def _started(self, chain: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = start(work)
        self._requests[task] = chain
        task.add_done_callback(self._requests.pop)
        return task

    def _finished(self, chain: str, result: Segment | Scored) -> None:
        self._aborted.finished(chain, result)
        self._spend(whole_cost(result))

    def _spend(self, cost: EngineCost) -> None:
        self.spent = EngineCost.total([self.spent, cost])

    @contextmanager
    def _tracked(self, chain: str) -> Iterator[None]:
        self.running.append(chain)
        try:
            yield
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.running.remove(chain)


def _alike(tokens: int, confidence: float) -> Likelihoods:
    """Tokens of the same confidence, each the likeliest of its kind."""
    confidences = np.full(tokens, confidence, dtype=np.float32)
    return Likelihoods(-confidences, confidences)


def encode_characters(text: str) -> Ids:
    """The scripted vocabulary: a character's code point is its id."""
    return as_ids([ord(c) for c in text])


def decode_characters(ids: Ids) -> str:
    return "".join(chr(i) for i in ids)
