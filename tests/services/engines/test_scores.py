"""The computation of the engine against a plain forward pass, step by step and without threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import KINDS, small_model

from atts_core.engine import Sampling
from services.engines import kv_store, packed_forward, read_view
from services.engines.checkpoint import CausalModel
from services.engines.forward import Forward
from services.engines.fused_decoder import FusedDecoder
from services.engines.jobs import GenerateJob, Job, ScoreJob
from services.engines.kv_store import KvShape, KvStore
from services.engines.packed_forward import ATTENTION, PackedForward, by_modules
from services.engines.padded_forward import PaddedForward
from services.engines.sampling import draws
from services.engines.step_loop import StepLoop

VOCABULARY = 50
SHAPES = {"llama": (2, 4), "qwen2": (2, 2), "qwen3": (2, 2), "gpt2": (2, 4), "stablelm": (2, 2)}
CPU = torch.device("cpu")


@cache
def model(kind: str) -> CausalModel:
    return CausalModel(small_model(kind, VOCABULARY, 0))


def step_loop(
    kind: str, *, how: str, tokens: int = 4096, batch: int = 8, portion: int = 64
) -> StepLoop:
    """A loop in which no token ends a text."""
    layers, heads = SHAPES[kind]
    store = KvStore(KvShape(layers, heads, 8, 8, torch.float32, CPU), tokens)
    return StepLoop(
        arranged(kind, how, store),
        store,
        name=kind,
        end=frozenset(),
        max_batch=batch,
        prefill_tokens=portion,
    )


def arranged(kind: str, how: str, store: KvStore) -> Forward:
    """The step in one of its arrangements: fused, packed, padded."""
    assert model(kind).use_attention(ATTENTION if how == "packed" else None)
    if how == "padded":
        return PaddedForward(model(kind), store)
    if how == "packed":
        return PackedForward(by_modules(model(kind)), store)
    fused = FusedDecoder.of(model(kind).module)
    assert fused is not None
    return PackedForward(fused, store)


def score(ids: list[int], start: int) -> ScoreJob:
    return ScoreJob(chain="c", ids=np.array(ids, np.int32), start=start)


def write(ids: list[int], count: int, seed: int = 0, temperature: float = 0.0) -> GenerateJob:
    return GenerateJob(
        chain="c",
        ids=np.array(ids, np.int32),
        max_tokens=count,
        sampling=Sampling(temperature),
        draws=draws(seed, count),
        stops=None,
    )


@torch.inference_mode()
def plain(kind: str, ids: np.ndarray) -> np.ndarray:
    logits = model(kind).plain(torch.from_numpy(ids.astype(np.int64))[None])
    return torch.log_softmax(logits[0], -1).numpy()


def check(kind: str, job: Job) -> None:
    """The scores are the plain ones; each greedy token is as likely as the likeliest."""
    if isinstance(job, ScoreJob):
        expected = plain(kind, job.ids)[np.arange(job.start - 1, len(job.ids) - 1)]
        rated = np.concatenate(job.logprobs)
        wanted = np.take_along_axis(expected, job.ids[job.start :, None].astype(int), 1)[:, 0]
        assert rated.shape == wanted.shape
        assert np.abs(rated - wanted).max() < 1e-4
    elif isinstance(job, GenerateJob) and job.sampling.temperature == 0:
        whole = np.concatenate([job.ids, np.array(job.written, np.int32)])
        expected = plain(kind, whole)[len(job.ids) - 1 : -1]
        assert (
            np.abs(expected.max(1) - expected[np.arange(len(expected)), job.written]).max() < 1e-4
        )


def check_budget(loop: StepLoop) -> None:
    """Every slot has one owner, and no more is promised than there is."""
    store = loop.store
    own = sum(len(job.slots) - job.stored for job in loop.all_jobs())
    assert store.free + store.tree.size + own == store.tokens
    assert 0 <= store.reserved <= store.free + store.tree.evictable
    assert store.used <= store.tokens
    assert sum(job.reserved for job in loop.all_jobs()) == store.reserved


@torch.inference_mode()
def finish(loop: StepLoop, *jobs: Job) -> None:
    for job in jobs:
        loop.add(job)
    while loop.busy:
        loop.step()
        check_budget(loop)


FUSED = ("llama", "qwen2", "qwen3")
ARRANGED = [(kind, how) for kind in KINDS for how in ("fused", "packed", "padded")]
ARRANGED = [(kind, how) for kind, how in ARRANGED if kind in FUSED or how != "fused"]
ARRANGED.remove(("stablelm", "packed"))


@pytest.mark.parametrize(("kind", "how"), ARRANGED)
def test_scores_and_greedy_tokens_are_those_of_a_plain_pass(kind: str, how: str) -> None:
    loop = step_loop(kind, how=how)
    random = np.random.default_rng(1)
    prompts = [random.integers(0, VOCABULARY, n).tolist() for n in (1, 2, 17, 60, 130)]
    jobs = [
        *(score([*prompt, *prompts[2]], len(prompt)) for prompt in prompts),
        *(write(prompt, 70) for prompt in prompts),
    ]
    finish(loop, *jobs)
    for job in jobs:
        check(kind, job)


@pytest.mark.parametrize(("kind", "how"), ARRANGED)
def test_the_second_score_of_a_chain_computes_its_segment_alone(kind: str, how: str) -> None:
    loop = step_loop(kind, how=how)
    ids = np.random.default_rng(2).integers(0, VOCABULARY, 120).tolist()
    first, second = score(ids[:80], 60), score(ids, 80)
    finish(loop, first)
    finish(loop, second)
    assert second.cached == 79  # all but the token that predicts the segment's first
    again = score(ids, 80)
    finish(loop, again)
    takeover = write(ids, 5)
    finish(loop, takeover)
    assert takeover.cached == len(ids) - 1
    for job in (first, second, again, takeover):
        check(kind, job)


def test_a_prompt_that_candidates_share_is_computed_once() -> None:
    loop = step_loop("llama", how="fused")
    prompt = np.random.default_rng(3).integers(0, VOCABULARY, 100).tolist()
    jobs = [write(prompt, 3, seed) for seed in range(8)]
    finish(loop, *jobs)
    assert sorted(job.cached for job in jobs) == [0, *[99] * 7]


def test_a_row_that_grows_through_all_widths_stays_right() -> None:
    loop = step_loop("qwen2", how="fused")
    jobs = [write([1, 2, 3], 500), write([4] * 100, 300), write([5] * 200, 100)]
    finish(loop, *jobs)
    for job in jobs:
        check("qwen2", job)


@contextmanager
def like_large_models(call: int = 2 << 10) -> Iterator[None]:
    """A tiny model attends as a large one does on a CPU: its KV exceeds the cache, and `call`
    bytes of padding, 8 tokens of these models', cost as much as one more shelf."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_store, "_CACHED", 0)
        patch.setattr(packed_forward, "_CALL", {"cpu": call})
        patch.setattr(packed_forward, "_HOT", 1)
        patch.setattr(read_view, "_CALL", call // 64)
        yield


def shelves(loop: StepLoop) -> list[list[int]]:
    """The tokens of the rows of each shelf."""
    forward = loop._forward
    assert isinstance(forward, PackedForward)
    return [sorted(shelf.lengths()) for shelf in forward._shelves]


def rows(loop: StepLoop, *wanted: tuple[int, int]) -> list[GenerateJob]:
    """Sequences that have read so many tokens and are to write so many; one step has run."""
    random = np.random.default_rng(6)
    jobs = [write(random.integers(0, VOCABULARY, n + 1).tolist(), count) for n, count in wanted]
    for job in jobs:
        loop.add(job)
    for _ in range(2):  # read, then join
        assert not loop.step()
    return jobs


@torch.inference_mode()
def test_rows_that_part_from_a_longer_one_keep_their_tokens() -> None:
    with like_large_models():
        loop = step_loop("llama", how="fused", portion=512)
        jobs = rows(loop, (48, 90), (40, 80), (40, 85), (40, 70))
        assert shelves(loop) == [[49], [41, 41, 41]]  # one fewer would stay
        finish(loop)
    for job in jobs:
        check("llama", job)


@torch.inference_mode()
def test_a_shelf_that_hardly_pays_any_more_joins_a_longer_one() -> None:
    with like_large_models():
        loop = step_loop("llama", how="fused", portion=512)
        jobs = rows(loop, (40, 90), (40, 5), (40, 6), (43, 80))
        assert shelves(loop) == [[41, 41, 41], [44]]
        while len(loop.all_jobs()) > 2:
            loop.step()
        assert shelves(loop) == [[46, 49]]
        finish(loop)
    for job in jobs:
        check("llama", job)


@dataclass
class Plan:
    """What happens at one step: what arrives, and which of the running is cancelled."""

    arrivals: list[tuple[bool, int, int, int]] = field(default_factory=list)
    cancel: int | None = None


PLANS = st.lists(
    st.builds(
        Plan,
        st.lists(
            # Half of the lengths are alike, so that some share a shelf.
            st.tuples(
                st.booleans(),
                st.integers(0, 3),
                st.integers(1, 60) | st.integers(40, 48),
                st.integers(1, 30),
            ),
            max_size=4,
        ),
        st.none() | st.integers(0, 9),
    ),
    min_size=1,
    max_size=12,
)


def play(
    kind: str,
    how: str,
    call: int | None,
    tokens: int,
    batch: int,
    portion: int,
    plans: list[Plan],
) -> None:
    """Run the plans; every job that is not cancelled ends, and right."""
    with nullcontext() if call is None else like_large_models(call):
        loop = step_loop(kind, how=how, tokens=tokens, batch=batch, portion=portion)
        _play(loop, kind, plans)


def _play(loop: StepLoop, kind: str, plans: list[Plan]) -> None:
    # Few texts, so that prefixes are often shared; they part at different places.
    random = np.random.default_rng(4)
    texts = [random.integers(0, VOCABULARY, 100).tolist() for _ in range(2)]
    texts += [[*texts[0][:cut], *random.integers(0, VOCABULARY, 100)] for cut in (7, 40)]
    wanted: list[Job] = []
    with torch.inference_mode():
        steps = count()
        while (step := next(steps)) < len(plans) or loop.busy:
            assert step < 10_000
            plan = plans[step] if step < len(plans) else Plan()
            for is_score, text, length, tokens in plan.arrivals:
                ids = [int(i) for i in texts[text]]
                job = (
                    score(ids[: length + tokens], length)
                    if is_score
                    else write(ids[:length], tokens)
                )
                wanted.append(job)
                loop.add(job)
            running = loop.all_jobs()
            if plan.cancel is not None and plan.cancel < len(running):
                loop.cancel(running[plan.cancel])
                wanted.remove(running[plan.cancel])
                assert running[plan.cancel] not in loop.all_jobs()
                check_budget(loop)
            for job, error in loop.step():
                assert error is None
                check(kind, job)
                wanted.remove(job)
            check_budget(loop)
    assert not wanted
    assert loop.store.used == 0


PLAYS = (
    st.sampled_from(
        [
            *((kind, how, None) for kind, how in ARRANGED),
            *((kind, how, 2 << 10) for kind, how in ARRANGED if how != "padded"),
            *((kind, how, 8 << 10) for kind, how in ARRANGED if how != "padded"),
        ]
    ),
    st.integers(90, 600),
    st.integers(1, 12),
    st.integers(16, 80),
    PLANS,
)
"""Kind, arrangement, what a call costs if like a large model; KV budget, batch, portion; what
happens."""


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(*PLAYS)
def test_whatever_comes_and_goes_scores_are_those_of_a_plain_pass(
    arrangement: tuple[str, str, int | None],
    tokens: int,
    batch: int,
    portion: int,
    plans: list[Plan],
) -> None:
    play(*arrangement, tokens, batch, portion, plans)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # 3,000 plays: minutes where nothing else runs, more beside others
@settings(max_examples=3000, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(*PLAYS)
def test_whatever_comes_and_goes_at_length(
    arrangement: tuple[str, str, int | None],
    tokens: int,
    batch: int,
    portion: int,
    plans: list[Plan],
) -> None:
    play(*arrangement, tokens, batch, portion, plans)


def test_scores_go_before_writing_that_waits() -> None:
    loop = step_loop("llama", how="fused", tokens=100, batch=1)
    running, waiting, urgent = write([1] * 10, 40), write([2] * 10, 40), score([3] * 20, 10)
    loop.add(running)
    loop.step()
    loop.add(waiting)
    loop.add(urgent)
    order = []
    with torch.inference_mode():
        while loop.busy:
            order += [job for job, _ in loop.step()]
    assert order == [urgent, running, waiting]


def test_what_was_used_last_is_evicted_last() -> None:
    loop = step_loop("llama", how="fused", tokens=100)
    texts = [np.random.default_rng(i).integers(0, VOCABULARY, 40).tolist() for i in range(3)]
    finish(loop, score(texts[0], 20))
    finish(loop, score(texts[1], 20))
    finish(loop, score(texts[0], 20))
    finish(loop, score(texts[2], 20))  # 39 + 39 + 39 tokens do not fit
    kept, gone = score(texts[0], 39), score(texts[1], 39)
    finish(loop, kept)
    finish(loop, gone)
    assert kept.cached == 38
    assert gone.cached < 38
