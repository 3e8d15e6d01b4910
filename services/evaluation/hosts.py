"""Who answers an evaluation's questions: engines beside this process, or a running server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any, Protocol, TypeAlias, runtime_checkable

import httpx

from atts_core.acceptance import Gate
from atts_core.errors import AttsError, BadInput
from services import model_files, serve_config
from services.client import ServerLost, authorization, local_run, remote_run
from services.local import LocalBackend

Ask: TypeAlias = Callable[[dict[str, Any]], AsyncGenerator[dict[str, Any], None]]
"""From a chat request to its run's events, the last of which is `Completed`."""

Readings: TypeAlias = Mapping[str, Mapping[str, float]]
"""By model, and for all processes: totals since their start."""
COUNTED = ("steps", "step_seconds", "batched_sequences")
"""Of an engine: its steps, the seconds it was in them, and the sequences that took part in each."""


class Host(Protocol):
    """Who answers."""

    @property
    def model(self) -> str:
        """The served model's name."""
        ...

    def fresh(self) -> Ask:
        """For one policy and seed: with a gate that has seen nothing, where that can be had."""
        ...

    async def readings(self) -> Readings:
        """What the engines' own clocks and counters show now; empty where nobody can tell."""
        ...


@runtime_checkable
class Telling(Protocol):
    """An engine that says what it does, and what it takes of the machine's cores."""

    async def told(self) -> dict[str, Any]: ...


class InProcess:
    """The engines of a configuration, loaded here; each policy and seed gets a gate of its own."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend

    @property
    def model(self) -> str:
        return self._backend.settings.served_model

    def fresh(self) -> Ask:
        old = self._backend.service
        gate = Gate(old.gate.pair, old.gate.settings)
        backend = LocalBackend(self._backend.settings, replace(old, gate=gate, running={}))
        return lambda body: local_run(backend, body)

    async def readings(self) -> Readings:
        """Of each engine that counts its steps, and of all processes."""
        service = self._backend.service
        cpu, found = process_time(), dict[str, Mapping[str, float]]()
        for model, engine in (("draft", service.draft), ("target", service.target)):
            if isinstance(engine, Telling):
                status = await engine.told()
                cpu += status["cpu_seconds"]
                if "step_seconds" in status:
                    found[model] = {name: status[name] for name in COUNTED}
        return found | {"processes": {"cpu_seconds": cpu}}


class Server:
    """A running server. Its gate goes on learning from policy to policy."""

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self.model = model

    def fresh(self) -> Ask:
        return lambda body: remote_run(self._url, body)

    async def readings(self) -> Readings:
        """A server's engines are replicas that its HTTP API says nothing of."""
        return {}


@asynccontextmanager
async def in_process(config: Path) -> AsyncIterator[InProcess]:
    """Both models of a Serve configuration, each in a process of its own, as replicas are."""
    wanted = serve_config.load(config)
    model_files.check_pair(wanted.settings)
    from services.engines.own_process import own_process
    from services.local import local_backend

    async with local_backend(wanted.settings, own_process) as backend:
        yield InProcess(backend)


@asynccontextmanager
async def server(url: str) -> AsyncIterator[Server]:
    """The server at `url`, which must answer now."""
    yield Server(url, (await served(url))["model"])


async def served(url: str) -> Mapping[str, Any]:
    """What a server says that it serves: `model`, `pair`, its `version` and its `method`."""
    async with httpx.AsyncClient(base_url=url, timeout=10, headers=authorization()) as client:
        try:
            models = await client.get("/v1/models")
            calibration = await client.get("/v1/atts/calibration")
            version = await client.get("/version")
        except httpx.HTTPError as error:
            raise ServerLost(f"{url}: {type(error).__name__}: {error}") from None
    if models.status_code in (401, 403):
        raise BadInput(
            f"--server: {url} wants a key: put it into the environment variable ATTS_API_KEY",
            field="server",
        )
    try:
        name = str(models.json()["data"][0]["id"])
        pair = str(calibration.json()["pair"])
        code, method = version.json()["version"], dict(version.json()["method"])
    except (ValueError, KeyError, IndexError, TypeError):
        raise AttsError(f"{url} does not answer as an ATTS server does") from None
    return {"model": name, "pair": pair, "version": code, "method": method}
