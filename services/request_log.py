"""One line a request: what it was, how it ended, what it cost, and where its time went.

Nothing that a client or a model wrote is in it, unless `logs.prompts` asks for that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from atts_core.usage import ModelUsage
from services.settings import LogSettings
from services.watching import CURRENT, PAGE_FILES, Consumer, Exchange, SeenRun

log = logging.getLogger(__name__)

QUIET = {
    "/health",
    "/ready",
    "/",
    PAGE_FILES,
    "/v1/atts/calibration",
    "/v1/atts/runs/{run_id}",
}
"""Routes that are asked all the time, by probes and by the page: worth a line where they fail."""
OUTSIDE = "http"
"""The stage of a request's time outside its run: reading, checking, shaping, sending."""


class RequestLog:
    """Writes a request's line once it and the run it began have both ended."""

    def __init__(self, settings: LogSettings) -> None:
        self._settings = settings
        self._open: dict[Exchange, int] = {}
        self._runs: dict[Exchange, SeenRun] = {}

    @contextmanager
    def request(self, exchange: Exchange) -> Iterator[None]:
        self._begin(exchange)
        try:
            yield
        finally:
            self._end(exchange)

    @contextmanager
    def run(self, run: SeenRun) -> Iterator[Consumer]:
        # A run may outlive the request that began it, where others wait for it too.
        exchange = CURRENT.get()
        if exchange is None:
            yield lambda event: None
            return
        self._begin(exchange)
        self._runs[exchange] = run
        try:
            yield lambda event: None
        finally:
            self._end(exchange)

    def _begin(self, exchange: Exchange) -> None:
        self._open[exchange] = self._open.get(exchange, 0) + 1

    def _end(self, exchange: Exchange) -> None:
        self._open[exchange] -= 1
        if self._open[exchange]:
            return
        del self._open[exchange]
        run = self._runs.pop(exchange, None)
        status = exchange.status or 0
        if exchange.route in QUIET and status < 400:
            return
        level = logging.WARNING if status >= 500 else logging.INFO
        fields = line(exchange, run)
        if run is not None and self._settings.prompts:
            fields |= written(run)
        log.log(level, "request", extra={"fields": fields})


def line(exchange: Exchange, run: SeenRun | None) -> dict[str, Any]:
    """The line's fields. `stages` add up to `seconds`, where the run ended within the request."""
    found: dict[str, Any] = {
        "request_id": exchange.id,
        "trace_id": exchange.trace,
        "run": run.id if run is not None else exchange.run,
        "key": exchange.key,
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "error": exchange.error,
        "client_left": exchange.left,
        "seconds": _rounded(exchange.seconds),
        "first_byte_seconds": _rounded(exchange.first_byte_seconds),
    }
    if run is None:
        return found
    usage, method, answer = run.usage, run.method, run.answer
    stages = {OUTSIDE: max(0.0, exchange.seconds - run.seconds), **run.stages}
    return found | {
        "policy": method.policy,
        "stopped": run.reason,
        "agreement": None if answer is None else _rounded(answer.answer.agreement),
        "candidates": {"started": len(usage.ended), **usage.endings},
        "tokens": {"draft": _tokens(usage.draft), "target": _tokens(usage.target)},
        "takeover_rate": _rounded(method.rate),
        "decisions": usage.decisions,
        "rejected": usage.rejected,
        "takeovers": usage.takeovers,
        "run_seconds": _rounded(run.seconds),
        "stages": {stage: _rounded(spent) for stage, spent in stages.items() if spent},
    }


def written(run: SeenRun) -> dict[str, Any]:
    """What the client and the models wrote."""
    return {
        "messages": [{"role": one.role, "content": one.content} for one in run.messages],
        "answer": None if run.answer is None else run.answer.answer.text,
    }


def _tokens(model: ModelUsage) -> dict[str, int]:
    return {
        "generated": model.generated,
        "scored": model.scored,
        "prompt": model.prompt,
        "cached": model.cached,
        "wasted": sum(model.wasted.values()),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
