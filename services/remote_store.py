"""The store behind its deployment handle, as a courier calls it."""

from __future__ import annotations

import asyncio
from typing import cast

from ray.serve.handle import DeploymentHandle

from atts_core.calibration.keys import Batch
from services.courier import Call
from services.remote_engine import translated
from services.store.exchange import Cursor, Exchange


def remote_store(handle: DeploymentHandle) -> Call:
    """An exchange with whichever replica of the store is up; Serve's errors come out as ours."""

    async def exchange(batch: Batch, origin: str, cursor: Cursor | None) -> Exchange:
        response = handle.exchange.remote(batch, origin, cursor)
        try:
            return cast("Exchange", await response)
        except asyncio.CancelledError:
            # A call that waits for a store that is away would wait on behind our back.
            response.cancel()
            raise
        except Exception as error:
            raise translated(error, "calibration store") from None

    return exchange
