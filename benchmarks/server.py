"""A server for a measurement: the one that runs, or one of our own that ends with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import IO

import httpx

START_SECONDS = 120


@contextmanager
def running_server(url: str | None = None, *arguments: str) -> Iterator[str]:
    """The base URL of a server that is ready; without `url` one is started on a free port."""
    if url is not None:
        yield url.rstrip("/")
        return
    port = free_port()
    command = [sys.executable, "-m", "services.cli", "serve", "--port", str(port), *arguments]
    # A file, not a pipe: nobody reads it while the server runs, and a full pipe would stop it.
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory() as state:
        # A state of its own: what is measured here is no part of the user's calibration.
        own = {**os.environ, "XDG_STATE_HOME": state}
        process = subprocess.Popen(command, stderr=said, text=True, env=own)
        try:
            with _interrupted_when_terminated():
                yield _ready(process, f"http://127.0.0.1:{port}", said)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _interrupted_when_terminated() -> Iterator[None]:
    """SIGTERM as Ctrl-C: by default it ends this process at once, and the server would stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(process: subprocess.Popen[str], url: str, said: IO[str]) -> str:
    """Poll readiness: the server is another process, and its port says when it is up."""
    deadline = monotonic() + START_SECONDS
    while monotonic() < deadline:
        if process.poll() is not None:
            said.seek(0)
            raise RuntimeError(f"the server ended with status {process.returncode}: {said.read()}")
        try:
            if httpx.get(f"{url}/ready", timeout=2).status_code == 200:
                return url
        except httpx.HTTPError:
            pass
        sleep(0.2)
    raise RuntimeError(f"the server was not ready within {START_SECONDS} s")
