"""`make monitoring`: Prometheus with our rules beside a server, and where to look."""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

import httpx
import yaml

from atts_core.errors import AttsError, BadInput
from services.commands.failing import in_one_line
from services.commands.serve import require_free

PROJECT = Path(__file__).resolve().parent.parent
RULES = PROJECT / "helm" / "atts" / "files" / "rules"
DASHBOARDS = PROJECT / "helm" / "atts" / "files" / "dashboards"

START_SECONDS = 30
LOOKS = {
    "takeover rate by turn": "sum by (turn) (rate(ray_atts_rejected_total[5m])) / "
    "(sum by (turn) (rate(ray_atts_decisions_total[5m])) > 1e-9)",
    "latency, 95 %": "histogram_quantile(0.95, sum by (le) "
    "(rate(ray_atts_e2e_request_latency_seconds_bucket[5m])))",
    "where the time goes": "sum by (stage) "
    "(rate(ray_atts_request_stage_by_latency_seconds_total[5m]))",
}
"""Queries worth a first look."""


def configuration(targets: Sequence[str], every_seconds: int = 15, rules: Path = RULES) -> str:
    """Prometheus' configuration: scrape `targets` (HOST:PORT of each node), evaluate our rules."""
    return yaml.safe_dump(
        {
            "global": {
                "scrape_interval": f"{every_seconds}s",
                "evaluation_interval": f"{every_seconds}s",
            },
            "rule_files": [f"{rules}/*.yaml"],
            "scrape_configs": [{"job_name": "atts", "static_configs": [{"targets": [*targets]}]}],
        },
        sort_keys=False,
    )


def binary(given: str | None) -> str:
    """Prometheus' program; `BadInput` where there is none."""
    found = shutil.which(given or "prometheus")
    if found is not None:
        return found
    if given is not None:
        raise BadInput(f"{given} is no program", field="prometheus")
    raise BadInput(
        "Prometheus is not installed: apt-get install prometheus, or name its program with "
        "ARGS='--prometheus PATH', or use docker compose -f docker/compose.yaml up",
        field="prometheus",
    )


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def prometheus(program: str, config: str, port: int, folder: Path) -> Iterator[Running]:
    """A Prometheus that is ready, with its data in `folder`; it ends with the context.

    Raises `BadInput` where the port is taken, `AttsError` where it does not get ready.
    """
    require_free("127.0.0.1", port)
    (folder / "prometheus.yml").write_text(config)
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _await_ready(process, url, folder / "prometheus.log")
            yield Running(url, process)
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = monotonic() + START_SECONDS
    while monotonic() < deadline:
        if process.poll() is not None:
            raise AttsError(f"Prometheus ended: {log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{url}/-/ready", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        sleep(0.1)
    raise AttsError(f"Prometheus was not ready within {START_SECONDS} s: {log}")


def unreachable(targets: Sequence[str]) -> list[str]:
    """Those of `targets` where no metrics are to be had now."""

    def answers(target: str) -> bool:
        try:
            return httpx.get(f"http://{target}/metrics", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    return [target for target in targets if not answers(target)]


def guide(url: str, targets: Sequence[str]) -> str:
    """Where to look."""
    lines = [
        f"Prometheus scrapes {', '.join(targets)}; stop it with Ctrl-C.",
        f"  targets  {url}/targets",
        f"  alerts   {url}/alerts",
    ]
    lines += [
        f"  {name}:\n    {url}/graph?g0.expr={quote(expr)}&g0.tab=0&g0.range_input=30m"
        for name, expr in LOOKS.items()
    ]
    lines += [
        f"Grafana's dashboards: import {DASHBOARDS.relative_to(PROJECT)}/*.json, with {url}",
        "as data source, or have both with docker compose: see docs/monitoring.md.",
    ]
    for target in unreachable(targets):
        lines.append(
            f"NOTHING ANSWERS at http://{target}/metrics yet: make serve ARGS='--metrics-port "
            f"{target.rpartition(':')[2]}'"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="make monitoring ARGS=…", description=__doc__)
    parser.add_argument(
        "targets",
        nargs="*",
        default=["127.0.0.1:8080"],
        help="HOST:PORT of each node's metrics (default: 127.0.0.1:8080)",
    )
    parser.add_argument("--prometheus", help="its program; default: the installed one")
    parser.add_argument("--port", type=int, default=9090, help="of Prometheus itself")
    parser.add_argument("--every", type=int, default=5, help="seconds between two scrapes")
    parser.add_argument("--data", type=Path, help="a folder to keep the data in; default: nowhere")
    asked = parser.parse_args(arguments)
    for target in asked.targets:
        if not re.fullmatch(r"[^\s/]+:\d{1,5}", target):
            raise BadInput(f"{target!r} is not HOST:PORT of a node's metrics", field="targets")
    if asked.every < 1:
        raise BadInput("--every takes whole seconds from 1", field="every")
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = asked.data or Path(temporary)
        if folder.is_file():
            raise BadInput(f"{folder} is a file, not a folder", field="data")
        folder.mkdir(parents=True, exist_ok=True)
        config = configuration(asked.targets, asked.every)
        # As Ctrl-C does, so that Prometheus ends too.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with prometheus(binary(asked.prometheus), config, asked.port, folder) as running:
            print(guide(running.url, asked.targets), flush=True)
            try:
                running.process.wait()
                raise AttsError(f"Prometheus ended; its log: {folder / 'prometheus.log'}")
            except KeyboardInterrupt:
                print("stopping …", file=sys.stderr)


if __name__ == "__main__":
    with in_one_line():
        main()
