"""The way to one server: a pool of connections, timeouts, retries, and its failures as ours."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from atts_core.errors import BadInput, EngineError, EngineUnavailable
from services.engines.servers.server import Call, Reply
from services.engines.settings import HttpSettings
from services.tracing.context import onward

_LONGEST_PAUSE = 10.0
"""Seconds between two attempts at most."""

_NOT_REACHED = (httpx.ConnectError, httpx.ConnectTimeout)


class HttpConnection:
    """Sends calls to one server, at most `max_requests` at once; for one event loop.

    Cancelling a call closes its connection, by which servers see that nobody waits any more.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None
        self._places = asyncio.Semaphore(settings.max_requests)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._under_way: set[asyncio.Task[object]] = set()
        self._stopped: set[asyncio.Task[object]] = set()
        self._closing: asyncio.Task[None] | None = None
        self.closed = False
        self.running = 0
        self.retried = 0

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return len(self._under_way) - self.running

    async def send(self, call: Call, who: str) -> tuple[Reply, float]:
        """The reply, and how many seconds the call waited here for a place.

        Raises EngineUnavailable where the server cannot be reached, is too slow or fails, and
        EngineError where it refuses the call; both begin with `who`.
        """
        task = asyncio.current_task()
        assert task is not None
        self.check(who)
        self._under_way.add(task)
        begun = asyncio.get_running_loop().time()
        try:
            async with self._places:
                waited = asyncio.get_running_loop().time() - begun
                self.running += 1
                try:
                    with translated(who):
                        return await self._attempts(call, who), waited
                finally:
                    self.running -= 1
        except asyncio.CancelledError:
            if task in self._stopped:  # by `close`, not by its owner, who must learn why
                self.check(who)
            raise
        finally:
            self._under_way.discard(task)
            self._stopped.discard(task)

    def check(self, who: str) -> None:
        if self.closed:
            raise EngineUnavailable(f"{who}: the engine was closed")

    def close(self) -> None:
        """Fail what is under way, and give the connections back."""
        self.closed = True
        if self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        self._stopped |= {task for task in self._under_way if not task.cancelling()}
        for task in self._stopped:
            task.cancel()
        if self._client is not None:
            self._closing = asyncio.ensure_future(self._client.aclose())

    async def _attempts(self, call: Call, who: str) -> Reply:
        """Every call may be repeated: scores, and generations with a seed, have no effect there.

        A server that was not reached is tried `retries` times more; a connection that broke under
        a call, once more: the server may be dying of this very call.
        """
        attempt, broken = 0, False
        while True:
            try:
                return await self._once(call, who)
            except _NOT_REACHED:
                if attempt >= self._settings.retries:
                    raise
            except httpx.TimeoutException:
                raise
            except httpx.TransportError:
                if broken:
                    raise
                broken = True
            self.retried += 1
            pause = min(_LONGEST_PAUSE, self._settings.backoff_seconds * 2**attempt)
            # Spread, so that all candidates do not come back in the same instant.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            attempt += 1

    async def _once(self, call: Call, who: str) -> Reply:
        client = self._connected()
        if call.watch is None:
            return answer(await client.post(call.path, json=call.body, headers=onward()), who)
        enough, events = call.watch(), []
        async with client.stream("POST", call.path, json=call.body, headers=onward()) as response:
            if response.is_error:
                await response.aread()
                answer(response, who)
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    break
                events.append(_event(data, who))
                if enough(events[-1]):
                    break
        return {"events": events}

    def _connected(self) -> httpx.AsyncClient:
        """The client, made by the first call: it belongs to the loop that it is used in."""
        if self._client is None:
            self._loop = asyncio.get_running_loop()
            limits = httpx.Limits(
                max_connections=self._settings.max_requests,
                max_keepalive_connections=self._settings.max_requests,
            )
            self._client = httpx.AsyncClient(
                base_url=root(self._settings),
                headers=headers(self._settings),
                timeout=timeout(self._settings),
                limits=limits,
            )
        return self._client


def root(settings: HttpSettings) -> str:
    """The server's root; OpenAI's clients are given it with `/v1`, so that is understood too."""
    return settings.url.rstrip("/").removesuffix("/v1")


def timeout(settings: HttpSettings) -> httpx.Timeout:
    return httpx.Timeout(settings.read_seconds, connect=settings.connect_seconds, pool=None)


def headers(settings: HttpSettings) -> dict[str, str]:
    """The API key, from the environment; BadInput where it is not there."""
    if settings.api_key_env is None:
        return {}
    key = os.environ.get(settings.api_key_env, "")
    if not key:
        raise BadInput(
            f"the environment has no variable {settings.api_key_env}, which should hold the API "
            f"key of {settings.url}",
            field="api_key_env",
        )
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def translated(who: str) -> Iterator[None]:
    """Failures of the connection as EngineUnavailable."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise EngineUnavailable(f"{who}: no answer in time ({type(error).__name__})") from None
    except (httpx.RequestError, httpx.InvalidURL) as error:
        said = str(error) or type(error).__name__
        raise EngineUnavailable(f"{who}: the connection failed: {said}") from None


def answer(response: httpx.Response, who: str) -> Reply:
    """The JSON object in `response`, or what it refused as our error."""
    if response.is_error:
        status = response.status_code
        # Too many requests and a server that fails: the same call may succeed elsewhere or later.
        kind = EngineUnavailable if status >= 500 or status in (408, 429) else EngineError
        raise kind(f"{who}: status {status}: {_reason(response)}")
    return _event(response.text, who)


def _event(text: str, who: str) -> Reply:
    try:
        found = json.loads(text)
    except ValueError:
        raise EngineError(f"{who}: the answer is no JSON: {text[:80]!r}") from None
    if not isinstance(found, dict):
        raise EngineError(f"{who}: the answer is no JSON object: {text[:80]!r}")
    if found.get("error"):
        raise EngineError(f"{who}: {json.dumps(found['error'])[:300]}")
    return found


def _reason(response: httpx.Response) -> str:
    """What the server says of an error: OpenAI's shape, vLLM's, or its text."""
    try:
        found = response.json()
    except ValueError:
        return response.text[:300]
    said = found.get("error", found.get("detail", found)) if isinstance(found, dict) else found
    if isinstance(said, dict):
        said = said.get("message", said)
    return str(said)[:300]
