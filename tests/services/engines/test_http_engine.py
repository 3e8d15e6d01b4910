"""The HTTP engine against servers that speak as vLLM, SGLang and others do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from stand_in import TARGET, Brain, Spoilt, StandIn, listening

from atts_core import events, scaling
from atts_core.acceptance import Gate
from atts_core.allowance import Allowance
from atts_core.candidate import Run
from atts_core.engine import Generate, Rate, Sampling, start
from atts_core.errors import BadInput, EngineError, EngineUnavailable, ScoreMissing
from atts_core.settings import Method, validated
from atts_core.types import EngineCost, History, Message, Question, Segment, as_ids
from services.engines import loading
from services.engines.http_engine import HttpEngine
from services.engines.score_memory import ScoreMemory
from services.engines.settings import HttpSettings
from services.local import local_backend
from services.model_server import ModelServer
from services.pair import pair_of
from services.settings import Settings
from services.tracing.context import within

QUESTION = (Message("user", "Start with 47. Add 38. Multiply by 3. What is the result?"),)
RATERS: dict[str, dict[str, Any]] = {
    "sglang": {"kind": "sglang"},
    "vllm, chosen ids": {"kind": "vllm", "runner": 2},
    "vllm, prompt": {"kind": "vllm", "runner": 1},
    "vllm, prompt, cache unknown": {"kind": "vllm", "runner": 1, "details": False},
    "vllm, completions": {"kind": "vllm", "token_endpoint": False},
}
WRITERS: dict[str, dict[str, Any]] = RATERS | {
    "openai, ids": {"kind": "openai", "max_len": None},
    "openai, text": {"kind": "openai", "max_len": None, "reads_ids": False},
    "openai, names stop": {"kind": "openai", "max_len": None, "names_stop": True},
}
Standing = Callable[..., StandIn]
Opened = Callable[..., HttpEngine]


@pytest.fixture(scope="session")
def brain() -> Brain:
    return Brain()


@pytest.fixture
def standing(brain: Brain) -> Iterator[Standing]:
    """Servers that listen until the test ends: `standing("vllm, prompt")`."""
    with ExitStack() as stack:

        def make(habits: str = "sglang", **other: Any) -> StandIn:
            server = StandIn(brain=brain, **{**WRITERS[habits], **other})
            return stack.enter_context(listening(server))

        yield make


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Engines that are closed when the test ends: `opened(server, retries=0)`."""
    engines: list[HttpEngine] = []

    def make(server: StandIn, **settings: Any) -> HttpEngine:
        engine = HttpEngine.load(settings_for(server, **settings))
        engine._remembered = ScoreMemory(kept=0)  # so that the server is asked for every score
        server.calls.clear()  # those of the probe
        server.writes.clear()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


def settings_for(server: StandIn, **other: Any) -> HttpSettings:
    known: dict[str, Any] = {
        "engine": "http",
        "url": server.url,
        "model": server.model,
        "tokenizer": str(TARGET),
        "max_len": 2048,
        "backoff_seconds": 0.01,
    }
    return HttpSettings(**{**known, **other})


def asking(history: History, tokens: int = 24, **other: Any) -> Generate:
    known: dict[str, Any] = {"chain": "c7", "sampling": Sampling(0.4), "seed": 1, "stop": ()}
    return Generate(history=history, max_tokens=tokens, **{**known, **other})


async def given(segment: Segment) -> Segment:
    return segment


def segment_of(engine: HttpEngine, ids: list[int]) -> Segment:
    return Segment(
        engine._codec.decode(ids),
        as_ids(ids),
        "length",
        engine.capabilities.vocabulary,
        as_ids([]),
        EngineCost(),
    )


async def is_set(event: Event) -> bool:
    return await asyncio.to_thread(event.wait, 20)


# ---------------------------------------------------------------------- what it is for


@pytest.mark.parametrize("habits", RATERS)
async def test_scores_are_those_of_a_plain_forward_pass(
    standing: Standing, opened: Opened, brain: Brain, habits: str
) -> None:
    """Turn by turn, and each segment twice: the second time all of it is in the server's cache."""
    engine = opened(server := standing(habits))
    chain = await engine.render(QUESTION)
    for seed in range(3):
        rate = Rate("c7", History(chain))
        drafting = engine.generate(asking(History(chain), seed=seed, stop=("\n\n",)))
        scored = await engine.score(rate, drafting)
        segment = await drafting
        again = await engine.score(rate, start(given(segment)))
        whole = np.concatenate([chain, segment.ids])
        plain = brain.logprobs(whole.tolist())[len(chain) - 1 :]
        assert scored.ids.tolist() == again.ids.tolist() == segment.ids.tolist()
        assert np.abs(scored.logprobs - plain).max() < 1e-4
        assert np.abs(again.logprobs - plain).max() < 1e-4
        assert 0 <= again.cost.cached_tokens < again.cost.prompt_tokens == len(whole)
        chain = whole
    if server.kind == "vllm":
        assert all(("token_ids" in call) == server.token_endpoint for call in server.calls)


@pytest.mark.parametrize("habits", WRITERS)
async def test_a_stop_string_ends_a_segment_and_belongs_to_it(
    standing: Standing, opened: Opened, habits: str
) -> None:
    engine = opened(standing(habits))
    prompt = await engine.render(QUESTION)
    segment = await engine.generate(
        asking(History(prompt), sampling=Sampling(0.0), stop=("\n\n", "never"))
    )
    assert (segment.text, segment.finish) == ("47 + 38 = 77 + 8 = 85\n\n", "stop")
    assert engine._codec.decode(segment.ids) == segment.text


@pytest.mark.parametrize("habits", RATERS)
async def test_a_stop_id_ends_a_segment_and_belongs_to_it(
    standing: Standing, opened: Opened, brain: Brain, habits: str
) -> None:
    engine = opened(standing(habits))
    history = History(await engine.render(QUESTION))
    greedy = {"sampling": Sampling(0.0)}
    whole = await engine.generate(asking(history, 200, **greedy))
    assert whole.finish == "eos"
    stop = int(whole.ids[7])
    first = whole.ids.tolist().index(stop)
    segment = await engine.generate(asking(history, 200, **greedy, stop_ids=(stop,)))
    assert segment.finish == "stop"
    assert segment.ids.tolist() == whole.ids[: first + 1].tolist()
    assert segment.cost.written_tokens == first + 1
    ended = await engine.generate(asking(history, 200, **greedy, stop_ids=(brain.end,)))
    assert ended.finish == "stop"
    assert ended.ids.tolist() == [*whole.ids.tolist(), brain.end]


async def test_a_server_that_knows_no_stop_ids_is_not_asked_to_heed_one(
    standing: Standing, opened: Opened
) -> None:
    engine = opened(server := standing("openai, ids"))
    asked = len(server.calls)
    with pytest.raises(EngineError, match="c7: this server knows stop strings, no stop ids"):
        await engine.generate(asking(History(as_ids([70])), stop_ids=(71,)))
    assert len(server.calls) == asked


@pytest.mark.parametrize("habits", WRITERS)
async def test_the_end_of_a_text_and_the_limit_of_tokens_are_told_apart(
    standing: Standing, opened: Opened, brain: Brain, habits: str
) -> None:
    engine = opened(standing(habits))
    prompt = await engine.render(QUESTION)
    greedy = {"sampling": Sampling(0.0), "stop": ("never",)}
    whole = await engine.generate(asking(History(prompt), 200, **greedy))
    assert whole.finish == "eos"
    assert whole.text.endswith("\\boxed{255}.")
    assert brain.end not in whole.ids
    cut = await engine.generate(asking(History(prompt), 10, **greedy))
    assert cut.finish == "length"
    assert cut.ids.tolist() == whole.ids[:10].tolist()


@pytest.mark.parametrize("habits", WRITERS)
async def test_a_seed_writes_the_same_again(
    standing: Standing, opened: Opened, habits: str
) -> None:
    engine = opened(standing(habits))
    prompt = await engine.render(QUESTION)
    hot = [
        await engine.generate(asking(History(prompt), seed=seed, sampling=Sampling(4.0)))
        for seed in (2**62 + 5, 2**62 + 5, 2**62 + 6)
    ]
    assert hot[0].ids.tolist() == hot[1].ids.tolist() != hot[2].ids.tolist()


@pytest.mark.parametrize("habits", WRITERS)
async def test_a_trace_goes_on_in_the_server(
    standing: Standing, opened: Opened, habits: str
) -> None:
    server = standing(habits)
    engine = opened(server)
    prompt = await engine.render(QUESTION)
    server.traces.clear()
    with within("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        await engine.generate(asking(History(prompt)))
    await engine.generate(asking(History(prompt)))
    assert set(server.traces[:1]) == {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    assert server.traces[-1] is None


@pytest.mark.parametrize("habits", WRITERS)
async def test_a_character_cut_in_two_is_held_back(
    standing: Standing, opened: Opened, brain: Brain, habits: str
) -> None:
    engine = opened(standing(habits))
    prompt = await engine.render(QUESTION)
    brain.dictated = engine._codec.encode("7 中").tolist()
    cut = len(brain.dictated) - 1
    segment = await engine.generate(asking(History(prompt), cut, stop=("never",)))
    brain.dictated = []
    assert (segment.text, segment.finish) == ("7 ", "length")


async def test_the_tail_of_a_history_is_read_and_its_ids_are_told(
    standing: Standing, opened: Opened
) -> None:
    engine = opened(server := standing())
    prompt = await engine.render(QUESTION)
    segment = await engine.generate(asking(History(prompt, "47 + 38")))
    assert engine._codec.decode(segment.tail_ids) == "47 + 38"
    assert server.calls[0]["input_ids"] == [*prompt.tolist(), *segment.tail_ids.tolist()]


async def test_sglang_is_asked_for_one_entry_more_than_there_are_tokens(
    standing: Standing, opened: Opened
) -> None:
    engine = opened(server := standing("sglang"))
    prompt = await engine.render(QUESTION)
    await engine.score(Rate("c7", History(prompt)), start(given(segment_of(engine, [70, 71]))))
    assert server.calls[0]["logprob_start_len"] == len(prompt) - 1


# ---------------------------------------------------------------------- what is found at the start


@pytest.mark.parametrize("habits", WRITERS)
def test_what_a_server_can_do_is_probed(standing: Standing, opened: Opened, habits: str) -> None:
    server = standing(habits)
    found = opened(server).capabilities
    assert found.engine == f"http/{server.kind}"
    assert found.scores == (habits in RATERS)
    assert found.reuses_prefix == (habits in ("sglang", "vllm, chosen ids", "vllm, prompt"))
    assert found.max_len == 2047  # one less: servers write a token where they rate
    assert found.kv_tokens == (5000 if server.kind == "sglang" else 2047)


def test_a_model_that_is_not_served_is_refused_with_those_that_are(standing: Standing) -> None:
    with pytest.raises(BadInput, match=r"no model 'tarjet'; it serves: target"):
        HttpEngine.load(settings_for(standing(), model="tarjet"))


def test_a_tokenizer_that_is_not_the_server_s_is_refused(
    standing: Standing, folder: Callable[..., Path]
) -> None:
    with pytest.raises(BadInput, match="is not that of target at http") as refused:
        HttpEngine.load(settings_for(standing(), tokenizer=str(folder())))
    assert refused.value.field == "tokenizer"


def test_a_tokenizer_that_is_not_there_is_refused(standing: Standing) -> None:
    with pytest.raises(BadInput, match=r"no model folder \./nowhere; set tokenizer"):
        HttpEngine.load(settings_for(standing(), tokenizer="./nowhere"))


def test_a_context_that_nobody_says_or_that_is_too_long_is_refused(standing: Standing) -> None:
    with pytest.raises(BadInput, match="does not say its context: set max_len"):
        HttpEngine.load(settings_for(standing("openai, ids"), max_len=None))
    with pytest.raises(BadInput, match="reads at most 2048"):
        HttpEngine.load(settings_for(standing("sglang"), max_len=4096))


def test_a_server_that_is_not_there_is_unavailable() -> None:
    nowhere = StandIn("sglang", None, url="http://127.0.0.1:1")  # type: ignore[arg-type]
    with pytest.raises(EngineUnavailable, match=r"target at http://127.0.0.1:1: the connection"):
        HttpEngine.load(settings_for(nowhere))


async def test_the_api_key_comes_from_the_environment(
    standing: Standing, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = standing(key="s3cret")
    with pytest.raises(EngineError, match="status 401: who are you"):
        HttpEngine.load(settings_for(server))
    with pytest.raises(BadInput, match="no variable ATTS_TEST_KEY"):
        HttpEngine.load(settings_for(server, api_key_env="ATTS_TEST_KEY"))
    monkeypatch.setenv("ATTS_TEST_KEY", "s3cret")
    engine = opened(server, api_key_env="ATTS_TEST_KEY")
    assert (await engine.generate(asking(History(await engine.render(QUESTION))))).tokens
    assert "s3cret" not in repr(engine._connection._settings)


@pytest.mark.parametrize("habits", RATERS)
def test_a_server_whose_scores_are_missing_or_wrong_is_a_draft_only(
    standing: Standing, opened: Opened, habits: str
) -> None:
    server = standing(habits)
    server.spoil = "zero"
    assert not opened(server).capabilities.scores
    server.spoil = "no scores"
    assert not opened(server).capabilities.scores


async def test_a_target_that_cannot_rate_is_refused_where_the_pair_is_put_together(
    standing: Standing, opened: Opened
) -> None:
    rates, writes = standing("sglang"), standing("openai, ids")
    draft, target = opened(writes), opened(rates)
    assert pair_of(draft, target)
    with pytest.raises(BadInput, match=r"^target: target \(http/openai\) gives no log-prob") as no:
        pair_of(target, draft)
    assert no.value.field == "target"
    settings = Settings(draft=settings_for(rates), target=settings_for(writes))
    with pytest.raises(BadInput, match=r"^target: .*vLLM or SGLang"):
        async with local_backend(settings):
            pass
    with pytest.raises(BadInput, match=r"^target: "):
        ModelServer(settings.target, judges=True)


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("fault", ["null", "few", "nan", "no scores"])
@pytest.mark.parametrize("habits", RATERS)
async def test_a_missing_log_probability_is_an_error_that_names_server_and_request(
    standing: Standing, opened: Opened, habits: str, fault: Spoilt
) -> None:
    engine = opened(server := standing(habits))
    prompt = await engine.render(QUESTION)
    server.spoil = fault
    rate = Rate("c7", History(prompt))
    with pytest.raises(ScoreMissing, match=r"target at http://127.0.0.1:\d+, c7: "):
        await engine.score(rate, start(given(segment_of(engine, [70, 71, 72]))))


async def test_a_failing_server_is_unavailable_and_a_refusal_is_not(
    standing: Standing, opened: Opened
) -> None:
    engine = opened(server := standing())
    history = History(await engine.render(QUESTION))
    server.faults.append("fail")
    with pytest.raises(EngineUnavailable, match=r"target at http.*, c7: status 500: engine core"):
        await engine.generate(asking(history))
    assert not engine.status()["reached"]
    server.faults.append("refuse")
    with pytest.raises(EngineError, match=r"c7: status 400: not like this") as refused:
        await engine.generate(asking(history))
    assert not isinstance(refused.value, EngineUnavailable)
    assert (await engine.generate(asking(history))).tokens
    engine.check()
    assert engine.status() | {"reached": True, "failed": 2, "running": 0} == engine.status()


async def test_a_broken_connection_is_tried_once_more_and_not_twice(
    standing: Standing, opened: Opened
) -> None:
    engine = opened(server := standing())
    history = History(await engine.render(QUESTION))
    plain = await engine.generate(asking(history, seed=5))
    server.faults.append("cut")
    again = await engine.generate(asking(history, seed=5))
    assert again.ids.tolist() == plain.ids.tolist()
    assert engine.status()["retried"] == 1
    server.faults += ["cut", "cut"]
    with pytest.raises(EngineUnavailable, match="c7: the connection failed"):
        await engine.generate(asking(history))
    assert not server.faults


async def test_a_server_that_comes_back_is_found_again(brain: Brain, opened: Opened) -> None:
    with listening(StandIn("sglang", brain)) as server:
        engine = opened(server, retries=20, backoff_seconds=0.05)
        history = History(await engine.render(QUESTION))
        await engine.generate(asking(history))
    waiting = engine.generate(asking(history))
    async with asyncio.timeout(20):
        while engine.status()["retried"] < 2:
            await asyncio.sleep(0.01)
    with listening(StandIn("sglang", brain), int(server.url.rpartition(":")[2])):
        assert (await waiting).tokens


async def test_a_server_that_stays_away_is_given_up(brain: Brain, opened: Opened) -> None:
    with listening(StandIn("sglang", brain)) as server:
        engine = opened(server, retries=2)
        history = History(await engine.render(QUESTION))
    with pytest.raises(EngineUnavailable, match="c7: the connection failed"):
        await engine.generate(asking(history))
    assert engine.status()["retried"] == 2


@pytest.mark.parametrize("habits", WRITERS)
async def test_an_answer_that_takes_too_long_is_given_up_and_the_request_closed(
    standing: Standing, opened: Opened, habits: str
) -> None:
    engine = opened(server := standing(habits), read_seconds=5)
    engine._connection._settings = settings_for(server, read_seconds=0.2)
    history = History(await engine.render(QUESTION))
    server.faults.append("hold")
    with pytest.raises(EngineUnavailable, match="c7: no answer in time"):
        await engine.generate(asking(history, stop=("never",)))
    assert await is_set(server.left)


@pytest.mark.parametrize("habits", WRITERS)
async def test_cancelling_closes_the_request_and_the_server_stops_writing(
    standing: Standing, opened: Opened, habits: str
) -> None:
    engine = opened(server := standing(habits, endless=True))
    history = History(await engine.render(QUESTION))
    pending = engine.generate(asking(history, 1500, stop=("never",)))
    assert await is_set(server.writes)
    pending.cancel()
    assert await is_set(server.left)
    with pytest.raises(asyncio.CancelledError):
        await pending
    assert (await engine.generate(asking(history))).tokens
    assert engine.status()["running"] == engine.status()["waiting"] == 0


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("stand_in.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        yield running
        running.kill()


async def test_a_server_that_dies_with_a_request_is_unavailable(
    process: subprocess.Popen[str], opened: Opened
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    engine = opened(StandIn("sglang", None, url=url), retries=1)  # type: ignore[arg-type]
    history = History(await engine.render(QUESTION))
    print(file=process.stdin, flush=True)
    assert process.stdout.readline() == "holds what comes\n"
    pending = engine.generate(asking(history))
    assert await asyncio.to_thread(process.stdout.readline) == "holds a call\n"
    process.kill()
    with pytest.raises(EngineUnavailable, match=r"target at http://127.0.0.1:\d+, c7: "):
        await pending


async def test_closing_fails_what_is_under_way_and_what_comes(
    standing: Standing, opened: Opened
) -> None:
    engine = opened(server := standing())
    history = History(await engine.render(QUESTION))
    server.faults.append("hold")
    pending = engine.generate(asking(history))
    assert await is_set(server.held)
    engine.close()
    with pytest.raises(EngineUnavailable, match="c7: the engine was closed"):
        await pending
    with pytest.raises(EngineUnavailable, match="the engine was closed"):
        await engine.generate(asking(history))
    with pytest.raises(EngineUnavailable, match="the engine was closed"):
        engine.check()
    assert await is_set(server.left)


async def test_no_more_requests_are_sent_at_once_than_allowed(
    standing: Standing, opened: Opened
) -> None:
    engine = opened(server := standing(), max_requests=2)
    history = History(await engine.render(QUESTION))
    tasks = [engine.generate(asking(history, seed=seed)) for seed in range(6)]
    segments = await asyncio.gather(*tasks)
    assert server.most == 2
    assert max(segment.cost.queued for segment in segments) > 0
    assert all(segment.tokens for segment in segments)


async def test_what_the_model_cannot_read_is_refused_before_anything_is_sent(
    standing: Standing, opened: Opened
) -> None:
    engine = opened(server := standing(), max_len=41)
    rate = Rate("c7", History(as_ids([70] * 39)))
    for ids, why in (
        ([], "the segment to rate is empty"),
        ([70, 99_999], "token id 99999 is outside the vocabulary"),
        ([70, 71], "history and segment have 41 tokens, the context is 40"),
    ):
        with pytest.raises(EngineError, match=f"c7: {why}"):
            await engine.score(rate, start(given(segment_of_raw(engine, ids))))
    with pytest.raises(EngineError, match="c7: the history is empty"):
        await engine.generate(asking(History(as_ids([]))))
    with pytest.raises(EngineError, match="40 tokens leave room for 0"):
        await engine.generate(asking(History(as_ids([70] * 40))))
    for wrong, why in (
        ({"stop": ("",)}, "a stop is a string"),
        ({"stop_ids": (99_999,)}, "a stop id is in the vocabulary"),
        ({"top_logprobs": 1}, "1 top_logprobs asked for, it tells 0"),
    ):
        with pytest.raises(EngineError, match=f"c7: {why}"):
            await engine.generate(asking(History(as_ids([70])), **wrong))
    assert server.calls == []
    assert (await engine.score(rate, start(given(segment_of_raw(engine, [70]))))).ids.tolist()
    await engine.generate(asking(History(as_ids([70] * 30)), 100))
    assert server.calls[-1]["sampling_params"]["max_new_tokens"] == 10


def segment_of_raw(engine: HttpEngine, ids: list[int]) -> Segment:
    return Segment(
        "", as_ids(ids), "length", engine.capabilities.vocabulary, as_ids([]), EngineCost()
    )


# ---------------------------------------------------------------------- in the algorithm


def running(draft: HttpEngine, target: HttpEngine, seen: list[Any], **method: Any) -> Run:
    asked = {"candidates": 4, "turns": 8, "draft_tokens": 24, "target_tokens": 24, "seed": 3}
    wanted = Method.model_validate(
        asked
        | {"segment_stop": ["\n\n"], "takeover_cue": "Check. ", "temperature": 0.4}
        | {"consensus": False, **method}
    )
    return Run(
        id="q",
        method=wanted,
        seed=3,
        draft=draft,
        target=target,
        gate=Gate(pair_of(draft, target)),
        slots=asyncio.Semaphore(100),
        allowance=Allowance(None),
        emit=seen.append,
    )


async def test_two_servers_answer_a_question_together(standing: Standing, opened: Opened) -> None:
    draft, target = opened(standing("openai, ids")), opened(standing("vllm, prompt"))
    seen: list[Any] = []
    found = await scaling.answer(running(draft, target, seen), Question("q", QUESTION))
    assert found.answer == "255"
    assert sum(isinstance(event, events.SegmentScored) for event in seen) >= 4


async def test_a_candidate_whose_request_fails_leaves_its_siblings_alone(
    standing: Standing, opened: Opened
) -> None:
    draft, target = opened(server := standing("sglang")), opened(standing("vllm, chosen ids"))
    server.faults.append("fail")
    seen: list[Any] = []
    found = await scaling.answer(running(draft, target, seen), Question("q", QUESTION))
    ended = [event for event in seen if isinstance(event, events.CandidateFinished)]
    failed = [event for event in ended if event.ending == "failed"]
    assert len(ended) == 4
    assert len(failed) == 1
    assert "status 500" in str(failed[0].error)
    assert found.answer == "255"


def test_settings_name_the_engine_and_keep_secrets_out() -> None:
    loaded = validated(
        Settings,
        {
            "draft": {"engine": "http", "url": "http://a:1", "model": "d"},
            "target": {"engine": "http", "url": "http://b:2/v1/", "model": "t"},
        },
    )
    assert isinstance(loaded.draft, HttpSettings)
    with pytest.raises(BadInput, match=r"draft\.url"):
        validated(
            Settings,
            {
                "draft": {"engine": "http", "url": "http://me:key@a", "model": "d"},
                "target": {"model": "t"},
            },
        )


def test_loading_gives_the_engine_that_settings_name(standing: Standing) -> None:
    engine = loading.load(settings_for(standing(), url=standing().url + "/v1/"))
    assert engine.capabilities.engine == "http/sglang"
    engine.close()
