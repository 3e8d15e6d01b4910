"""What a server is and can do, found out by asking it: once, when the engine is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from atts_core.engine import Generate, Sampling
from atts_core.errors import BadInput, EngineError, EngineUnavailable, ScoreMissing
from atts_core.types import History
from services.engines.http_connection import answer, headers, root, timeout, translated
from services.engines.servers.openai import OpenAi
from services.engines.servers.server import Rated, Reply, Server
from services.engines.servers.sglang import Sglang
from services.engines.servers.vllm import WAYS, Vllm
from services.engines.settings import HttpSettings
from services.engines.text_codec import TextCodec

_TEXT = "Start with 47. Add 38. The result is"

_NO_LOGPROB = 0.01
"""Nats above which a value is no log-probability, rounding allowed for."""


@dataclass(frozen=True)
class Found:
    """A server that works. `max_len` is its context, `kv_tokens` what it holds, in tokens."""

    server: Server
    max_len: int
    kv_tokens: int | None


def find(settings: HttpSettings, tokenizer: Any, codec: TextCodec) -> Found:
    """Ask the server what it is and let it write and rate a short text.

    A server that cannot rate is found with `scores` False. Raises BadInput where the model is not
    served, the tokenizer is another one, or nothing can be written; EngineUnavailable where the
    server cannot be reached.
    """
    who = f"{settings.model} at {settings.url}"
    with (
        httpx.Client(
            base_url=root(settings), headers=headers(settings), timeout=timeout(settings)
        ) as client,
        translated(who),
    ):
        probe = _Probe(settings, codec, client, who)
        card = probe.card()
        kind = settings.server if settings.server != "auto" else _kind(card)
        probe.same_tokenizer(tokenizer)
        server = probe.first_that_works(_servers(kind, settings.model, tokenizer, codec))
        return Found(server, probe.max_len(card), probe.kv_tokens(kind))


class _Probe:
    def __init__(
        self, settings: HttpSettings, codec: TextCodec, client: httpx.Client, who: str
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._client = client
        self._who = who
        self._ids = codec.encode(_TEXT)

    def card(self) -> Reply:
        """What the server says of the model."""
        served = answer(self._client.get("/v1/models"), self._who).get("data") or []
        names = [str(one.get("id")) for one in served]
        for one in served:
            if one.get("id") == self._settings.model:
                card: Reply = one
                return card
        raise BadInput(
            f"{self._settings.url} serves no model {self._settings.model!r}; it serves: "
            f"{', '.join(names) or 'none'}",
            field="model",
        )

    def same_tokenizer(self, tokenizer: Any) -> None:
        """BadInput where the server reads other words in our ids; not every server can say."""
        ids = [int(i) for i in self._ids]
        asked = {"model": self._settings.model, "tokens": ids}
        response = self._client.post("/detokenize", json=asked)
        if response.is_error:
            return
        found = answer(response, self._who)
        text = found.get("prompt", found.get("text"))
        if isinstance(text, str) and text.split() != str(tokenizer.decode(ids)).split():
            raise BadInput(
                f"the tokenizer {self._settings.tokenizer or self._settings.model} is not that of "
                f"{self._who}: the server reads {text!r} where {_TEXT!r} was written",
                field="tokenizer",
            )

    def first_that_works(self, servers: Sequence[Server]) -> Server:
        """The first way to ask that writes and rates; else the first that writes, as a draft."""
        reasons: list[str] = []
        writers: list[Server] = []
        for server in servers:
            try:
                self._write(server)
                writers.append(server)
                if server.scores:
                    self._rate(server)
            except EngineUnavailable:
                raise
            except EngineError as error:
                reasons.append(str(error))
            else:
                return server
        if not writers:
            raise BadInput(f"{self._who} writes nothing: {reasons[0]}", field="url")
        writers[0].scores = False
        return writers[0]

    def _write(self, server: Server) -> None:
        request = Generate("probe", History(self._ids), 1, Sampling(0.0), 0)
        call = server.generation(self._ids, 1, request)
        reply = answer(self._client.post(call.path, json=call.body), self._who)
        server.written(reply, request)
        if isinstance(server, OpenAi):
            server.learn(reply, len(self._ids))

    def _rate(self, server: Server) -> None:
        start = len(self._ids) // 2
        for fresh in (False, True):
            call = server.rating(self._ids, start, fresh=fresh)
            reply = answer(self._client.post(call.path, json=call.body), self._who)
            rated = server.rated(reply, self._ids, start)
            if rated is not None:
                found = logprobs_of(rated, len(self._ids) - start)
                if not found.any():
                    raise ScoreMissing("all log-probabilities are 0")
                return
        raise ScoreMissing("no log-probabilities of a given text")

    def max_len(self, card: Reply) -> int:
        """The context less one token: servers write one where they are asked to rate."""
        said, wanted = card.get("max_model_len"), self._settings.max_len
        known = said if isinstance(said, int) else None
        if known is not None and wanted is not None and wanted > known:
            raise BadInput(
                f"max_len is {wanted}, {self._who} reads at most {known} tokens", field="max_len"
            )
        context = wanted or known
        if context is None:
            raise BadInput(f"{self._who} does not say its context: set max_len", field="max_len")
        return context - 1

    def kv_tokens(self, kind: str) -> int | None:
        """Tokens of all requests together, where the server says."""
        if kind != "sglang":
            return None
        for path in ("/server_info", "/get_server_info"):
            response = self._client.get(path)
            if not response.is_error:
                found = answer(response, self._who).get("max_total_num_tokens")
                return found if isinstance(found, int) else None
        return None


def logprobs_of(rated: Rated, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Exactly `count` log-probabilities, nats; ScoreMissing where one is missing or is none."""
    found = rated.logprobs
    if len(found) != count:
        raise ScoreMissing(f"{len(found)} log-probabilities for {count} tokens")
    if any(value is None for value in found):
        raise ScoreMissing(f"a log-probability of {count} is null")
    values = np.array(found, dtype=np.float32)
    if not np.isfinite(values).all() or (values > _NO_LOGPROB).any():
        raise ScoreMissing("a log-probability is not finite, or above 0")
    return values


def _kind(card: Reply) -> str:
    owner = card.get("owned_by")
    return owner if owner in ("vllm", "sglang") else "openai"


def _servers(kind: str, model: str, tokenizer: Any, codec: TextCodec) -> list[Server]:
    """The ways to ask a server of this kind, the best first."""
    if kind == "sglang":
        return [Sglang(codec)]
    if kind == "vllm":
        return [Vllm(model, codec, way) for way in WAYS]
    begin = tokenizer.bos_token_id
    return [OpenAi(model, codec, begin, ids=ids) for ids in (True, False)]
