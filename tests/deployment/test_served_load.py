"""Many clients at once, half of which leave at random moments (`atts bench load`)."""

from __future__ import annotations

import pytest

from benchmarks.load import run

pytestmark = [pytest.mark.serve, pytest.mark.slow, pytest.mark.timeout(900)]


def test_two_hundred_clients_of_which_half_leave_cost_the_others_nothing() -> None:
    found = run(clients=200, seconds=120, leavers=0.5, seed=1, server=None)
    assert found["errors"] == {}
    assert found["answered"] > 0
    assert found["left"] > 100
    assert found["late"] == 0
    assert found["idle_after_seconds"] is not None, found["left_running"]
    tasks = found["tasks"]
    assert tasks["after"] <= tasks["before"] + 2  # its own housekeeping comes and goes
    memory = found["memory_mib"]
    # Allocators keep some of what a crowd needed once; a leak would go on with every client.
    assert memory["after"] < 1.25 * memory["before"]
