"""Any server with OpenAI's `/v1/completions`: it writes, and cannot rate a given text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from atts_core.engine import Generate
from atts_core.errors import EngineError, EngineUnavailable
from atts_core.types import Finish, Ids
from services.engines.servers.server import Call, Rated, Reply, Written, cached_tokens, choice_of
from services.engines.text_codec import TextCodec


class OpenAi:
    """An OpenAI-compatible server, which reads prompts of token `ids`, or else of text.

    Where it does not say which stop string it found and cut off, a stop string and the end of a
    text look alike: then the text is streamed, and the stop strings are looked for here.
    `begin` is the id that begins a text, if any.
    """

    kind = "openai"
    scores = False
    reuses_prefix = False

    def __init__(self, model: str, codec: TextCodec, begin: int | None, *, ids: bool) -> None:
        self._model = model
        self._codec = codec
        self._begin = begin
        self._ids = ids
        self._names_stop = False

    def learn(self, reply: Reply, given: int) -> None:
        """See from the reply to a prompt of `given` ids what the server does.

        Raises EngineError where it did not read the ids as such.
        """
        read = (reply.get("usage") or {}).get("prompt_tokens", given)
        if self._ids and read != given:
            raise EngineError(f"the server read {read} tokens where {given} ids were sent")
        self._names_stop = "stop_reason" in choice_of(reply)

    def generation(self, ids: Ids, limit: int, request: Generate) -> Call:
        if request.stop_ids:
            raise EngineError("this server knows stop strings, no stop ids")
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": ids.tolist() if self._ids else self._text(ids),
            "max_tokens": limit,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed % 2**31,  # some servers keep it in 32 bits
        }
        if sampling.top_k:  # not OpenAI's: a server without it refuses the request
            body["top_k"] = sampling.top_k
        if not request.stop:
            return Call("/v1/completions", body)
        if self._names_stop:
            return Call("/v1/completions", body | {"stop": list(request.stop)})
        return Call("/v1/completions", body | {"stream": True}, partial(_until, request.stop))

    def written(self, reply: Reply, request: Generate) -> Written:
        text, finish = self._read(reply, request.stop)
        # A character that was cut has become �: held back, as where ids are known.
        ids = self._codec.encode(text.rstrip("\ufffd")).tolist()
        return Written(ids, finish, cached_tokens(reply) or 0)

    def rating(self, ids: Ids, start: int, *, fresh: bool) -> Call:
        raise EngineError("this server cannot rate a given text")

    def rated(self, reply: Reply, ids: Ids, start: int) -> Rated | None:
        raise EngineError("this server cannot rate a given text")

    def _text(self, ids: Ids) -> str:
        # The server puts the token that begins a text before every prompt by itself.
        return self._codec.shows(ids[1:] if ids[0] == self._begin else ids)

    def _read(self, reply: Reply, stop: tuple[str, ...]) -> tuple[str, Finish]:
        # A streaming server may say its usage in an event without choices.
        events = [event for event in reply.get("events", [reply]) if event.get("choices") != []]
        choices = [choice_of(event) for event in events]
        text = "".join(_text_of(choice) for choice in choices)
        end = _end(text, stop)
        if end is not None:
            return text[:end], "stop"
        reason = choices[-1].get("finish_reason") if choices else None
        if reason == "length":
            return text, "length"
        if reason != "stop":
            raise EngineUnavailable(f"the answer ended early, finish_reason {reason}")
        named = choices[-1].get("stop_reason")
        if isinstance(named, str) and named in stop:
            return text + named, "stop"
        return text, "eos"


def _until(stop: tuple[str, ...]) -> Callable[[Reply], bool]:
    """Tells, given one event after the other, whether they hold a stop string."""
    text = ""

    def enough(event: Reply) -> bool:
        nonlocal text
        if event.get("choices") != []:
            text += _text_of(choice_of(event))
        return _end(text, stop) is not None

    return enough


def _end(text: str, stop: tuple[str, ...]) -> int | None:
    """Where the first stop string in `text` ends."""
    return min((text.index(one) + len(one) for one in stop if one in text), default=None)


def _text_of(choice: Any) -> str:
    text = choice.get("text")
    if not isinstance(text, str):
        raise EngineError("the answer holds no text")
    return text
