"""Every metric: its name, kind, labels and what it means. Prometheus sees them as `ray_NAME`.

Names are vLLM's where the thing is the same. No label holds an id of a request, run or key; Ray
adds application, deployment and replica. Ray exports an observation as the middle of its bucket, so
what must add up is a counter as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, takewhile
from typing import Literal

LABELS = ("model_name", "policy")
"""Of what is counted for each request: the served model, and how it answers."""

MANY_TURNS = 32
"""Turns from here on share one label value."""


def _powers(first: float, last: float) -> tuple[float, ...]:
    """1, 2, 5, 10, …, scaled: a tiny model on a CPU and a 70B on GPUs fit the same buckets."""
    steps = (first * 10 ** (i // 3) * (1, 2, 5)[i % 3] for i in count())
    return tuple(float(f"{step:.1g}") for step in takewhile(lambda s: s <= last * 1.01, steps))


SECONDS = _powers(0.001, 2000)
STAGE_SECONDS = _powers(0.001, 1000)
TWENTIETHS = tuple(i / 20 for i in range(1, 21))


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels` come in this order wherever values are given; `buckets` make a histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: list[Metric] = []


def _counter(name: str, help: str, *labels: str) -> Metric:
    METRICS.append(Metric(f"atts_{name}", "counter", help, labels))
    return METRICS[-1]


def _gauge(name: str, help: str, *labels: str) -> Metric:
    METRICS.append(Metric(f"atts_{name}", "gauge", help, labels))
    return METRICS[-1]


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    METRICS.append(Metric(f"atts_{name}", "histogram", help, labels, buckets))
    return METRICS[-1]


# ----------------------------------------------------------------------------------------- HTTP
HTTP_REQUESTS = _counter(
    "http_requests", "HTTP requests that ended, by route template and status", "route", "status"
)
FIRST_BYTE = _histogram(
    "time_to_first_byte_seconds",
    "an HTTP request from its arrival to the first byte of its response",
    SECONDS,
    "route",
)
FIRST_BYTE_TOTAL = _counter(
    "time_to_first_byte_sum_seconds", "the same time, summed, for a mean", "route"
)
FIRST_BYTES = _counter("first_bytes", "HTTP requests whose response began", "route")
HTTP_SECONDS = _counter(
    "http_request_seconds", "HTTP requests from their arrival to their last byte", "route"
)
# ------------------------------------------------------------------------------------- requests
REQUESTS = _counter(
    "request_success", "runs that ended, by why", *LABELS, "finished_reason"
)  # vLLM's name: its reasons include abort and error too
LATENCY = _histogram(
    "e2e_request_latency_seconds", "a run from its call to its answer", SECONDS, *LABELS
)
FIRST_TEXT = _histogram(
    "time_to_first_token_seconds",
    "a run from its call to the first segment of any chain",
    SECONDS,
    *LABELS,
)
STAGE = _histogram(
    "request_stage_seconds",
    "a run's time by stage along its deciding candidate; the stages add up to the latency",
    STAGE_SECONDS,
    *LABELS,
    "stage",
)
STAGE_TOTAL = _counter(
    "request_stage_by_latency_seconds",
    "the same time, summed, by how long the whole run took",
    *LABELS,
    "stage",
    "latency",
)
ANSWERED = _counter(
    "request_answers_by_latency", "runs with an answer, by how long they took", *LABELS, "latency"
)
# --------------------------------------------------------------------------------------- method
TOKENS = _counter("tokens", "tokens by model of the pair and kind", *LABELS, "role", "kind")
WASTED = _counter(
    "wasted_tokens", "generated tokens that stand in no vote", *LABELS, "role", "reason"
)
CANDIDATES = _counter("candidates", "candidates that ended, by why", *LABELS, "ending")
CANCELLED = _counter(
    "candidates_cancelled",
    "of these, the cancelled, by why their run ended (cancelled: its client left, or by its id)",
    *LABELS,
    "reason",
)
SEGMENTS = _counter("segments", "segments written", *LABELS, "role")
TAKEOVERS = _counter("takeovers", "segments the target continued or replaced", *LABELS)
DECISIONS = _counter("decisions", "segments judged", *LABELS, "turn")
REJECTED = _counter("rejected", "segments judged to be the target's", *LABELS, "turn")
NOMINAL = _counter(
    "nominal_takeovers", "takeovers promised: the sum of the nominal rates", *LABELS, "turn"
)
P_VALUES = _histogram("p_value", "smoothed p-values of decisions", TWENTIETHS, *LABELS)
PICKS = _counter("barrier_picks", "segments that a barrier would have picked", *LABELS)
HITS = _counter("barrier_hits", "of these, the ones taken over", *LABELS)
BUSY = _counter("engine_busy_seconds", "engine time, summed over calls", *LABELS, "role", "kind")
SYNC = _counter("synchronisation_wait_seconds", "scored candidates' wait for a decision", *LABELS)
# -------------------------------------------------------------------------------------- routers
RUNNING = _gauge("num_requests_running", "runs under way")
ROOM = _gauge("num_requests_allowed", "runs a router takes at most (limits.max_running)")
CANDIDATES_RUNNING = _gauge("num_candidates_running", "candidates under way")
BANK = _gauge("bank_scores", "calibration scores a router decides by", "bank")
SNAPSHOT_AGE = _gauge("snapshot_age_seconds", "since the last exchange with the store")
BACKLOG = _gauge("upload_backlog_scores", "scores the store has not taken yet")
LOST = _counter("scores_lost", "scores dropped because the store was away for too long")
STORE_UP = _gauge("store_up", "1: the newest exchange with the store succeeded")
ROUTER_UP = _gauge("router_up", "1: the router serves", "version")
MARTINGALE = _gauge("drift_martingale", "evidence that scores drift; at the limit it alarms")
MARTINGALE_LIMIT = _gauge("drift_martingale_limit", "where the martingale alarms")
ALARMS = _counter("drift_alarms", "drift alarms raised", "kind")
DROPPED = _counter("metric_observations_lost", "observations beyond what is held for the backend")
# -------------------------------------------------------------------------------------- engines
ENGINE = ("role", "engine_model")
ENGINE_UP = _gauge(
    "engine_up", "1: the replica's engine works; 0: it has died, or its server is away", *ENGINE
)
ENGINE_RUNNING = _gauge("engine_num_requests_running", "calls in the batch", *ENGINE)
ENGINE_WAITING = _gauge("engine_num_requests_waiting", "calls that wait for room", *ENGINE)
KV_USED = _gauge("kv_cache_usage_perc", "share of the KV cache held by running calls", *ENGINE)
STEPS = _counter("engine_steps", "steps computed", *ENGINE)
STEP_SECONDS = _counter("engine_step_seconds", "time in steps", *ENGINE)
BATCHED = _counter("engine_batched_sequences", "sequences of all steps", *ENGINE)
PROMPT = _counter("prompt_tokens", "tokens given to the engine", *ENGINE)
CACHED = _counter("prefix_cached_tokens", "of these, tokens found in the prefix cache", *ENGINE)
WRITTEN = _counter("generation_tokens", "tokens written by the engine", *ENGINE)


def turn_label(turn: int) -> str:
    return str(turn) if turn < MANY_TURNS else f"{MANY_TURNS}+"


_BELOW = ((1, "< 1 s"), (5, "1-5 s"), (30, "5-30 s"), (120, "30-120 s"))
LATENCY_CLASSES = (*(name for _, name in _BELOW), "> 120 s")
"""Which class a run's latency falls into: five, so that the slow ones can be looked at."""


def latency_label(seconds: float) -> str:
    return next((name for below, name in _BELOW if seconds < below), LATENCY_CLASSES[-1])
