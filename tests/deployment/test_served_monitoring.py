"""A real Prometheus beside two routers and two targets: every panel has data, and it is right."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isnan
from time import monotonic, sleep, time
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.server import free_port, running_server
from deployment.monitoring import binary, configuration, prometheus
from models.arithmetic.problems import held_out
from services.metrics.catalogue import latency_label
from services.serve_config import LOCAL
from tests.deployment.panels import ALL, Query, queries

pytestmark = [
    pytest.mark.serve,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="apt-get install prometheus"),
]

ASKED_OVER_HTTP = 'ray_atts_http_requests_total{route="/v1/chat/completions"}'
REFUSED_AT_PROXIES = 'ray_serve_num_http_error_requests_total{error_code="400",application="atts"}'
QUESTIONS = [problem.question for problem in held_out(200, seed=31)]
ALL_START = {"candidates": 8, "start": "all"}
"""So that some are cancelled."""
AT_LEAST = 12
AT_ONCE = 4
SEEN = [
    *(
        f"max_over_time(sum({gauge})[5m:1s]) > 0.5"
        for gauge in (
            "ray_atts_num_requests_running",
            "ray_atts_num_candidates_running",
            "ray_atts_engine_num_requests_running",
            'ray_serve_replica_processing_queries{deployment="Target"}',
        )
    ),
    "sum(rate(ray_atts_e2e_request_latency_seconds_count[5m])) > 0",
]
"""What the traffic has to be seen to do, however fast it is answered. Gauges are what they are when
a process hands over, and a histogram begins with its first observations, which move no rate."""
STEP_SECONDS = 5
PATIENCE = 90
"""Seconds for Ray to pass on what happened: each process does so every ten."""


@dataclass(frozen=True)
class Watched:
    """A server, what a client was told by it, and the Prometheus that has scraped both."""

    prometheus: str
    replies: list[dict[str, Any]]
    segments: Counter[str]
    """Segments in the events of the replies' runs, by who wrote them."""
    began: float
    """Unix time of the first question, and of when Prometheus had seen the last."""
    ended: float

    def value(self, query: str) -> float:
        """The only value of a query now."""
        (found,) = instant(self.prometheus, query, self.ended)
        return float(found["value"][1])


def instant(url: str, query: str, at: float | None = None) -> list[dict[str, Any]]:
    asked = {"query": query} | ({} if at is None else {"time": str(at)})
    found: list[dict[str, Any]] = answer(url, "query", asked)["result"]
    return found


def answer(url: str, what: str, asked: dict[str, str]) -> dict[str, Any]:
    response = httpx.post(f"{url}/api/v1/{what}", data=asked, timeout=30)
    assert response.status_code == 200, (asked["query"], response.text)
    data: dict[str, Any] = response.json()["data"]
    return data


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        sleep(0.5)


def body(question: str, seed: int, **atts: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": question}]
    return {"model": "atts", "messages": said, "atts": ALL_START | {"seed": seed} | atts}


def ask(url: str, numbered: tuple[int, str]) -> dict[str, Any]:
    """Over a connection of its own, so that Serve chooses a router for each."""
    number, question = numbered
    asked = httpx.post(f"{url}/v1/chat/completions", json=body(question, number), timeout=120)
    assert asked.status_code == 200, asked.text
    told: dict[str, Any] = asked.json()["atts"]
    return told | {"run": asked.json()["id"]}


def written(url: str, replies: list[dict[str, Any]]) -> Counter[str]:
    """Segments by who wrote them, in the runs' own events."""
    by = {"SegmentDrafted": "draft", "TakenOver": "target"}
    found: Counter[str] = Counter()
    for reply in replies:
        asked = {"limit": 10_000}
        run = httpx.get(f"{url}/v1/atts/runs/{reply['run']}", params=asked, timeout=60).json()
        assert not run["more"]
        found.update(by[event["event"]] for event in run["events"] if event["event"] in by)
    return found


def leave_early(url: str) -> None:
    """A client that goes when the first chunk is there; with a policy that no other asks for."""
    asked = body(QUESTIONS[0], 1, policy="atts-sync", consensus=False) | {"stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=asked, timeout=60) as response:
        next(response.iter_raw())


def ask_too_much(url: str) -> None:
    """A question that no context holds: refused by the run, not by the form of the request."""
    asked = body("Start with 1. " * 2_000, 1, policy="target-only")
    assert httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60).status_code == 400


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("monitoring")
    config = yaml.safe_load(LOCAL.read_text())
    for deployment in config["applications"][0]["deployments"]:
        deployment["ray_actor_options"] = {"num_cpus": 0.1}
        if deployment["name"] in ("Router", "Target"):
            deployment["num_replicas"] = 2
    path = folder / "two_of_each.yaml"
    path.write_text(yaml.safe_dump(config))
    port = free_port()
    scrape = configuration([f"127.0.0.1:{port}"], every_seconds=2)
    with (
        running_server(None, "--config", str(path), "--metrics-port", str(port)) as url,
        prometheus(binary(None), scrape, free_port(), folder) as running,
    ):
        yield traffic(url, running.url)


def traffic(url: str, scraped: str) -> Watched:
    """Ask, and wait until Prometheus has seen all of it."""

    def told(query: str) -> float:
        return sum(float(found["value"][1]) for found in instant(scraped, query))

    # A rate needs a sample from before: both routers and all engines have to be there.
    until("both routers report", lambda: told("count(ray_atts_router_up)") == 2)
    until("all engines report", lambda: told("count(ray_atts_engine_up)") == 3)
    until(
        "the counters are scraped twice",
        lambda: told('min(count_over_time(ray_atts_decisions_total{turn="0"}[5m]))') >= 2,
    )
    began = time()
    replies: list[dict[str, Any]] = []
    numbered = enumerate(QUESTIONS)
    with ThreadPoolExecutor(AT_ONCE) as pool:

        def asked_and_seen() -> bool:
            some = itertools.islice(numbered, AT_ONCE)
            replies.extend(pool.map(ask, itertools.repeat(url), some))
            return len(replies) >= AT_LEAST and all(told(f"count({one})") for one in SEEN)

        until("gauges and rates of the traffic", asked_and_seen)
    leave_early(url)
    ask_too_much(url)
    ended = {
        'policy="atts"': len(replies),
        'finished_reason="cancelled"': 1,
        'finished_reason="refused"': 1,
    }
    for which, number in ended.items():
        query = f"sum(ray_atts_request_success_total{{{which}}})"
        until(query, lambda query=query, number=number: round(told(query)) == number)  # type: ignore[misc]
    until("all HTTP requests", lambda: told(f"sum({ASKED_OVER_HTTP})") >= len(replies) + 2)
    until("Serve's own count", lambda: told(f"sum({REFUSED_AT_PROXIES})") >= 1)
    # Of the same hand-over, but engines have their own.
    seen = sum(tokens(replies, role, "prompt") for role in ("draft", "target"))
    until("the engines' tokens", lambda: told("sum(ray_atts_prompt_tokens_total)") >= seen)
    # Each group of rules has its own turn.
    until("the rules on tokens", lambda: told("atts:selectivity:ratio_rate1h") > 0)
    until(
        "the rules on latency",
        lambda: told('count(atts:requests_slow:ratio_rate6h{policy="atts"})') > 0,
    )
    ended_at = time()
    return Watched(scraped, replies, written(url, replies), began, ended_at)


def tokens(replies: list[dict[str, Any]], role: str, kind: str) -> int:
    return sum(reply["tokens"][role][kind] for reply in replies)


def rates(replies: list[dict[str, Any]], what: str) -> int:
    return sum(reply["takeover_rate"][what] for reply in replies)


# ---------------------------------------------------------------------------------------- counters


@pytest.mark.parametrize("role", ["draft", "target"])
@pytest.mark.parametrize("kind", ["generated", "scored", "prompt", "cached"])
def test_tokens_equal_the_client_s_count(watched: Watched, role: str, kind: str) -> None:
    of = f'policy="atts",role="{role}",kind="{kind}"'
    found = watched.value(f"sum(ray_atts_tokens_total{{{of}}})")
    assert round(found, 6) == tokens(watched.replies, role, kind)


@pytest.mark.parametrize(
    ("metric", "what"),
    [("decisions", "decisions"), ("rejected", "rejected"), ("takeovers", "takeovers")],
)
def test_decisions_equal_the_client_s_count(watched: Watched, metric: str, what: str) -> None:
    found = watched.value(f'sum(ray_atts_{metric}_total{{policy="atts"}})')
    assert round(found, 6) == rates(watched.replies, what) > 0


def test_requests_and_candidates_equal_the_client_s_count(watched: Watched) -> None:
    of = 'policy="atts"'
    ended = Counter(reply["stopped"] for reply in watched.replies)
    endings: Counter[str] = Counter()
    for reply in watched.replies:
        endings.update(reply["candidates"]["endings"])
    for metric, label, expected in (
        ("request_success_total", "finished_reason", ended),
        ("candidates_total", "ending", endings),
    ):
        found = instant(
            watched.prometheus, f"sum by ({label}) (ray_atts_{metric}{{{of}}})", watched.ended
        )
        counted = {one["metric"][label]: round(float(one["value"][1])) for one in found}
        assert {name: n for name, n in counted.items() if n} == dict(expected)


def test_http_requests_equal_the_client_s_count(watched: Watched) -> None:
    found = instant(watched.prometheus, f"sum by (status) ({ASKED_OVER_HTTP})", watched.ended)
    counted = {one["metric"]["status"]: round(float(one["value"][1])) for one in found}
    # The stream that was left had begun; the question that no context holds is refused.
    expected = {"200": len(watched.replies) + 1, "400": 1}
    assert {status: number for status, number in counted.items() if number} == expected


def test_serve_s_proxies_count_errors_under_the_name_and_labels_that_the_rules_use(
    watched: Watched,
) -> None:
    assert round(watched.value(f"sum({REFUSED_AT_PROXIES})")) == 1
    assert watched.value("sum(atts:http_errors_of_serve:rate5m)") == 0


def test_segments_equal_those_of_the_runs_events(watched: Watched) -> None:
    for role in ("draft", "target"):
        found = watched.value(f'sum(ray_atts_segments_total{{policy="atts",role="{role}"}})')
        assert round(found, 6) == watched.segments[role] > 0


def test_every_decision_has_a_p_value(watched: Watched) -> None:
    found = watched.value('sum(ray_atts_p_value_count{policy="atts"})')
    assert round(found, 6) == rates(watched.replies, "decisions") > 0


def test_seconds_of_a_mean_run_are_those_of_the_class_that_is_chosen(watched: Watched) -> None:
    """A mean run of a latency class took as long as the class says."""
    taken = {latency_label(reply["seconds"]["total"]) for reply in watched.replies}
    bounds = {"< 1 s": (0, 1), "1-5 s": (1, 5), "5-30 s": (5, 30), "30-120 s": (30, 120)}
    (mean,) = [q for q in queries() if (q.dashboard, q.panel) == ("latency", "Mean")]
    (stages,) = [q for q in queries() if q.panel == "Seconds of a mean run, by stage"]
    for latency in taken:
        low, high = bounds[latency]
        ((shown,),) = evaluated(watched, mean, policy="atts", latency=latency)
        of_class = [
            reply["seconds"]["total"]
            for reply in watched.replies
            if latency_label(reply["seconds"]["total"]) == latency
        ]
        assert shown == pytest.approx(sum(of_class) / len(of_class), rel=0.05)
        series = evaluated(watched, stages, policy="atts", latency=latency)
        real = [[value for value in one if not isnan(value)] for one in series]
        assert any(map(any, real))
        # Steps at which nothing of the class had ended have no mean.
        longest = max(sum(column) for column in zip(*real, strict=False))
        assert low * 0.9 < longest < high * 1.1


def test_both_routers_and_both_targets_took_part(watched: Watched) -> None:
    for metric in (
        'ray_atts_request_success_total{policy="atts"}',
        'ray_atts_engine_steps_total{role="target"}',
    ):
        assert watched.value(f"count(sum by (replica) ({metric}) > 0.5)") == 2


def test_the_stages_add_up_to_the_client_s_seconds(watched: Watched) -> None:
    found = watched.value(
        'sum(ray_atts_request_stage_by_latency_seconds_total{policy="atts"})'
    )  # fmt: skip
    told = sum(reply["seconds"]["total"] for reply in watched.replies)
    assert found == pytest.approx(told, rel=0.02)


# ------------------------------------------------------------------------------------------ panels

UNMOVED = {
    'finished_reason="failed"': "nothing fails",
    "_lost_total": "the store was there, and room for all observations",
    "drift_alarms_total": "nothing has drifted for long enough",
    "http_errors_of_serve": "no router is lost",
    "requests_slow": "no answer takes 50 s",
    "num_requests_waiting": "four questions at once find room in the batches",
    "upload_backlog_scores": "the store takes all of it between two looks",
    "kv_cache_usage_perc": "held by running calls only, of which there may be none at a look",
}
"""Parts of the queries of what this traffic need not move, and why: there, but it may be 0."""


def evaluated(watched: Watched, query: Query, **chosen: str) -> list[list[float]]:
    """What Grafana would draw of a query: the values of each series in the time of the traffic."""
    span = int(watched.ended - watched.began) + 30
    expr = query.substituted({**ALL, **chosen}, interval="30s", range=f"{span}s")
    if query.instant:
        found = instant(watched.prometheus, expr, watched.ended)
        return [[float(one["value"][1])] for one in found]
    # Back from the end: what happened last is in the last step only.
    steps = int(watched.ended - watched.began) // STEP_SECONDS
    start = watched.ended - steps * STEP_SECONDS
    asked = {"start": str(start), "end": str(watched.ended), "step": str(STEP_SECONDS)}
    found = answer(watched.prometheus, "query_range", asked | {"query": expr})["result"]
    return [[float(value) for _, value in one["values"]] for one in found]


@pytest.mark.parametrize("query", queries(), ids=str)
def test_every_panel_has_data(watched: Watched, query: Query) -> None:
    values = [value for series in evaluated(watched, query) for value in series]
    real = [value for value in values if not isnan(value)]
    assert real, query.expr
    if not any(part in query.expr for part in UNMOVED):
        assert max(map(abs, real)) > 1e-9, query.expr


def test_a_choice_that_nothing_has_empties_the_panels(watched: Watched) -> None:
    nothing = dict.fromkeys(ALL, "none-of-this-name")
    for query in queries():
        assert not evaluated(watched, query, **nothing), query.expr


def test_the_panel_s_takeover_rate_is_that_of_the_responses(watched: Watched) -> None:
    told = rates(watched.replies, "rejected") / rates(watched.replies, "decisions")
    panels = [query for query in queries() if query.panel == "Takeover rate"]
    assert {query.dashboard for query in panels} == {"overview", "method"}
    for query in panels:
        ((shown,),) = evaluated(watched, query, policy="atts")
        print(f"\n{query.dashboard}: {shown:.4f}, responses: {told:.4f}")
        assert shown == pytest.approx(told, rel=0.01)


def test_prometheus_has_taken_the_rules_and_no_rule_fails(watched: Watched) -> None:
    response = httpx.get(f"{watched.prometheus}/api/v1/rules", timeout=10).json()
    rules = [rule for group in response["data"]["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    alarms = "sum by (kind) (ray_atts_drift_alarms_total)"
    firing = {rule["name"] for rule in rules if rule.get("state") == "firing"}
    assert not firing, instant(watched.prometheus, alarms)


def test_no_metric_has_more_series_than_its_labels_allow(watched: Watched) -> None:
    """Bounded, whatever is asked: the largest is a histogram by stage, on two routers."""
    query = 'count by (__name__) ({__name__=~"ray_atts_.+"})'
    found = instant(watched.prometheus, query, watched.ended)
    counts = {one["metric"]["__name__"]: int(one["value"][1]) for one in found}
    assert max(counts.values()) < 1000, counts
