"""A draft pool that scales to zero: readiness lets it sleep, a question wakes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from time import monotonic
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.server import running_server
from services import serve_config

pytestmark = [pytest.mark.slow, pytest.mark.serve]

QUESTION = "Start with 47. Add 38. Multiply by 3. What is the result?"
ASLEEP_WITHIN = 120
POLLS = 5


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The shipped configuration, whose drafts go when nothing has asked for them for a moment."""
    config = yaml.safe_load(serve_config.LOCAL.read_text())
    (draft,) = [d for d in config["applications"][0]["deployments"] if d["name"] == "Draft"]
    del draft["num_replicas"]
    draft["autoscaling_config"] = {
        "min_replicas": 0,
        "max_replicas": 1,
        "target_ongoing_requests": 48,
        "upscale_delay_s": 0,
        "downscale_delay_s": 2,
        "metrics_interval_s": 1,
        "look_back_period_s": 2,
    }
    path = tmp_path_factory.mktemp("config") / "to-zero.yaml"
    path.write_text(yaml.safe_dump(config))
    with (
        running_server(None, "--config", str(path)) as url,
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        yield client


def asleep(http: httpx.Client) -> dict[str, Any]:
    """What readiness says once the drafts are gone."""
    ends = monotonic() + ASLEEP_WITHIN
    while monotonic() < ends:
        ready = http.get("/ready")
        assert ready.status_code == 200, ready.text
        if ready.json()["draft"].get("asleep"):
            told: dict[str, Any] = ready.json()
            return told
        time.sleep(1)  # between two looks: Serve decides once in a while
    raise TimeoutError(f"the drafts did not go within {ASLEEP_WITHIN} s")


def test_a_question_wakes_drafts_that_readiness_lets_sleep(http: httpx.Client) -> None:
    told = asleep(http)
    assert told["ready"] is True
    assert told["draft"] == {
        "model": told["draft"]["model"],
        "asleep": True,
        "running": 0,
        "waiting": 0,
    }
    assert "asleep" not in told["target"]
    for _ in range(POLLS):  # longer than a replica takes to be asked for, were these calls
        assert http.get("/ready").json()["draft"].get("asleep") is True
        time.sleep(1)
    asked = {"messages": [{"role": "user", "content": QUESTION}], "atts": {"seed": 1}}
    reply = http.post("/v1/chat/completions", json={"model": "atts", **asked})
    assert reply.status_code == 200, reply.text
    assert reply.json()["atts"]["answer"] == "255"
    asleep(http)
