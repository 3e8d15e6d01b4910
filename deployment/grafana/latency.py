"""Latency: how long answers take, and where the time of the slow ones goes."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deployment.grafana import variables
from deployment.grafana.board import (
    LATENCY,
    Section,
    dashboard,
    increase,
    quantile,
    rate,
    ratio,
    section,
)
from deployment.grafana.latencies import first_text, percentiles
from deployment.grafana.panels import SECONDS, SHARE, Query, bars, heat, lines, value

RUNS = variables.RUNS
QUESTIONS = f'{variables.APPLICATION},route=~"/v1/(chat/)?completions"'
CHOSEN = f'{RUNS},latency=~"$latency"'
SPENT = "request_stage_by_latency_seconds_total"
ANSWERED = "request_answers_by_latency_total"
WHOLE = "e2e_request_latency_seconds"
STAGES = (
    "The stages follow the candidate whose end decided the answer, so they add up to the "
    "latency: admission, presample; waiting for and computing by the draft, the target's scores "
    "and its takeovers (judge: other policies'); barrier: from a score to the decision on it; "
    "slack: all else"
)


def build() -> Dashboard:
    return dashboard(
        LATENCY,
        "Latency",
        "How long answers take, and where the time goes; 'Latency of the run' picks the slow ones.",
        [*variables.common(), *variables.of_runs(), variables.slowness()],
        [_how_long(), _where_it_goes(), _until_something_is_seen()],
    )


def _how_long() -> Section:
    return section(
        "How long",
        *(
            value(
                f"Latency, {q:.0%}",
                f"{q:.0%} of the answers in the time shown took no longer "
                "(ray_atts_e2e_request_latency_seconds, right to a bucket).",
                Query(quantile(q, WHOLE, window="$__range"), over_range=True),
                SECONDS,
            )
            for q in (0.5, 0.9, 0.95, 0.99)
        ),
        value(
            "Mean",
            "Exact, of the runs chosen by 'Latency of the run': the stages' seconds over the "
            f"answers (ray_atts_{SPENT} / ray_atts_{ANSWERED}).",
            Query(
                ratio(increase(SPENT, of=CHOSEN), increase(ANSWERED, of=CHOSEN)),
                over_range=True,
            ),
            SECONDS,
        ),
        value(
            "Spent waiting",
            "Share of the time in which the deciding candidates waited for an engine or for "
            "their admission (ray_atts_request_stage_by_latency_seconds_total, stages *_queue, "
            "admission).",
            Query(
                ratio(
                    increase(SPENT, of=f'{CHOSEN},stage=~".+_queue|admission"'),
                    increase(SPENT, of=CHOSEN),
                ),
                over_range=True,
            ),
            SHARE,
            decimals=0,
        ),
        lines(
            "Latency",
            "So many of a hundred answers took no longer (ray_atts_e2e_request_latency_seconds).",
            *percentiles(WHOLE, 0.5, 0.9, 0.95, 0.99),
            unit=SECONDS,
        ),
        heat(
            "Answers by latency",
            "How many answers fell into each bucket (ray_atts_e2e_request_latency_seconds).",
            Query(
                f"sum by (le) (increase(ray_atts_{WHOLE}_bucket{{{RUNS}}}[$__rate_interval]))",
                "{{le}}",
            ),
            SECONDS,
        ),
    )


def _where_it_goes() -> Section:
    return section(
        "Where it goes",
        bars(
            "By latency of the run",
            "Of the runs that took so long, the share of the time by stage: compare the slow ones "
            f"with the fast (ray_atts_{SPENT}). {STAGES}.",
            Query(
                ratio(
                    increase(SPENT, "latency", "stage"),
                    f"on (latency) group_left () {increase(SPENT, 'latency')}",
                ).replace("/ (on (latency) group_left () ", "/ on (latency) group_left () ("),
                over_range=True,
            ),
            by="latency",
            stacked_by="stage",
            unit=SHARE,
            width=24,
        ),
        lines(
            "Seconds of a mean run, by stage",
            "Of the runs chosen by 'Latency of the run', the seconds by stage over their number "
            f"(ray_atts_{SPENT} / ray_atts_{ANSWERED}). {STAGES}.",
            Query(
                f"{rate(SPENT, 'stage', of=CHOSEN)} / on () group_left () "
                f"({rate(ANSWERED, of=CHOSEN)} > 1e-9)",
                "{{stage}}",
            ),
            unit=SECONDS,
            stacked=True,
        ),
        lines(
            "Share of the time, by stage",
            f"The runs chosen by 'Latency of the run' (ray_atts_{SPENT}). {STAGES}.",
            Query(
                f"{rate(SPENT, 'stage', of=CHOSEN)} / on () group_left () "
                f"({rate(SPENT, of=CHOSEN)} > 1e-9)",
                "{{stage}}",
            ),
            unit=SHARE,
            stacked=True,
            highest=1,
        ),
        *(
            lines(
                f"Each stage's own {q:.0%}",
                f"{q:.0%} of all runs, whatever 'Latency of the run' says, spent no longer in the "
                "stage; these do not add up (ray_atts_request_stage_seconds).",
                Query(quantile(q, "request_stage_seconds", "stage"), "{{stage}}"),
                unit=SECONDS,
            )
            for q in (0.5, 0.95)
        ),
    )


def _until_something_is_seen() -> Section:
    return section(
        "Until something is seen",
        first_text(),
        lines(
            "First byte, by route",
            "HTTP requests from their arrival to the first byte of the response, which without "
            "streaming is the whole answer: 95 % took no longer "
            "(ray_atts_time_to_first_byte_seconds).",
            Query(
                quantile(0.95, "time_to_first_byte_seconds", "route", of=variables.APPLICATION),
                "{{route}}",
            ),
            unit=SECONDS,
        ),
        lines(
            "HTTP requests of questions, mean",
            "Until the first and until the last byte; exact "
            "(ray_atts_time_to_first_byte_sum_seconds_total / ray_atts_first_bytes_total, "
            "ray_atts_http_request_seconds_total / ray_atts_http_requests_total).",
            Query(
                ratio(
                    rate("time_to_first_byte_sum_seconds_total", of=QUESTIONS),
                    rate("first_bytes_total", of=QUESTIONS),
                ),
                "first byte",
            ),
            Query(
                ratio(
                    rate("http_request_seconds_total", of=QUESTIONS),
                    rate("http_requests_total", of=QUESTIONS),
                ),
                "last byte",
            ),
            unit=SECONDS,
        ),
    )
