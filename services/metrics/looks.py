"""Gauges: what a router and an engine are now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any, Protocol

from atts_core.errors import EngineUnavailable
from services.engines.loading import ServedEngine
from services.metrics import catalogue as c
from services.metrics.backend import RayBackend
from services.metrics.board import Board
from services.metrics.follow import ServiceMetrics
from services.service import Service
from services.settings import Settings


class Backend(Protocol):
    """What a router tells of itself."""

    settings: Settings
    service: Service

    def store(self) -> dict[str, Any]: ...


def look_at_router(board: Board, backend: Backend, metrics: ServiceMetrics) -> None:
    """The router's runs, banks and its contact with the store."""
    service = backend.service
    state, contact = service.gate.state(), backend.store()
    board.set(c.ROUTER_UP, metadata.version("atts"), value=1)
    board.set(c.RUNNING, value=len(service.running))
    board.set(c.ROOM, value=service.limits.max_running)
    board.set(c.CANDIDATES_RUNNING, value=sum(run.open for run in metrics.open))
    # A bank's name begins with the pair's.
    sizes = {bank["bank"].rpartition(">")[2]: bank["size"] for bank in state["banks"]}
    gone = {bank for (bank,) in board.known(c.BANK)} - sizes.keys()
    for bank, size in (sizes | dict.fromkeys(gone, 0)).items():
        board.set(c.BANK, bank, value=size)
    board.set(c.BACKLOG, value=state["pending"])
    board.total(c.LOST, now=state["dropped"])
    board.set(c.MARTINGALE, value=state["drift"]["martingale"])
    board.set(c.MARTINGALE_LIMIT, value=state["drift"]["limit"])
    if contact["url"] is not None or contact["store_error"] is not None:
        board.set(c.STORE_UP, value=float(contact["store_error"] is None))
        age = contact["snapshot_age_seconds"]
        if age is not None:
            board.set(c.SNAPSHOT_AGE, value=age)


@asynccontextmanager
async def measured(router: Backend) -> AsyncIterator[None]:
    """Measure the router's runs and state until the context ends, where that is wanted."""
    settings = router.settings
    if not settings.metrics.enabled:
        yield
        return
    board = Board(RayBackend())
    metrics = ServiceMetrics(board, settings.served_model, settings.method)
    router.service.watchers.append(metrics)
    async with board.running(
        lambda: look_at_router(board, router, metrics), settings.metrics.every_seconds
    ):
        yield


def look_at_engine(board: Board, role: str, engine: ServedEngine) -> None:
    """An engine's state and `status()`; engines that do not know a figure leave it out."""
    of = role, engine.capabilities.model
    board.set(c.ENGINE_UP, *of, value=float(_lives(engine)))
    status = engine.status()
    if not status.get("reached", True):  # the server behind it, when it was last asked
        board.set(c.ENGINE_UP, *of, value=0)
    board.set(c.ENGINE_RUNNING, *of, value=status["running"])
    board.set(c.ENGINE_WAITING, *of, value=status["waiting"])
    if "kv_used" in status:
        held = status["kv_used"] - status.get("kv_cached", 0)
        board.set(c.KV_USED, *of, value=max(0, held) / max(1, status["kv_tokens"]))
    for metric, name in (
        (c.STEPS, "steps"),
        (c.STEP_SECONDS, "step_seconds"),
        (c.BATCHED, "batched_sequences"),
        (c.PROMPT, "prompt_tokens"),
        (c.CACHED, "cached_tokens"),
        (c.WRITTEN, "written_tokens"),
    ):
        if name in status:
            board.total(metric, *of, now=status[name])


def _lives(engine: ServedEngine) -> bool:
    try:
        engine.check()
    except EngineUnavailable:
        return False
    return True
