"""An engine in a process of its own, as a replica has one: its steps share no interpreter.

Two engines in one process take turns at Python's lock between their operations, so two small models
use little more than one core. Here each has a process, on the other end of a pair of sockets:
`services.engines.engine_process`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from atts_core.engine import Capabilities, Generate, Pending, Rate, start
from atts_core.errors import EngineUnavailable
from atts_core.types import EngineCost, Ids, Message, Scored, Segment
from services.engines import frames
from services.engines.settings import Kind
from services.module_path import module_path

CLOSE_SECONDS = 10.0
"""How long a process may take to end by itself."""


class ProcessEngine:
    """`atts_core.engine.Engine` over an engine's process; belongs to one event loop.

    Where the process ends, what is under way fails with EngineUnavailable, and what comes later.
    """

    def __init__(
        self, capabilities: Capabilities, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._capabilities = capabilities
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._ended = False

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def render(self, messages: Sequence[Message]) -> Ids:
        ids: Ids = await self._answer("render", list(messages))
        return ids

    def generate(self, request: Generate) -> Pending[Segment]:
        return start(self._answer("generate", request))

    def score(self, request: Rate, segment: Pending[Segment]) -> Pending[Scored]:
        return start(self._score(request, segment))

    async def abort(self, received: Mapping[str, int]) -> EngineCost:
        try:
            cost: EngineCost = await self._answer("abort", dict(received))
        except EngineUnavailable:
            return EngineCost()
        return cost

    async def told(self) -> dict[str, Any]:
        """The engine's own `status`, and the `cpu_seconds` that its process has taken."""
        status: dict[str, Any] = await self._answer("status", None)
        return status

    async def hear(self) -> None:
        """Take in answers until the process ends."""
        try:
            while True:
                number, answer = await frames.receive(self._reader)
                waiting = self._waiting.pop(number, None)
                if waiting is None or waiting.done():
                    continue  # cancelled meanwhile
                if isinstance(answer, BaseException):
                    waiting.set_exception(answer)
                else:
                    waiting.set_result(answer)
        except EOFError:
            pass
        finally:
            self._ended = True
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(self._unavailable())
            self._waiting.clear()

    async def _score(self, request: Rate, segment: Pending[Segment]) -> Scored:
        scored: Scored = await self._answer("score", (request, await segment))
        return scored

    async def _answer(self, verb: str, given: Any) -> Any:
        if self._ended:
            raise self._unavailable()
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        frames.send(self._writer, (number, verb, given))
        try:
            return await self._waiting[number]
        except asyncio.CancelledError:
            if self._waiting.pop(number, None) is not None:
                frames.send(self._writer, (number, "cancel", None))
            raise

    def _unavailable(self) -> EngineUnavailable:
        return EngineUnavailable(f"{self._capabilities.model}: the engine's process has ended")


@asynccontextmanager
async def own_process(settings: Kind) -> AsyncIterator[ProcessEngine]:
    """The engine of `settings`, loaded in a process that lives as long as the context.

    Raises what `loading.load` raises, and EngineUnavailable where the process does not live.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.engines.engine_process", str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            # The modules that this process would find.
            env=os.environ | {"PYTHONPATH": module_path()},
            start_new_session=True,  # Ctrl-C at the terminal is for us alone
        )
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    hearing: asyncio.Task[None] | None = None
    try:
        frames.send(writer, settings)
        try:
            capabilities = await frames.receive(reader)
        except EOFError:
            raise EngineUnavailable(f"{settings.model}: the engine's process has ended") from None
        if isinstance(capabilities, BaseException):
            raise capabilities
        engine = ProcessEngine(capabilities, reader, writer)
        hearing = asyncio.create_task(engine.hear(), name=f"engine of {settings.model}")
        yield engine
    finally:
        writer.close()  # the process sees it, and ends
        if hearing is None:
            process.terminate()  # it is loading still
        await asyncio.shield(_ended(process))
        if hearing is not None:
            hearing.cancel()


async def _ended(process: Process) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
