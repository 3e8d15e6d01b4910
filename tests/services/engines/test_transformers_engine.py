"""The embedded engine as the algorithm uses it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import quiet, small_model, wrapped
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from atts_core.answers import BOXED
from atts_core.engine import Generate, Rate, Sampling, start
from atts_core.errors import BadInput, EngineError, EngineUnavailable, PromptTooLong
from atts_core.types import EngineCost, History, Message, Segment, as_ids
from services.engines.settings import TransformersSettings
from services.engines.text_codec import TextCodec
from services.engines.transformers_engine import TransformersEngine

Opened = Callable[..., TransformersEngine]
QUESTION = (Message("user", "Start with 47. Add 38. What is the result?"),)


async def a_few_steps(engine: TransformersEngine) -> None:
    """Wait until a request of two tokens, sent after all others, has been served."""
    await engine.generate(asking(History(as_ids([5, 6])), 2, chain="short"))


async def given(segment: Segment) -> Segment:
    return segment


def asking(history: History, tokens: int = 24, **other: object) -> Generate:
    known: dict[str, object] = {"chain": "c", "sampling": Sampling(0.8), "seed": 1, "stop": ()}
    return Generate(history=history, max_tokens=tokens, **{**known, **other})  # type: ignore[arg-type]


def written(engine: TransformersEngine, text: str) -> Segment:
    """A segment as if the engine had written `text`."""
    codec = engine._codec
    return Segment(text, codec.encode(text), "length", codec.vocabulary, as_ids([]), EngineCost())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "stablelm"])
async def test_at_temperature_0_it_writes_what_generate_writes(
    opened: Opened, folder: Callable[..., Path], kind: str
) -> None:
    engine = opened(kind)
    prompt = await engine.render(QUESTION)
    segment = await engine.generate(asking(History(prompt), 40, sampling=Sampling(0.0)))
    model = AutoModelForCausalLM.from_pretrained(folder(kind), dtype=torch.float32)
    whole = model.generate(
        torch.from_numpy(prompt.astype(np.int64))[None], do_sample=False, max_new_tokens=40
    )[0, len(prompt) :].tolist()
    if segment.finish == "eos":
        assert whole.pop() == model.config.eos_token_id
    assert segment.ids.tolist() == whole[: segment.tokens]
    assert segment.tokens >= len(whole) - 3  # at most a character's bytes are held back


async def test_a_seed_writes_the_same_in_any_company(opened: Opened) -> None:
    engine = opened()
    prompt = await engine.render(QUESTION)
    async with quiet(engine):
        alone = await engine.generate(asking(History(prompt), seed=3))
        others = [engine.generate(asking(History(prompt[:n]), 5 * n, seed=n)) for n in range(3, 12)]
        among = await engine.generate(asking(History(prompt), seed=3))
        other = await engine.generate(asking(History(prompt), seed=4))
        await asyncio.gather(*others)
    assert among.ids.tolist() == alone.ids.tolist()
    assert other.ids.tolist() != alone.ids.tolist()


async def test_a_cancelled_request_leaves_before_the_next_step(opened: Opened) -> None:
    engine = opened()
    prompt = await engine.render(QUESTION)
    async with quiet(engine):
        tasks = [engine.generate(asking(History(prompt), 400, seed=s)) for s in range(4)]
        await a_few_steps(engine)
        assert engine.status()["running"] == 4
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        await a_few_steps(engine)
        assert engine.status()["running"] == 3
        segments = await asyncio.gather(tasks[0], tasks[2], tasks[3])
    assert all(segment.tokens for segment in segments)


async def test_requests_wait_for_room_and_none_is_refused(opened: Opened) -> None:
    engine = opened(kv_tokens=64, max_batch=8)
    prompt = (await engine.render(QUESTION))[:10]
    seen: list[dict[str, int]] = []
    async with quiet(engine):
        tasks = [engine.generate(asking(History(prompt), 25, seed=s)) for s in range(12)]
        for task in tasks:
            task.add_done_callback(lambda _: seen.append(engine.status()))
        segments = await asyncio.gather(*tasks)
    assert all(segment.tokens for segment in segments)
    assert max(status["waiting"] for status in seen) > 2
    assert max(status["kv_used"] for status in seen) <= 64


async def test_what_can_never_fit_is_refused(opened: Opened) -> None:
    engine = opened(kv_tokens=64)
    history = History(as_ids([5] * 60))
    with pytest.raises(EngineError, match=r"c: .*kv_tokens is 64"):
        await engine.generate(asking(history))


async def test_writing_is_cut_at_the_context_and_refused_beyond_it(opened: Opened) -> None:
    engine = opened(max_len=50)
    segment = await engine.generate(asking(History(as_ids([5] * 46)), 100, seed=2))
    assert segment.tokens <= 4
    with pytest.raises(EngineError, match=r"c: 50 tokens leave room for 0"):
        await engine.generate(asking(History(as_ids([5] * 50))))
    rate = Rate("c", History(as_ids([5] * 46)))
    segment_given = start(given(written(engine, "too long a text")))
    with pytest.raises(EngineError, match="the context is 50"):
        await engine.score(rate, segment_given)


async def test_a_stop_string_ends_the_segment_and_is_part_of_it(opened: Opened) -> None:
    engine = opened(tokenizer="letters")
    prompt = await engine.render(QUESTION)
    whole = await engine.generate(asking(History(prompt), 60, seed=5))
    # Strings over several tokens, out of what is written anyway.
    stops = re.findall("[!-~]{2}", whole.text)[:4]
    assert stops
    for stop in stops:
        segment = await engine.generate(asking(History(prompt), 60, seed=5, stop=(stop, "never")))
        assert segment.finish == "stop"
        assert segment.ids.tolist() == whole.ids[: segment.tokens].tolist()
        assert stop in segment.text
        assert stop not in engine._codec.decode(segment.ids[:-1])


async def test_a_stop_id_ends_the_segment_and_is_part_of_it(opened: Opened) -> None:
    engine = opened()
    prompt = History(await engine.render(QUESTION))
    async with quiet(engine):
        whole = await engine.generate(asking(prompt, 60, seed=5))
        for stop in whole.ids[3:9].tolist():
            segment = await engine.generate(asking(prompt, 60, seed=5, stop_ids=(stop, 7)))
            assert segment.finish == "stop"
            first = min(whole.ids.tolist().index(one) for one in (stop, 7) if one in whole.ids)
            wanted = whole.ids[: first + 1].tolist()
            # No segment ends within a character.
            assert segment.ids.tolist() == wanted[: engine._codec.whole(wanted)]


async def test_a_stop_id_is_kept_where_it_ends_texts_as_well(opened: Opened) -> None:
    engine = opened()
    prompt = History(await engine.render(QUESTION))
    end = next(iter(engine._steps._end))
    hot = {"sampling": Sampling(50.0), "seed": 3}
    assert (await engine.generate(asking(prompt, 400, **hot))).finish == "eos"
    segment = await engine.generate(asking(prompt, 400, **hot, stop_ids=(end,)))
    assert segment.finish == "stop"
    assert segment.ids[-1] == end


async def test_the_end_of_text_ends_the_segment_and_is_not_part_of_it(opened: Opened) -> None:
    engine = opened()
    prompt = await engine.render(QUESTION)
    ended = 0
    for seed in range(4):
        hot = Sampling(30.0)  # nearly uniform: it ends after some hundred tokens
        segment = await engine.generate(asking(History(prompt), 400, seed=seed, sampling=hot))
        assert not set(segment.ids.tolist()) & engine._thread._steps._end
        assert (segment.finish == "eos") or segment.tokens >= 397
        ended += segment.finish == "eos"
    assert ended


async def test_a_chain_between_two_vocabularies_keeps_its_text(opened: Opened) -> None:
    draft, target = opened("qwen2", "sentence_piece"), opened(tokenizer="byte_level")
    draft_history = History(await draft.render(QUESTION))
    target_history = History(await target.render(QUESTION))
    text = ""
    for turn in range(6):
        segment = draft.generate(asking(draft_history, 12, seed=turn, sampling=Sampling(0.3)))
        rated = await target.score(Rate("c", target_history), segment)
        draft_segment = await segment
        text += draft_segment.text
        assert len(rated.logprobs) == len(rated.ids)
        assert target._codec.decode(rated.ids) == draft_segment.text
        takeover = await target.generate(
            asking(History(as_ids([*target_history.ids, *rated.ids])), 6, seed=turn)
        )
        text += takeover.text
        target_history = History(as_ids([*target_history.ids, *rated.ids, *takeover.ids]))
        draft_history = History(
            as_ids([*draft_history.ids, *draft_segment.tail_ids, *draft_segment.ids]),
            takeover.text,
        )
    prompt = len(await target.render(QUESTION))
    assert target._codec.decode(target_history.ids[prompt:]) == text
    async with quiet(draft), quiet(target):
        assert target.status()["hit_rate"] > 0.5


async def test_the_tail_is_read_by_the_model_and_handed_back(opened: Opened) -> None:
    engine = opened()
    prompt = await engine.render(QUESTION)
    segment = await engine.generate(asking(History(prompt, "Check. ")))
    assert engine._codec.decode(segment.tail_ids) == "Check. "
    history = History(as_ids([*prompt, *segment.tail_ids]))
    assert (await engine.generate(asking(history))).ids.tolist() == segment.ids.tolist()
    one = await engine.score(Rate("c", History(prompt, "Check. ")), start(given(segment)))
    other = await engine.score(Rate("c", history), start(given(segment)))
    assert one.tail_ids.tolist() == segment.tail_ids.tolist()
    assert np.abs(one.logprobs - other.logprobs).max() < 1e-4


async def test_costs_say_what_was_read_and_what_was_cached(opened: Opened) -> None:
    engine = opened()
    prompt = await engine.render(QUESTION)
    segment = await engine.generate(asking(History(prompt)))
    assert (segment.cost.prompt_tokens, segment.cost.cached_tokens) == (len(prompt), 0)
    assert segment.cost.busy > 0
    rated = await engine.score(Rate("c", History(prompt)), start(given(segment)))
    assert rated.cost.prompt_tokens == len(prompt) + segment.tokens
    assert rated.cost.cached_tokens == len(prompt) - 1


@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece"])
async def test_no_segment_ends_within_a_character(opened: Opened, kind: str) -> None:
    engine = opened(tokenizer=kind)
    prompt = await engine.render(QUESTION)
    hot = Sampling(5.0)
    segments = await asyncio.gather(
        *(engine.generate(asking(History(prompt), 9, seed=s, sampling=hot)) for s in range(60))
    )
    for segment in segments:
        assert engine._codec.whole(segment.ids.tolist()) == segment.tokens


async def test_what_cannot_be_rated_or_read_is_refused(opened: Opened) -> None:
    engine = opened()
    prompt = await engine.render(QUESTION)
    empty = written(engine, "")
    with pytest.raises(EngineError, match="c: the segment to rate is empty"):
        await engine.score(Rate("c", History(prompt)), start(given(empty)))
    with pytest.raises(EngineError, match="c: the history is empty"):
        await engine.score(Rate("c", History(as_ids([]))), start(given(written(engine, "a"))))
    for odd in (-1, 100_000):
        with pytest.raises(EngineError, match=f"c: token id {odd} is outside the vocabulary"):
            await engine.generate(asking(History(as_ids([1, odd]))))
    for wrong in (("",), (5,), ([],)):
        with pytest.raises(EngineError, match="c: a stop is a string"):
            await engine.generate(asking(History(prompt), stop=wrong))
    for wrong_id in (-1, 100_000, "a"):
        with pytest.raises(EngineError, match="c: a stop id is in the vocabulary"):
            await engine.generate(asking(History(prompt), stop_ids=(wrong_id,)))
    with pytest.raises(EngineError, match="cannot be sampled with"):
        await engine.generate(asking(History(prompt), sampling=Sampling(-1.0)))
    with pytest.raises(EngineError, match="room for"):
        await engine.generate(asking(History(prompt), 0))
    assert (await engine.generate(asking(History(prompt)))).tokens


async def test_a_failed_draft_fails_its_score(opened: Opened) -> None:
    engine = opened()
    prompt = await engine.render(QUESTION)
    segment = engine.generate(asking(History(as_ids([]))))
    with pytest.raises(EngineError, match="the history is empty"):
        await engine.score(Rate("c", History(prompt)), segment)


async def test_an_engine_that_dies_fails_all_requests_and_says_so(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened()
    prompt = await engine.render(QUESTION)
    engine.check()
    tasks = [engine.generate(asking(History(prompt), 400, seed=s)) for s in range(3)]
    await a_few_steps(engine)

    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine._steps._forward, "step", broken)
    for task in tasks:
        with pytest.raises(EngineUnavailable, match=r", c: the engine has died.*out of memory"):
            await task
    with pytest.raises(EngineUnavailable, match="has died"):
        engine.check()
    with pytest.raises(EngineUnavailable, match=", c: the engine has died"):
        await engine.generate(asking(History(prompt)))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_output_that_is_not_finite_fails_its_request_alone(
    tmp_path: Path, temperature: float
) -> None:
    words = wrapped("byte_level")
    model, broken = small_model("llama", len(words), words.eos_token_id), len(words) - 2
    with torch.no_grad():
        model.get_input_embeddings().weight[broken] = torch.nan
    words.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    engine = TransformersEngine.load(TransformersSettings(model=str(tmp_path), threads=1))
    prompt, drawn = await engine.render(QUESTION), Sampling(temperature)
    async with quiet(engine):
        whole = await engine.generate(asking(History(prompt), 20, sampling=drawn))
        odd = asking(History(as_ids([*prompt, broken])), chain="odd", sampling=drawn)
        beside = engine.generate(asking(History(prompt), 20, sampling=drawn))
        with pytest.raises(EngineError, match="odd: the model's output is not finite"):
            await engine.generate(odd)
        assert (await beside).ids.tolist() == whole.ids.tolist()
    engine.close()


async def test_a_closed_engine_fails_what_is_under_way(opened: Opened) -> None:
    engine = opened()
    task = engine.generate(asking(History(await engine.render(QUESTION)), 400))
    await a_few_steps(engine)
    await asyncio.to_thread(engine.close)
    with pytest.raises(EngineUnavailable, match=", c: the engine is closed"):
        await task
    with pytest.raises(EngineUnavailable, match="closed"):
        engine.check()


# ---------------------------------------------------------------------------------- prompts


async def test_a_conversation_is_rendered_once_in_the_models_template(opened: Opened) -> None:
    engine = opened()
    turns = (Message("system", "Be brief."), Message("user", "1+1?"), Message("assistant", "2"))
    ids = await engine.render([*turns, Message("user", "And 2+2?")])
    assert engine._codec.shows(ids) == (
        "<|system|>Be brief.<|user|>1+1?<|assistant|>2<|user|>And 2+2?<|assistant|>"
    )


async def test_a_prompt_that_is_too_long_names_its_tokens_and_the_limit(opened: Opened) -> None:
    engine = opened(max_len=20)
    with pytest.raises(PromptTooLong, match=r"has \d+ tokens, .* reads at most 20"):
        await engine.render([Message("user", "word " * 40)])


async def test_a_role_the_template_refuses_is_bad_input(opened: Opened) -> None:
    engine = opened()
    with pytest.raises(BadInput, match="refuses messages of the roles tool: no tools here"):
        await engine.render([Message("tool", "x")])  # type: ignore[arg-type]


async def test_a_model_without_a_template_reads_plain_paragraphs(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    for file in folder().iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    engine = TransformersEngine.load(TransformersSettings(model=str(tmp_path)))
    ids = await engine.render([Message("system", "Be brief."), Message("user", "1+1?")])
    engine.close()
    assert engine._codec.shows(ids) == "System: Be brief.\n\nUser: 1+1?\n\nAssistant:"


# ---------------------------------------------------------------------------------- many


async def soak(engine: TransformersEngine, requests: int, at_once: int) -> int:
    """Short requests of both kinds, many of them cancelled; how many were."""
    random = np.random.default_rng(8)
    prompt = await engine.render(QUESTION)
    places = asyncio.Semaphore(at_once)
    cancelled = 0

    async def one(index: int) -> None:
        nonlocal cancelled
        async with places:
            history = History(as_ids([*prompt[: random.integers(3, len(prompt))], index % 200]))
            count, patience = int(random.integers(1, 12)), int(random.integers(0, 60))
            task = (
                engine.generate(asking(history, count, seed=index, chain=str(index)))
                if index % 2
                else engine.score(
                    Rate(str(index), history), start(given(written(engine, "Add 38. "[:count])))
                )
            )
            if index % 3 == 0:
                for _ in range(patience):
                    await asyncio.sleep(0)
                cancelled += task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                assert index % 3 == 0

    await asyncio.gather(*(one(index) for index in range(requests)))
    return cancelled


async def test_many_short_requests_leave_nothing_behind(opened: Opened) -> None:
    engine = opened(kv_tokens=300, max_batch=12)
    async with quiet(engine):
        assert await soak(engine, 300, 30) > 10
    assert not engine._thread._waiters


@pytest.mark.slow
async def test_ten_thousand_short_requests_leave_nothing_behind(opened: Opened) -> None:
    import psutil

    engine = opened(kv_tokens=1000, max_batch=32)
    async with quiet(engine):
        await soak(engine, 2_000, 64)
        warm = psutil.Process().memory_info().rss
        assert await soak(engine, 10_000, 64) > 300
    grown = psutil.Process().memory_info().rss - warm
    assert grown < 40 * 2**20, f"{grown / 2**20:.0f} MiB"
    assert not engine._thread._waiters


def test_an_engine_tells_whether_it_chats_and_can_answer(opened: Opened) -> None:
    record = opened().capabilities
    assert (record.chats, record.writes_answers) == (True, True)


def test_a_vocabulary_without_letters_cannot_answer() -> None:
    digits = Tokenizer(models.WordLevel({str(n): n for n in range(10)} | {"?": 10}, unk_token="?"))
    assert not TextCodec(PreTrainedTokenizerFast(tokenizer_object=digits)).writes(BOXED)


@pytest.mark.parametrize("kind", ["llama", "stablelm"])
async def test_it_tells_how_likely_its_tokens_were_and_how_sure_it_was(
    opened: Opened, folder: Callable[..., Path], kind: str
) -> None:
    """As a plain pass over the same text says, whatever temperature and nucleus drew from."""
    engine = opened(kind)
    prompt = await engine.render(QUESTION)
    request = asking(History(prompt), 30, sampling=Sampling(0.7, top_p=0.9), top_logprobs=20)
    others = asking(History(prompt), 30, seed=2), asking(History(prompt), 9, top_logprobs=3)
    segment, silent, brief = await asyncio.gather(
        *map(engine.generate, (request, *others))  # type: ignore[arg-type]
    )
    assert silent.likelihoods is None
    for one, top in ((segment, 20), (brief, 3)):
        model = AutoModelForCausalLM.from_pretrained(folder(kind), dtype=torch.float32)
        whole = torch.from_numpy(np.concatenate([prompt, one.ids]).astype(np.int64))[None]
        with torch.inference_mode():
            rows = torch.log_softmax(model(whole).logits[0], -1)[len(prompt) - 1 : -1]
        chosen = rows.gather(1, torch.from_numpy(one.ids.astype(np.int64))[:, None])[:, 0]
        told = one.likelihoods
        assert told is not None
        np.testing.assert_allclose(told.logprobs, chosen, atol=1e-4)
        np.testing.assert_allclose(told.confidences, -rows.topk(top, -1).values.mean(-1), atol=1e-4)


async def test_what_it_writes_does_not_depend_on_whether_it_tells(opened: Opened) -> None:
    engine = opened("llama")
    prompt = await engine.render(QUESTION)
    silent = await engine.generate(asking(History(prompt), 30))
    telling = await engine.generate(asking(History(prompt), 30, top_logprobs=1))
    assert silent.text == telling.text


async def test_more_log_probabilities_than_there_are_tokens_are_an_error(opened: Opened) -> None:
    engine = opened("llama")
    prompt = await engine.render(QUESTION)
    most = engine.capabilities.top_logprobs
    with pytest.raises(EngineError, match=f"{most + 1} top_logprobs asked for, it tells {most}"):
        await engine.generate(asking(History(prompt), 3, top_logprobs=most + 1))
