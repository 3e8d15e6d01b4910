"""Questions with their true answers: the embedded generator, a local file, or a known name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from atts_core.errors import BadInput
from atts_core.settings import Strict, validated
from services.evaluation import hub
from services.evaluation.files import FILES, FileOptions, from_file
from services.evaluation.items import Item
from services.evaluation.specs import split

EMBEDDED = "embedded"


class EmbeddedOptions(Strict):
    """Which problems of the embedded pair's generator are asked."""

    seed: int = Field(1, ge=0, description="decides the problems")
    n: int = Field(200, ge=1, le=100_000, description="how many held-out problems")
    easiest: int = Field(8, ge=1, le=40, description="fewest steps of a problem")
    hardest: int = Field(12, ge=1, le=40, description="most steps of a problem")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Questions in the order in which they are asked; `spec` is how they were asked for."""

    spec: str
    items: Sequence[Item]

    @property
    def fingerprint(self) -> str:
        """Changes with any id, question or answer."""
        text = json.dumps([[i.id, i.question, i.answer] for i in self.items])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(spec: str, limit: int | None = None, instruction: str | None = None) -> Dataset:
    """The dataset that `spec` names, its first `limit` questions, each followed by `instruction`.

    Without an instruction, a known name has its own. Raises `BadInput` that says what to do.
    """
    name, options = split(spec)
    if name == EMBEDDED:
        items = _embedded(validated(EmbeddedOptions, options, where=name))
    elif name in hub.NAMES:
        items = hub.load(name, validated(hub.HubOptions, options, where=name))
        instruction = hub.NAMES[name].instruction if instruction is None else instruction
    elif _is_file(name):
        items = from_file(Path(name), validated(FileOptions, options, where="--dataset"))
    else:
        raise BadInput(
            f"--dataset: found {name!r}; known are {EMBEDDED}, {', '.join(hub.NAMES)}, or a file "
            f"that ends in {', '.join(FILES)}",
            field="dataset",
        )
    _check(name, items)
    return Dataset(spec, [_with(item, instruction) for item in items[:limit]])


def _is_file(name: str) -> bool:
    return name.endswith(FILES)


def _embedded(options: EmbeddedOptions) -> list[Item]:
    from models.arithmetic.problems import held_out

    if options.easiest > options.hardest:
        raise BadInput(
            f"{EMBEDDED}.easiest: found {options.easiest}; at most `hardest`, which is "
            f"{options.hardest}",
            field="easiest",
        )
    problems = held_out(options.n, options.seed, (options.easiest, options.hardest))
    return [
        Item(f"{EMBEDDED}-{options.seed}-{number}", problem.question, problem.answer)
        for number, problem in enumerate(problems)
    ]


def _check(name: str, items: Sequence[Item]) -> None:
    if not items:
        raise BadInput(f"--dataset: {name} holds no question", field="dataset")
    seen: dict[str, int] = {}
    for number, item in enumerate(items, start=1):
        if item.id in seen:
            raise BadInput(
                f"--dataset: {name}: id {item.id!r} is there twice, as questions "
                f"{seen[item.id]} and {number}; give each its own, or name another column: "
                "FILE:id=COLUMN",
                field="id",
            )
        seen[item.id] = number


def _with(item: Item, instruction: str | None) -> Item:
    if not instruction:
        return item
    return Item(item.id, f"{item.question}\n\n{instruction}", item.answer)


def described(dataset: Dataset) -> Mapping[str, Any]:
    """What tells two datasets apart, for the folder's configuration."""
    return {
        "dataset": dataset.spec,
        "questions": len(dataset.items),
        "dataset_fingerprint": dataset.fingerprint,
    }
