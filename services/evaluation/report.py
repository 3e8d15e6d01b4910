"""What an evaluation leaves in its folder: `summary.json`, `table.md`, pictures."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atts_core.errors import BadInput
from services.evaluation import paste, plots
from services.evaluation.about import ORDER, about, nominal_rates
from services.evaluation.compare import compare
from services.evaluation.configuration import Asked
from services.evaluation.results import Results, Row
from services.evaluation.summary import summarise
from services.evaluation.table import bounds, by_seed, markdown


def write(
    asked: Asked,
    results: Results,
    configuration: Mapping[str, Any],
    skipped: Mapping[str, str],
    *,
    compared: tuple[str, str] | None,
    pictures: bool,
) -> dict[str, Any]:
    """All files; returns the summary."""
    plan, folder = asked.plan, results.folder
    rows = list(results.rows.values())
    labels = [policy.label for policy in plan.policies]
    policies = summarise(rows, labels, skipped, len(plan.items) * len(plan.seeds))
    found: dict[str, Any] = {
        **{k: v for k, v in configuration.items() if k not in ("asked", "policies", "version")},
        "order": ORDER,
        "from": _day(rows, min),
        "to": _day(rows, max),
        "asked": {p.label: {"policy": p.policy, **p.options} for p in plan.policies},
        "policies": policies,
    }
    if compared is not None:
        found["compare"] = _compared(rows, policies, *compared)
    _replace(folder / "summary.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
    _replace(folder / "table.md", f"{about(found)}\n\n{markdown(policies)}")
    if pictures and plots.available():
        plots.draw(policies, rows, _nominal(found), folder)
    elif pictures:
        print("no pictures: they need matplotlib: pip install 'atts[plots]'", file=sys.stderr)
    return found


def into_document(document: Path, results: Results, found: Mapping[str, Any]) -> list[str]:
    """Put what the document's marks of this run name between them; returns the names."""
    rows = list(results.rows.values())

    def rendered(name: str, arguments: Sequence[str]) -> str:
        match name, arguments:
            case "about", []:
                return about(found)
            case "table", []:
                return markdown(found["policies"])
            case "bounds", []:
                return bounds(found["policies"])
            case "seeds", []:
                return by_seed(found["policies"])
            case "compare", [one, other]:
                return _listed(_compared(rows, found["policies"], one, other)["words"])
            case "picture", [picture]:
                return _picture(document, results.folder, picture)
        raise BadInput(
            f"--paste: {document}: found `{' '.join([name, *arguments])}`; known are about, table, "
            "bounds, seeds, compare ONE OTHER, picture NAME",
            field="paste",
        )

    return paste.into(document, results.folder.name, rendered)


def _compared(
    rows: Sequence[Row], policies: Mapping[str, Any], one: str, other: str
) -> dict[str, Any]:
    """The comparison; where one of the two has no answers, that it cannot be made."""
    for label in (one, other):
        if label in policies and not policies[label].get("questions"):
            reason = policies[label].get("skipped", "it has not been asked yet")
            said = f"{one} and {other} cannot be compared: {label} has no answers ({reason})."
            return {"one": one, "other": other, "measures": {}, "words": [said]}
    return compare(rows, one, other)


def _listed(words: Sequence[str]) -> str:
    return "\n".join(f"- {said}" for said in words)


def _picture(document: Path, folder: Path, name: str) -> str:
    drawn = folder / f"{name}.png"
    if not drawn.exists():
        raise BadInput(
            f"--paste: {document} shows the picture {name!r}, and {drawn} does not exist; the "
            "pictures need matplotlib: pip install 'atts[plots]'",
            field="paste",
        )
    kept = document.parent / "images" / f"{folder.name}-{drawn.name}"
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(drawn, kept)
    return f"![{name.replace('-', ' ')}](images/{kept.name})"


def _nominal(found: Mapping[str, Any]) -> float | None:
    """The takeover rate that was asked for, where all policies that have one share it."""
    rates = set(nominal_rates(found["asked"], found["host"]).values())
    return rates.pop() if len(rates) == 1 else None


def _day(rows: Sequence[Row], of: Any) -> str | None:
    times = [row["asked_at"] for row in rows]
    return datetime.fromtimestamp(of(times), UTC).date().isoformat() if times else None


def _replace(path: Path, text: str) -> None:
    """A whole file or none."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text)
    partial.replace(path)
