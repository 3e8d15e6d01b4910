"""What the documents say is true: files exist, names exist, commands exist, the request answers."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from services import serve_config
from services.commands.settings import as_markdown

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
README = (PROJECT / "README.md").read_text()


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_linked_file_exists(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_named_in_code_exists(document: Path) -> None:
    folders = "atts_core|services|deployment|models|benchmarks"
    for named in re.findall(rf"`((?:{folders})/[\w/.-]+)`", document.read_text()):
        assert (PROJECT / named).exists(), named


def test_every_function_of_the_request_s_way_exists() -> None:
    """Names in code followed by their file in brackets are defined in that file."""
    text = (PROJECT / "docs" / "how-a-request-travels.md").read_text()
    pairs = re.findall(r"`([\w.]+)`\s+\(`([\w/]+\.py)`", text)
    assert len(pairs) >= 12
    for name, file in pairs:
        assert name.split(".")[-1] in defined_in(PROJECT / file), (name, file)


def defined_in(file: Path) -> set[str]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}


def test_every_make_command_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"make ([a-z-]+)", README)
    assert {"serve", "test"} <= set(named) <= targets


def test_the_table_of_settings_is_today_s() -> None:
    """To mend: put what `atts settings` prints between the marks."""
    text = (PROJECT / "docs" / "configuration.md").read_text()
    table = text.partition("<!-- settings -->\n")[2].partition("<!-- /settings -->")[0]
    assert table.strip() == as_markdown()


def test_every_whole_configuration_of_the_documents_is_valid(tmp_path: Path) -> None:
    blocks = [b for path in DOCUMENTS for b in code_blocks(path.read_text(), "yaml")]
    whole = [block for block in blocks if "applications:" in block]
    assert whole
    for number, block in enumerate(whole):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        assert serve_config.load(path).options.keys() >= {"Draft", "Target"}


@pytest.mark.serve
def test_the_readme_s_request_word_for_word_has_the_answer_it_shows(served: str) -> None:
    (command,) = [c for c in code_blocks(README, "bash") if "curl" in c]
    words = shlex.split(command)
    body = json.loads(words[words.index("-d") + 1])
    (shown,) = code_blocks(README, "json")
    url = next(word for word in words if word.startswith("http"))
    response = httpx.post(url.replace("http://127.0.0.1:8000", served), json=body, timeout=60)
    assert contains(response.json(), json.loads(shown)), response.text


HTTP_API = (PROJECT / "docs" / "http-api.md").read_text()


@pytest.mark.serve
@pytest.mark.parametrize("program", code_blocks(HTTP_API, "python"), ids=("openai", "litellm"))
def test_the_clients_of_the_documents_get_the_answer(served: str, program: str) -> None:
    """Each in a process of its own, as a reader would run it."""
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    ran = subprocess.run(
        [sys.executable, "-c", program.replace("http://127.0.0.1:8000", served)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert r"\boxed{85}" in ran.stdout


@pytest.mark.serve
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_command_of_the_documents_streams(served: str) -> None:
    (command,) = [c for c in code_blocks(HTTP_API, "bash") if c.startswith("curl -sN")]
    words = shlex.split(command.replace("http://127.0.0.1:8000", served))
    said = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    assert '"event": "SegmentScored"' in said
    assert said.rstrip().endswith("data: [DONE]")


def contains(whole: Any, part: Any) -> bool:
    """Whether `part`, what a document shows shortened, is in `whole`.

    How many chains had ended when the vote was decided is a matter of timing, and so is their
    agreement: not compared.
    """
    if isinstance(part, dict):
        return all(
            key in whole
            and (key in ("finished", "cancelled", "agreement") or contains(whole[key], value))
            for key, value in part.items()
        )
    if isinstance(part, list):
        return all(contains(a, b) for a, b in zip(whole, part, strict=True))
    return bool(whole == part)
