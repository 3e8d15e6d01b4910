"""Held-out problems asked of a server in one way, and what came of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import httpx

from atts_core.answers import equivalent
from models.arithmetic.problems import Problem
from services.client import authorization


@dataclass(frozen=True, slots=True)
class Asked:
    """One way to ask: the served model's name and the request's `atts` object."""

    name: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def body(self, question: str, seed: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "atts": {**self.options, "seed": seed},
        }


async def measure(
    url: str, ask_for: Asked, problems: list[Problem], seed: int, at_once: int
) -> dict[str, Any]:
    """All problems asked in one way, `at_once` in flight: accuracy, tokens and time."""
    places = asyncio.Semaphore(at_once)
    done = 0
    began = perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=600, headers=authorization()) as client:

        async def ask(index: int, problem: Problem) -> dict[str, Any]:
            nonlocal done
            async with places:
                asked = perf_counter()
                response = await client.post(
                    "/v1/chat/completions", json=ask_for.body(problem.question, seed + index)
                )
                response.raise_for_status()
                latency = perf_counter() - asked
            done += 1
            _progress(ask_for.name, done, len(problems), perf_counter() - began)
            return {**response.json()["atts"], "latency": latency, "truth": problem.answer}

        answers = await asyncio.gather(*(ask(i, p) for i, p in enumerate(problems)))
    return _summary(list(answers), perf_counter() - began)


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
        "nominal_takeover_rate": answers[0]["takeover_rate"]["nominal"],
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
