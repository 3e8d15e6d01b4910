"""The runs of one router on the board."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from atts_core.errors import AttsError, BadInput
from atts_core.settings import Method
from atts_core.usage import Usage
from services.metrics import catalogue as c
from services.metrics.board import Board
from services.metrics.runs import RunMetrics


class ServiceMetrics:
    """Follows each run of a service; `model` is the served name, `usual` its default policy."""

    def __init__(self, board: Board, model: str, usual: Method) -> None:
        self.board = board
        self.open: list[RunMetrics] = []
        self._model = model
        self._announce(usual)

    @contextmanager
    def run(self, method: Method, usage: Usage) -> Iterator[RunMetrics]:
        """A consumer of one run's events, that is told its answer; counts how the run ends."""
        one = RunMetrics(self.board, self._model, method, usage)
        began = monotonic()
        self.open.append(one)
        reason = "cancelled"
        try:
            yield one
            reason = one.stopped
        except BadInput:
            reason = "refused"
            raise
        except AttsError:
            reason = "failed"
            raise
        finally:
            self.open.remove(one)
            one.end(reason, monotonic() - began)

    def _announce(self, usual: Method) -> None:
        """What a first question moves is there before it: a rate needs two samples."""
        board, of = self.board, (self._model, usual.policy)
        for reason in ("all", "consensus", "failed", "cancelled"):
            board.count(c.REQUESTS, *of, reason, by=0)
        for turn in range(min(usual.turns, c.MANY_TURNS)):
            for metric in (c.DECISIONS, c.REJECTED, c.NOMINAL):
                board.count(metric, *of, c.turn_label(turn), by=0)
        for metric in (c.TAKEOVERS, c.PICKS, c.HITS, c.SYNC):
            board.count(metric, *of, by=0)
        for role in ("draft", "target"):
            for kind in ("generated", "scored", "prompt", "cached"):
                board.count(c.TOKENS, *of, role, kind, by=0)
        for kind in ("scores", "rate"):
            board.count(c.ALARMS, kind, by=0)
