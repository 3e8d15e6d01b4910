"""How a command of ours ends where it cannot go on: one line, and a status that tells why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from atts_core.errors import AttsError, BadInput


@contextmanager
def in_one_line() -> Iterator[None]:
    """What the user can mend is one line and exit status 2, a failure is 1."""
    try:
        yield
    except BadInput as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None
    except AttsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
