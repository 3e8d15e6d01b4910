"""`atts serve`: the application of a Serve configuration, from this terminal."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from atts_core.errors import AttsError, BadInput
from services import capacity, model_files, recorder, serve_config
from services.access import OPEN, all_keys, require_keys
from services.calibration_store import opened

OBJECT_STORE_BYTES = 128 * 1024 * 1024
"""Segments are a few kilobytes; Ray's own default would take a third of the memory."""


def serve(
    config: Annotated[Path, typer.Option(help="a Serve configuration")] = serve_config.LOCAL,
    host: Annotated[str | None, typer.Option(help="instead of the configuration's")] = None,
    port: Annotated[int | None, typer.Option(help="instead of the configuration's")] = None,
    address: Annotated[
        str | None, typer.Option(help="a running Ray cluster, e.g. auto; default: start one here")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(help="where Prometheus scrapes a cluster started here; default: a free port"),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="keep all runs in this folder, as traces for `atts replay`")
    ] = None,
) -> None:
    """Serve the OpenAI-compatible API until interrupted."""
    began = monotonic()
    wanted = serve_config.load(config)
    host, port = host or wanted.http.host, port or wanted.http.port
    model_files.check_pair(wanted.settings)
    capacity.require_fit(wanted)
    if record is not None:
        wanted = replace(
            wanted, settings=wanted.settings.model_copy(update={"record": record.resolve()})
        )
    if address is None:
        require_free(host, port)
        # Of a cluster elsewhere, the routers' nodes have the keys: they refuse, or warn, there.
        require_keys(wanted.settings.access)
        if not all_keys(wanted.settings.access):
            _say(OPEN)
        # Tried here once: what is wrong with them is said before anything has started.
        opened(wanted.settings.store).close()
        if wanted.settings.record is not None:
            recorder.prepare(wanted.settings.record)
        if wanted.settings.tracing.enabled:
            from services.tracing.spans import require

            require(wanted.settings.tracing)
    _say(f"starting Ray and {wanted.settings.served_model} …")
    stop = threading.Event()
    shutdown = _start(wanted, host, port, address, metrics_port)
    # After Ray's start, which installs handlers of its own.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        _say(
            f"ready after {monotonic() - began:.1f} s: http://{_reachable(host)}:{port}/v1 "
            f"(model {wanted.settings.served_model!r}; stop with Ctrl-C)"
        )
        stop.wait()
        _say("stopping …")
    finally:
        shutdown()


def _start(
    wanted: serve_config.ServeConfig,
    host: str,
    port: int,
    address: str | None,
    metrics_port: int | None,
) -> Any:
    """Ray, Serve and the application; returns what takes them down again."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled" if address is None else "token")
    os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "services.proxy:middlewares")
    # This process leads the cluster, it does not work in it: Ray's own log lines stay in its files.
    import ray
    from ray import serve as ray_serve

    from services.commands.start_failure import raise_reason

    own = {
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_metrics_export_port": metrics_port,
    }
    ray.init(
        address=address or "local",  # None would join a cluster that happens to run here
        logging_level=logging.ERROR,
        log_to_driver=False,
        **(own if address is None else {}),
    )

    def shutdown() -> None:
        # The application ends what it has begun; a cluster of our own goes with this process.
        ray_serve.delete("atts")
        ray.shutdown()

    try:
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        ray_serve.start(
            proxy_location=wanted.proxy_location,
            http_options={**wanted.http.model_dump(), "host": host, "port": port},
        )
        # Not the builder itself: Serve applies the options only of a file that it reads itself.
        composition = importlib.import_module(wanted.import_path.partition(":")[0])
        ray_serve.run(
            composition.with_options(wanted.settings.model_dump(mode="json"), wanted.options),
            name="atts",
            route_prefix="/",
        )
    except RuntimeError as error:
        try:
            raise_reason("atts")
        finally:
            shutdown()
        raise AttsError(f"the application did not start: {error}") from None
    except BaseException:
        shutdown()
        raise
    return shutdown


def require_free(host: str, port: int) -> None:
    """`BadInput` where somebody listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"port {port} on {host} cannot be used ({error.strerror}); "
                "stop what listens there, or choose another with --port",
                field="port",
            ) from None


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
