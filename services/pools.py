"""How many replicas each deployment has, as Serve last told this process.

Not in `services.affinity`, which learns it: Serve sends that module by value, so that each process
has one that it imported and another that it was sent.
"""

from __future__ import annotations

_COUNTS: dict[tuple[str, str], int] = {}


def tell(application: str, deployment: str, replicas: int) -> None:
    """Serve has told which replicas there are."""
    _COUNTS[application, deployment] = replicas


def count(application: str, deployment: str) -> int | None:
    """Replicas that this process could send to; None where it has not been told yet."""
    return _COUNTS.get((application, deployment))
