"""The store behind its deployment handle, as routers call it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from ray.serve.handle import DeploymentHandle

from atts_core.calibration.keys import Batch
from services.courier import Call
from services.remote_engine import translated
from services.runs.archive import Claim, Identity, Page, Receipt, Upload
from services.store.exchange import Cursor, Exchange


def remote_store(handle: DeploymentHandle) -> Call:
    """An exchange with whichever replica of the store is up; Serve's errors come out as ours."""

    async def exchange(batch: Batch, origin: str, cursor: Cursor | None) -> Exchange:
        response = handle.exchange.remote(batch, origin, cursor)
        return cast("Exchange", await _answer(response, "calibration store"))

    return exchange


class RemoteArchive:
    """A `RunArchive` behind the store's handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def upload(self, router: str, runs: list[Upload]) -> Receipt:
        return cast("Receipt", await _answer(self._handle.upload.remote(router, runs)))

    async def claim(self, router: str, identity: Identity) -> Claim:
        return cast("Claim", await _answer(self._handle.claim.remote(router, identity)))

    async def read(self, run_id: str, owner: str, after: int, limit: int) -> Page | None:
        response = self._handle.read.remote(run_id, owner, after, limit)
        return cast("Page | None", await _answer(response))

    async def follow(self, run_id: str, owner: str, router: str, after: int) -> Page | None:
        response = self._handle.follow.remote(run_id, owner, router, after)
        return cast("Page | None", await _answer(response))

    async def leave(self, run_id: str, router: str) -> None:
        await _answer(self._handle.leave.remote(run_id, router))

    async def cancel(self, run_id: str, owner: str) -> Page | None:
        return cast("Page | None", await _answer(self._handle.cancel.remote(run_id, owner)))


async def _answer(response: Any, who: str = "store") -> Any:
    try:
        return await response
    except asyncio.CancelledError:
        # A call that waits for a store that is away would wait on behind our back.
        response.cancel()
        raise
    except Exception as error:
        raise translated(error, who) from None
