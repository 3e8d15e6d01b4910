"""What is asked of an evaluation, and the configuration that its results belong to."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field

from atts_core.errors import BadInput
from atts_core.settings import Strict
from atts_core.types import Comparison
from services import serve_config
from services.evaluation import datasets, results, specs
from services.evaluation.asking import Plan
from services.evaluation.datasets import Dataset

VERSION = 2
_RANGE = re.compile(r"(\d+)-(\d+)")


class Wishes(Strict):
    """The command line's words, as they are kept for `--resume`."""

    dataset: str = datasets.EMBEDDED
    limit: int | None = Field(None, ge=1)
    instruction: str | None = None
    policy: tuple[str, ...] = ("target-only", "draft-only", "atts")
    option: tuple[str, ...] = ()
    candidates: int | None = Field(None, ge=1)
    turns: int | None = Field(None, ge=1)
    seeds: str = "1"
    at_once: int = Field(4, ge=1, le=1024)
    comparison: Comparison = "auto"
    tolerance: float = Field(0.0, ge=0, lt=1)
    server: str | None = None
    config: str = str(serve_config.LOCAL)


@dataclass(frozen=True)
class Asked:
    """The wishes understood: a plan, and what tells its results from others."""

    wishes: Wishes
    dataset: Dataset
    plan: Plan

    @classmethod
    def of(cls, wishes: Wishes) -> Asked:
        """Raises `BadInput` that names the option at fault."""
        common = specs.common_options(
            wishes.option,
            candidates=wishes.candidates,
            turns=wishes.turns,
            comparison=None if wishes.comparison == "auto" else wishes.comparison,
            tolerance=wishes.tolerance or None,
        )
        policies = specs.policies(wishes.policy, common)
        dataset = datasets.load(wishes.dataset, wishes.limit, wishes.instruction)
        plan = Plan(
            dataset.items,
            policies,
            seeds(wishes.seeds),
            wishes.at_once,
            wishes.comparison,
            wishes.tolerance,
        )
        return cls(wishes, dataset, plan)

    def left(self, rows: results.Results) -> int:
        """Questions without an answer."""
        return sum(
            not rows.finished((policy.label, seed, item.id))
            for seed in self.plan.seeds
            for policy in self.plan.policies
            for item in self.plan.items
        )

    def configuration(self, host: Mapping[str, Any]) -> dict[str, Any]:
        """All that figures depend on; `host` says who answers."""
        plan = self.plan
        return {
            "version": VERSION,
            **datasets.described(self.dataset),
            "policies": {
                p.label: {"policy": p.policy, "options": dict(p.options)} for p in plan.policies
            },
            "seeds": list(plan.seeds),
            "at_once": plan.at_once,
            "comparison": plan.comparison,
            "tolerance": plan.tolerance,
            "machine": machine(),
            "host": dict(host),
        }


def seeds(text: str) -> list[int]:
    """`3`: the seeds 1 to 3; `4,7`: these; `4-7`: 4 to 7."""
    found = _RANGE.fullmatch(text)
    if found:
        numbers = list(range(int(found[1]), int(found[2]) + 1))
    elif text.isdigit():
        numbers = list(range(1, int(text) + 1))
    elif re.fullmatch(r"\d+(,\d+)*,?", text):
        numbers = [int(part) for part in text.split(",") if part]
    else:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        raise BadInput(
            f"--seeds: found {text!r}; how many (3), which (4,7), or from which to which (4-7)",
            field="seeds",
        )
    return numbers


def settings_of(config: Path, at_once: int) -> dict[str, Any]:
    """What answers in this process depend on: models, method, calibration, and the code.

    Raises `BadInput` where the configuration has no room for as many questions at once.
    """
    wanted = serve_config.load(config).settings
    if at_once > wanted.limits.max_running:
        raise BadInput(
            f"--at-once: found {at_once}; {config} has room for {wanted.limits.max_running} at "
            "once (limits.max_running)",
            field="at_once",
        )
    settings = wanted.model_dump(mode="json")
    kept = ("draft", "target", "method", "calibration")
    return {**{name: settings[name] for name in kept}, "versions": versions()}


def versions() -> dict[str, str]:
    """Of what computes here; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in ("atts", "torch", "transformers", "vllm", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def machine() -> str:
    """The processor's name and its cores."""
    return f"{_processor() or platform.machine()}; {os.cpu_count()} cores"


def _processor() -> str:
    """As Linux names it; elsewhere as Python can tell."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    named = re.search(r"^model name\s*: *(.*)$", described, re.MULTILINE)
    return named[1].strip() if named else platform.processor()


def kept(folder: Path) -> dict[str, Any] | None:
    """The configuration of the folder's evaluation; None where there is none.

    Raises `BadInput` where it is that of something else.
    """
    there = results.read_configuration(folder)
    if there is not None and not all(isinstance(there.get(k), dict) for k in ("asked", "host")):
        raise BadInput(
            f"--resume: {folder / results.CONFIGURATION} is not that of an evaluation; choose "
            "another folder",
            field="resume",
        )
    return there
