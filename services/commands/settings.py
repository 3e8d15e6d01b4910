"""`atts settings`: every setting with its default, its bounds and what it means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from atts_core.settings import bounds, models_in
from services.engines.settings import KINDS
from services.settings import Settings


@dataclass(frozen=True)
class Setting:
    """One setting as a user writes it."""

    name: str
    default: str
    allowed: str
    description: str


def settings(
    json_: Annotated[bool, typer.Option("--json", help="as JSON, nothing else")] = False,
) -> None:
    """Print every setting of a Serve configuration's `args`."""
    if json_:
        engines = {name: list(every(kind)) for name, kind in KINDS.items()}
        print(
            json.dumps(
                [asdict(setting) for setting in every(Settings)]
                + [
                    asdict(setting) | {"name": f"{model}.{setting.name}", "engine": name}
                    for model in ("draft", "target")
                    for name, found in engines.items()
                    for setting in found
                ],
                indent=2,
            )
        )
    else:
        print(as_markdown())


def as_markdown() -> str:
    """The settings as one table, in the order of the model, then a table for each engine."""
    parts = [_table(every(Settings))]
    for name, kind in KINDS.items():
        parts += [f"`draft` and `target` with `engine: {name}`:", _table(every(kind))]
    return "\n\n".join(parts)


def _table(settings: Iterator[Setting]) -> str:
    rows = [f"| `{s.name}` | {s.default} | {s.allowed} | {s.description} |" for s in settings]
    return "\n".join(["| setting | default | allowed | meaning |", "|---|---|---|---|", *rows])


def every(
    kind: type[BaseModel], prefix: str = "", group: BaseModel | None = None
) -> Iterator[Setting]:
    """The settings of `kind`, groups inside groups with dotted names.

    The defaults are those of `group` where the settings around it come with one of their own.
    """
    for name, field in kind.model_fields.items():
        default = (
            field.get_default(call_default_factory=True) if group is None else getattr(group, name)
        )
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            own = default if isinstance(default, BaseModel) else None
            yield from every(inner, f"{prefix}{name}.", own)
        elif len(models_in(inner)) > 1:
            yield Setting(prefix + name, "required", "an engine", field.description or "")
        else:
            required = group is None and field.is_required()
            shown = "required" if required else f"`{json.dumps(default, default=str)}`"
            yield Setting(prefix + name, shown, _allowed(field), field.description or "")


def _allowed(field: FieldInfo) -> str:
    """The field's values, or its type with its bounds."""
    kind = field.annotation
    values = [
        str(v)
        for part in (kind, *get_args(kind))
        if get_origin(part) is Literal
        for v in get_args(part)
    ]
    if values:
        return ", ".join(values)
    return " ".join([_type(kind), *bounds(field)])


def _type(kind: Any) -> str:
    named = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
    if kind in named:
        return named[kind]
    parts = [named[part] for part in get_args(kind) if part in named]
    if get_origin(kind) is tuple:
        return "list of " + " or ".join(parts) if parts else "list"
    return " or ".join([*parts, *(["null"] if type(None) in get_args(kind) else [])])
