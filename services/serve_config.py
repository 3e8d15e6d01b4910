"""A Serve configuration file: read, checked in everything that can be known before Ray starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from atts_core.errors import BadInput
from atts_core.settings import Strict, validated
from services.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent
LOCAL = PROJECT / "deployment" / "local.yaml"


class HttpOptions(Strict):
    """Where Serve's proxy listens; the fields of Serve's own `http_options` that we set."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    request_timeout_s: float | None = Field(None, gt=0)
    keep_alive_timeout_s: int = Field(90, ge=1)


class DeploymentOptions(BaseModel):
    """One deployment by name; Serve itself checks the rest."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str


class ApplicationConfig(Strict):
    """One application of a Serve configuration."""

    name: str = "atts"
    route_prefix: str = "/"
    import_path: str = "deployment.app:build"
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    args: dict[str, Any]
    deployments: tuple[DeploymentOptions, ...] = ()


class ConfigFile(Strict):
    """What a Serve configuration file may hold here."""

    proxy_location: Literal["Disabled", "HeadOnly", "EveryNode"] = "HeadOnly"
    http_options: HttpOptions = Field(default_factory=HttpOptions)
    logging_config: dict[str, Any] = Field(default_factory=dict)
    applications: tuple[ApplicationConfig, ...] = Field(min_length=1, max_length=1)


@dataclass(frozen=True)
class ServeConfig:
    """Where to listen, what to serve, and how many of each deployment."""

    path: Path
    proxy_location: str
    http: HttpOptions
    import_path: str
    settings: Settings
    options: Mapping[str, Mapping[str, Any]]


def load(path: Path) -> ServeConfig:
    """The configuration at `path`; `BadInput` names the file and the setting that is wrong."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}", field="config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path}: no valid YAML: {reason}", field="config") from None
    if not isinstance(document, Mapping):
        raise BadInput(
            f"{path}: no Serve configuration, which is a mapping with `applications:`; see "
            f"{LOCAL.relative_to(PROJECT)}",
            field="config",
        )
    try:
        file = validated(ConfigFile, document)
        application = file.applications[0]
        settings = validated(Settings, located(application.args), where="args")
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", field=error.field) from None
    return ServeConfig(
        path=path,
        proxy_location=file.proxy_location,
        http=file.http_options,
        import_path=application.import_path,
        settings=settings,
        options={d.name: d.model_extra or {} for d in application.deployments},
    )


def located(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """`args` with model folders found: relative ones are looked up here, then in the project.

    The model of a server is a name there; only its tokenizer may be a folder here.
    """
    found = dict(args)
    for name in ("draft", "target"):
        engine = found.get(name)
        if not isinstance(engine, Mapping):
            continue
        key = "tokenizer" if engine.get("engine") == "http" else "model"
        if isinstance(engine.get(key), str):
            path = PROJECT / engine[key]
            if not Path(engine[key]).exists() and path.exists():
                found[name] = {**engine, key: str(path)}
    return found
