"""Engines: batches, queues, caches and steps of the replicas of draft and target."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deployment.grafana import variables
from deployment.grafana.board import ENGINES, Section, dashboard, now, rate, ratio, section
from deployment.grafana.panels import (
    GREEN,
    NUMBER,
    ORANGE,
    RED,
    SECONDS,
    SHARE,
    TOKENS_PER_SECOND,
    Query,
    lines,
    value,
)

OF = variables.ENGINES
OF_SERVERS = "Empty for engine http: such a server shows its steps in its own /metrics."
SERVE = f'{variables.APPLICATION},deployment=~"Router|Draft|Target|CalibrationStore"'


def build() -> Dashboard:
    return dashboard(
        ENGINES,
        "Engines",
        "Batches, queues, caches and steps of draft and target; lines of one replica where it "
        "helps.",
        [*variables.common(), *variables.of_engines()],
        [_now(), _queues(), _steps(), _tokens_and_caches(), _replicas()],
    )


def _now() -> Section:
    return section(
        "Now",
        *(
            value(
                f"Replicas, {role}",
                f"Replicas of the {role} whose engine works (ray_atts_engine_up).",
                Query(now("engine_up", of=f'{OF},role="{role}"')),
                NUMBER,
                limits=((None, RED), (1, GREEN)),
            )
            for role in ("draft", "target")
        ),
        value(
            "Calls in batches",
            "Calls that engines compute now (ray_atts_engine_num_requests_running).",
            Query(now("engine_num_requests_running", of=OF)),
            NUMBER,
        ),
        value(
            "Calls that wait",
            "Calls that wait for room in a batch (ray_atts_engine_num_requests_waiting).",
            Query(now("engine_num_requests_waiting", of=OF)),
            NUMBER,
            limits=((None, GREEN), (1, ORANGE)),
        ),
        value(
            "Fullest KV cache",
            "Share that running calls hold, of the fullest replica (ray_atts_kv_cache_usage_perc).",
            Query(now("kv_cache_usage_perc", of=OF, how="max")),
            SHARE,
            limits=((None, GREEN), (0.85, ORANGE), (0.95, RED)),
            decimals=0,
        ),
        value(
            "Worst deployment",
            "Ray Serve's status: 1 failed to deploy, 2 unhealthy, 3 updating, 4 and 5 scaling, "
            "6 healthy (ray_serve_deployment_status).",
            Query(f"min (ray_serve_deployment_status{{{SERVE}}})"),
            NUMBER,
            limits=((None, RED), (3, ORANGE), (6, GREEN)),
        ),
    )


def _queues() -> Section:
    return section(
        "Queues",
        lines(
            "Calls in the batch",
            "By replica (ray_atts_engine_num_requests_running).",
            Query(
                now("engine_num_requests_running", "role", "replica", of=OF),
                "{{role}} {{replica}}",
            ),
            unit=NUMBER,
        ),
        lines(
            "Calls that wait",
            "By replica; one far above the others holds chains that come back to it for its cache "
            "(ray_atts_engine_num_requests_waiting).",
            Query(
                now("engine_num_requests_waiting", "role", "replica", of=OF),
                "{{role}} {{replica}}",
            ),
            unit=NUMBER,
        ),
    )


def _a_step(metric: str) -> Query:
    """The mean of a counter over an engine's steps."""
    by = "role", "engine_model"
    return Query(
        ratio(rate(metric, *by, of=OF), rate("engine_steps_total", *by, of=OF)),
        "{{role}} {{engine_model}}",
    )


def _steps() -> Section:
    return section(
        "Steps",
        lines(
            "Step time",
            "Mean seconds of a step (ray_atts_engine_step_seconds_total / "
            f"ray_atts_engine_steps_total). {OF_SERVERS}",
            _a_step("engine_step_seconds_total"),
            unit=SECONDS,
            width=8,
        ),
        lines(
            "Batch size",
            "Mean sequences in a step (ray_atts_engine_batched_sequences_total / "
            f"ray_atts_engine_steps_total). {OF_SERVERS}",
            _a_step("engine_batched_sequences_total"),
            unit=NUMBER,
            width=8,
        ),
        lines(
            "Busy",
            "Share of the time in which an engine computed a step, mean over replicas "
            f"(ray_atts_engine_step_seconds_total / ray_atts_engine_up). {OF_SERVERS}",
            Query(
                ratio(
                    rate("engine_step_seconds_total", "role", of=OF),
                    now("engine_up", "role", of=OF),
                ),
                "{{role}}",
            ),
            unit=SHARE,
            highest=1,
            width=8,
        ),
    )


def _tokens_and_caches() -> Section:
    return section(
        "Tokens and caches",
        lines(
            "Tokens written",
            "By the engines, those of cancelled calls too (ray_atts_generation_tokens_total).",
            Query(
                rate("generation_tokens_total", "role", "engine_model", of=OF),
                "{{role}} {{engine_model}}",
            ),
            unit=TOKENS_PER_SECOND,
        ),
        lines(
            "Tokens read",
            "Given to the engines, and of these computed, not found in the prefix cache "
            "(ray_atts_prompt_tokens_total, ray_atts_prefix_cached_tokens_total).",
            Query(rate("prompt_tokens_total", "role", of=OF), "{{role}}, given"),
            Query(
                f"{rate('prompt_tokens_total', 'role', of=OF)} - on (role) "
                f"{rate('prefix_cached_tokens_total', 'role', of=OF)}",
                "{{role}}, computed",
            ),
            unit=TOKENS_PER_SECOND,
        ),
        lines(
            "Share found in the prefix cache",
            "Of the tokens given: a chain comes back to the replica that has its prefix, so most "
            "are (ray_atts_prefix_cached_tokens_total / ray_atts_prompt_tokens_total).",
            Query(
                ratio(
                    rate("prefix_cached_tokens_total", "role", "replica", of=OF),
                    rate("prompt_tokens_total", "role", "replica", of=OF),
                ),
                "{{role}} {{replica}}",
            ),
            unit=SHARE,
            highest=1,
        ),
        lines(
            "KV cache in use",
            "Share that running calls hold; what is only kept for reuse does not count "
            "(ray_atts_kv_cache_usage_perc).",
            Query(now("kv_cache_usage_perc", "role", "replica", of=OF), "{{role}} {{replica}}"),
            unit=SHARE,
            highest=1,
            limit=0.95,
        ),
    )


def _replicas() -> Section:
    return section(
        "Replicas",
        lines(
            "Healthy replicas",
            "By deployment (ray_serve_deployment_replica_healthy).",
            Query(
                f"sum by (deployment) (ray_serve_deployment_replica_healthy{{{SERVE}}})",
                "{{deployment}}",
            ),
            unit=NUMBER,
        ),
        lines(
            "Calls at replicas",
            "Calls that replicas of a deployment work at, as Serve counts them "
            "(ray_serve_replica_processing_queries).",
            Query(
                f"sum by (deployment) (ray_serve_replica_processing_queries{{{SERVE}}})",
                "{{deployment}}",
            ),
            unit=NUMBER,
        ),
    )
