"""The vLLM engine against the embedded one, on the CPU build of vLLM (`make test-vllm`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
import pytest_asyncio
import torch

from atts_core.acceptance import Gate
from atts_core.allowance import Allowance
from atts_core.calibration.settings import CalibrationSettings
from atts_core.candidate import Run
from atts_core.engine import Generate, Rate, Sampling, start
from atts_core.errors import BadInput, EngineError, EngineUnavailable
from atts_core.scaling import answer
from atts_core.settings import Method
from atts_core.types import (
    EngineCost,
    History,
    Ids,
    Message,
    Question,
    Scored,
    Segment,
    as_ids,
)
from services.engines import checkpoint, loading
from services.engines.score_memory import ScoreMemory
from services.engines.settings import TransformersSettings, VllmSettings
from services.pair import pair_of

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")
from services.engines.vllm_engine import VllmEngine

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

PAIR = Path(__file__).resolve().parents[3] / "models" / "arithmetic"
BLOCK = 32
NEAR = 1e-3  # nats a segment
QUESTION = "Start with 47. Add 38. Multiply by 3. What is the result?"


def settings(name: str, **more: object) -> VllmSettings:
    small = {
        "engine": "vllm",
        "model": str(PAIR / name),
        "dtype": "float32",
        "kv_gib": 0.25,
        "block_size": BLOCK,
        "max_batch": 64,
        "eager": True,
    }
    return VllmSettings.model_validate(small | more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target() -> AsyncIterator[VllmEngine]:
    engine = loading.load(settings("target"))
    assert isinstance(engine, VllmEngine)
    engine._remembered = ScoreMemory(kept=0)  # so that vLLM is asked for every score
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def plain() -> checkpoint.Checkpoint:
    """The same model, loaded by transformers."""
    return checkpoint.load(TransformersSettings(model=str(PAIR / "target"), device="cpu"))


@torch.inference_mode()
def expected(plain: checkpoint.Checkpoint, ids: Ids, start: int) -> np.ndarray:
    """Log-probabilities of `ids[start:]` from one forward pass over everything."""
    logits = plain.model.plain(torch.from_numpy(ids.astype(np.int64))[None])[0]
    logprobs = torch.log_softmax(logits, -1).numpy()
    return logprobs[np.arange(start - 1, len(ids) - 1), ids[start:]]


def segment(engine: VllmEngine, ids: Ids) -> Segment:
    return Segment(
        text=engine._codec.decode(ids[ids >= 0]),
        ids=ids,
        finish="stop",
        vocabulary=engine.capabilities.vocabulary,
        tail_ids=as_ids([]),
        cost=EngineCost(),
    )


async def given(one: Segment) -> Segment:
    return one


async def rate(engine: VllmEngine, history: Ids, ids: Ids) -> Scored:
    request = Rate("chain", History(history))
    return await engine.score(request, start(given(segment(engine, ids))))


def write(history: Ids, count: int, seed: int = 1, **more: object) -> Generate:
    request = Generate("chain", History(history), count, Sampling(0.8), seed)
    return replace(request, **more)  # type: ignore[arg-type]


def text(count: int, seed: int) -> Ids:
    """Ids that are text: bytes of letters."""
    return as_ids(np.random.default_rng(seed).integers(64, 90, count).tolist())


def check(plain: checkpoint.Checkpoint, scored: Scored, history: Ids, ids: Ids) -> None:
    wanted = expected(plain, np.concatenate([history, ids]), len(history))
    assert scored.ids.tolist() == ids.tolist()
    assert abs(float(scored.logprobs.sum() - wanted.sum())) < NEAR
    assert np.abs(scored.logprobs - wanted).max() < NEAR / 10


async def test_what_it_says_of_itself(target: VllmEngine, plain: checkpoint.Checkpoint) -> None:
    found = target.capabilities
    assert (found.engine, found.scores, found.reuses_prefix) == ("vllm", True, True)
    assert found.max_len == plain.max_len - 1
    assert found.kv_tokens > found.max_len
    assert found.kv_tokens % BLOCK == 0


@pytest.mark.parametrize("lengths", [(70, 20, 33, 64, 1, 50), (31, 1, 1, 31, 32, 96), (5, 300, 7)])
async def test_scores_along_a_chain_are_those_of_a_forward_pass(
    target: VllmEngine, plain: checkpoint.Checkpoint, lengths: tuple[int, ...]
) -> None:
    chain = text(sum(lengths), seed=sum(lengths))
    ends = np.cumsum(lengths)
    for begin, end in pairwise(ends):
        scored = await rate(target, chain[:begin], chain[begin:end])
        check(plain, scored, chain[:begin], chain[begin:end])


async def test_a_score_reads_its_history_from_the_cache(target: VllmEngine) -> None:
    chain = text(260, seed=11)
    await rate(target, chain[:100], chain[100:200])
    scored = await rate(target, chain[:200], chain[200:])
    assert scored.cost.cached_tokens == 200 // BLOCK * BLOCK
    assert scored.cost.prompt_tokens == 260


async def test_seeded_requests_whose_prompts_fill_many_steps_are_all_answered(
    target: VllmEngine,
) -> None:
    """Together they are longer than what a step reads; in portions, vLLM on a CPU would die."""
    prompts = [np.random.default_rng(n).integers(5, 60, 400).tolist() for n in range(16)]
    segments = await asyncio.gather(
        *(
            target.generate(Generate(f"long {n}", History(as_ids(ids)), 4, Sampling(0.8), seed=n))
            for n, ids in enumerate(prompts)
        )
    )
    assert all(segment.tokens for segment in segments)
    target.check()


async def test_a_segment_rated_again_gets_the_same_score(
    target: VllmEngine, plain: checkpoint.Checkpoint
) -> None:
    chain = text(300, seed=12)
    before = target.status()["rated_anew"]
    for _ in range(3):
        check(plain, await rate(target, chain[:50], chain[50:]), chain[:50], chain[50:])
    assert target.status()["rated_anew"] == before + 2  # its own blocks were cached


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 40, 64])
async def test_a_history_cached_to_the_end_of_a_block_is_not_computed_again(
    target: VllmEngine, plain: checkpoint.Checkpoint, blocks: int, count: int
) -> None:
    history = text(blocks * BLOCK, seed=100 * blocks + count)
    await rate(target, history[:10], history[10:])
    ids = text(count, seed=7)
    before = target.status()["rated_anew"]
    scored = await rate(target, history, ids)
    check(plain, scored, history, ids)
    assert target.status()["rated_anew"] == before


async def test_many_scores_at_once_are_each_right(
    target: VllmEngine, plain: checkpoint.Checkpoint
) -> None:
    shared = text(90, seed=20)
    pairs = [
        (np.concatenate([shared, text(n % 40, n)]), text(1 + 3 * n, n + 50)) for n in range(24)
    ]
    pairs += pairs[:6]
    scores = await asyncio.gather(*(rate(target, *pair) for pair in pairs))
    for scored, pair in zip(scores, pairs, strict=True):
        check(plain, scored, *pair)


async def test_equal_seeds_write_equal_texts(target: VllmEngine) -> None:
    prompt = await target.render([Message("user", QUESTION)])
    first, again, other = await asyncio.gather(
        *(
            target.generate(write(prompt, 40, seed, sampling=Sampling(1.0)))
            for seed in (3, 3, 2**62)
        )
    )
    assert first.ids.tolist() == again.ids.tolist() != other.ids.tolist()
    assert first.cost.prompt_tokens == len(prompt)


async def test_a_written_segment_has_the_score_of_a_forward_pass(
    target: VllmEngine, plain: checkpoint.Checkpoint
) -> None:
    prompt = await target.render([Message("user", QUESTION)])
    draft = target.generate(write(prompt, 60))
    scored = await target.score(Rate("chain", History(prompt)), draft)
    check(plain, scored, prompt, (await draft).ids)


async def test_a_stop_string_ends_the_segment_and_is_part_of_it(target: VllmEngine) -> None:
    prompt = await target.render([Message("user", QUESTION)])
    written = await target.generate(write(prompt, 200, sampling=Sampling(0.0), stop=("\n\n",)))
    assert written.finish == "stop"
    assert written.text.endswith("\n\n")
    assert written.text.count("\n\n") == 1
    assert target._codec.decode(written.ids) == written.text


async def test_a_stop_id_ends_the_segment_and_is_part_of_it(
    target: VllmEngine, plain: checkpoint.Checkpoint
) -> None:
    history = await target.render([Message("user", QUESTION)])
    asked = write(history, 500, sampling=Sampling(0.0))
    whole = (await target.generate(asked)).ids.tolist()
    stop = whole[7]
    written = await target.generate(replace(asked, stop_ids=(stop,)))
    assert written.finish == "stop"
    assert written.ids.tolist() == whole[: whole.index(stop) + 1]
    [end] = plain.end
    ended = await target.generate(replace(asked, stop_ids=(end,)))
    assert ended.finish == "stop"
    assert ended.ids.tolist() == [*whole, end]


async def test_the_end_of_the_text_is_no_token_of_it(target: VllmEngine) -> None:
    prompt = await target.render([Message("user", QUESTION)])
    written = await target.generate(write(prompt, 500, sampling=Sampling(0.0)))
    assert written.finish == "eos"
    assert r"\boxed{255}" in written.text
    assert "<|" not in target._codec.shows(written.ids)


async def test_a_limit_within_a_character_holds_its_bytes_back(target: VllmEngine) -> None:
    prompt = target._codec.encode("中" * 5)
    for limit in range(1, 8):
        written = await target.generate(
            write(prompt, limit, seed=limit, sampling=Sampling(2.0), stop=("never",))
        )
        assert written.text.encode().decode() == written.text
        assert target._codec.whole(written.ids.tolist()) == len(written.ids) <= limit


async def test_it_tells_how_likely_its_tokens_were_and_how_sure_it_was(
    target: VllmEngine, plain: checkpoint.Checkpoint
) -> None:
    prompt = await target.render([Message("user", QUESTION)])
    segment = await target.generate(write(prompt, 40, top_logprobs=20))
    whole = np.concatenate([prompt, segment.ids])
    told = segment.likelihoods
    assert told is not None
    with torch.inference_mode():
        logits = plain.model.plain(torch.from_numpy(whole.astype(np.int64))[None])[0]
    sure = -torch.log_softmax(logits, -1).topk(20, -1).values.mean(-1).numpy()
    wanted = expected(plain, whole, len(prompt))
    assert np.abs(told.logprobs - wanted).max() < NEAR
    assert np.abs(told.confidences - sure[len(prompt) - 1 : -1]).max() < NEAR
    assert (await target.generate(write(prompt, 40))).likelihoods is None


async def test_its_status_tells_steps_their_time_and_their_sequences(target: VllmEngine) -> None:
    def now() -> tuple[int, float, int]:
        found = target.status()
        return found["steps"], found["step_seconds"], found["batched_sequences"]

    steps, seconds, batched = now()
    began = monotonic()
    written = await asyncio.gather(*(target.generate(write(text(40, n), 20, n)) for n in range(4)))
    took = monotonic() - began
    tokens = sum(one.cost.written_tokens for one in written)
    longest = max(one.cost.written_tokens for one in written)
    assert now()[0] - steps >= longest
    assert now()[2] - batched >= tokens
    assert 0 < now()[1] - seconds <= took
    idle = now()
    await asyncio.sleep(0.2)
    await rate(target, text(40, seed=90), text(5, seed=91))
    steps, seconds, _ = (after - before for after, before in zip(now(), idle, strict=True))
    assert steps >= 1
    assert 0 < seconds < 0.2 + took, "what was idle is no step's"


async def test_a_cancelled_request_leaves_vllm_idle(target: VllmEngine) -> None:
    history = text(40, seed=30)
    requests = [write(history, 1800, seed, sampling=Sampling(2.0)) for seed in range(8)]
    writing = [target.generate(replace(request, chain="left")) for request in requests]
    waiting = target.score(Rate("left", History(history)), writing[0])
    # Scores go first, but not before vLLM has seen what came before them.
    await rate(target, history, text(5, seed=31))
    assert not await target.idle()
    assert sum(not one.done() for one in writing) > 4
    done = [one for one in writing if one.done()]
    for one in (waiting, *writing):
        one.cancel()
    ends = await asyncio.gather(waiting, *writing, return_exceptions=True)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ends) == 9 - len(done)
    cost = await target.abort({"left": len(done)})
    assert 0 < cost.written_tokens < 8 * 1800
    assert cost.prompt_tokens % len(history) == 0
    assert await target.abort({"left": len(done)}) == EngineCost()
    assert await target.idle()
    assert target.status()["running"] == 0


async def test_aborting_a_chain_ends_its_requests_alone(target: VllmEngine) -> None:
    history = text(40, seed=32)
    mine = target.generate(replace(write(history, 1800, 1, sampling=Sampling(2.0)), chain="mine"))
    other = target.generate(write(history, 60, 2, sampling=Sampling(2.0)))
    await rate(target, history, text(5, seed=33))
    cost = await target.abort({"mine": 0})
    with pytest.raises(EngineError, match="vLLM ended the request: abort"):
        await mine
    assert 0 < cost.written_tokens < 1800
    assert (await other).finish in ("eos", "length")


async def test_a_score_goes_before_what_waits_to_be_written(target: VllmEngine) -> None:
    history = text(40, seed=60)
    writing = [  # 64 are written at once, the others wait
        target.generate(write(history, 40 + 4 * n, n, sampling=Sampling(2.0))) for n in range(90)
    ]
    await rate(target, history, text(5, seed=61))
    done = sum(one.done() for one in writing)
    for one in writing:
        one.cancel()
    await asyncio.gather(*writing, return_exceptions=True)
    assert done < 90 - 64
    assert await target.idle()


async def test_what_cannot_be_asked_for_is_refused_by_name(target: VllmEngine) -> None:
    room, known = target.capabilities.max_len, target._inputs._vocabulary_size
    long = text(room, seed=1)
    cases = [
        (target.generate(write(long, 5)), "leave room for 0"),
        (target.generate(write(as_ids([]), 5)), "the history is empty"),
        (target.generate(write(as_ids([known]), 5)), f"token id {known} is outside"),
        (target.generate(write(as_ids([1]), 5, sampling=Sampling(-1.0))), "cannot be sampled with"),
        (target.generate(write(as_ids([1]), 5, sampling=Sampling(3.0))), "temperature must be in"),
        (target.generate(write(as_ids([1]), 5, stop=("",))), "not empty"),
        (target.generate(write(as_ids([1]), 5, stop_ids=(known,))), "a stop id is in"),
        (start(rate(target, long, as_ids([64]))), f"the context is {room}"),
        (start(rate(target, long[:9], as_ids([]))), "the segment to rate is empty"),
        (start(rate(target, long[:9], as_ids([-1]))), "token id -1 is outside"),
    ]
    for pending, says in cases:
        with pytest.raises(EngineError, match=says) as caught:
            await pending
        assert str(caught.value).startswith(f"{target.capabilities.model}, chain: ")


async def test_the_whole_context_can_be_written_and_rated(
    target: VllmEngine, plain: checkpoint.Checkpoint
) -> None:
    room = target.capabilities.max_len
    ids = text(room, seed=40)
    written = await target.generate(write(ids[:-3], 50, sampling=Sampling(2.0)))
    assert written.finish == "length"
    check(plain, await rate(target, ids[:-60], ids[-60:]), ids[:-60], ids[-60:])


async def test_a_question_is_answered_by_two_engines_until_one_dies(target: VllmEngine) -> None:
    draft = VllmEngine.load(settings("draft"))
    try:
        method = Method(candidates=4, turns=15, seed=1)
        run = Run(
            id="q",
            method=method,
            seed=1,
            draft=draft,
            target=target,
            gate=Gate(pair_of(draft, target), CalibrationSettings()),
            slots=asyncio.Semaphore(4),
            allowance=Allowance(method.max_target_tokens),
            emit=lambda event: None,
        )
        found = await answer(run, Question("q", (Message("user", QUESTION),)))
        assert found.answer == "255"
        assert await draft.idle()
        assert await target.idle()
        # A dead vLLM is said to who waits and to who comes.
        history = text(40, seed=50)
        waiting = draft.generate(write(history, 1800, sampling=Sampling(2.0)))
        await rate(draft, history, text(5, seed=51))
        draft._llm.engine_core.resources.engine_manager.processes[0].kill()
        with pytest.raises(EngineUnavailable, match="chain: vLLM has died"):
            await waiting
        with pytest.raises(EngineUnavailable, match="has died"):
            draft.check()
        with pytest.raises(EngineUnavailable, match="has died"):
            await rate(draft, history, text(5, seed=52))  # the other is remembered
    finally:
        draft.close()


async def test_a_model_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="cannot serve the model") as caught:
        VllmEngine.load(settings("target", model=str(tmp_path)))
    assert "\n" not in caught.value.message


async def test_a_closed_engine_says_so_to_who_waits_and_to_who_comes(target: VllmEngine) -> None:
    """The last test: nothing else can be asked of the engine that all share."""
    history = text(40, seed=50)
    waiting, leaving = [
        target.generate(write(history, 1800, seed, sampling=Sampling(2.0))) for seed in range(2)
    ]
    await rate(target, history, text(5, seed=51))
    leaving.cancel()
    target.close()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    with pytest.raises(EngineUnavailable, match="chain: the engine was closed"):
        await waiting
    with pytest.raises(EngineUnavailable, match="closed"):
        target.check()
    with pytest.raises(EngineUnavailable, match="chain: the engine was closed"):
        await target.generate(write(history, 5))
