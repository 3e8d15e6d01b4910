"""What can be known of a model folder without loading it: so that mistakes show at once."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from atts_core.errors import BadInput
from services.engines.settings import HttpSettings
from services.settings import Settings


def check_pair(settings: Settings) -> None:
    """`BadInput` where one of the two models is a folder that is missing or broken."""
    for name, engine in (("draft", settings.draft), ("target", settings.target)):
        if not isinstance(engine, HttpSettings):
            check(engine.model, name)


def check(model: str, name: str) -> None:
    """`BadInput` where `model` is a folder that is missing or broken.

    A hub name (`owner/name`, no such folder here) is left to the engine, which fetches it.
    """
    folder = Path(model)
    if not folder.exists():
        if _looks_like_hub_name(model):
            return
        raise BadInput(f"{name}.model: no folder {model!r} here", field=f"{name}.model")
    field = f"{name}.model"
    for needed in ("config.json", "tokenizer_config.json"):
        _require_json(folder / needed, field)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BadInput(f"{field}: {folder} holds no *.safetensors", field=field)
    for file in weights:
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{field}: {file} is broken: {error}", field=field) from None


def _looks_like_hub_name(model: str) -> bool:
    return (
        model.count("/") == 1 and not model.startswith((".", "/", "~")) and "models/" not in model
    )


def _require_json(file: Path, field: str) -> None:
    try:
        json.loads(file.read_text())
    except OSError as error:
        raise BadInput(f"{field}: {file}: {error.strerror}", field=field) from None
    except ValueError as error:
        raise BadInput(f"{field}: {file} is no valid JSON: {error}", field=field) from None
