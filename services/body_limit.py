"""No body beyond the limit is read into memory: Serve itself has none."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """ASGI middleware: a body of more than `limit` bytes, announced or sent, fails with 413.

    The error is raised where the body is read, so that the application shapes it as any other.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            if announced.isdigit() and int(announced) > self._limit:
                raise self._too_large(int(announced))
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
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
