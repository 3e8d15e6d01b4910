"""Who may ask, and how much at once: API keys, known here by their hashes only."""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from atts_core.errors import BadInput
from services import page
from services.settings import ENVIRONMENT, AccessSettings, Key
from services.watching import CURRENT
from services.wire import error_body

OPEN = "NO API KEYS ARE SET: whoever reaches the port may ask (`atts key NAME` makes one)"
OPEN_PATHS = {"/health", *page.FILES}
"""What needs no key: it tells nothing of models, questions or runs."""
OWNER = "atts.owner"
"""Where a request's scope says whose it is."""


def all_keys(settings: AccessSettings, environment: Mapping[str, str] = os.environ) -> list[Key]:
    """The configured keys and those of the environment."""
    plain = [key.strip() for key in environment.get(ENVIRONMENT, "").split(",")]
    found = [
        Key(name=f"environment-{at}", sha256=hashed(key))
        for at, key in enumerate(filter(None, plain), start=1)
    ]
    return [*settings.keys, *found]


def require_keys(settings: AccessSettings, environment: Mapping[str, str] = os.environ) -> None:
    """`BadInput` where keys are required and there are none.

    To be asked where the router runs: its node's environment counts, no other.
    """
    if settings.required and not all_keys(settings, environment):
        raise BadInput(
            f"access.required: there are no API keys: access.keys is empty, and {ENVIRONMENT} in "
            "the environment of the router's node is empty or not set. Put a key there (`atts key "
            "NAME` makes one), or set access.required to false to let everybody ask",
            field="access.required",
        )


def new_key() -> str:
    """A key nobody can guess: 256 random bits."""
    return f"atts-{secrets.token_urlsafe(32)}"


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def owner_of(scope: Scope) -> str:
    """What stands for the key of a request, "" where it needed none; no key can be told from it."""
    owner: str = scope.get(OWNER, "")
    return owner


@dataclass
class _Use:
    """What one key has open, and how many requests it may still start now."""

    key: Key
    open: int = 0
    left: float = field(init=False)
    counted: float | None = None

    def __post_init__(self) -> None:
        self.left = float(self.key.requests_per_minute or 0)

    def refusal(self, now: float) -> tuple[str, float] | None:
        """Why the key must wait, and for how many seconds; None lets the request in."""
        key = self.key
        if key.concurrent is not None and self.open >= key.concurrent:
            return f"{self.open} requests are open with this key, {key.concurrent} are allowed", 1.0
        if key.requests_per_minute is not None:
            since = 0.0 if self.counted is None else now - self.counted
            a_second = key.requests_per_minute / 60
            self.left = min(float(key.requests_per_minute), self.left + since * a_second)
            self.counted = now
            if self.left < 1:
                wait = (1 - self.left) / a_second
                return f"this key may ask {key.requests_per_minute} times a minute", wait
            self.left -= 1
        return None


class Access:
    """ASGI middleware: without a known key, every path but `OPEN_PATHS` answers 401."""

    def __init__(
        self, app: ASGIApp, keys: list[Key], clock: Callable[[], float] = monotonic
    ) -> None:
        self._app = app
        self._clock = clock
        self._uses = {key.sha256: _Use(key) for key in keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._uses or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        use = self._known(Headers(scope=scope).get("authorization", ""))
        if use is None:
            await _unknown()(scope, receive, send)
            return
        if (refusal := use.refusal(self._clock())) is not None:
            await _too_many(*refusal)(scope, receive, send)
            return
        use.open += 1
        if (exchange := CURRENT.get()) is not None:
            exchange.key = use.key.name
        try:
            owner = hashed(f"owner:{use.key.sha256}")
            scope[OWNER] = owner
            await self._app(scope, receive, send)
        finally:
            use.open -= 1

    def _known(self, authorization: str) -> _Use | None:
        scheme, _, key = authorization.partition(" ")
        given = hashed(key.strip()) if scheme.lower() == "bearer" else ""
        found = None
        # All are compared, and in constant time: how long it takes tells nothing about the keys.
        for known, use in self._uses.items():
            if secrets.compare_digest(known, given):
                found = use
        return found


def _unknown() -> Response:
    body = error_body(
        "no valid API key: send one as `Authorization: Bearer KEY`",
        "invalid_request_error",
        code="invalid_api_key",
    )
    return JSONResponse(body, status_code=401, headers={"WWW-Authenticate": "Bearer"})


def _too_many(why: str, seconds: float) -> Response:
    body = error_body(f"{why}; try again later", "rate_limit_error", code="rate_limit_exceeded")
    return JSONResponse(
        body, status_code=429, headers={"Retry-After": str(max(1, math.ceil(seconds)))}
    )
