"""The requests and runs of one router on the board."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from atts_core import events
from atts_core.settings import Method
from atts_core.types import PolicyName, Stopped
from atts_core.usage import Waste
from services.metrics import catalogue as c
from services.metrics.board import Board
from services.metrics.runs import RunMetrics
from services.metrics.split import STAGES
from services.watching import Exchange, SeenRun

ASKED = "/v1/chat/completions", "/v1/completions"


class ServiceMetrics:
    """Follows requests and runs; `model` is the served name, `usual` its default policy."""

    def __init__(self, board: Board, model: str, usual: Method) -> None:
        self.board = board
        self.open: list[RunMetrics] = []
        self._model = model
        self._announce(usual)

    @contextmanager
    def run(self, run: SeenRun) -> Iterator[RunMetrics]:
        """A consumer of one run's events; counts how the run ends."""
        one = RunMetrics(self.board, self._model, run)
        self.open.append(one)
        try:
            yield one
        finally:
            self.open.remove(one)
            one.end()

    @contextmanager
    def request(self, exchange: Exchange) -> Iterator[None]:
        """Counts the request when it has ended, and how long its first byte took."""
        try:
            yield
        finally:
            board, route = self.board, exchange.route
            board.count(c.HTTP_REQUESTS, route, str(exchange.status))
            board.count(c.HTTP_SECONDS, route, by=exchange.seconds)
            first = exchange.first_byte_seconds
            if first is not None:
                board.observe(c.FIRST_BYTE, route, value=first)
                board.count(c.FIRST_BYTE_TOTAL, route, by=first)
                board.count(c.FIRST_BYTES, route)

    def _announce(self, usual: Method) -> None:
        """What a first question moves is there before it: a rate needs two samples."""
        board, of = self.board, (self._model, usual.policy)
        for route in ASKED:
            for status in ("200", "429", "503"):
                board.count(c.HTTP_REQUESTS, route, status, by=0)
            for metric in (c.HTTP_SECONDS, c.FIRST_BYTE_TOTAL, c.FIRST_BYTES):
                board.count(metric, route, by=0)
        for policy in get_args(PolicyName):
            for reason in (*get_args(Stopped), "failed", "cancelled", "refused"):
                board.count(c.REQUESTS, self._model, policy, reason, by=0)
        for latency in c.LATENCY_CLASSES:
            board.count(c.ANSWERED, *of, latency, by=0)
            for stage in STAGES:
                board.count(c.STAGE_TOTAL, *of, stage, latency, by=0)
        for reason in (*get_args(Stopped), "failed", "cancelled"):
            board.count(c.CANCELLED, *of, reason, by=0)
        for turn in range(min(usual.turns, c.MANY_TURNS)):
            for metric in (c.DECISIONS, c.REJECTED, c.NOMINAL):
                board.count(metric, *of, c.turn_label(turn), by=0)
        for metric in (c.TAKEOVERS, c.PICKS, c.HITS, c.SYNC):
            board.count(metric, *of, by=0)
        for ending in get_args(events.Ending):
            board.count(c.CANDIDATES, *of, ending, by=0)
        for role in ("draft", "target"):
            board.count(c.SEGMENTS, *of, role, by=0)
            for kind in ("generated", "scored", "prompt", "cached"):
                board.count(c.TOKENS, *of, role, kind, by=0)
            for kind in ("generated", "scored"):
                board.count(c.BUSY, *of, role, kind, by=0)
            for why in get_args(Waste):
                board.count(c.WASTED, *of, role, why, by=0)
        for kind in ("scores", "rate"):
            board.count(c.ALARMS, kind, by=0)
        board.count(c.DROPPED, by=0)
