"""A Serve configuration file: read, checked in everything that can be known before Ray starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from atts_core.errors import BadInput
from atts_core.settings import validated
from services.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent
LOCAL = PROJECT / "deployment" / "local.yaml"


@dataclass(frozen=True)
class ServeConfig:
    """Where to listen, what to serve, and how many of each deployment."""

    path: Path
    host: str
    port: int
    import_path: str
    args: Mapping[str, Any]
    settings: Settings
    options: Mapping[str, Mapping[str, Any]]


def load(path: Path) -> ServeConfig:
    """The configuration at `path`; `BadInput` names the file and the setting that is wrong."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}", field="config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: no valid YAML: {_one_line(error)}", field="config") from None
    try:
        application = document["applications"][0]
        args = application.get("args") or {}
        http = document.get("http_options") or {}
        deployments = application.get("deployments") or []
        options = {d["name"]: {k: v for k, v in d.items() if k != "name"} for d in deployments}
    except (TypeError, KeyError, IndexError, AttributeError):
        raise BadInput(
            f"{path}: no Serve configuration; it needs `applications:` with one application, see "
            f"{LOCAL.name}",
            field="config",
        ) from None
    try:
        settings = validated(Settings, located(args))
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", field=error.field) from None
    return ServeConfig(
        path=path,
        host=str(http.get("host", "127.0.0.1")),
        port=int(http.get("port", 8000)),
        import_path=str(application.get("import_path", "deployment.app:build")),
        args=settings.model_dump(mode="json"),
        settings=settings,
        options=options,
    )


def located(args: Any) -> Any:
    """`args` with model folders found: relative ones are looked up here, then in the project."""
    if not isinstance(args, Mapping):
        return args
    found = dict(args)
    for name in ("draft", "target"):
        engine = found.get(name)
        if isinstance(engine, Mapping) and isinstance(engine.get("model"), str):
            path = PROJECT / engine["model"]
            if not Path(engine["model"]).exists() and path.exists():
                found[name] = {**engine, "model": str(path)}
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
