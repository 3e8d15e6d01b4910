"""How a command tells what it has measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def tell(result: dict[str, Any], as_table: Callable[[dict[str, Any]], str], json_: bool) -> None:
    """Print the result for machines, or as a table for people."""
    print(json.dumps(result, indent=2) if json_ else as_table(result))
