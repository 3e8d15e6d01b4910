"""The main job measured over HTTP: the three policies on the same held-out problems, one run."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from time import perf_counter
from typing import Any

import httpx

from atts_core.answers import equivalent
from benchmarks.server import running_server
from models.arithmetic.problems import Problem, held_out
from services.client import authorization

POLICIES = ("target-only", "draft-only", "atts")
CANDIDATES = 8
RATE = 0.4


def run(
    *, problems: int, seed: int, at_once: int, server: str | None, coverage: str | None = None
) -> dict[str, Any]:
    """All policies, one after the other, on one server with the shipped configuration.

    `coverage` is the requests' own, where it is to be another than the configuration's.
    """
    questions = list(held_out(problems, seed))
    with running_server(server) as url:
        policies = {
            policy: asyncio.run(_measure(url, policy, questions, seed, at_once, coverage))
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


async def _measure(
    url: str,
    policy: str,
    problems: list[Problem],
    seed: int,
    at_once: int,
    coverage: str | None,
) -> dict[str, Any]:
    """One policy over all problems, `at_once` in flight."""
    places = asyncio.Semaphore(at_once)
    done = 0
    began = perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=600, headers=authorization()) as client:

        async def ask(index: int, problem: Problem) -> dict[str, Any]:
            nonlocal done
            async with places:
                asked = perf_counter()
                response = await client.post(
                    "/v1/chat/completions", json=_body(policy, problem, seed + index, coverage)
                )
                response.raise_for_status()
                latency = perf_counter() - asked
            done += 1
            _progress(policy, done, len(problems), perf_counter() - began)
            return {**response.json()["atts"], "latency": latency, "truth": problem.answer}

        answers = await asyncio.gather(*(ask(i, p) for i, p in enumerate(problems)))
    return _summary(list(answers), perf_counter() - began)


def _body(policy: str, problem: Problem, seed: int, coverage: str | None) -> dict[str, Any]:
    return {
        "model": "atts" if policy == "atts" else f"atts:{policy}",
        "messages": [{"role": "user", "content": problem.question}],
        # Lone models run to their end: pass@1 is counted over all their chains.
        "atts": {
            "candidates": CANDIDATES,
            "takeover_rate": RATE,
            "seed": seed,
            "consensus": policy == "atts",
            "coverage": coverage,
        },
    }


def _summary(answers: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Accuracy, rate, tokens and time of one policy.

    pass@1 is the mean share of right chains among those that ended by themselves.
    """
    right = [a["answer"] is not None and equivalent(a["answer"], a["truth"]) for a in answers]
    shares = [_share_right(a) for a in answers if a["candidates"]["finished"]]
    decisions = sum(a["takeover_rate"]["decisions"] for a in answers)
    rejected = sum(a["takeover_rate"]["rejected"] for a in answers)
    draft = sum(a["tokens"]["draft"]["generated"] for a in answers)
    target = sum(a["tokens"]["target"]["generated"] for a in answers)
    latencies = sorted(a["latency"] for a in answers)
    return {
        "pass_at_1": sum(shares) / len(shares) if shares else 0.0,
        "majority_accuracy": sum(right) / len(right),
        "realised_takeover_rate": rejected / decisions if decisions else None,
        "target_token_share": target / (draft + target),
        "draft_tokens": draft,
        "target_tokens": target,
        "target_scored_tokens": sum(a["tokens"]["target"]["scored"] for a in answers),
        "decisions": decisions,
        "cancelled": sum(a["candidates"]["cancelled"] for a in answers),
        "failed": sum(a["candidates"]["failed"] for a in answers),
        "latency_p50": latencies[len(latencies) // 2],
        "latency_p95": latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))],
        "seconds": seconds,
    }


def _share_right(answer: dict[str, Any]) -> float:
    right = sum(
        len(vote["candidates"])
        for vote in answer["votes"]
        if equivalent(vote["answer"], answer["truth"])
    )
    return float(right / answer["candidates"]["finished"])


def _progress(policy: str, done: int, total: int, seconds: float) -> None:
    if sys.stderr.isatty():
        left = seconds / done * (total - done)
        print(f"\r{policy}: {done}/{total}, {left:.0f} s left ", end="", file=sys.stderr)
        if done == total:
            print(file=sys.stderr)


def as_table(result: dict[str, Any]) -> str:
    """The result for people; ratios are to target-only in the same run."""
    policies = result["policies"]
    base = policies["target-only"]
    lines = [
        f"{result['problems']} held-out problems of 8-12 steps, m = {result['candidates']}, "
        f"nominal takeover rate {RATE}, seed {result['seed']}, {result['at_once']} questions at "
        f"once; {result['machine']}",
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
