"""A request's body as JSON, read strictly: a key once in an object, and no number but JSON's."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

LONGEST_NAME = 200
"""Characters of a field's name that an error repeats."""


class Unreadable(HTTPException):
    """A body that is JSON to lenient readers only; `field` is the dotted path of what is wrong."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(400, message)
        self.field = field


def parsed(body: bytes) -> Any:
    """The JSON value in `body`.

    Raises `json.JSONDecodeError` where there is none, `Unreadable` where an object holds a key
    twice, a number is no JSON (NaN, Infinity) or longer than Python reads, or the value is nested
    deeper than Python reads.
    """
    reader = _Reader()
    try:
        value = json.loads(body, object_pairs_hook=reader.object, parse_constant=reader.constant)
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        raise Unreadable("the body is no valid JSON: it is not in UTF-8") from None
    except ValueError:
        raise Unreadable("the body is no valid JSON: a number has too many digits") from None
    except RecursionError:
        raise Unreadable("the body is nested too deep") from None
    if reader.odd:
        raise _complaint(value)
    return value


class _Twice(dict[str, Any]):
    """An object that held a key more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        often = Counter(key for key, _ in pairs)
        self.key = next(key for key, times in often.items() if times > 1)


class _Reader:
    """What a parser calls; whether something `odd` came by is looked for once it is through."""

    def __init__(self) -> None:
        self.odd = False

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        self.odd = True
        return _Twice(pairs)

    def constant(self, name: str) -> float:
        self.odd = True
        return float(name)


class _Place(NamedTuple):
    """A value inside the body, and the way to it."""

    above: _Place | None
    key: str | int
    value: Any

    def name(self) -> str:
        """The dotted path, as far as it is sent back; empty for the body itself."""
        path: list[str] = []
        place: _Place | None = self
        while place is not None and place.above is not None:
            path.append(str(place.key))
            place = place.above
        # A lone surrogate is no text that could be sent back.
        shown = ".".join(reversed(path)).encode("utf-8", "backslashreplace").decode()
        return shown[:LONGEST_NAME]


def _complaint(whole: Any) -> Unreadable:
    """What is odd in a body, named. Not by recursion: it may be deep."""
    waiting = [_Place(None, "", whole)]
    while waiting:
        place = waiting.pop()
        value = place.value
        if isinstance(value, _Twice):
            field = _Place(place, value.key, None).name()
            return Unreadable(f"{field}: stands twice in one object", field)
        if isinstance(value, float) and not math.isfinite(value):
            field = place.name()
            found = f"{field or 'the body'}: found {value}; JSON has no such number"
            return Unreadable(found, field or None)
        if isinstance(value, dict):
            waiting += (_Place(place, key, one) for key, one in value.items())
        elif isinstance(value, list):
            waiting += (_Place(place, at, one) for at, one in enumerate(value))
    return Unreadable("the body holds a key twice, or a number that JSON does not have")


class StrictRequest(Request):
    """A request whose body is read as `parsed` reads it."""

    async def json(self) -> Any:
        return parsed(await self.body())


class StrictRoute(APIRoute):
    """A route whose requests are strict."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict
