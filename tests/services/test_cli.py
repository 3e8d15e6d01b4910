"""The command line as a user meets it: one clear line and exit status 2 for what can be mended."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.server import free_port
from services import serve_config
from services.access import hashed
from services.settings import Key


def atts(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def changed(folder: Path, change: dict[str, object]) -> str:
    """The shipped configuration with other arguments, as a file."""
    document = yaml.safe_load(serve_config.LOCAL.read_text())
    document["applications"][0]["args"] |= change
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"draft": {"model": "/no/such/folder"}}, "draft.model: no folder '/no/such/folder'"),
        ({"metod": {}}, "args.metod: unknown name; did you mean 'method'?"),
        ({"method": {"takeover_rate": 1}}, "args.method.takeover_rate: found 1"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_status_2(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    done = atts("serve", "--config", changed(tmp_path, change), "--port", "0")
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_broken_model_folder_is_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    done = atts("serve", "--config", changed(tmp_path, {"target": {"model": str(tmp_path)}}))
    assert done.returncode == 2
    assert "config.json is no valid JSON" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_required_keys_that_are_missing_are_one_line_and_status_2(tmp_path: Path) -> None:
    file = changed(tmp_path, {"access": {"required": True}})
    done = atts("serve", "--config", file, "--port", str(free_port()))
    assert done.returncode == 2
    assert "access.required: there are no API keys" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_port_in_use_is_one_line_and_status_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = atts("serve", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be used" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.serve
def test_a_pair_that_cannot_work_together_is_told_at_start(tmp_path: Path) -> None:
    pair = serve_config.load(serve_config.LOCAL).settings
    shutil.copytree(pair.draft.model, tmp_path / "draft")
    (tmp_path / "draft" / "chat_template.jinja").unlink()
    change: dict[str, object] = {
        "draft": {"model": str(tmp_path / "draft")},
        "store": {"url": "memory"},
    }
    done = atts("serve", "--config", changed(tmp_path, change), "--port", str(free_port()))
    assert done.returncode == 2
    assert f"{tmp_path}/draft has no chat template" in done.stderr


@pytest.mark.serve
def test_a_pool_that_holds_no_single_chain_is_told_at_start(tmp_path: Path) -> None:
    """By the replica itself: `serve deploy` and KubeRay start it without `atts serve`."""
    model = serve_config.load(serve_config.LOCAL).settings.draft.model
    change: dict[str, object] = {
        "draft": {"model": model, "threads": 1, "kv_tokens": 256},
        "store": {"url": "memory"},
    }
    done = atts("serve", "--config", changed(tmp_path, change), "--port", str(free_port()))
    assert done.returncode == 2
    assert "has room for the KV of 256 tokens, one chain at its longest has" in done.stderr


def test_a_question_is_asked_without_a_server() -> None:
    question = "Start with 47. Add 38. Multiply by 3. What is the result?"
    done = atts("ask", "--local", "--json", "--seed", "1", question)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["atts"]["answer"] == "255"


def test_a_live_view_shows_every_candidate_and_the_answer() -> None:
    done = atts(
        "ask",
        "--local",
        "--seed",
        "1",
        "--candidates",
        "3",
        "Start with 47. Add 38. What is the result?",
    )
    assert done.returncode == 0, done.stderr
    assert "The result is \\boxed{85}." in done.stdout
    assert "takeover rate" in done.stdout


def test_a_bad_option_of_ask_is_named() -> None:
    done = atts("ask", "--local", "--takeover-rate", "2", "What?")
    assert done.returncode == 2
    assert "atts.takeover_rate" in done.stderr


def test_the_doctor_finds_this_machine_ready() -> None:
    done = atts("doctor", "--json")
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert {"Python", "torch", "ray", "memory", "draft engine", "target engine"} <= set(findings)
    assert findings["target engine"]["ok"], findings["target engine"]
    assert "scores True" in findings["target engine"]["found"]


def test_the_doctor_says_what_to_do(tmp_path: Path) -> None:
    done = atts("doctor", "--config", changed(tmp_path, {"draft": {"model": "./absent"}}))
    assert done.returncode == 1
    assert "NOT  draft files" in done.stdout
    assert "→ point the configuration at a folder" in done.stdout


def test_a_new_key_opens_what_its_entry_guards() -> None:
    made = json.loads(atts("key", "ann", "--json").stdout)
    entry = Key(name=made["name"], sha256=made["sha256"])
    assert entry.sha256 == hashed(made["key"])
    shown = atts("key", "ann").stdout
    assert 'name: "ann"' in shown
    assert "sha256: " in shown


def test_the_doctor_tells_what_one_engine_can_do() -> None:
    done = atts("doctor", "--engine", "draft", "--json")
    record = json.loads(done.stdout)
    assert (record["engine"], record["scores"], record["chats"]) == ("transformers", True, True)
    shown = atts("doctor", "--engine", "transformers", "--model", "models/arithmetic/target")
    assert shown.returncode == 0, shown.stderr
    assert "models/arithmetic/target" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--engine", "judge"], "known are: draft, target, transformers"),
        (["--engine", "transformers"], "engine.model"),
        (["--engine", "transformers", "--model", "./absent"], "no folder './absent'"),
        (["--model", "x"], "go with --engine"),
    ],
)
def test_an_engine_that_the_doctor_cannot_examine_is_one_line(
    arguments: list[str], says: str
) -> None:
    done = atts("doctor", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
