"""The page's files over HTTP: open to all, strict about everything else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.access import hashed
from services.page import FILES, FOLDER
from tests.services.conftest import backend, client

OURS = {"http://www.w3.org/2000/svg", "http://www.w3.org/1998/Math/MathML"}
"""Names of namespaces; nobody fetches them."""


@pytest.mark.parametrize("path", FILES)
async def test_each_file_is_open_without_a_key_and_under_the_strict_policy(path: str) -> None:
    keys = {"keys": [{"name": "ann", "sha256": hashed("secret")}]}
    async with client(backend(access=keys)) as http:
        response = await http.get(path)
        closed = await http.get("/v1/models")
    assert response.status_code == 200
    assert closed.status_code == 401
    policy = response.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= set(policy)
    assert "require-trusted-types-for 'script'" in policy
    assert not any("unsafe" in rule or ":" in rule or "*" in rule for rule in policy)
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/web/app.js", "text/javascript; charset=utf-8"),
        ("/web/page.css", "text/css; charset=utf-8"),
        ("/web/icon.svg", "image/svg+xml"),
    ],
)
async def test_files_are_sent_as_what_they_are(path: str, kind: str) -> None:
    async with client(backend()) as http:
        response = await http.get(path)
        head = await http.head(path)
    assert response.headers["content-type"] == head.headers["content-type"] == kind
    assert response.content == FILES[path].read_bytes()


async def test_a_file_that_is_known_already_is_not_sent_again() -> None:
    async with client(backend()) as http:
        tag = (await http.get("/")).headers["etag"]
        again = await http.get("/", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/web/", "/web/none.js", "/web/../page.py", "/web/%2e%2e/page.py"]
)
async def test_nothing_but_the_page_s_files_is_there(path: str) -> None:
    async with client(backend()) as http:
        assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: file.name)
def test_no_file_names_another_host_or_makes_markup_of_text(file: Path) -> None:
    text = file.read_text()
    assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= OURS
    assert not re.search(r"[\"'(]//\w", text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", text
    )


def test_every_import_and_link_of_the_page_is_a_file_of_it() -> None:
    for file in FILES.values():
        text = file.read_text()
        named = re.findall(r'from "\./([\w.]+)"|import "\./([\w.]+)"', text)
        named += re.findall(r'(?:src|href)="web/([\w.]+)()"', text)
        for one, other in named:
            assert f"/web/{one or other}" in FILES, (file.name, one or other)
