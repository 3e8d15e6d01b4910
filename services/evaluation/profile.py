"""What bounds a set: how long each engine computed while questions were in flight.

An engine's *step seconds* are what its own step loop counts: a step serves all requests that are
in it, so however many requests wait for it, a second is a second. Each row holds what the clocks
showed when its question was asked and when it had its answer. Questions of one policy and seed run
together and alone, so what passed between the first and the last of these readings is theirs.

Seconds are wall-clock: an engine that computes waits in its step for a core, too, where other work
has them all. `cores` says whether it has: CPU seconds of all its processes over the set's seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.evaluation.results import Row

Counts = dict[str, dict[str, float]]
"""By model, and for all processes: what was counted."""
MODELS = ("draft", "target")


def from_to(
    before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, list[float]]]:
    """Two readings of the same clocks as a row keeps them."""
    return {
        place: {name: [round(v, 4), round(after[place][name], 4)] for name, v in counts.items()}
        for place, counts in before.items()
    }


def counted(rows: Iterable[Row]) -> Counts:
    """What the clocks went on by in passes of one policy; empty where a row has no reading."""
    passes: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        passes.setdefault((row["session"], row["seed"]), []).append(row)
    total: Counts = {}
    for together in passes.values():
        for place, counts in together[0].get("readings", {}).items():
            for name in counts:
                spans = [row["readings"][place][name] for row in together]
                passed = max(end for _, end in spans) - min(begin for begin, _ in spans)
                into = total.setdefault(place, {})
                into[name] = into.get(name, 0.0) + passed
    return total


def profile(rows: Sequence[Row], seconds: float) -> dict[str, Any]:
    """Each engine's share of the set's `seconds` in steps, and what a step was like.

    None where the host could not tell.
    """
    found = counted(rows)
    profiled: dict[str, Any] = {}
    for model in MODELS:
        of = found.get(model, {})
        steps, stepping = of.get("steps", 0), of.get("step_seconds")
        profiled |= {
            f"{model}_busy": stepping / seconds if stepping is not None and seconds else None,
            f"{model}_step_seconds": stepping,
            f"{model}_steps": round(steps) if stepping is not None else None,
            f"{model}_step_ms": 1000 * stepping / steps if stepping is not None and steps else None,
            f"{model}_step_sequences": of["batched_sequences"] / steps if steps else None,
        }
    cpu = found.get("processes", {}).get("cpu_seconds")
    profiled["cores"] = cpu / seconds if cpu is not None and seconds else None
    return profiled
