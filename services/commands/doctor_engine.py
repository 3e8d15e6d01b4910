"""`atts doctor --engine`: what one engine has proved that it can do."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from atts_core.engine import Capabilities
from atts_core.errors import BadInput
from atts_core.settings import validated
from services import model_files, serve_config
from services.engines import loading
from services.engines.settings import KINDS, HttpSettings, Kind


def capabilities(settings: Kind) -> Capabilities:
    """Load the engine, let it prove itself, and let it go. Raises its own errors."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    engine = loading.load(settings)
    try:
        return engine.capabilities
    finally:
        engine.close()


def chosen(name: str, config: Path, model: str | None, url: str | None) -> Kind:
    """The settings that `--engine`, `--model` and `--url` mean; `BadInput` where they mean none.

    `draft` and `target` are those of the configuration; a kind of engine needs a model.
    """
    given = {key: value for key, value in (("model", model), ("url", url)) if value is not None}
    if name in ("draft", "target"):
        found: Kind = getattr(serve_config.load(config).settings, name)
        wanted: Mapping[str, Any] = found.model_dump() | given
        kind: type[BaseModel] = type(found)
    elif name in KINDS:
        wanted, kind = {"engine": name, **given}, KINDS[name]
    else:
        raise BadInput(
            f"--engine: found {name!r}; known are: draft, target, {', '.join(KINDS)}",
            field="engine",
        )
    settings: Any = validated(kind, wanted, where="engine")
    if not isinstance(settings, HttpSettings):
        model_files.check(settings.model, "engine")
    return settings  # type: ignore[no-any-return]


def show(record: Capabilities, *, as_json: bool) -> None:
    """The record, a line a capability or as JSON."""
    if as_json:
        print(json.dumps(asdict(record), indent=2))
        return
    for name, value in asdict(record).items():
        print(f"{name:<15} {value}")
