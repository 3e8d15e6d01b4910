"""What docs/operations.md shows is what the commands print and the chart has."""

from __future__ import annotations

import re
from pathlib import Path

from services import capacity, serve_config
from services.commands.plan import table

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "docs" / "operations.md").read_text()


def test_the_table_of_pairs_is_what_plan_prints() -> None:
    """To mend: put what `atts plan deployment/pairs/*.yaml` prints between the marks."""
    shown = TEXT.partition("<!-- plan -->\n")[2].partition("<!-- /plan -->")[0]
    found = [
        (path, placement)
        for path in sorted((PROJECT / "deployment" / "pairs").glob("*.yaml"))
        for placement in capacity.placements(serve_config.load(path))
    ]
    assert shown.strip() == table(found)


def test_every_value_that_is_named_is_one_of_the_chart() -> None:
    values = (PROJECT / "helm" / "atts" / "values.yaml").read_text()
    groups = set(re.findall(r"^(\w+):", values, re.MULTILINE))
    named = [
        name.split(".")
        for name in re.findall(r"`(\w+(?:\.\w+)+)(?:: [^`]*)?`", TEXT)
        if name.split(".")[0] in groups - {"settings"}
    ]
    assert {"draft", "target", "router", "upgrade", "redis"} <= {first for first, *_ in named}
    for dotted in named:
        assert all(re.search(rf"\b{part}:", values) for part in dotted), dotted
