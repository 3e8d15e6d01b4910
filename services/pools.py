"""Which replicas each deployment has, as Serve last told this process.

Not in `services.affinity`, which learns it: Serve sends that module by value, so that each process
has one that it imported and another that it was sent.
"""

from __future__ import annotations

from collections.abc import Iterable

_REPLICAS: dict[tuple[str, str], tuple[str, ...]] = {}


def tell(application: str, deployment: str, replicas: Iterable[str]) -> None:
    """Serve has told which replicas there are."""
    _REPLICAS[application, deployment] = tuple(replicas)


def replicas(application: str, deployment: str) -> tuple[str, ...] | None:
    """The names of those that this process could send to; None where it has not been told yet."""
    return _REPLICAS.get((application, deployment))
