"""The chart's schema knows every setting: `python -m deployment.chart_schema` brings it up to date.

The schema's own part is written by hand; `settings`, and what it refers to, comes from `Settings`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.settings import Settings

SCHEMA = Path(__file__).resolve().parent.parent / "helm" / "atts" / "values.schema.json"
OWN = "chart."
"""What the names of the definitions written by hand begin with."""


def updated(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with today's settings in its definitions."""
    settings = Settings.model_json_schema(ref_template="#/$defs/{model}")
    definitions = settings.pop("$defs")
    # The chart makes the URL itself, from `store`; a second owner would contradict it.
    del definitions["StoreSettings"]["properties"]["url"]
    own = {name: body for name, body in schema["$defs"].items() if name.startswith(OWN)}
    return {**schema, "$defs": own | {"settings": settings} | definitions}


def text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text(updated(json.loads(SCHEMA.read_text()))))
