"""The process at the database: what all routers share, scores and runs."""

from __future__ import annotations

from ray.serve import get_replica_context

from atts_core.calibration.keys import Batch
from services.calibration_store import CalibrationStore
from services.logs import write_logs
from services.run_store import RunStore
from services.runs.archive import Claim, Identity, Page, Receipt, Upload
from services.settings import LogSettings, RunSettings, StoreSettings
from services.store.exchange import Cursor, Exchange


class StoreServer:
    """A shim: Serve's calls in, the verbs of `CalibrationStore` and `RunArchive` out."""

    def __init__(
        self,
        settings: StoreSettings,
        keep: int,
        runs: RunSettings,
        logs: LogSettings | None = None,
    ) -> None:
        if logs is not None:
            context = get_replica_context()
            write_logs(logs, context.deployment, context.replica_tag)
        self._scores = CalibrationStore(settings, keep)
        self._runs = RunStore(self._scores.database, self._scores.threads, runs)

    async def exchange(self, batch: Batch, origin: str, cursor: Cursor | None) -> Exchange:
        return await self._scores.exchange(batch, origin, cursor)

    async def upload(self, router: str, runs: list[Upload]) -> Receipt:
        return await self._runs.upload(router, runs)

    async def claim(self, router: str, identity: Identity) -> Claim:
        return await self._runs.claim(router, identity)

    async def read(self, run_id: str, owner: str, after: int, limit: int) -> Page | None:
        return await self._runs.read(run_id, owner, after, limit)

    async def follow(self, run_id: str, owner: str, router: str, after: int) -> Page | None:
        return await self._runs.follow(run_id, owner, router, after)

    async def leave(self, run_id: str, router: str) -> None:
        await self._runs.leave(run_id, router)

    async def cancel(self, run_id: str, owner: str) -> Page | None:
        return await self._runs.cancel(run_id, owner)
