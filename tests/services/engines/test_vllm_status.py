"""What is made of vLLM's reports: steps, their time and their sequences. Needs no vLLM."""

from __future__ import annotations

from types import SimpleNamespace

from services.engines.vllm_status import Status


class Told:
    """A status under a clock of the test's, told of steps as vLLM does."""

    def __init__(self) -> None:
        self.at = 0.0
        self.status = Status(lambda: self.at)

    def step(self, *, at: float, running: int, finished: int = 0, waiting: int = 0) -> None:
        self.at = at
        scheduled = SimpleNamespace(
            num_running_reqs=running, num_waiting_reqs=waiting, kv_cache_usage=0.1
        )
        happened = SimpleNamespace(num_preempted_reqs=0, finished_requests=[None] * finished)
        self.status.record(scheduled, happened)


def test_steps_add_up_to_the_time_in_which_something_ran() -> None:
    told = Told()
    told.at = 10.0
    told.status.begins()
    told.step(at=10.5, running=1)
    told.status.begins()  # another joins
    told.step(at=11.0, running=2)
    told.step(at=11.25, running=0, finished=2)
    status = told.status
    assert (status.steps, status.step_seconds, status.batched) == (3, 1.25, 5)


def test_the_time_between_two_requests_is_no_step_s() -> None:
    told = Told()
    for began in (5.0, 100.0):
        told.at = began
        told.status.begins()
        told.step(at=began + 0.5, running=0, finished=1)
        told.at = began + 0.6
        told.status.rests()
    status = told.status
    assert (status.steps, status.step_seconds, status.batched) == (2, 1.0, 2)


def test_a_report_of_aborted_requests_is_no_step() -> None:
    told = Told()
    told.status.begins()
    told.step(at=1.0, running=1)
    told.status.rests()
    told.step(at=9.0, running=0)
    assert (told.status.steps, told.status.step_seconds) == (1, 1.0)
