"""The served system, started once for all tests as a user starts it."""

from collections.abc import Iterator

import httpx
import pytest

from benchmarks.server import running_server


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """The base URL of `atts serve` with the shipped configuration, on a free port."""
    with running_server() as url:
        yield url


@pytest.fixture
def http(served: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served, timeout=120) as client:
        yield client
