"""Formulas are compared as they should be, and no formula can hang or fill the server."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from atts_core.comparison import Classes, Comparer
from services.mathematics import MathPool, mathematics
from services.settings import ComparisonSettings
from tests.services.answer_pairs import DIFFERENT, SAME


@pytest.fixture(scope="module")
def patient() -> ComparisonSettings:
    """A limit that a busy machine meets as well."""
    return ComparisonSettings(seconds=30)


@pytest.fixture(scope="module")
def pool(patient: ComparisonSettings) -> Iterator[MathPool]:
    pool = MathPool(patient)
    yield pool
    asyncio.run(pool.close())


async def verdicts(pool: MathPool, pairs: list[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    comparer = Comparer("math", mathematics=pool)
    return {(one, other): await comparer.verdict(one, other) for one, other, _ in pairs}


async def test_real_answers_that_say_the_same_are_the_same(pool: MathPool) -> None:
    assert len(SAME) + len(DIFFERENT) >= 60
    found = await verdicts(pool, SAME)
    assert {pair: how for pair, how in found.items() if how != "same"} == {}


async def test_real_answers_that_differ_are_different(pool: MathPool) -> None:
    found = await verdicts(pool, DIFFERENT)
    assert {pair: how for pair, how in found.items() if how != "different"} == {}


async def test_which_answer_comes_first_does_not_matter(pool: MathPool) -> None:
    pairs = [*SAME, *DIFFERENT]
    swapped = [(other, one, why) for one, other, why in pairs]
    there, back = await verdicts(pool, pairs), await verdicts(pool, swapped)
    assert list(there.values()) == list(back.values())


async def test_a_verdict_is_asked_for_once(pool: MathPool) -> None:
    asked = pool.asked
    assert await pool.same("a+1", "1+a")
    assert await pool.same("1+a", "a+1")
    assert pool.asked == asked + 1


HOSTILE = [r"9^{9^{9^9}}", r"\binom{99999999}{49999999}"]


async def test_a_hostile_formula_is_given_up_and_the_next_one_is_compared() -> None:
    async with mathematics(ComparisonSettings(seconds=1)) as pool:
        for formula in HOSTILE:
            assert await pool.same(formula, "x+1") is None
        assert pool.undecided == len(HOSTILE)
    async with mathematics(ComparisonSettings(seconds=30, memory_mb=512)) as pool:
        # What has exhausted the memory is not the same as anything, or undecided; then all is well.
        assert not await pool.same(r"10^{10^{10}}", "x+1")
        assert await pool.same("x+1", "1+x")


async def test_the_event_loop_goes_on_while_a_formula_hangs() -> None:
    async with mathematics(ComparisonSettings(seconds=1)) as pool:
        hanging = asyncio.create_task(pool.same(HOSTILE[0], "x+1"))
        beats = 0
        while not hanging.done():
            await asyncio.sleep(0.01)
            beats += 1
        assert hanging.result() is None
        assert beats > 3


@pytest.mark.parametrize(
    "answer", ["1" * 100_000, "x+" * 50_000, "(" * 1000 + "x" + ")" * 1000, "\\frac{" * 20_000]
)
async def test_absurd_answers_are_compared_as_text_and_start_no_process(answer: str) -> None:
    async with mathematics(ComparisonSettings()) as pool:
        assert await Comparer("math", mathematics=pool).verdict(answer, "x=2") == "different"
        assert await Comparer("math", mathematics=pool).verdict(answer, answer + " ") == "same"
        assert pool.asked == 0


async def test_plain_numbers_and_words_start_no_process() -> None:
    async with mathematics(ComparisonSettings()) as pool:
        classes = Classes(Comparer("math", mathematics=pool))
        answers = ["12", "13", "12.0", "12 cm", "no solution", "No solution.", "50%", "1/2"]
        assert [await classes.of(a) for a in answers] == [0, 1, 0, 0, 2, 2, 3, 3]
        assert pool.asked == 0


async def test_no_process_is_left_behind(patient: ComparisonSettings) -> None:
    before = {child.pid for child in psutil.Process().children()}
    async with mathematics(patient) as pool:
        assert await pool.same("x+1", "1+x")
        started = {child.pid for child in psutil.Process().children()} - before
        assert started
    assert not any(psutil.pid_exists(pid) for pid in started)


async def test_a_worker_that_was_killed_is_replaced(patient: ComparisonSettings) -> None:
    before = {child.pid for child in psutil.Process().children()}
    async with mathematics(patient) as pool:
        assert await pool.same("x+1", "1+x")
        [worker] = [c for c in psutil.Process().children() if c.pid not in before]
        worker.kill()
        assert await pool.same("x+2", "2+x") is None
        assert await pool.same("x+3", "3+x")


async def test_a_worker_knows_no_secret(
    monkeypatch: pytest.MonkeyPatch, patient: ComparisonSettings
) -> None:
    monkeypatch.setenv("ATTS_API_KEYS", "secret")
    before = {child.pid for child in psutil.Process().children()}
    async with mathematics(patient) as pool:
        await pool.same("x+1", "1+x")
        [worker] = [c for c in psutil.Process().children() if c.pid not in before]
        assert "ATTS_API_KEYS" not in worker.environ()


def test_the_server_and_the_command_line_do_not_load_sympy() -> None:
    code = (
        "import sys, services.mathematics, services.service, services.cli, atts_core.scaling; "
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}).returncode == 0
