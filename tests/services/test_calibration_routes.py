"""`GET /v1/atts/calibration`, and how a drift alarm gets to log, events and report."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from atts_core.acceptance import Gate
from atts_core.calibration.drift import Alarm
from services.http_app import create_app
from services.local import LocalBackend
from tests.services.conftest import backend, client

QUESTION = [{"role": "user", "content": "What is 1 + 1?"}]
BODY = {"model": "atts", "messages": QUESTION, "atts": {"candidates": 3, "seed": 1}}


async def state(served: LocalBackend) -> dict[str, Any]:
    async with client(served) as http:
        response = await http.get("/v1/atts/calibration")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


async def test_before_the_first_question_there_is_a_state_too() -> None:
    found = await state(backend())
    assert (found["decisions"], found["banks"][0]["size"], found["alarms"]) == (0, 0, [])
    assert found["rates"]["overall"]["n"] == 0
    assert found["rates"]["window"] is None
    assert found["recording"] is None


async def test_banks_rates_and_drift_are_shown() -> None:
    served = backend(rates=lambda text: 1.5)
    async with client(served) as http:
        atts = (await http.post("/v1/chat/completions", json=BODY)).json()["atts"]
    found = await state(served)
    decisions = atts["takeover_rate"]["decisions"]
    assert found["decisions"] == found["rates"]["overall"]["n"] == decisions
    assert found["rates"]["overall"]["nominal"] == pytest.approx(0.4)
    assert found["rates"]["overall"]["rate"] == atts["takeover_rate"]["realised"]
    assert sum(turn["n"] for turn in found["rates"]["by_turn"]) == decisions
    everything, first = found["banks"][:2]
    assert everything["bank"] == found["pair"] + ">all"
    assert first["bank"] == found["pair"] + ">turn:0"
    assert everything["size"] == decisions
    assert everything["quantiles"]["0.5"] == pytest.approx(-1.5)
    assert found["drift"]["limit"] == pytest.approx(100)
    assert found["store"] == {
        "url": None,
        "durable": False,
        "snapshot_age_seconds": None,
        "store_error": None,
        "pending": decisions,
        "dropped": 0,
    }


async def test_an_alarm_is_logged_streamed_and_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alarms = [Alarm("rate", 200, 0.21, 0.15)]
    monkeypatch.setattr(Gate, "alarms", lambda gate: [alarms.pop()] if alarms else [])
    served = backend()
    asked = BODY | {"stream": True, "atts": {"candidates": 2, "events": True}}
    async with client(served) as http:
        with caplog.at_level(logging.WARNING):
            lines = (await http.post("/v1/chat/completions", json=asked)).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    streamed = [c["atts"] for c in chunks if c.get("atts", {}).get("event") == "DriftAlarm"]
    assert [(e["kind"], e["decision"], e["evidence"]) for e in streamed] == [("rate", 200, 0.21)]
    assert "the last 200 decisions is off by +0.210" in caplog.text
    (shown,) = (await state(served))["alarms"]
    assert (shown["kind"], shown["decision"], shown["limit"]) == ("rate", 200, 0.15)
    assert "off by +0.210" in shown["message"]
    assert shown["time"].endswith("Z")


def test_the_state_is_described_in_the_schema() -> None:
    operation = create_app(backend()).openapi()["paths"]["/v1/atts/calibration"]["get"]
    described = operation["responses"]["200"]
    assert "drift" in described["description"]
    assert described["content"]["application/json"]["schema"]["$ref"].endswith("CalibrationState")
