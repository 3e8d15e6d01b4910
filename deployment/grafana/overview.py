"""Overview: is it used, is it fast, does it fail, is it full?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deployment.grafana import variables
from deployment.grafana.board import (
    ENGINES,
    LATENCY,
    METHOD,
    OVERVIEW,
    WINDOW,
    Section,
    dashboard,
    increase,
    now,
    quantile,
    rate,
    ratio,
    section,
)
from deployment.grafana.latencies import first_text, percentiles
from deployment.grafana.panels import (
    GREEN,
    NUMBER,
    ORANGE,
    PER_SECOND,
    RED,
    SECONDS,
    SHARE,
    TOKENS_PER_SECOND,
    Query,
    lines,
    to_dashboard,
    value,
)

ENDED = "request_success_total"
APPLICATION, RUNS = variables.APPLICATION, variables.RUNS
FAILED = f'{RUNS},finished_reason="failed"'
TRIED = f'{RUNS},finished_reason!~"refused|cancelled"'
LATENCY_HISTOGRAM = "e2e_request_latency_seconds"


def build() -> Dashboard:
    return dashboard(
        OVERVIEW,
        "Overview",
        "Traffic, latency, errors and how full it is, over all replicas.",
        [*variables.common(), *variables.of_runs()],
        [_in_the_time_shown(), _traffic(), _latency(), _errors(), _how_full_it_is()],
    )


def _in_the_time_shown() -> Section:
    return section(
        "In the time shown",
        value(
            "Answered",
            "Questions that got an answer (ray_atts_request_success_total, by its reasons).",
            Query(
                increase(ENDED, of=f'{RUNS},finished_reason!~"failed|refused|cancelled"'),
                over_range=True,
            ),
            NUMBER,
            decimals=0,
        ),
        value(
            "Failed",
            "Share of questions that ended without an answer; refused and cancelled ones do not "
            "count (ray_atts_request_success_total). The alert AttsErrorRate begins at 5 %.",
            Query(ratio(increase(ENDED, of=FAILED), increase(ENDED, of=TRIED)), over_range=True),
            SHARE,
            limits=((None, GREEN), (0.01, ORANGE), (0.05, RED)),
            decimals=2,
        ),
        value(
            "Latency, 95 %",
            "95 % of answers took no longer, from the call to the answer "
            "(ray_atts_e2e_request_latency_seconds, right to a bucket).",
            Query(quantile(0.95, LATENCY_HISTOGRAM, window="$__range"), over_range=True),
            SECONDS,
            limits=((None, GREEN), (50, RED)),
            link=to_dashboard(LATENCY, "Where the time goes"),
        ),
        value(
            "Takeover rate",
            "Share of judged segments that were found to be the target's "
            "(ray_atts_rejected_total / ray_atts_decisions_total).",
            Query(ratio(increase("rejected_total"), increase("decisions_total")), over_range=True),
            SHARE,
            decimals=1,
            link=to_dashboard(METHOD, "By turn, against nominal"),
        ),
        value(
            "Room in routers",
            "Runs under way against what routers take at most, limits.max_running "
            "(ray_atts_num_requests_running / ray_atts_num_requests_allowed). More is refused with "
            "status 429.",
            Query(ratio(now("num_requests_running"), now("num_requests_allowed"))),
            SHARE,
            limits=((None, GREEN), (0.7, ORANGE), (0.9, RED)),
            decimals=0,
        ),
        value(
            "Engines",
            "Replicas of draft and target whose engine works (ray_atts_engine_up).",
            Query(now("engine_up")),
            NUMBER,
            limits=((None, RED), (2, GREEN)),
            link=to_dashboard(ENGINES, "Batches, queues, caches"),
        ),
    )


def _traffic() -> Section:
    return section(
        "Traffic",
        lines(
            "Questions by how they ended",
            "consensus, confidence, count, deadline, all: answered, and why no chain ran any more; "
            "failed; cancelled by the client; refused as bad input "
            "(ray_atts_request_success_total).",
            Query(rate(ENDED, "finished_reason"), "{{finished_reason}}"),
            unit=PER_SECOND,
            stacked=True,
        ),
        lines(
            "Tokens written",
            "By the draft and by the target, in answered and in cancelled chains "
            "(ray_atts_tokens_total, kind generated).",
            Query(rate("tokens_total", "role", of=f'{RUNS},kind="generated"'), "{{role}}"),
            unit=TOKENS_PER_SECOND,
            stacked=True,
        ),
        lines(
            "Candidates by how they ended",
            "answered and eos have an answer of their own; cancelled: it could change nothing any "
            "more; turns, tokens, context: at a limit (ray_atts_candidates_total).",
            Query(rate("candidates_total", "ending"), "{{ending}}"),
            unit=PER_SECOND,
            stacked=True,
            width=8,
        ),
        lines(
            "Candidates cancelled, by why",
            "Why their run ended: consensus, confidence, count: they could change nothing any "
            "more; deadline: time was up; cancelled: the client left, or cancelled the run by its "
            "id (ray_atts_candidates_cancelled_total, counted when the run has ended).",
            Query(rate("candidates_cancelled_total", "reason"), "{{reason}}"),
            unit=PER_SECOND,
            stacked=True,
            width=8,
        ),
        lines(
            "Under way",
            "Runs and candidates now (ray_atts_num_requests_running, "
            "ray_atts_num_candidates_running).",
            Query(now("num_requests_running"), "runs"),
            Query(now("num_candidates_running"), "candidates"),
            unit=NUMBER,
            width=8,
        ),
    )


def _latency() -> Section:
    return section(
        "Latency",
        lines(
            "Latency",
            "From the call to the answer: so many of a hundred answers took no longer "
            "(ray_atts_e2e_request_latency_seconds). The line is the objective.",
            *percentiles(LATENCY_HISTOGRAM, 0.5, 0.95, 0.99),
            unit=SECONDS,
            limit=50,
        ),
        first_text(),
        lines(
            "How fast the latency budget is spent",
            "Share of answers above 50 s over the 5 % that the objective allows: at 1 the budget "
            "lasts its 30 days; AttsLatencyFastBurn begins at 14.4 over an hour "
            "(atts:requests_slow:ratio_rate1h, 6h).",
            *(
                Query(
                    f"max by (policy) (atts:requests_slow:ratio_rate{window}{{{RUNS}}}) / 0.05",
                    f"{{{{policy}}}}, {window}",
                )
                for window in ("5m", "1h", "6h")
            ),
            unit=NUMBER,
            limit=14.4,
        ),
        lines(
            "Mean latency by policy",
            "Exact: the stages' seconds over the answers (atts:request_latency_seconds:mean5m).",
            Query(f"max by (policy) (atts:request_latency_seconds:mean5m{{{RUNS}}})", "{{policy}}"),
            unit=SECONDS,
        ),
    )


def _errors() -> Section:
    return section(
        "Errors",
        lines(
            "Questions without an answer",
            "Share of all questions that failed, were cancelled by their client, or refused as "
            "bad input (ray_atts_request_success_total).",
            *(
                Query(ratio(rate(ENDED, of=f'{RUNS},finished_reason="{why}"'), rate(ENDED)), why)
                for why in ("failed", "cancelled", "refused")
            ),
            unit=SHARE,
            limit=0.05,
        ),
        lines(
            "HTTP responses by status",
            "Of all routes; 429: routers or a key at their limits, 503: no candidate could be "
            "computed (ray_atts_http_requests_total). Serve's own: statuses from 500 on that its "
            "proxies answered with, as a router was lost or there was none "
            "(ray_serve_num_http_error_requests_total less ours: "
            "atts:http_errors_of_serve:rate5m).",
            Query(rate("http_requests_total", "status", of=APPLICATION), "{{status}}"),
            Query(f"sum (atts:http_errors_of_serve:rate5m{{{APPLICATION}}})", "Serve's own"),
            unit=PER_SECOND,
            stacked=True,
        ),
        lines(
            "Replicas started",
            "Replicas that Serve began within 15 minutes, by deployment: many of them without a "
            "roll-out is flapping (ray_serve_deployment_replica_starts_total).",
            Query(
                "count by (deployment) (max by (deployment, replica) "
                f"(ray_serve_deployment_replica_starts_total{{{APPLICATION}}}) unless "
                "max by (deployment, replica) (ray_serve_deployment_replica_starts_total"
                f"{{{APPLICATION}}} offset 15m))",
                "{{deployment}}",
            ),
            unit=NUMBER,
        ),
        lines(
            "Lost on the way",
            "Calibration scores that the store was away for too long to take, and observations "
            "that metrics had no room for; requests are not touched by either "
            "(ray_atts_scores_lost_total, ray_atts_metric_observations_lost_total).",
            *(
                Query(
                    f"sum (increase(ray_atts_{what}_lost_total{{{APPLICATION}}}[{WINDOW}]))", name
                )
                for what, name in (("scores", "scores"), ("metric_observations", "observations"))
            ),
            unit=NUMBER,
        ),
    )


def _how_full_it_is() -> Section:
    return section(
        "How full it is",
        lines(
            "Room in routers",
            "Runs under way, and what routers take at most (ray_atts_num_requests_running, "
            "ray_atts_num_requests_allowed).",
            Query(now("num_requests_running"), "under way"),
            Query(now("num_requests_allowed"), "at most"),
            unit=NUMBER,
            width=8,
        ),
        lines(
            "Calls that wait for an engine",
            "Over all replicas of a role (ray_atts_engine_num_requests_waiting).",
            Query(now("engine_num_requests_waiting", "role"), "{{role}}"),
            unit=NUMBER,
            width=8,
        ),
        lines(
            "KV cache in use",
            "Share that running calls hold, mean over replicas "
            "(ray_atts_kv_cache_usage_perc). AttsKvNearlyFull begins at 95 %.",
            Query(now("kv_cache_usage_perc", "role", how="avg"), "{{role}}"),
            unit=SHARE,
            highest=1,
            limit=0.95,
            width=8,
        ),
    )
