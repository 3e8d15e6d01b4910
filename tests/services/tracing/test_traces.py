"""The spans of scripted requests: one tree a request, made of its events, and never in its way."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from atts_core import events
from atts_core.engine import Line
from atts_core.errors import EngineUnavailable
from services.local import LocalBackend
from services.settings import TracingSettings
from services.tracing.context import TRACEPARENT, onward
from services.watching import CURRENT
from tests.atts_core.policies.scripts import judging
from tests.services.conftest import ANSWER, backend, client

memory = pytest.importorskip(
    "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="no OpenTelemetry"
)

from services.tracing import spans as made  # noqa: E402
from services.tracing.router import trace  # noqa: E402
from services.tracing.runs import Call  # noqa: E402

CHAT = "/v1/chat/completions"
SECRET = "swordfish"
ASKED = {"model": "atts", "messages": [{"role": "user", "content": f"{SECRET}: 1+1?"}]}
METHOD = {"candidates": 3, "turns": 8, "takeover_rate": 0.4, "consensus": False, "seed": 3}
CLIENT_S = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"


class Traced:
    """A backend over scripted engines whose spans are kept in memory."""

    def __init__(self, *engines: Any, share: float = 1.0, **settings: Any) -> None:
        self.exporter = memory.InMemorySpanExporter()
        self.backend: LocalBackend = backend(*engines, **{"method": METHOD} | settings)
        self.spans = made.Spans([self.exporter], share=share)
        trace(self.backend.service, self.backend.watchers, self.spans, "atts")

    async def ask(self, **sent: Any) -> Any:
        async with client(self.backend) as asking:
            return await asking.post(CHAT, json=ASKED | sent.pop("json", {}), **sent)

    def ended(self) -> list[Any]:
        self.spans.flush()
        return list(self.exporter.get_finished_spans())

    def tree(self) -> Tree:
        return Tree(self.ended())


class Tree:
    """Spans by name and by parent."""

    def __init__(self, spans: list[Any]) -> None:
        self.spans = spans
        self.by_id = {span.context.span_id: span for span in spans}
        assert len(self.by_id) == len(spans), "no id twice"

    def parent(self, span: Any) -> Any:
        return None if span.parent is None else self.by_id.get(span.parent.span_id)

    def named(self, *names: str) -> list[Any]:
        return [span for span in self.spans if span.name in names]

    def path(self, span: Any) -> list[str]:
        parent = self.parent(span)
        return [*(self.path(parent) if parent is not None else []), span.name]


def drafts(seen: str, request: Any) -> Line:
    return Line(ANSWER if seen.count("step") >= 3 else "step ", ticks=5)


def rates(text: str) -> float:
    return 1.0 + len(text) / 7


async def test_a_request_is_one_tree_of_run_candidates_and_stages() -> None:
    one = Traced(drafts, drafts, rates)
    told = (await one.ask()).json()
    tree = one.tree()
    assert len({span.context.trace_id for span in tree.spans}) == 1
    (root,) = [span for span in tree.spans if span.parent is None]
    assert root.name == f"POST {CHAT}"
    assert root.attributes["http.response.status_code"] == 200
    (run,) = tree.named("chat atts")
    assert tree.path(run) == [root.name, "chat atts"]
    assert run.attributes["gen_ai.response.id"] == told["id"]
    assert run.attributes["gen_ai.usage.output_tokens"] == told["usage"]["completion_tokens"]
    assert tree.path(tree.named("admission")[0]) == [root.name, "chat atts", "admission"]
    for number in range(3):
        (candidate,) = tree.named(f"candidate {number}")
        assert tree.path(candidate) == [root.name, "chat atts", f"candidate {number}"]
        assert candidate.attributes["atts.ending"] == "answered"
    for stage in tree.named("draft", "score", "takeover"):
        assert tree.path(stage)[:2] == [root.name, "chat atts"]
        assert tree.path(stage)[2].startswith("candidate ")
    takeovers = told["atts"]["takeover_rate"]["takeovers"]
    assert len(tree.named("takeover")) == takeovers > 0
    decided = [event for span in tree.spans for event in span.events if event.name == "decided"]
    assert len(decided) == told["atts"]["takeover_rate"]["decisions"]


async def test_stages_lie_within_their_candidates_one_after_the_other() -> None:
    one = Traced(drafts, drafts, rates)
    await one.ask()
    tree = one.tree()
    slack = 2_000_000  # nanoseconds: two clocks, read one after the other
    for candidate in [span for span in tree.spans if span.name.startswith("candidate ")]:
        stages = [span for span in tree.spans if tree.parent(span) is candidate]
        stages.sort(key=lambda span: span.start_time)
        assert len(stages) > 3
        assert candidate.start_time <= stages[0].start_time + slack
        assert stages[-1].end_time <= candidate.end_time + slack
        for before, after in pairwise(stages):
            assert before.end_time <= after.start_time + slack


async def test_what_an_engine_is_called_with_is_the_stage_s_own_span() -> None:
    called: list[tuple[str, str | None]] = []

    def notes(role: str) -> Any:
        def write(seen: str, request: Any) -> Line:
            called.append((role, TRACEPARENT.get()))
            assert onward() == {"traceparent": TRACEPARENT.get()}
            return drafts(seen, request)

        return write

    def rate(text: str) -> float:
        called.append(("score", TRACEPARENT.get()))
        return rates(text)

    one = Traced(notes("draft"), notes("takeover"), rate)
    await one.ask()
    tree = one.tree()
    stages = {made.traceparent_of(span): span.name for span in tree.spans}
    assert Counter(role for role, _ in called) == Counter(
        span.name for span in tree.named("draft", "takeover", "score")
    )
    for role, header in called:
        assert header is not None
        assert stages[header] == role


async def test_a_client_s_trace_goes_on_and_its_decision_holds() -> None:
    one = Traced(share=0.0)
    await one.ask()
    await one.ask(headers={"traceparent": f"{CLIENT_S}0"})
    assert one.ended() == []
    await one.ask(headers={"traceparent": f"{CLIENT_S}1"})
    tree = one.tree()
    assert {f"{span.context.trace_id:032x}" for span in tree.spans} == {CLIENT_S[3:35]}
    (root,) = [span for span in tree.spans if tree.parent(span) is None]
    assert f"{root.parent.span_id:016x}" == CLIENT_S[36:52]


@pytest.mark.parametrize("odd", ["", "00-zz", "x" * 5000, f"{CLIENT_S}1-extra"])
async def test_a_header_that_is_none_begins_a_trace(odd: str) -> None:
    one = Traced()
    assert (await one.ask(headers={"traceparent": odd})).status_code == 200
    assert sum(span.parent is None for span in one.ended()) == 1


async def test_no_span_holds_a_word_of_a_prompt_or_an_answer() -> None:
    def says(seen: str, request: Any) -> str:
        return f"{SECRET} {ANSWER}"

    one = Traced(says, says)
    await one.ask(json={"stream": True})
    await one.ask(json={"temperature": SECRET})
    spans = one.ended()
    assert len(spans) > 10
    text = "".join(span.to_json() for span in spans)
    assert SECRET not in text
    assert "boxed" not in text


async def test_what_failed_or_was_cancelled_has_spans_that_say_so() -> None:
    def breaks(seen: str, request: Any) -> str:
        if request.chain.endswith("/0"):
            raise EngineUnavailable("the draft is away")
        return ANSWER

    one = Traced(breaks)
    assert (await one.ask()).status_code == 200
    tree = one.tree()
    (failed,) = tree.named("candidate 0")
    assert not failed.status.is_ok
    assert failed.attributes["atts.ending"] == "failed"
    left = [span for span in tree.spans if tree.parent(span) is failed]
    assert {span.name for span in left} == {"draft", "score"}
    assert not any(span.status.is_ok for span in left)
    (run,) = tree.named("chat atts")
    assert run.status.is_ok


async def test_a_run_that_fails_ends_all_its_spans() -> None:
    def breaks(seen: str, request: Any) -> str:
        raise EngineUnavailable("the draft is away")

    one = Traced(breaks)
    assert (await one.ask()).status_code == 503
    tree = one.tree()
    (root,) = [span for span in tree.spans if span.parent is None]
    assert root.attributes["error.type"] == "engines_failed"
    assert not root.status.is_ok
    assert len([span for span in tree.spans if span.name.startswith("candidate ")]) == 3


async def test_chains_that_fill_the_bank_are_traced_too() -> None:
    one = Traced(drafts, drafts, rates, calibration={"presample": True})
    await one.ask()
    tree = one.tree()
    for span in tree.named("presample draft", "presample score"):
        assert tree.path(span)[1:-1] == ["chat atts"]
    assert len(tree.named("presample draft")) == 3


@pytest.mark.parametrize("policy", ["atts-sync", "specreason", "speculative-thinking", "best-of-n"])
async def test_every_policy_s_calls_have_their_stages(policy: str) -> None:
    called: set[str | None] = set()

    def write(seen: str, request: Any) -> Line:
        called.add(TRACEPARENT.get())
        return drafts(seen, request)

    one = Traced(write, judging(write), rates)
    reply = await one.ask(json={"atts": {"policy": policy}})
    assert reply.status_code == 200, reply.text
    tree = one.tree()
    assert called <= {made.traceparent_of(span) for span in tree.spans}
    for span in tree.spans:
        assert span.parent is None or tree.parent(span) is not None


async def test_health_checks_and_the_page_are_no_traces() -> None:
    one = Traced()
    async with client(one.backend) as asking:
        for path in ("/health", "/ready", "/", "/web/app.js", "/nope"):
            await asking.get(path)
    assert one.ended() == []


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses every connection: it is bound, and nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


async def test_a_receiver_that_is_away_costs_no_request(
    closed_port: int,
) -> None:
    """Twice the same requests, with and without a receiver that refuses every connection."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra is missing")
    plain, one = (
        backend(drafts, drafts, rates, method=METHOD),
        backend(drafts, drafts, rates, method=METHOD),
    )
    settings = TracingSettings(endpoint=f"http://127.0.0.1:{closed_port}")
    spans = made.opened(settings, "Router", "r")
    trace(one.service, one.watchers, spans, "atts")
    for asked in (plain, one):
        async with client(asked) as asking:
            began = time.monotonic()
            for _ in range(20):
                assert (await asking.post(CHAT, json=ASKED)).status_code == 200
            took = time.monotonic() - began
    # An export waits for seconds; a request that waited for one would take as long.
    assert took < 20 * made.TIMEOUT_SECONDS / 10
    began = time.monotonic()
    await asyncio.to_thread(spans.close)
    assert time.monotonic() - began < 4 * made.TIMEOUT_SECONDS


async def test_spans_are_kept_in_a_file_without_any_receiver(tmp_path: Path) -> None:
    one = backend(drafts, drafts, rates, method=METHOD)
    spans = made.opened(TracingSettings(folder=tmp_path), "Router", "r1")
    trace(one.service, one.watchers, spans, "atts")
    async with client(one) as asking:
        assert (await asking.post(CHAT, json=ASKED)).status_code == 200
    spans.close()
    lines = [json.loads(line) for line in (tmp_path / "spans_Router_r1.jsonl").open()]
    assert {line["context"]["trace_id"] for line in lines} == {lines[0]["context"]["trace_id"]}
    assert any(line["name"] == "chat atts" for line in lines)
    assert lines[0]["resource"]["attributes"]["service.instance.id"] == "r1"


def test_a_replica_keeps_so_many_files_of_such_a_size(tmp_path: Path) -> None:
    settings = TracingSettings(folder=tmp_path, max_bytes=10_000, files=3)
    spans = made.opened(settings, "Draft", "r1")
    for number in range(100):
        made.end(spans.start(f"span {number} {'x' * 500}", {}, {}))
    spans.close()
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == [f"spans_Draft_r1.jsonl{end}" for end in ("", ".1", ".2")]
    assert all(file.stat().st_size <= 10_000 for file in tmp_path.iterdir())
    newest = [json.loads(line) for line in (tmp_path / files[0]).open()]
    assert newest[-1]["name"].startswith("span 99 ")


async def test_a_request_s_trace_id_is_known_to_what_else_watches_it() -> None:
    seen: list[Any] = []

    def writes(seen_text: str, request: Any) -> str:
        seen.append(CURRENT.get())
        return ANSWER

    one = Traced(writes)
    await one.ask()
    assert seen[0].trace == f"{one.ended()[0].context.trace_id:032x}"


def test_every_event_that_tells_of_a_call_is_known() -> None:
    with_cost = {kind for kind in get_args(events.Event) if "cost" in kind.__annotations__}
    assert with_cost == set(get_args(Call))
