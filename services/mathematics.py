"""Formulas compared by math-verify, in processes that may hang, eat and die without harm.

A process of its own and not a thread: sympy holds the interpreter's lock, and nothing but a kill
stops it. `multiprocessing` would import the caller's main module (a Ray worker's) once more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import selectors
import subprocess
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from queue import SimpleQueue
from time import monotonic

from services.module_path import module_path
from services.settings import ComparisonSettings

log = logging.getLogger(__name__)

START_SECONDS = 60.0
"""Until a worker has loaded sympy."""
REST_SECONDS = 30.0
"""After a worker that would not start, until the next attempt."""
REMEMBERED = 10_000
"""Verdicts kept; the longest unused leave."""


class MathWorker:
    """One process that compares formulas; started when first asked, again after it was killed.

    For one thread at a time.
    """

    def __init__(self, settings: ComparisonSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._rests_until = 0.0

    def same(self, one: str, other: str) -> bool | None:
        """The verdict; None where there is none in time, or no worker to give one."""
        process = self._process or self._start()
        if process is None:
            return None
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps([one, other]).encode() + b"\n")
            process.stdin.flush()
            verdict = _line(process, self._settings.seconds)
        except OSError:
            verdict = b""
        if verdict not in (b"true", b"false"):
            self.close()
            return None
        return verdict == b"true"

    def close(self) -> None:
        """Kill the process, if there is one, and wait until it is gone."""
        if self._process is not None:
            _kill(self._process)
            self._process = None

    def _start(self) -> subprocess.Popen[bytes] | None:
        if monotonic() < self._rests_until:
            return None
        limits = str(self._settings.memory_mb), str(self._settings.seconds)
        process = subprocess.Popen(
            [sys.executable, "-m", "services.math_worker", *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # No secrets, and the modules that this process would find.
            env={"PYTHONPATH": module_path()},
            start_new_session=True,  # Ctrl-C at the terminal is for the server alone
        )
        if _line(process, START_SECONDS) != b"ready":
            _kill(process)
            self._rests_until = monotonic() + REST_SECONDS
            log.warning("formulas are compared by their text only: no worker for them would start")
            return None
        self._process = process
        return process


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The next line the process writes within `seconds`; empty where it writes none."""
    assert process.stdout is not None
    deadline, line = monotonic() + seconds, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - monotonic())):
                return b""
            read = os.read(process.stdout.fileno(), 4096)
            if not read:
                return b""
            line += read
    return line.strip()


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()  # also closes the pipes


class MathPool:
    """`atts_core.comparison.Mathematics` over a few workers; every verdict is remembered."""

    def __init__(self, settings: ComparisonSettings) -> None:
        self.asked = 0
        self.undecided = 0
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.workers, "mathematics")
        self._workers = [MathWorker(settings) for _ in range(settings.workers)]
        self._idle: SimpleQueue[MathWorker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._verdicts: OrderedDict[tuple[str, str], bool | None] = OrderedDict()

    async def same(self, one: str, other: str) -> bool | None:
        """Whether two formulas are equal; None where no verdict was reached within the limit.

        Cancelling gives up the wait; a comparison under way ends by itself within the limit.
        """
        pair = (min(one, other), max(one, other))
        if pair not in self._verdicts:
            verdict = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._ask, *pair
            )
            self.asked += 1
            self.undecided += verdict is None
            self._verdicts[pair] = verdict
            if len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)
        self._verdicts.move_to_end(pair)
        return self._verdicts[pair]

    def _ask(self, one: str, other: str) -> bool | None:
        worker = self._idle.get()
        try:
            return worker.same(one, other)
        finally:
            self._idle.put(worker)

    async def close(self) -> None:
        """Wait for what is being compared, within the limit, and end the workers."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for worker in self._workers:
            worker.close()


@asynccontextmanager
async def mathematics(settings: ComparisonSettings) -> AsyncIterator[MathPool]:
    """A pool for as long as the context lasts; its workers start when first asked."""
    pool = MathPool(settings)
    try:
        yield pool
    finally:
        await pool.close()
