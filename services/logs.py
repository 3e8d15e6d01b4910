"""Log files: what our modules say, one JSON object a line, with the id of the request it is about.

Writing has a thread of its own: a disk that is slow or full costs log lines, never a request.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from services.recorder import prepare
from services.settings import LogSettings
from services.watching import CURRENT, LONGEST_ID

OURS = "services"
"""The logger above all of ours."""
WAITING = 10_000
"""Lines that wait for the disk at most; what comes then is dropped."""
DONE = object()


class Json(logging.Formatter):
    """A record as a JSON object: the fixed fields, and what the record's `fields` hold."""

    def __init__(self, request_id: Callable[[], str], **fixed: str) -> None:
        super().__init__()
        self._request_id = request_id
        self._fixed = fixed

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            **self._fixed,
            "message": record.getMessage(),
        }
        if request_id := self._request_id():
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # `request_id` among the fields is the one that counts: the line may come after its request.
        return json.dumps(line | getattr(record, "fields", {}), ensure_ascii=False, default=str)


class Queued(logging.Handler):
    """Formats a record at once, while its request is known, and leaves it to a thread to write."""

    def __init__(self, file: logging.Handler) -> None:
        super().__init__()
        self.dropped = 0
        self._lines: queue.Queue[Any] = queue.Queue(WAITING)
        self._file = file
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.dropped += 1  # the thread says so, once the disk keeps up again
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Returns when all that waits is written, or the disk has had two seconds for it.

        Whoever configures `logging` anew closes all handlers: the next line goes on writing.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(queue.Full):
                self._lines.put(DONE, timeout=1)
                thread.join(1)
        super().close()

    def _write(self) -> None:
        told = self.dropped
        while (line := self._lines.get()) is not DONE:
            self._put(line)
            if self.dropped > told and self._lines.qsize() < WAITING // 2:
                told = self._tell(told)
        if self.dropped > told:
            self._tell(told)

    def _tell(self, told: int) -> int:
        """Say how many lines are missing since `told` of them; how many that makes."""
        dropped = self.dropped
        what = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
        words = f"{dropped - told} lines are missing here: the disk was too slow for them"
        self._put(self.format(logging.makeLogRecord(what | {"msg": words})))
        return dropped

    def _put(self, line: str) -> None:
        # What fails in there is said on standard error, by `logging` itself.
        self._file.handle(logging.makeLogRecord({"msg": line}))


def write_logs(settings: LogSettings, deployment: str, replica: str) -> Path:
    """From now on, our modules' lines of this process also go to a file of its own; which.

    Raises `BadInput` where the folder cannot be written to.
    """
    folder = settings.folder or _beside_serve_s()
    prepare(folder)
    path = folder / f"atts_{deployment}_{replica}.jsonl"
    file = RotatingFileHandler(
        path, maxBytes=settings.max_bytes, backupCount=settings.files - 1, delay=True
    )
    install(file, deployment=deployment, replica=replica)
    return path


def install(file: logging.Handler, **fixed: str) -> Queued:
    """Put a handler for JSON lines above our loggers, in the place of an earlier one."""
    ours = logging.getLogger(OURS)
    for earlier in [one for one in ours.handlers if isinstance(one, Queued)]:
        ours.removeHandler(earlier)
        earlier.close()
    handler = Queued(file)
    handler.setFormatter(Json(current_request_id, **fixed))
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    return handler


def current_request_id() -> str:
    """Of the request that this task works for, at the router and behind handle calls; "": none."""
    exchange = CURRENT.get()
    if exchange is not None:
        return exchange.id
    # Serve carries it from the proxy through every handle call; there is no public way to ask.
    from ray.serve.context import _get_serve_request_context

    return str(_get_serve_request_context().request_id)[:LONGEST_ID]


def _beside_serve_s() -> Path:
    """Serve's own folder of logs on this node: Ray's dashboard and log collectors look there."""
    from ray.serve._private.logging_utils import get_serve_logs_dir

    return Path(get_serve_logs_dir())
