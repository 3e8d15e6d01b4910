"""Method: does the rate hold, does the gate choose, is calibration fresh, what is saved?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deployment.grafana import variables
from deployment.grafana.board import METHOD, Section, dashboard, increase, now, rate, ratio, section
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
    bars,
    heat,
    lines,
    value,
)

APPLICATION, RUNS = variables.APPLICATION, variables.RUNS
REALISED = "rejected_total", "decisions_total"
NOMINAL = "nominal_takeovers_total", "decisions_total"


def _over_range(pair: tuple[str, str], *by: str) -> str:
    return ratio(*(increase(metric, *by) for metric in pair))


def _over_time(pair: tuple[str, str], *by: str) -> str:
    return ratio(*(rate(metric, *by) for metric in pair))


def _by_turn(pair: tuple[str, str]) -> str:
    """Turns of two digits, so that they are in order as texts too."""
    return f'label_replace({_over_range(pair, "turn")}, "turn", "0$1", "turn", "(.)")'


def build() -> Dashboard:
    return dashboard(
        METHOD,
        "Method",
        "The takeover rate against its nominal, the gate's choice, calibration, and tokens saved.",
        [*variables.common(), *variables.of_runs()],
        [
            _in_the_time_shown(),
            _takeover_rate(),
            _what_the_gate_chooses(),
            _calibration(),
            _what_is_saved(),
        ],
    )


def _in_the_time_shown() -> Section:
    return section(
        "In the time shown",
        value(
            "Takeover rate",
            "Share of judged segments that were found to be the target's "
            "(ray_atts_rejected_total / ray_atts_decisions_total).",
            Query(_over_range(REALISED), over_range=True),
            SHARE,
            decimals=1,
        ),
        value(
            "Nominal",
            "The share that was asked for, takeover_rate, mean over the decisions "
            "(ray_atts_nominal_takeovers_total / ray_atts_decisions_total).",
            Query(_over_range(NOMINAL), over_range=True),
            SHARE,
            decimals=1,
        ),
        value(
            "Decisions",
            "Segments judged (ray_atts_decisions_total). With few, the rate is off by chance.",
            Query(increase("decisions_total"), over_range=True),
            NUMBER,
            decimals=0,
        ),
        value(
            "Selectivity",
            "Of the segments that a barrier would have picked (the worst of the same question and "
            "turn), the share that was taken over. A coin would reach the takeover rate "
            "(ray_atts_barrier_hits_total / ray_atts_barrier_picks_total).",
            Query(
                ratio(increase("barrier_hits_total"), increase("barrier_picks_total")),
                over_range=True,
            ),
            SHARE,
            decimals=0,
        ),
        value(
            "Written by the draft",
            "Share of all written tokens that the target did not have to write "
            "(ray_atts_tokens_total, kind generated).",
            Query(
                ratio(
                    increase("tokens_total", of=f'{RUNS},kind="generated",role="draft"'),
                    increase("tokens_total", of=f'{RUNS},kind="generated"'),
                ),
                over_range=True,
            ),
            SHARE,
            decimals=0,
        ),
        value(
            "Arithmetic intensity",
            "Asynchronous arithmetic intensity: engine time over the part of it that is memory "
            "traffic (modelled: writing token by token) plus candidates' wait for each other "
            "(ray_atts_engine_busy_seconds_total, ray_atts_synchronisation_wait_seconds_total).",
            Query(
                ratio(
                    increase("engine_busy_seconds_total"),
                    "("
                    + increase("engine_busy_seconds_total", of=f'{RUNS},kind="generated"')
                    + " + "
                    + increase("synchronisation_wait_seconds_total")
                    + ")",
                ),
                over_range=True,
            ),
            NUMBER,
            decimals=2,
        ),
    )


def _takeover_rate() -> Section:
    return section(
        "Takeover rate",
        bars(
            "By turn",
            "Realised and nominal, over the time shown; turns from 32 on share one bar "
            "(ray_atts_rejected_total, ray_atts_nominal_takeovers_total / "
            "ray_atts_decisions_total).",
            Query(_by_turn(REALISED), "realised", over_range=True),
            Query(_by_turn(NOMINAL), "nominal", over_range=True),
            by="turn",
            unit=SHARE,
        ),
        lines(
            "By policy",
            "Realised and nominal (ray_atts_rejected_total, ray_atts_nominal_takeovers_total / "
            "ray_atts_decisions_total).",
            Query(_over_time(REALISED, "policy"), "{{policy}}"),
            Query(_over_time(NOMINAL, "policy"), "{{policy}}, nominal"),
            unit=SHARE,
            highest=1,
        ),
        lines(
            "Off nominal, by turn",
            "Realised less nominal rate (the same counters, by turn). Whether a turn's rate is to "
            "hold is the coverage's promise: marginal holds that of all turns together.",
            Query(
                f"{_over_time(REALISED, 'turn')} - on (turn) {_over_time(NOMINAL, 'turn')}",
                "turn {{turn}}",
            ),
            unit=SHARE,
            lowest=None,
        ),
        lines(
            "Off nominal, over an hour",
            "What the alert AttsTakeoverRateOffNominal looks at: it begins at 10 % with more "
            "than 500 decisions (atts:takeover_rate:ratio_rate1h, "
            "atts:takeover_rate_nominal:ratio_rate1h).",
            Query(
                f"max by (policy) (abs(atts:takeover_rate:ratio_rate1h{{{RUNS}}} - "
                f"atts:takeover_rate_nominal:ratio_rate1h{{{RUNS}}}))",
                "{{policy}}",
            ),
            unit=SHARE,
            limit=0.1,
        ),
    )


def _what_the_gate_chooses() -> Section:
    return section(
        "What the gate chooses",
        heat(
            "p-values",
            "Smoothed p-values of decisions: while scores are like those of the bank, each of the "
            "twenty rows has as many (ray_atts_p_value).",
            Query(
                f"sum by (le) (increase(ray_atts_p_value_bucket{{{RUNS}}}[$__rate_interval]))",
                "{{le}}",
            ),
            NUMBER,
        ),
        lines(
            "Selectivity",
            "Of the segments that a barrier would have picked, the share taken over, beside the "
            "takeover rate, which a coin would reach (ray_atts_barrier_hits_total / "
            "ray_atts_barrier_picks_total).",
            Query(
                ratio(rate("barrier_hits_total", "policy"), rate("barrier_picks_total", "policy")),
                "{{policy}}",
            ),
            Query(_over_time(REALISED, "policy"), "{{policy}}, by a coin"),
            unit=SHARE,
            highest=1,
        ),
    )


def _calibration() -> Section:
    return section(
        "Calibration",
        lines(
            "Scores in the banks",
            "The fullest router's, by bank (ray_atts_bank_scores). An empty bank decides by coin "
            "at the nominal rate.",
            Query(now("bank_scores", "bank", how="max"), "{{bank}}"),
            unit=NUMBER,
            width=8,
        ),
        lines(
            "Age of the banks",
            "Seconds since the last exchange with the store, of the router that is furthest behind "
            "(ray_atts_snapshot_age_seconds). AttsSnapshotStale begins at 120 s.",
            Query(now("snapshot_age_seconds", how="max"), "oldest"),
            unit=SECONDS,
            limit=120,
            width=8,
        ),
        lines(
            "Waiting for the store",
            "Scores not uploaded yet, and scores lost because the store was away for too long "
            "(ray_atts_upload_backlog_scores, ray_atts_scores_lost_total).",
            Query(now("upload_backlog_scores"), "waiting"),
            Query(
                f"sum (increase(ray_atts_scores_lost_total{{{APPLICATION}}}[$__rate_interval]))",
                "lost",
            ),
            unit=NUMBER,
            width=8,
        ),
        lines(
            "Evidence of drift",
            "The martingale of the router with the most, as a share of where it alarms "
            "(ray_atts_drift_martingale / ray_atts_drift_martingale_limit).",
            Query(
                f"max (ray_atts_drift_martingale{{{APPLICATION}}} / "
                f"ray_atts_drift_martingale_limit{{{APPLICATION}}})",
                "of the limit",
            ),
            unit=SHARE,
            limit=1,
            width=8,
        ),
        lines(
            "Drift alarms",
            "scores: they are no longer those of the bank; rate: the takeover rate has left its "
            "window (ray_atts_drift_alarms_total).",
            Query(
                f"sum by (kind) (increase(ray_atts_drift_alarms_total{{{APPLICATION}}}"
                "[$__rate_interval]))",
                "{{kind}}",
            ),
            unit=NUMBER,
            width=8,
        ),
        value(
            "Store",
            "Routers whose newest exchange with the store succeeded, of all (ray_atts_store_up).",
            Query(now("store_up", how="avg")),
            SHARE,
            limits=((None, RED), (0.5, ORANGE), (1, GREEN)),
            width=8,
        ),
    )


def _what_is_saved() -> Section:
    return section(
        "What is saved, what is wasted",
        lines(
            "Tokens written, by model",
            "The draft's are those the target did not have to write (ray_atts_tokens_total, "
            "kind generated).",
            Query(rate("tokens_total", "role", of=f'{RUNS},kind="generated"'), "{{role}}"),
            unit=TOKENS_PER_SECOND,
            stacked=True,
            width=8,
        ),
        lines(
            "Segments",
            "Written by draft and target, and takeovers, the segments that the target continued or "
            "replaced (ray_atts_segments_total, ray_atts_takeovers_total).",
            Query(rate("segments_total", "role"), "by the {{role}}"),
            Query(rate("takeovers_total"), "takeovers"),
            unit=PER_SECOND,
            width=8,
        ),
        lines(
            "Tokens that no vote holds",
            "By model and why: cancelled on consensus, replaced by the target, looked at only "
            "(peeked, presampled), judged with, given up, failed (ray_atts_wasted_tokens_total).",
            Query(rate("wasted_tokens_total", "role", "reason"), "{{role}}, {{reason}}"),
            unit=TOKENS_PER_SECOND,
            stacked=True,
            width=8,
        ),
        lines(
            "Prompt tokens found cached",
            "Share of what runs gave an engine to read that it had in its cache "
            "(ray_atts_tokens_total, kinds cached and prompt).",
            Query(
                ratio(
                    rate("tokens_total", "role", of=f'{RUNS},kind="cached"'),
                    rate("tokens_total", "role", of=f'{RUNS},kind="prompt"'),
                ),
                "{{role}}",
            ),
            unit=SHARE,
            highest=1,
            width=8,
        ),
        lines(
            "Arithmetic intensity",
            "Engine time over its memory traffic and the candidates' waits; higher is better "
            "(atts:arithmetic_intensity:ratio_rate5m).",
            Query(
                f"max by (policy) (atts:arithmetic_intensity:ratio_rate5m{{{RUNS}}})",
                "{{policy}}",
            ),
            unit=NUMBER,
            width=8,
        ),
        lines(
            "Candidates' wait for each other",
            "Seconds between a score and the decision on it, for each decision: microseconds "
            "without a barrier (ray_atts_synchronisation_wait_seconds_total / "
            "ray_atts_decisions_total).",
            Query(
                ratio(
                    rate("synchronisation_wait_seconds_total", "policy"),
                    rate("decisions_total", "policy"),
                ),
                "{{policy}}",
            ),
            unit=SECONDS,
            width=8,
        ),
    )
