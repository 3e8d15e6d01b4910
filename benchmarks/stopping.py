"""What stopping early saves: the same problems on one server, with each rule and without any."""

from __future__ import annotations

import asyncio
import os
import platform
from typing import Any

from benchmarks.asking import Asked, measure
from benchmarks.server import running_server
from models.arithmetic.problems import held_out

CANDIDATES = 8
NEEDED = "consensus, start needed"
RULES: dict[str, dict[str, Any]] = {
    "all chains": {"consensus": False, "start": "all"},
    "consensus": {"consensus": True, "start": "all"},
    "confidence 0.95": {"confidence": 0.95, "start": "all"},
    NEEDED: {"consensus": True, "start": "needed"},
    "confidence 0.95, start needed": {"confidence": 0.95, "start": "needed"},
}
"""Consensus alone cancels nothing before 5 of 8 agree; five equal answers are sure to 0.98. The
chains of one problem end nearly together: much is saved only of those that never start."""


def run(*, problems: int, seed: int, at_once: int, server: str | None) -> dict[str, Any]:
    """Each rule over the same problems with the same seeds, one after the other."""
    questions = list(held_out(problems, seed))
    with running_server(server) as url:
        rules = {
            name: asyncio.run(
                measure(
                    url,
                    Asked(name, "atts", {"candidates": CANDIDATES, **options}),
                    questions,
                    seed,
                    at_once,
                )
            )
            for name, options in RULES.items()
        }
    whole = _generated(rules["all chains"])
    return {
        "problems": problems,
        "seed": seed,
        "candidates": CANDIDATES,
        "at_once": at_once,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rules": {
            name: found | {"saved": 1 - _generated(found) / whole} for name, found in rules.items()
        },
    }


def _generated(found: dict[str, Any]) -> int:
    return int(found["draft_tokens"] + found["target_tokens"])


def as_table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [
        f"{result['problems']} held-out problems of 8-12 steps, m = {result['candidates']}, seed "
        f"{result['seed']}, {result['at_once']} questions at once; {result['machine']}",
        "",
        f"{'':<17}{'majority':>9}{'draft tokens':>14}{'target tokens':>15}{'saved':>8}"
        f"{'cancelled':>11}{'p50 s':>8}{'p95 s':>8}{'seconds':>9}",
    ]
    lines += [
        f"{name:<17}{r['majority_accuracy']:>9.3f}{r['draft_tokens']:>14}{r['target_tokens']:>15}"
        f"{r['saved']:>8.1%}{r['cancelled']:>11}{r['latency_p50']:>8.2f}{r['latency_p95']:>8.2f}"
        f"{r['seconds']:>9.1f}"
        for name, r in result["rules"].items()
    ]
    return "\n".join(lines)
