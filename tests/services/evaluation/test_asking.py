"""Policies over questions: each once, in the stated order, whatever happens to one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from atts_core.engine import Generate
from atts_core.errors import BadInput, EngineError, Overloaded
from atts_core.usage import Usage
from services.client import ServerLost, remote_run
from services.evaluation import asking
from services.evaluation.asking import Evaluation, Plan, seed_of
from services.evaluation.hosts import Ask, InProcess, Readings, served, server
from services.evaluation.items import Item
from services.evaluation.progress import Estimate, spoken
from services.evaluation.results import Results
from services.evaluation.specs import policies
from tests.services.conftest import backend

ITEMS = [Item(f"q{n}", f"{n}+1?", str(n + 1)) for n in range(4)]


def adds(seen: str, request: Generate) -> str:
    """Right but for the last question."""
    number = int(seen.split("<user>")[1].split("+")[0])
    return rf"\boxed{{{0 if number == 3 else number + 1}}}"


def plan(specs: Sequence[str] = ("atts", "draft-only"), seeds: Sequence[int] = (1,)) -> Plan:
    common = {"candidates": 3, "consensus": False}
    return Plan(ITEMS, policies(specs, common), seeds, at_once=2, comparison="auto")


class Watched:
    """A host that notes who was asked what, and may refuse."""

    def __init__(
        self, refuse: Callable[[dict[str, Any]], Exception | None] = lambda body: None
    ) -> None:
        self._host = InProcess(backend(adds, adds))
        self._refuse = refuse
        self.model = self._host.model
        self.asked: list[tuple[str, str]] = []
        self.passes = 0

    async def readings(self) -> Readings:
        return await self._host.readings()

    def fresh(self) -> Ask:
        self.passes += 1
        ask = self._host.fresh()

        async def noted(body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
            self.asked.append((body["atts"]["policy"], body["messages"][0]["content"]))
            refusal = self._refuse(body)
            if refusal is not None:
                raise refusal
            async for event in ask(body):
                yield event

        return noted


async def evaluate(
    folder: Path, host: Any, wanted: Plan, on_skip: Callable[[str], None] = lambda label: None
) -> tuple[Results, dict[str, str]]:
    with Results(folder, {}, resume=True) as results:
        evaluation = Evaluation(wanted, host, results, None, on_skip=on_skip)
        await evaluation.run()
        return results, evaluation.skipped


async def test_every_question_is_asked_of_every_policy_and_graded(tmp_path: Path) -> None:
    results, _ = await evaluate(tmp_path, Watched(), plan())
    assert len(results.rows) == 8
    for (_, _, question), row in results.rows.items():
        assert row["right"] == (question != "q3")
        assert row["chains_ended"] == 3
        assert row["chains_right"] == (0 if question == "q3" else 3)
    assert results.rows["draft-only", 1, "q0"]["tokens"]["target"]["generated"] == 0
    assert all("timeline" in c for c in results.rows["atts", 1, "q0"]["chains"])
    assert not any("timeline" in c for c in results.rows["atts", 1, "q1"]["chains"])


async def test_policies_come_one_after_the_other_and_take_turns_at_being_first(
    tmp_path: Path,
) -> None:
    host = Watched()
    await evaluate(tmp_path, host, plan(seeds=(1, 2)))
    order = [policy for policy, _ in host.asked]
    passes = ["atts"] * 5 + ["draft-only"] * 5  # one of each five does not count
    assert order == passes + passes[::-1]
    assert host.passes == 8  # the question that does not count teaches the gate nothing


async def test_what_is_finished_is_not_asked_again(tmp_path: Path) -> None:
    broken = 0

    def lost(body: dict[str, Any]) -> Exception | None:
        nonlocal broken
        broken += body["atts"]["policy"] == "draft-only"
        return ServerLost("gone") if broken > 2 else None

    with pytest.raises(ServerLost):
        await evaluate(tmp_path, Watched(lost), plan())
    with Results(tmp_path, {}, resume=True) as kept:
        before = dict(kept.rows)
    assert {key[0] for key in before} >= {"atts"}
    host = Watched()
    results, _ = await evaluate(tmp_path, host, plan())
    assert len(results.rows) == 8
    assert {policy for policy, _ in host.asked} == {"draft-only"}
    assert all(results.rows[key] == row for key, row in before.items())
    sessions = {row["session"] for row in results.rows.values()}
    assert len(sessions) == 2
    again = Watched()
    await evaluate(tmp_path, again, plan())
    assert again.asked == []


async def test_a_question_that_fails_is_a_row_with_the_reason(tmp_path: Path) -> None:
    def fails(seen: str, request: Generate) -> str:
        if "<user>1+1" in seen:
            raise EngineError("no memory")
        return adds(seen, request)

    results, _ = await evaluate(tmp_path, InProcess(backend(fails, fails)), plan(["atts"]))
    row = results.rows["atts", 1, "q1"]
    assert "no memory" in row["error"]
    assert not row["right"]
    assert results.rows["atts", 1, "q0"]["error"] is None


async def test_a_policy_that_the_models_cannot_serve_is_skipped_with_the_reason(
    tmp_path: Path,
) -> None:
    def refuse(body: dict[str, Any]) -> Exception | None:
        if body["atts"]["policy"] == "draft-only":
            return BadInput("atts.policy: draft-only needs a chat model", field="atts.policy")
        return None

    told: list[str] = []
    results, skipped = await evaluate(tmp_path, Watched(refuse), plan(), told.append)
    assert told == ["draft-only"]
    assert skipped == {"draft-only": "atts.policy: draft-only needs a chat model"}
    assert {policy for policy, _, _ in results.rows} == {"atts"}


async def test_an_option_beyond_the_server_s_limits_ends_it_before_it_begins(
    tmp_path: Path,
) -> None:
    with pytest.raises(BadInput, match=r"many: atts.candidates: found 1000; allowed are 1 to"):
        await evaluate(tmp_path, Watched(), plan(["many=atts:candidates=1000"]))


async def test_a_server_is_asked_in_the_same_way(tmp_path: Path, listening: Any) -> None:
    async with listening(backend(adds, adds)) as url, server(url) as host:
        remote, _ = await evaluate(tmp_path / "remote", host, plan(["atts"]))
    here, _ = await evaluate(tmp_path / "here", Watched(), plan(["atts"]))
    same = ("answer", "right", "chains_ended", "chains_right", "tokens", "wasted_tokens")
    for key, row in remote.rows.items():
        assert {name: row[name] for name in same} == {name: here.rows[key][name] for name in same}


async def test_without_room_a_question_is_asked_again_and_its_time_begins_then(
    tmp_path: Path,
) -> None:
    refused: dict[str, float] = {}

    def full_at_first(body: dict[str, Any]) -> Exception | None:
        question = body["messages"][0]["content"]
        if question in refused:
            return None
        refused[question] = monotonic()
        return Overloaded("no room", retry_after=0.3)

    results, _ = await evaluate(tmp_path, Watched(full_at_first), plan(["draft-only"]))
    assert len(results.rows) == len(refused) == 4
    began = {item.question: results.rows["draft-only", 1, item.id]["began"] for item in ITEMS}
    assert all(began[question] >= at + 0.29 for question, at in refused.items())


async def test_a_host_that_never_has_room_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.2)
    full = Watched(lambda body: Overloaded("no room", retry_after=0.05))
    with pytest.raises(Overloaded):
        await evaluate(tmp_path, full, plan())


async def test_a_server_says_in_its_refusal_when_to_ask_again(listening: Any) -> None:
    none = backend(adds, adds, limits={"max_running": 1})
    none.service.running["another"] = Usage()
    body = plan().policies[0].body("atts", "1+1?", 1)
    async with listening(none) as url:
        with pytest.raises(Overloaded) as refused:
            async for _ in remote_run(url, body):
                pass
    assert refused.value.retry_after >= 1


async def test_a_server_tells_its_version_and_its_method(listening: Any) -> None:
    async with listening(backend(adds, adds, method={"candidates": 3})) as url:
        told = await served(url)
    assert told["version"]
    assert told["method"]["candidates"] == 3


async def test_a_server_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ServerLost, match=r"127\.0\.0\.1:9"):
        async with server("http://127.0.0.1:9"):
            pass


def test_a_question_has_the_same_seed_under_every_policy_and_another_with_every_seed() -> None:
    assert seed_of(1, ITEMS[0]) == seed_of(1, ITEMS[0])
    assert len({seed_of(s, item) for s in (1, 2, 3) for item in ITEMS}) == 12


async def test_the_estimate_counts_what_is_left_at_each_policy_s_own_pace(tmp_path: Path) -> None:
    with Results(tmp_path, {}, resume=True) as results:
        estimate = Estimate(plan(), results)
        assert (estimate.left, spoken(estimate.seconds)) == (8, "?")
        estimate.done({"policy": "atts", "latency": 10.0, "error": None})
        assert estimate.seconds == pytest.approx((3 * 10 + 4 * 10) / 2)
        estimate.done({"policy": "draft-only", "latency": 2.0, "error": None})
        assert estimate.seconds == pytest.approx((3 * 10 + 3 * 2) / 2)
        assert estimate.skip("draft-only") == 3
        assert estimate.seconds == pytest.approx(3 * 10 / 2)
        for _ in range(3):
            estimate.done({"policy": "atts", "latency": 10.0, "error": None})
        assert (estimate.left, spoken(estimate.seconds)) == (0, "0 s")
    assert [spoken(s) for s in (40, 600, 11_100)] == ["40 s", "10 min", "3 h 05 min"]
