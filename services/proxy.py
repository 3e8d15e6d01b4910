"""What Serve's own HTTP proxy does before a request reaches the router, and where none answers it.

Serve reads the import path of `middlewares` from RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.wire import error_body

UNSAFE = {b"x-request-timeout-seconds", b"x-request-disconnect-disabled"}
"""Headers with which a client would switch Serve's timeout and its watch for disconnects off."""

ROUTER_LOST = error_body(
    "the router that had this request was lost with it, and what it had done; send it again",
    "server_error",
    code="router_lost",
)
RETRY_AFTER = (b"retry-after", b"1")
REQUEST_ID = b"x-request-id"


class WithoutUnsafeHeaders:
    """ASGI middleware: the headers in `UNSAFE` never arrive."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            kept = [(name, value) for name, value in scope["headers"] if name.lower() not in UNSAFE]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


class EveryRequestAnswered:
    """ASGI middleware: where a router is lost, its clients are told, in OpenAI's shape.

    Serve's proxy then says nothing at all: to a request that waits for its answer, the server would
    say 500 in plain text; a stream would just end, which clients take for a whole one. What Serve
    itself answers in plain text (no router, not yet, no more) becomes JSON too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Serve's own routes (`/-/healthz`) speak to load balancers.
        if scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self._app(scope, receive, send)
            return
        reply = _Reply(scope, send)
        await self._app(scope, receive, reply.take)
        await reply.finish()


class _Reply:
    """A reply on its way to the client: how far it is, and how it must be ended if nobody does."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._start: Message | None = None
        self._refusal: Message | None = None
        """The start of a refusal of Serve's own, until what it says is known."""
        self._said = b""
        self._whole = False

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            if _is_serves_own(message):
                self._refusal = message
                return
        elif message["type"] == "http.response.body":
            self._whole = not message.get("more_body", False)
            if self._refusal is not None:
                self._said += message.get("body", b"")
                if self._whole:
                    await self._refuse(self._refusal)
                return
        await self._send(message)

    async def finish(self) -> None:
        """The application has returned: say what it did not."""
        if self._whole:
            return
        if self._start is None:
            # Serve's proxy has given the request its id by now, where the client sent none.
            request_id = _header(self._scope, REQUEST_ID)
            known = [(REQUEST_ID, request_id)] if request_id else []
            await self._answer(503, ROUTER_LOST, [RETRY_AFTER, *known])
        elif self._refusal is not None:
            await self._refuse(self._refusal)
        elif _header(self._start, b"content-type").startswith(b"text/event-stream"):
            told = f"data: {json.dumps(ROUTER_LOST)}\n\n".encode()
            await self._send({"type": "http.response.body", "body": told, "more_body": False})
        # Any other reply stays cut: its length, or its missing last chunk, tells the client.

    async def _refuse(self, start: Message) -> None:
        status = start["status"]
        said = self._said.decode(errors="replace").strip() or f"status {status}"
        kind = "server_error" if status >= 500 else "invalid_request_error"
        body = error_body(said.splitlines()[0], kind, code="unavailable" if status == 503 else None)
        kept = [(name, value) for name, value in start["headers"] if name.lower() not in _OWN]
        if status == 503 and not _header(start, b"retry-after"):
            kept.append(RETRY_AFTER)
        await self._answer(status, body, kept)

    async def _answer(
        self, status: int, body: dict[str, Any], headers: list[tuple[bytes, bytes]]
    ) -> None:
        content = json.dumps(body).encode()
        own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        start = {"type": "http.response.start", "status": status, "headers": [*own, *headers]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": content, "more_body": False})


_OWN = {b"content-type", b"content-length"}


def _is_serves_own(start: Message) -> bool:
    """The router's refusals are JSON."""
    return start["status"] >= 400 and _header(start, b"content-type").startswith(b"text/plain")


def _header(holder: Message | Scope, wanted: bytes) -> bytes:
    found = [value for name, value in holder.get("headers", []) if name.lower() == wanted]
    return bytes(found[0]) if found else b""


def middlewares() -> list[Middleware]:
    return [Middleware(EveryRequestAnswered), Middleware(WithoutUnsafeHeaders)]
