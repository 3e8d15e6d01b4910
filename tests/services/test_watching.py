"""How a run's end is told to those who watch."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import Any

import pytest

from atts_core.errors import BadInput, RunFailed
from atts_core.settings import Method
from atts_core.usage import Usage
from services.watching import SeenRun, followed


class Watching:
    """Watches runs, and does nothing with them."""

    @contextmanager
    def run(self, run: SeenRun) -> Any:
        yield lambda event: None

    @contextmanager
    def request(self, exchange: Any) -> Any:
        yield


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BadInput("no"), "refused"),
        (RunFailed("all of them"), "failed"),
        (asyncio.CancelledError(), "cancelled"),
        (BaseExceptionGroup("", [asyncio.CancelledError()]), "cancelled"),
        (ZeroDivisionError(), "failed"),
        (ExceptionGroup("", [ZeroDivisionError()]), "failed"),
        (BaseExceptionGroup("", [asyncio.CancelledError(), ZeroDivisionError()]), "failed"),
    ],
)
def test_a_fault_is_a_failure_and_only_a_cancelled_run_is_cancelled(
    error: BaseException, reason: str
) -> None:
    seen = SeenRun("r", Method(), 1, (), Usage())
    with pytest.raises(type(error)), followed([Watching()], seen):
        raise error
    assert seen.reason == reason
