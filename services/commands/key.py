"""`atts key`: a new API key, and the entry that lets it in."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from services.access import hashed, new_key


def key(
    name: Annotated[str, typer.Argument(help="whose key it will be")],
    json_: Annotated[bool, typer.Option("--json", help="as JSON, nothing else")] = False,
) -> None:
    """Make an API key: shown once here; the configuration keeps its hash only."""
    made = new_key()
    entry = {"name": name, "sha256": hashed(made)}
    if json_:
        print(json.dumps({"key": made, **entry}, indent=2))
        return
    print(f"key, for its owner: {made}\n")
    print("entry for the configuration, under `args`:\n")
    print(
        f"  access:\n    keys:\n      - name: {json.dumps(name)}\n        sha256: {entry['sha256']}"
    )
