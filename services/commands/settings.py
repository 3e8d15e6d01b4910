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
        print(json.dumps([asdict(setting) for setting in every(Settings)], indent=2))
    else:
        print(as_markdown())


def as_markdown() -> str:
    """The settings as one table, in the order of the model."""
    rows = [
        f"| `{s.name}` | {s.default} | {s.allowed} | {s.description} |" for s in every(Settings)
    ]
    return "\n".join(["| setting | default | allowed | meaning |", "|---|---|---|---|", *rows])


def every(kind: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """The settings of `kind`, groups inside groups with dotted names."""
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from every(inner, f"{prefix}{name}.")
        elif get_origin(inner) is tuple and models_in(inner):
            yield Setting(prefix + name, _default(field), "list", field.description or "")
        else:
            yield Setting(prefix + name, _default(field), _allowed(field), field.description or "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value, default=str)}`"


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
        return "list of " + " or ".join(parts)
    return " or ".join([*parts, *(["null"] if type(None) in get_args(kind) else [])])
