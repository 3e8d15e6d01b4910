"""`atts doctor`: is this machine ready, and if not, what to do."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from atts_core.engine import Capabilities
from atts_core.errors import AttsError, BadInput
from services import model_files, serve_config
from services.commands import doctor_engine
from services.commands.serve import require_free
from services.engines.settings import KINDS, HttpSettings
from services.pair import require_common_answers

NEEDED_BYTES = 4 * 1024**3
"""What the served system takes at most with the embedded pair."""


@dataclass(frozen=True)
class Finding:
    """One check: `ok`, what was found, and what to do where it is not."""

    check: str
    ok: bool
    found: str
    advice: str = ""


def doctor(
    config: Annotated[
        Path, typer.Option(help="the Serve configuration to look at")
    ] = serve_config.LOCAL,
    engine: Annotated[
        str | None,
        typer.Option(
            help="only what this engine can do: draft or target of the configuration, or "
            f"{', '.join(KINDS)} with --model"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="with --engine: another model")] = None,
    url: Annotated[str | None, typer.Option(help="with --engine http: the server's root")] = None,
    json_: Annotated[bool, typer.Option("--json", help="findings as JSON, nothing else")] = False,
) -> None:
    """Check Python, packages, memory, ports, model files and what the engines can do."""
    if engine is not None:
        settings = doctor_engine.chosen(engine, config, model, url)
        doctor_engine.show(doctor_engine.capabilities(settings), as_json=json_)
        return
    if model is not None or url is not None:
        raise BadInput("--model and --url go with --engine", field="engine")
    findings: list[Finding] = []
    for finding in examine(config):
        findings.append(finding)
        if not json_:
            print(f"{'ok ' if finding.ok else 'NOT'}  {finding.check}: {finding.found}")
            if not finding.ok:
                print(f"     → {finding.advice}")
    if json_:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def examine(path: Path) -> Iterator[Finding]:
    """The findings, one after the other; what needs a broken thing is left out."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), version, "use Python 3.11 or newer")
    for package in ("torch", "transformers", "ray", "fastapi"):
        yield _installed(package)
    free = psutil.virtual_memory().available
    yield Finding(
        "memory",
        free >= NEEDED_BYTES,
        f"{free / 1024**3:.1f} GiB available, {psutil.cpu_count()} cores",
        f"free some: the served system takes up to {NEEDED_BYTES / 1024**3:.0f} GiB",
    )
    try:
        config = serve_config.load(path)
    except BadInput as error:
        yield Finding("configuration", False, error.message, "mend the file, or leave --config out")
        return
    yield Finding("configuration", True, str(path))
    yield _tried(
        f"port {config.http.port}",
        partial(require_free, config.http.host, config.http.port),
        "free",
        "stop what listens there, or serve with --port",
    )
    records: list[Capabilities] = []
    for name in ("draft", "target"):
        engine = getattr(config.settings, name)
        if isinstance(engine, HttpSettings):
            yield _engine(name, engine, records)
            continue
        files = _tried(
            f"{name} files",
            partial(model_files.check, engine.model, name),
            engine.model,
            "point the configuration at a folder with config.json, tokenizer and *.safetensors",
        )
        yield files
        if files.ok:
            yield _engine(name, engine, records)
    if len(records) == 2:
        yield _tried(
            "pair",
            partial(require_common_answers, *records),
            "both models can work on one chain",
            "choose two models that answer in the same way",
        )


def _installed(package: str) -> Finding:
    try:
        return Finding(package, True, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, False, "not installed", "run `make setup`")


def _tried(check: str, act: Callable[[], Any], found: str, advice: str) -> Finding:
    try:
        act()
    except BadInput as error:
        return Finding(check, False, error.message, advice)
    return Finding(check, True, found)


def _engine(name: str, settings: Any, records: list[Capabilities]) -> Finding:
    """Let the engine prove what it says of itself; what it has proved goes to `records`."""
    advice = "see the message; is the folder whole, does the server run?"
    try:
        record = doctor_engine.capabilities(settings)
    except AttsError as error:
        return Finding(f"{name} engine", False, str(error), advice)
    records.append(record)
    told = ", ".join(f"{key} {value}" for key, value in asdict(record).items())
    return Finding(f"{name} engine", True, told)
