"""The ingress: HTTP in, scaling inside, events out. Stateless: any other router could go on."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from atts_core.acceptance import Gate
from services.access import OPEN, all_keys, require_keys
from services.courier import Courier
from services.http_app import create_app
from services.logs import write_logs
from services.mathematics import mathematics
from services.metrics.looks import measured
from services.pair import pair_of
from services.recorder import recording
from services.remote_engine import RemoteEngine
from services.remote_store import RemoteArchive, remote_store
from services.request_log import RequestLog
from services.runs.registry import Runs
from services.service import Service
from services.settings import Settings
from services.watching import Watcher

log = logging.getLogger(__name__)


@serve.ingress()
class Router:
    """Answers over HTTP with the two pools and the store behind its handles."""

    service: Service
    runs: Runs
    _courier: Courier
    _draft: RemoteEngine
    _target: RemoteEngine

    def __init__(
        self,
        settings: Settings,
        draft: DeploymentHandle,
        target: DeploymentHandle,
        store: DeploymentHandle,
    ) -> None:
        self.settings = settings
        self.watchers: list[Watcher] = []
        self._handles = draft, target, store
        require_keys(settings.access)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self)

    def calibration(self) -> dict[str, Any]:
        return self._courier.state()

    def store(self) -> dict[str, Any]:
        return self._courier.report()

    async def ready(self) -> dict[str, Any]:
        """Both pools answer within a second, or are asleep until they are asked; the store may be
        away without harm."""
        draft, target = await asyncio.gather(_status(self._draft), _status(self._target))
        return {
            "ready": "error" not in draft and "error" not in target,
            "router": self.service.gate.origin,
            "draft": draft,
            "target": target,
            "calibration": self.calibration(),
            "running": len(self.service.running),
            "tasks": len(asyncio.all_tasks()),
        }

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Connects to both pools before the first request; owns the courier's task."""
        draft, target, store = self._handles
        context = serve.get_replica_context()
        write_logs(self.settings.logs, context.deployment, context.replica_tag)
        if not all_keys(self.settings.access):
            log.warning(OPEN)
        if self.settings.logs.requests:
            self.watchers.append(RequestLog(self.settings.logs))
        self._draft, self._target = await asyncio.gather(
            RemoteEngine.connect(draft), RemoteEngine.connect(target)
        )
        settings = self.settings
        gate = Gate(
            pair_of(self._draft, self._target), settings.calibration, origin=uuid.uuid4().hex
        )

        self._courier = Courier(gate, remote_store(store), settings.store)
        with recording(settings.record, gate.origin) as recorder:
            async with mathematics(settings.comparison) as compare, self._courier.running():
                self.service = Service(
                    self._draft,
                    self._target,
                    gate,
                    settings.limits,
                    recorder,
                    compare,
                    self.watchers,
                )
                self.runs = Runs(self.service, settings, RemoteArchive(store))
                async with self.runs.running(), measured(self), self._traced():
                    yield

    def _traced(self) -> AbstractAsyncContextManager[None]:
        if not self.settings.tracing.enabled:
            return nullcontext()
        # OpenTelemetry is loaded where it is wanted only.
        from services.tracing.router import traced

        context = serve.get_replica_context()
        return traced(self, context.deployment, context.replica_tag)


async def _status(engine: RemoteEngine) -> dict[str, Any]:
    try:
        async with asyncio.timeout(1):
            return {"model": engine.capabilities.model, **await engine.status()}
    except Exception as error:  # whatever keeps a pool from answering is what readiness reports
        return {"model": engine.capabilities.model, "error": f"{type(error).__name__}: {error}"}
