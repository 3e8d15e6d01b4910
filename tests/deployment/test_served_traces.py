"""Logs and traces of a served application with two routers and two target replicas."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.server import running_server
from services import serve_config

pytestmark = pytest.mark.serve
pytest.importorskip("opentelemetry.sdk.trace", reason="no OpenTelemetry")

QUESTION = "Start with 47. Add 38. Multiply by 3. What is the result?"
CANDIDATES = 4


def body(seed: int) -> dict[str, Any]:
    return {
        "model": "atts",
        "messages": [{"role": "user", "content": QUESTION}],
        "atts": {"candidates": CANDIDATES, "seed": seed, "consensus": False},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seen")


@pytest.fixture(scope="module")
def replies(folder: Path) -> dict[str, dict[str, Any]]:
    """Replies by request id; the server has stopped, so that all is written."""
    document = yaml.safe_load(serve_config.LOCAL.read_text())
    (application,) = document["applications"]
    application["args"] |= {
        "logs": {"folder": str(folder)},
        "tracing": {"folder": str(folder)},
    }
    for deployment in application["deployments"]:
        if deployment["name"] in ("Router", "Target"):
            deployment["num_replicas"] = 2
    config = folder / "serve.yaml"
    config.write_text(yaml.safe_dump(document))
    found = {}
    with running_server(None, "--config", str(config)) as url:
        for seed in range(6):
            # A connection each, so that both routers are asked.
            sent = {"x-request-id": f"asked-{seed}"}
            reply = httpx.post(
                f"{url}/v1/chat/completions", json=body(seed), headers=sent, timeout=120
            )
            found[sent["x-request-id"]] = reply.raise_for_status().json()
        wait_for_spans(folder, len(found))
    return found


def wait_for_spans(folder: Path, requests: int) -> None:
    """Spans are written by the second, by each process: until all are there."""
    until = monotonic() + 20
    while not written(spans(folder), requests):
        assert monotonic() < until, "the spans are not written"
        sleep(0.2)


def written(every: list[dict[str, Any]], requests: int) -> bool:
    stages = [span for span in every if span["name"] in ("draft", "score", "takeover")]
    served = [span for span in every if "atts.chain" in span["attributes"]]
    roots = [span for span in every if span["parent_id"] is None]
    return len(roots) == requests and len(served) >= len(stages)


def lines(folder: Path, pattern: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for path in folder.glob(pattern) for line in path.open()]
    return found


def spans(folder: Path) -> list[dict[str, Any]]:
    return lines(folder, "spans_*.jsonl")


def test_a_request_is_one_trace_over_router_and_model_servers(
    replies: dict[str, dict[str, Any]], folder: Path
) -> None:
    every = spans(folder)
    by_id = {span["context"]["span_id"]: span for span in every}
    roots = [span for span in every if span["parent_id"] is None]
    assert {root["attributes"]["atts.request_id"] for root in roots} == set(replies)
    for root in roots:
        request_id = root["attributes"]["atts.request_id"]
        trace = [s for s in every if s["context"]["trace_id"] == root["context"]["trace_id"]]
        assert [span for span in trace if span["parent_id"] is None] == [root]
        for span in trace:
            if span is not root:
                assert by_id[span["parent_id"]] in trace
        decisions = replies[request_id]["atts"]["takeover_rate"]
        served = [span for span in trace if "atts.chain" in span["attributes"]]
        for span in served:
            parent = by_id[span["parent_id"]]
            role = span["attributes"]["atts.role"]
            scores = span["attributes"]["gen_ai.operation.name"] == "score"
            wanted = "draft" if role == "draft" else "score" if scores else "takeover"
            assert parent["name"] == wanted
            assert by_id[parent["parent_id"]]["name"].startswith("candidate ")
            assert span["resource"]["attributes"]["atts.deployment"] == role.capitalize()
            # The id has come along through the handle call.
            assert span["attributes"]["atts.request_id"] == request_id
        takeovers = [s for s in served if by_id[s["parent_id"]]["name"] == "takeover"]
        assert len(takeovers) == decisions["takeovers"]
        scored = [s for s in served if by_id[s["parent_id"]]["name"] == "score"]
        assert len(scored) >= decisions["decisions"]


def test_each_request_has_a_line_whose_stages_add_up(
    replies: dict[str, dict[str, Any]], folder: Path
) -> None:
    asked = [
        line
        for line in lines(folder, "atts_Router_*.jsonl")
        if line.get("route") == "/v1/chat/completions"
    ]
    assert {line["request_id"] for line in asked} == set(replies)
    traces = {s["context"]["trace_id"] for s in spans(folder)}
    for line in asked:
        reply = replies[line["request_id"]]
        assert line["run"] == reply["id"]
        assert sum(line["stages"].values()) == pytest.approx(line["seconds"], rel=0.02)
        assert line["takeovers"] == reply["atts"]["takeover_rate"]["takeovers"]
        assert f"0x{line['trace_id']}" in traces


def test_no_file_holds_the_question(replies: dict[str, dict[str, Any]], folder: Path) -> None:
    files = [path for path in folder.glob("*.jsonl") if path.stat().st_size]
    assert len(files) >= 4
    for path in files:
        assert "Multiply" not in path.read_text()
        assert "boxed" not in path.read_text()
