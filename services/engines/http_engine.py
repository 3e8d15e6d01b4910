"""A model on a server that already runs: vLLM, SGLang, or, as a draft, any that speaks OpenAI.

A request's way: `Inputs` checks it and turns text into ids, a `Server` puts it into the words of
its kind, `HttpConnection` carries it there and back. The server was examined by `server_probe`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from atts_core.answers import BOXED
from atts_core.engine import Capabilities, Generate
from atts_core.errors import BadInput, EngineError, EngineUnavailable, ScoreMissing
from atts_core.types import EngineCost, Ids, Segment, as_ids
from services.engines import server_probe, tokenizer
from services.engines.chat import Chat
from services.engines.http_connection import HttpConnection
from services.engines.inputs import Inputs
from services.engines.score_memory import LogProbs
from services.engines.server_probe import Found, logprobs_of
from services.engines.servers.server import Call, Reply
from services.engines.settings import HttpSettings
from services.engines.text_codec import TextCodec
from services.engines.text_engine import TextEngine


class HttpEngine(TextEngine):
    """A language model behind a URL: see `atts_core.engine.Engine`."""

    def __init__(self, settings: HttpSettings, words: Any, codec: TextCodec, found: Found) -> None:
        self._who = f"{settings.model} at {settings.url}"
        super().__init__()
        self._server = found.server
        self._codec = codec
        self._chat = Chat(words, settings.model, found.max_len)
        self._inputs = Inputs(codec, self._who, found.max_len, max(words.get_vocab().values()) + 1)
        self._connection = HttpConnection(settings)
        self._totals: Counter[str] = Counter()
        self._reached = True
        self._capabilities = Capabilities(
            model=settings.model,
            engine=f"http/{found.server.kind}",
            vocabulary=codec.vocabulary,
            template=self._chat.template,
            max_len=found.max_len,
            kv_tokens=found.kv_tokens or found.max_len,
            scores=found.server.scores,
            reuses_prefix=found.server.reuses_prefix,
            aborts=True,
            chats=self._chat.templated,
            writes_answers=codec.writes(BOXED),
        )

    @classmethod
    def load(cls, settings: HttpSettings) -> HttpEngine:
        """Read the tokenizer here and let the server prove what it can do.

        Raises BadInput where the model is not served there or its tokenizer is not found, and
        EngineUnavailable where the server cannot be reached.
        """
        words = _tokenizer(settings)
        codec = TextCodec(words)
        return cls(settings, words, codec, server_probe.find(settings, words, codec))

    def check(self) -> None:
        """Raise EngineUnavailable when the engine was closed.

        A server that is away is no reason: it may come back, and a new engine would find it no
        sooner. `status` tells.
        """
        self._connection.check(self._who)

    def _own_status(self) -> dict[str, Any]:
        """Calls of this engine now, and totals since its start; tokens where not said else."""
        known = ("prompt_tokens", "cached_tokens", "written_tokens", "rated_tokens", "failed")
        return {
            "url": self._who,
            "reached": self._reached,
            "running": self._connection.running,
            "waiting": self._connection.waiting,
            "retried": self._connection.retried,
            **{name: self._totals[name] for name in known},
        }

    async def _take_out(self, chains: Collection[str]) -> EngineCost:
        """Nothing: a request that is cancelled is closed, and no server tells what it had cost."""
        return EngineCost()

    def close(self) -> None:
        """Let go of the connections; requests under way fail with EngineUnavailable."""
        self._connection.close()

    # ------------------------------------------------------------------ the two verbs

    async def _generate(self, request: Generate) -> Segment:
        ids, tail = self._inputs.given(request.chain, request.history)
        limit = self._inputs.limit(request, ids)
        self._inputs.sampling(request)
        self._inputs.stop(request)
        self._inputs.stop_ids(request)
        self._inputs.top_logprobs(request, self._capabilities.top_logprobs)
        began = monotonic()
        with self._named(request.chain):
            call = self._server.generation(ids, limit, request)
        reply, waited = await self._send(call, request.chain)
        with self._named(request.chain):
            written = self._server.written(reply, request)
        self._totals["written_tokens"] += len(written.ids)
        whole = written.ids[: self._codec.whole(written.ids)]
        return Segment(
            text=self._codec.decode(whole),
            ids=as_ids(whole),
            finish=written.finish,
            vocabulary=self._codec.vocabulary,
            tail_ids=tail,
            cost=self._cost(began, waited, len(ids), written.cached, len(written.ids)),
        )

    async def _logprobs(self, chain: str, ids: Ids, begin: int) -> tuple[LogProbs, EngineCost]:
        began, waited = monotonic(), 0.0
        for fresh in (False, True):
            call = self._server.rating(ids, begin, fresh=fresh)
            reply, queued = await self._send(call, chain)
            waited += queued
            with self._named(chain):
                found = self._server.rated(reply, ids, begin)
                if found is not None:
                    logprobs = logprobs_of(found, len(ids) - begin)
                    break
        else:
            raise ScoreMissing(f"{self._who}, {chain}: no log-probabilities")
        self._totals["rated_tokens"] += len(ids) - begin
        return logprobs, self._cost(began, waited, len(ids), found.cached)

    async def _send(self, call: Call, chain: str) -> tuple[Reply, float]:
        try:
            sent = await self._connection.send(call, f"{self._who}, {chain}")
        except EngineError as error:
            self._totals["failed"] += 1
            self._reached = not isinstance(error, EngineUnavailable)
            raise
        self._reached = True
        return sent

    @contextmanager
    def _named(self, chain: str) -> Iterator[None]:
        """Errors in a reply name the model, the server and the request."""
        try:
            yield
        except EngineError as error:
            self._totals["failed"] += 1
            raise type(error)(f"{self._who}, {chain}: {error}") from None

    def _cost(
        self, began: float, waited: float, prompt: int, cached: int, written: int = 0
    ) -> EngineCost:
        self._totals["prompt_tokens"] += prompt
        self._totals["cached_tokens"] += cached
        return EngineCost(
            queued=waited,
            busy=monotonic() - began - waited,
            prompt_tokens=prompt,
            cached_tokens=cached,
            written_tokens=written,
        )


def _tokenizer(settings: HttpSettings) -> Any:
    """The tokenizer that settings name; BadInput says how to name another."""
    name = settings.tokenizer or settings.model
    try:
        return tokenizer.load(name, tokenizer.where(name, "tokenizer"))
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
    except BadInput as error:
        reason = error.message
    raise BadInput(
        f"no tokenizer for {settings.model}: {reason}; set tokenizer to a folder or a name on the "
        "hub",
        field="tokenizer",
    )
