"""`atts calibration`: show, reset, export, import, and what it refuses."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atts_core.acceptance import Gate
from atts_core.calibration.keys import Batch, PairKey, Record
from services import cli
from services.calibration_store import CalibrationStore
from services.local import LocalBackend
from services.settings import StoreSettings
from services.store.exchange import Exchange
from tests.services.conftest import backend, client

PAIR = PairKey("draft@1", "target@2", "template", "mean-nll")
OTHER = PairKey("draft@1", "target@3", "template", "mean-nll")

Atts = Callable[..., tuple[int, str, str]]


@pytest.fixture
def atts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Atts:
    """`atts calibration …` as a user runs it: exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["atts", "calibration", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def records(origin: str, first: int, last: int) -> tuple[Record, ...]:
    return tuple(Record(origin, n, n % 3, -n / 10) for n in range(first, last + 1))


async def upload(url: str, some: tuple[Record, ...], pair: PairKey = PAIR) -> Exchange:
    """What a router does: its scores go up; the reply."""
    store = CalibrationStore(StoreSettings(url=url), 16_384)
    try:
        return await store.exchange(Batch(pair, some), some[0].origin, None)
    finally:
        store.close()


async def kept(url: str, pair: PairKey = PAIR) -> list[Record]:
    """What a router that starts is given."""
    store = CalibrationStore(StoreSettings(url=url), 16_384)
    try:
        return list((await store.exchange(Batch(pair, ()), "reader", None)).batch.records)
    finally:
        store.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/calibration.db"


# --------------------------------------------------------------------------------- show, reset


async def test_show_tells_of_every_pair(atts: Atts, url: str) -> None:
    await upload(url, records("a", 1, 10))
    await upload(url, records("b", 1, 4), OTHER)
    status, out, _ = atts("show", "--store-url", url, "--json")
    first, second = json.loads(out)["pairs"]
    assert status == 0
    assert (first["pair"], first["scores"], first["routers"]) == (str(PAIR), 10, 1)
    assert first["turns"] == [
        {"turn": 0, "size": 3},
        {"turn": 1, "size": 4},
        {"turn": 2, "size": 3},
    ]
    assert first["quantiles"]["0.5"] == -0.5
    assert (second["pair"], second["scores"]) == (str(OTHER), 4)
    _, out, _ = atts("show", "--store-url", url)
    assert "10 scores kept of 10 that arrived, from 1 routers" in out
    assert "by turn: 0: 3, 1: 4, 2: 3" in out


def test_show_makes_no_database(atts: Atts, url: str, tmp_path: Path) -> None:
    status, _, err = atts("show", "--store-url", url)
    assert status == 2
    assert "there is no such file" in err
    assert list(tmp_path.iterdir()) == []


async def test_show_asks_a_running_server(
    atts: Atts, listening: Callable[[LocalBackend], AbstractAsyncContextManager[str]]
) -> None:
    served = backend()
    asked = {"model": "atts", "messages": [{"role": "user", "content": "1 + 1?"}]}
    async with client(served) as http:
        await http.post("/v1/chat/completions", json=asked)
    async with listening(served) as address:
        _, as_json, _ = await asyncio.to_thread(atts, "show", "--server", address, "--json")
        status, plain, _ = await asyncio.to_thread(atts, "show", "--server", address)
    assert status == 0
    assert json.loads(as_json)["decisions"] > 0
    assert "takeover rate overall" in plain
    assert "bank turn:0" in plain


def test_a_server_that_is_not_there_is_named(atts: Atts) -> None:
    status, _, err = atts("show", "--server", "http://127.0.0.1:1")
    assert status == 1
    assert "http://127.0.0.1:1: ConnectError" in err


async def test_reset_removes_a_pair_s_scores_only(atts: Atts, url: str) -> None:
    await upload(url, records("a", 1, 10))
    await upload(url, records("b", 1, 4), OTHER)
    status, out, _ = atts("reset", "--store-url", url, "--pair", str(PAIR), "--yes", "--json")
    assert (status, json.loads(out)) == (0, {"pair": str(PAIR), "removed": 10})
    assert await kept(url) == []
    assert len(await kept(url, OTHER)) == 4


async def test_reset_asks_first(atts: Atts, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await upload(url, records("a", 1, 10))
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    status, out, err = atts("reset", "--store-url", url)
    assert (status, out.strip()) == (1, "")
    assert f"Remove all scores of {PAIR}" in err
    assert len(await kept(url)) == 10


async def test_of_several_pairs_one_must_be_named(atts: Atts, url: str) -> None:
    await upload(url, records("a", 1, 1))
    await upload(url, records("b", 1, 1), OTHER)
    status, _, err = atts("export", "out.jsonl", "--store-url", url)
    assert status == 2
    assert str(PAIR) in err
    assert str(OTHER) in err


# ------------------------------------------------------------------------------ export, import


async def test_an_export_brings_everything_to_another_database(
    atts: Atts, url: str, tmp_path: Path
) -> None:
    await upload(url, records("a", 1, 10))
    file, copy = str(tmp_path / "scores.jsonl"), f"sqlite:///{tmp_path}/copy.db"
    assert atts("export", file, "--store-url", url)[0] == 0
    status, out, _ = atts("import", file, "--store-url", copy, "--json")
    assert (status, json.loads(out)) == (0, {"pair": str(PAIR), "scores": 10, "new": 10})
    assert await kept(copy) == list(records("a", 1, 10))
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


async def test_what_is_there_already_is_not_imported_again(
    atts: Atts, url: str, tmp_path: Path
) -> None:
    await upload(url, records("a", 1, 10))
    file = str(tmp_path / "scores.jsonl")
    atts("export", file, "--store-url", url)
    _, out, _ = atts("import", file, "--store-url", url, "--json")
    assert json.loads(out)["new"] == 0
    assert len(await kept(url)) == 10


async def test_after_a_reset_an_import_reaches_the_routers_that_knew_its_scores(
    atts: Atts, url: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "scores.jsonl")
    maker, reader = Gate(PAIR, origin="a"), Gate(PAIR, origin="b")
    await upload(url, records("a", 1, 10))
    reader.merge(Batch(PAIR, tuple(await kept(url))))
    atts("export", file, "--store-url", url)
    atts("reset", "--store-url", url, "--yes")
    for gate in (maker, reader):
        gate.reset()
    for expected in (10, 0):
        _, out, _ = atts("import", file, "--store-url", url, "--json")
        assert json.loads(out)["new"] == expected
    for gate in (maker, reader):
        assert gate.merge(Batch(PAIR, tuple(await kept(url)))) == 10


async def test_another_pair_s_scores_are_refused_with_both_keys(
    atts: Atts, url: str, tmp_path: Path
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    await upload(url, records("a", 1, 10))
    await upload(other, records("b", 1, 10), OTHER)
    file = str(tmp_path / "scores.jsonl")
    atts("export", file, "--store-url", url)
    for arguments in ((), ("--pair", str(OTHER))):
        status, _, err = atts("import", file, "--store-url", other, *arguments)
        assert status == 2
        assert str(PAIR) in err
        assert str(OTHER) in err
    assert await kept(other, PAIR) == []
    assert atts("import", file, "--store-url", other, "--pair", str(PAIR))[0] == 0
    assert len(await kept(other, PAIR)) == 10


async def test_published_perplexities_are_imported_once(
    atts: Atts, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "ppl.npy"
    np.save(file, np.array([1.0, np.e, np.e**2], dtype=np.float32))
    for expected in (3, 0):
        status, out, _ = atts(
            "import", str(file), "--store-url", url, "--pair", str(PAIR), "--turn", "2", "--json"
        )
        assert (status, json.loads(out)["new"]) == (0, expected)
    found = await kept(url)
    assert [(r.sequence, r.turn) for r in found] == [(1, 2), (2, 2), (3, 2)]
    assert [r.conformity for r in found] == pytest.approx([0, -1, -2], abs=1e-6)


def test_an_array_needs_to_be_told_its_pair(atts: Atts, url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "ppl.npy", np.array([1.5]))
    status, _, err = atts("import", str(tmp_path / "ppl.npy"), "--store-url", url)
    assert status == 2
    assert "name it with --pair" in err


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((2, 2)), "found shape (2, 2)"),
        (np.array([1.5, np.inf]), "element 1: found inf"),
        (np.array([1.5, np.nan]), "element 1: found nan"),
        (np.array([1.5, -2.0]), "element 1: found -2.0"),
        (np.array([1.5, 0.5]), "element 1: found 0.5; a perplexity is at least 1"),
        (np.array([]), "found shape (0,)"),
        (np.array(["a"]), "numbers are needed"),
        (np.array([{"a": 1}], dtype=object), "not a plain .npy array"),
    ],
)
async def test_a_bad_array_is_refused(
    atts: Atts, url: str, tmp_path: Path, array: Any, says: str
) -> None:
    file = tmp_path / "bad.npy"
    np.save(file, array, allow_pickle=True)
    status, _, err = atts("import", str(file), "--store-url", url, "--pair", str(PAIR))
    assert status == 2
    assert f"{file}: " in err
    assert says in err


HEADER = {
    "format": "atts-calibration",
    "version": 1,
    "pair": {"draft": "d", "target": "t", "template": "p", "score": "s"},
    "database": "x",
    "generation": 0,
    "scores": 2,
}
GOOD = [{"origin": "a", "sequence": n, "turn": 0, "conformity": -0.5} for n in (1, 2)]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "empty"),
        (["{"], "line 1: not JSON"),
        (["[]"], "line 1: found '[]'; a JSON object is needed"),
        ([HEADER | {"format": "x"}, *GOOD], "line 1: format: found 'x'"),
        ([HEADER | {"version": 2}, *GOOD], "line 1: version: found 2; the version known here is 1"),
        ([HEADER | {"pair": {"draft": "d"}}, *GOOD], "line 1: pair.target: found nothing"),
        ([HEADER, GOOD[0]], "line 2: the file ends after 1 of 2 scores"),
        ([HEADER, GOOD[0], "{oops"], "line 3: not JSON"),
        ([HEADER, GOOD[0], {"origin": "a"}], "line 3: sequence: found nothing"),
        ([HEADER, GOOD[0], GOOD[1] | {"origin": 3}], "line 3: origin: found 3"),
        ([HEADER, GOOD[0], GOOD[1] | {"origin": "\0"}], "line 3: origin: found"),
        ([HEADER, GOOD[0], GOOD[1] | {"turn": -1}], "line 3: turn: found -1"),
        ([HEADER, GOOD[0], GOOD[1] | {"turn": 2**40}], "line 3: turn: found"),
        ([HEADER, GOOD[0], GOOD[1] | {"conformity": "x"}], "line 3: conformity: found 'x'"),
        ([HEADER, GOOD[0], GOOD[1] | {"conformity": float("inf")}], "it must be finite"),
        ([HEADER, GOOD[0], GOOD[0]], "line 3: sequence: found 1; it must ascend"),
    ],
)
async def test_a_bad_file_is_named_with_line_and_field_and_nothing_is_written(
    atts: Atts, url: str, tmp_path: Path, lines: list[Any], says: str
) -> None:
    file = tmp_path / "bad.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("".join(text + "\n" for text in texts))
    status, _, err = atts("import", str(file), "--store-url", url)
    assert status == 2
    assert f"error: {file}" in err
    assert says in err
    assert not (tmp_path / "calibration.db").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "--store-url", "memory"), "ends with its store"),
        (("show", "--store-url", "mysql://x:secret@y/z"), "found 'mysql'"),
        (("export", "x", "--pair", "a>b"), "four names are needed"),
        (("import", "/proc/nowhere"), "cannot be read"),
        (("show", "--config", "/proc/nowhere"), "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_said(atts: Atts, arguments: tuple[str, ...], says: str) -> None:
    status, _, err = atts(*arguments)
    assert status == 2
    assert says in err
    assert "secret" not in err


async def test_an_export_that_cannot_be_written_leaves_nothing(atts: Atts, url: str) -> None:
    await upload(url, records("a", 1, 3))
    status, _, err = atts("export", "/proc/nowhere/x.jsonl", "--store-url", url)
    assert status == 2
    assert "cannot be written" in err
