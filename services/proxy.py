"""What Serve's own HTTP proxy does before a request reaches the router.

Serve reads the import path of `middlewares` from RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

UNSAFE = {b"x-request-timeout-seconds", b"x-request-disconnect-disabled"}
"""Headers with which a client would switch Serve's timeout and its watch for disconnects off."""


class WithoutUnsafeHeaders:
    """ASGI middleware: the headers in `UNSAFE` never arrive."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            kept = [(name, value) for name, value in scope["headers"] if name.lower() not in UNSAFE]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    return [Middleware(WithoutUnsafeHeaders)]
