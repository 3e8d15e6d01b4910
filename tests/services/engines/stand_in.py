"""A server in the place of vLLM, SGLang or another: their HTTP schemas over a real small model.

It computes every log-probability with a plain forward pass, and keeps the awkward habits of the
originals: SGLang's first null, vLLM's uninitialised rows for cached tokens, stripped stop strings.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

TARGET = Path(__file__).resolve().parents[3] / "models" / "arithmetic" / "target"
BLOCK = 16
"""Tokens in a block of vLLM's prefix cache."""

Fault = Literal["hold", "cut", "fail", "refuse"]
"""What happens to one call."""

Spoilt = Literal["null", "few", "nan", "zero", "no scores"]
"""What is wrong with all scores."""


class Brain:
    """The embedded target and its tokenizer, computed the plain way."""

    def __init__(self) -> None:
        self.dictated: list[int] = []
        """What is written instead of the model's own tokens, while there is any."""
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(TARGET)
        self.model = AutoModelForCausalLM.from_pretrained(TARGET, dtype=torch.float32).eval()
        self.end = self.model.config.eos_token_id

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> torch.Tensor:
        """`[tokens, vocabulary]`."""
        out: torch.Tensor = self.model(torch.tensor([ids])).logits[0]
        return out

    def logprobs(self, ids: list[int]) -> list[float]:
        """Of `ids[1:]`, each after what stands before it."""
        rated = torch.log_softmax(self.logits(ids).double(), -1)
        return [float(rated[i, token]) for i, token in enumerate(ids[1:])]

    def next(self, ids: list[int], temperature: float, draw: torch.Generator) -> int:
        if self.dictated:
            return self.dictated.pop(0)
        logits = self.logits(ids)[-1]
        if temperature == 0:
            return int(logits.argmax())
        odds = torch.softmax(logits / temperature, -1)
        return int(torch.multinomial(odds, 1, generator=draw))

    def text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


class Sampling(BaseModel):
    """What vLLM's and SGLang's sampling parameters have in common; others are refused."""

    model_config = ConfigDict(extra="forbid")

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: list[str] = []
    stop_token_ids: list[int] = []
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    min_p: float = 0.0


class SglangSampling(Sampling):
    max_new_tokens: int = 128
    sampling_seed: int | None = None
    no_stop_trim: bool = False


class VllmSampling(Sampling):
    max_tokens: int = 16
    seed: int | None = None
    include_stop_str_in_output: bool = False
    detokenize: bool = True
    prompt_logprobs: int | None = None
    prompt_logprob_start: int | None = None
    prompt_logprob_token_ids: list[list[int]] | None = None
    skip_reading_prefix_cache: bool | None = None


class SglangGenerate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input_ids: list[int]
    sampling_params: SglangSampling
    return_logprob: bool = False
    logprob_start_len: int = -1
    top_logprobs_num: int = 0


class VllmGenerate(BaseModel):
    token_ids: list[int]
    sampling_params: VllmSampling
    model: str


class Completion(BaseModel):
    """`/v1/completions`, with what vLLM adds to it."""

    model: str
    prompt: list[int] | str
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    stream: bool = False
    prompt_logprobs: int | None = None
    return_token_ids: bool = False
    include_stop_str_in_output: bool = False


@dataclass
class Output:
    """What was written. `stopped` is the stop string found, `stop_id` the stop id, if any."""

    ids: list[int] = field(default_factory=list)
    reason: str = "length"
    stopped: str | None = None
    stop_id: int | None = None


@dataclass
class StandIn:
    """One server and its habits; `faults` are taken one by one by the calls that come.

    `held` is set when a call is held, `writes` when a token has been written, `left` when a client
    has gone before its answer.
    """

    kind: Literal["sglang", "vllm", "openai"]
    brain: Brain
    model: str = "target"
    token_endpoint: bool = True
    runner: Literal[1, 2] = 2
    details: bool = True
    reads_ids: bool = True
    names_stop: bool = False
    key: str | None = None
    max_len: int | None = 2048
    faults: list[Fault] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    traces: list[str | None] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    writes: threading.Event = field(default_factory=threading.Event)
    spoil: Spoilt | None = None
    endless: bool = False
    url: str = ""

    def __post_init__(self) -> None:
        self._cache: list[list[int]] = []
        self.running = 0
        self.most = 0

    def app(self) -> FastAPI:
        # No middleware: with one, a handler does not see its client leave.
        app = FastAPI(dependencies=[Depends(self._door)])
        app.get("/v1/models")(self.models)
        if self.kind == "sglang":
            app.post("/generate")(self.sglang)
            app.get("/server_info")(lambda: {"max_total_num_tokens": 5000})
        else:
            app.post("/v1/completions")(self.completions)
        if self.kind == "vllm" and self.token_endpoint:
            app.post("/inference/v1/generate")(self.vllm)
        if self.kind != "openai":
            app.post("/detokenize")(self.detokenize)
        return app

    def _door(self, request: Request) -> None:
        if request.method == "POST":
            self.traces.append(request.headers.get("traceparent"))
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            raise HTTPException(401, "who are you?")

    def models(self) -> dict[str, Any]:
        card = {"id": self.model, "object": "model", "owned_by": self.kind}
        if self.max_len is not None:
            card["max_model_len"] = self.max_len  # type: ignore[assignment]
        return {"object": "list", "data": [card]}

    async def detokenize(self, request: Request) -> dict[str, Any]:
        ids = (await request.json())["tokens"]
        return {"prompt" if self.kind == "vllm" else "text": self.brain.text(ids)}

    # ------------------------------------------------------------------ SGLang

    async def sglang(self, call: SglangGenerate, request: Request) -> Response:
        if (failed := await self._fault(call, request)) is not None:
            return failed
        asked, ids = call.sampling_params, call.input_ids
        if len(ids) + asked.max_new_tokens > (self.max_len or 0):
            raise HTTPException(400, "the requested tokens exceed the context")
        cap = call.logprob_start_len if call.return_logprob else len(ids)
        cached = min(self._cached(ids), cap, len(ids) - 1)
        out = await self._write(ids, asked, asked.max_new_tokens, asked.sampling_seed, request)
        meta: dict[str, Any] = {
            "prompt_tokens": len(ids),
            "completion_tokens": len(out.ids),
            "cached_tokens": cached,
            "finish_reason": {"type": "length", "length": len(out.ids)},
        }
        if out.reason == "stop":
            matched = out.stopped or (self.brain.end if out.stop_id is None else out.stop_id)
            meta["finish_reason"] = {"type": "stop", "matched": matched}
        if call.return_logprob and self.spoil != "no scores":
            rated = [None, *self.brain.logprobs(ids)]
            from_here = [
                [None if i == call.logprob_start_len else rated[i], ids[i], None]
                for i in range(call.logprob_start_len, len(ids))
            ]
            meta["input_token_logprobs"] = _spoilt(from_here, self.spoil)
        text = self.brain.text(out.ids)
        if out.stopped and not asked.no_stop_trim:
            text = text[: text.index(out.stopped)]
        return _json({"text": text, "output_ids": out.ids, "meta_info": meta})

    # ------------------------------------------------------------------ vLLM

    async def vllm(self, call: VllmGenerate, request: Request) -> Response:
        self._known(call.model)
        if (failed := await self._fault(call, request)) is not None:
            return failed
        asked, ids = call.sampling_params, call.token_ids
        self._fits(ids, asked.max_tokens)
        scores = asked.prompt_logprobs is not None or asked.prompt_logprob_token_ids is not None
        skip = asked.skip_reading_prefix_cache
        skip = scores if skip is None else skip
        cached = 0 if skip else min(self._cached(ids), len(ids) - 1) // BLOCK * BLOCK
        reply: dict[str, Any] = {"prompt_logprobs": None, "prompt_token_id_logprobs": None}
        if asked.prompt_logprob_token_ids is not None:
            if self.runner != 2:
                raise HTTPException(400, "prompt_logprob_token_ids requires the V2 model runner")
            first = asked.prompt_logprob_start or 0
            if len(asked.prompt_logprob_token_ids) != len(ids) - 1 - first:
                raise HTTPException(400, "prompt_logprob_token_ids has too many or few rows")
            rows = self._rows(ids, asked.prompt_logprob_token_ids, first)
            if cached <= first and self.spoil != "no scores":
                reply["prompt_token_id_logprobs"] = _packed(_spoilt(rows, self.spoil))
        elif asked.prompt_logprobs is not None and self.spoil != "no scores":
            reply["prompt_logprobs"] = self._prompt_logprobs(ids, cached)
        out = await self._write(ids, asked, asked.max_tokens, asked.seed, request)
        choice = {
            "index": 0,
            "finish_reason": out.reason,
            "stop_reason": out.stopped or out.stop_id,
            "token_ids": out.ids,
        }
        return _json({**reply, "choices": [choice], "usage": self._usage(ids, out, cached)})

    async def completions(self, call: Completion, request: Request) -> Response:
        self._known(call.model)
        if (failed := await self._fault(call, request)) is not None:
            return failed
        if isinstance(call.prompt, list) and not self.reads_ids:
            raise HTTPException(400, "prompt must be a string")
        ids = call.prompt
        if isinstance(ids, str):
            ids = list(self.brain.tokenizer.encode(ids))
        self._fits(ids, call.max_tokens)
        asked = Sampling(
            temperature=call.temperature,
            top_p=call.top_p,
            stop=call.stop,
            stop_token_ids=call.stop_token_ids,
        )
        if call.stream:
            return StreamingResponse(
                self._events(ids, asked, call, request), media_type="text/event-stream"
            )
        out = await self._write(ids, asked, call.max_tokens, call.seed, request)
        text = self.brain.text(out.ids)
        if out.stopped and not call.include_stop_str_in_output:
            text = text[: text.index(out.stopped)]
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": out.reason}
        if self.kind == "vllm" or self.names_stop:
            choice["stop_reason"] = out.stopped or out.stop_id
        if self.kind == "vllm":
            if call.return_token_ids:
                choice["token_ids"] = out.ids
            if call.prompt_logprobs is not None and self.spoil != "no scores":
                choice["prompt_logprobs"] = self._prompt_logprobs(ids, 0)
        return _json({"choices": [choice], "usage": self._usage(ids, out, 0)})

    # ------------------------------------------------------------------ inside

    async def _fault(self, call: BaseModel, request: Request) -> Response | None:
        self.calls.append(call.model_dump())
        fault = self.faults.pop(0) if self.faults else None
        match fault:
            case "hold":
                self.held.set()
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                self.left.set()
                return Response()
            case "cut":  # less than was promised: the connection breaks within the answer
                return Response(b'{"te', headers={"content-length": "1000"})
            case "fail":
                return JSONResponse({"error": {"message": "engine core died"}}, 500)
            case "refuse":
                return JSONResponse({"error": {"message": "not like this"}}, 400)
        return None

    async def _write(
        self,
        ids: list[int],
        asked: Sampling,
        limit: int,
        seed: int | None,
        request: Request,
    ) -> Output:
        out = Output()
        async for _ in self._steps(out, ids, asked, limit, seed, request):
            pass
        return out

    async def _steps(
        self,
        out: Output,
        ids: list[int],
        asked: Sampling,
        limit: int,
        seed: int | None,
        request: Request,
    ) -> AsyncIterator[int]:
        """Token by token into `out`; a client that has left stops it."""
        draw = torch.Generator().manual_seed(seed or 0)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            while len(out.ids) < limit:
                if await request.is_disconnected():
                    self.left.set()
                    return
                out.ids.append(self.brain.next([*ids, *out.ids], asked.temperature, draw))
                if out.ids[-1] == self.brain.end and not self.endless:
                    out.reason = "stop"
                    return
                if out.ids[-1] in asked.stop_token_ids:
                    out.reason, out.stop_id = "stop", out.ids[-1]
                    return
                text = self.brain.text(out.ids)
                out.stopped = next((s for s in asked.stop if s in text), None)
                if out.stopped:
                    out.reason = "stop"
                    return
                self.writes.set()
                yield out.ids[-1]
                await asyncio.sleep(0)
        finally:
            self.running -= 1
            self._cache.append([*ids, *out.ids])

    async def _events(
        self, ids: list[int], asked: Sampling, call: Completion, request: Request
    ) -> AsyncIterator[str]:
        out, shown = Output(), ""
        try:
            async for _ in self._steps(out, ids, asked, call.max_tokens, call.seed, request):
                text = self.brain.text(out.ids)
                yield _event({"index": 0, "text": text[len(shown) :], "finish_reason": None})
                shown = text
        except asyncio.CancelledError:
            self.left.set()
            raise
        yield _event({"index": 0, "text": "", "finish_reason": out.reason})
        yield "data: [DONE]\n\n"

    def _cached(self, ids: list[int]) -> int:
        """Tokens at the start of `ids` that an earlier request had too."""
        best = 0
        for seen in self._cache:
            same = next(
                (i for i, (a, b) in enumerate(zip(seen, ids, strict=False)) if a != b),
                min(len(seen), len(ids)),
            )
            best = max(best, same)
        return best

    def _rows(self, ids: list[int], wanted: list[list[int]], first: int) -> list[Any]:
        rated = torch.log_softmax(self.brain.logits(ids).double(), -1)
        return [[float(rated[first + i, t]) for t in row] for i, row in enumerate(wanted)]

    def _prompt_logprobs(self, ids: list[int], cached: int) -> list[Any]:
        rated = self.brain.logprobs(ids)
        # What a cached token's row holds was never computed: whatever lay in that memory.
        rated[:cached] = [1e12] * min(cached, len(rated))
        values = _spoilt([[value] for value in rated], self.spoil)
        return [
            None,
            *(
                {str(token): {"logprob": value, "rank": 1, "decoded_token": None}}
                for token, [value] in zip(ids[1:], values, strict=False)
            ),
        ]

    def _usage(self, ids: list[int], out: Output, cached: int) -> dict[str, Any]:
        usage: dict[str, Any] = {"prompt_tokens": len(ids), "completion_tokens": len(out.ids)}
        if self.details:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        return usage

    def _known(self, model: str) -> None:
        if model != self.model:
            raise HTTPException(404, f"The model `{model}` does not exist.")

    def _fits(self, ids: list[int], tokens: int) -> None:
        if self.max_len is not None and len(ids) + tokens > self.max_len:
            raise HTTPException(400, "maximum context length exceeded")


def _spoilt(entries: list[Any], how: Spoilt | None) -> list[Any]:
    """Entries that begin with a value, with what is wrong with them."""
    match how:
        case "null":
            entries[-1][0] = None
        case "nan":
            entries[-1][0] = float("nan")
        case "few":
            return entries[:1]
        case "zero":
            return [[0.0, *rest] for _, *rest in entries]
    return entries


def _packed(rows: list[Any]) -> str:
    file = BytesIO()
    np.save(file, np.array(rows, dtype=np.float32))  # a null is a NaN here
    return base64.b64encode(file.getvalue()).decode()


def _json(found: Any) -> Response:
    return Response(json.dumps(found), media_type="application/json")


def _event(choice: dict[str, Any]) -> str:
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


@contextmanager
def listening(server: StandIn, port: int = 0) -> Iterator[StandIn]:
    """The server in a thread of its own, on `port` or a free one."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        server.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        up = threading.Event()

        class Server(uvicorn.Server):
            async def startup(self, sockets: Any = None) -> None:
                await super().startup(sockets)
                up.set()

        config = uvicorn.Config(server.app(), log_level="critical", timeout_graceful_shutdown=1)
        running = Server(config)
        thread = threading.Thread(target=running.run, args=([sock],))
        thread.start()
        assert up.wait(30)
        try:
            yield server
        finally:
            running.should_exit = True
            thread.join()


if __name__ == "__main__":  # a process of its own, which can be killed while it holds a call
    torch.set_num_threads(1)
    with listening(StandIn("sglang", Brain())) as one:
        print(one.url, flush=True)
        sys.stdin.readline()
        one.faults.append("hold")
        print("holds what comes", flush=True)
        one.held.wait()
        print("holds a call", flush=True)
        sys.stdin.readline()
