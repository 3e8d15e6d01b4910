"""No body beyond the limits is waited for or read into memory: Serve itself has none."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """ASGI middleware: a body of more than `limit` bytes, announced or sent, fails with 413.

    One that is not there after `seconds` fails with 408. The error is raised where the body is
    read, so that the application shapes it as any other.
    """

    def __init__(self, app: ASGIApp, limit: int, seconds: float) -> None:
        self._app = app
        self._limit = limit
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        latest = asyncio.get_running_loop().time() + self._seconds
        seen = 0
        whole = False

        async def counted() -> Message:
            nonlocal seen, whole
            if announced.isdigit() and int(announced) > self._limit:
                raise self._too_large(int(announced))
            try:
                # Behind the body only the client's leaving is waited for, which may take its time.
                async with asyncio.timeout_at(None if whole else latest):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if seen > self._limit:
                    raise self._too_large(seen)
            return message

        await self._app(scope, counted, send)

    def _too_large(self, size: int) -> HTTPException:
        return HTTPException(
            413,
            f"the body has {size} bytes or more; allowed are {self._limit} "
            "(the server's limits.max_body_bytes)",
        )

    def _too_slow(self) -> HTTPException:
        return HTTPException(
            408,
            f"the body was not there after {self._seconds:g} s "
            "(the server's limits.max_body_seconds)",
            headers={"Connection": "close"},  # what is left of the body is not waited for
        )
