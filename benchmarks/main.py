"""The main job measured over HTTP: the three policies on the same held-out problems, one run."""

from __future__ import annotations

import asyncio
import os
import platform
from typing import Any

from benchmarks.asking import Asked, measure
from benchmarks.server import running_server
from models.arithmetic.problems import held_out

POLICIES = ("target-only", "draft-only", "atts")
CANDIDATES = 8


def run(
    *,
    problems: int,
    seed: int,
    at_once: int,
    server: str | None,
    coverage: str | None = None,
    rate: float | None = None,
) -> dict[str, Any]:
    """All policies, one after the other, on one server with the shipped configuration.

    `coverage` and the takeover `rate` are the requests' own, where they are to be others than the
    configuration's.
    """
    questions = list(held_out(problems, seed))
    with running_server(server) as url:
        policies = {
            policy: asyncio.run(
                measure(url, _asked(policy, coverage, rate), questions, seed, at_once)
            )
            for policy in POLICIES
        }
    return {
        "problems": problems,
        "seed": seed,
        "candidates": CANDIDATES,
        "at_once": at_once,
        "coverage": coverage,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "policies": policies,
    }


def _asked(policy: str, coverage: str | None, rate: float | None) -> Asked:
    options = {
        "candidates": CANDIDATES,
        "takeover_rate": rate,
        # Lone models run to their end: pass@1 is counted over all their chains.
        "consensus": policy == "atts",
        "coverage": coverage,
    }
    return Asked(policy, "atts" if policy == "atts" else f"atts:{policy}", options)


def as_table(result: dict[str, Any]) -> str:
    """The result for people; ratios are to target-only in the same run."""
    policies = result["policies"]
    base = policies["target-only"]
    nominal = policies["atts"]["nominal_takeover_rate"]
    lines = [
        f"{result['problems']} held-out problems of 8-12 steps, m = {result['candidates']}, "
        f"nominal takeover rate {nominal:g}, seed {result['seed']}, {result['at_once']} questions "
        f"at once; {result['machine']}",
        "",
        f"{'':<14}{'pass@1':>8}{'majority':>10}{'rate':>8}{'target share':>14}"
        f"{'target tokens':>15}{'p50 s':>8}{'p95 s':>8}{'seconds':>9}",
    ]
    for name in POLICIES:
        p = policies[name]
        rate = "-" if p["realised_takeover_rate"] is None else f"{p['realised_takeover_rate']:.3f}"
        tokens = f"{p['target_tokens']} ({p['target_tokens'] / base['target_tokens']:.2f}x)"
        lines.append(
            f"{name:<14}{p['pass_at_1']:>8.3f}{p['majority_accuracy']:>10.3f}{rate:>8}"
            f"{p['target_token_share']:>14.3f}{tokens:>15}{p['latency_p50']:>8.2f}"
            f"{p['latency_p95']:>8.2f}{p['seconds']:>9.1f}"
        )
    lines += [
        "",
        f"atts took {policies['atts']['seconds'] / base['seconds']:.2f}x the time of target-only.",
    ]
    return "\n".join(lines)
