"""The process behind `services.engines.own_process`: one engine, and who asks it."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from time import process_time
from typing import Any

from atts_core.engine import Pending, Ready, start
from atts_core.errors import AttsError, EngineError
from services.engines import frames, loading


async def serve(connection: socket.socket) -> None:
    """Load the engine whose settings come first, and answer until the other end leaves."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    settings = await frames.receive(reader)
    try:
        engine = loading.load(settings)
    except AttsError as error:
        frames.send(writer, error)
        await writer.drain()
        return
    frames.send(writer, engine.capabilities)
    try:
        await _answer(engine, reader, writer)
    except* EOFError:
        pass
    finally:
        engine.close()


async def _answer(
    engine: loading.ServedEngine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    under_way: dict[int, Pending[Any]] = {}

    async def answered(number: int, pending: Pending[Any]) -> None:
        try:
            answer = await pending
        except asyncio.CancelledError:
            return
        except Exception as error:
            answer = error if isinstance(error, AttsError) else EngineError(repr(error))
        finally:
            del under_way[number]
        frames.send(writer, (number, answer))

    async with asyncio.TaskGroup() as answering:
        while True:
            number, verb, given = await frames.receive(reader)
            if verb == "cancel":
                if number in under_way:
                    under_way[number].cancel()
            elif verb == "status":
                status = engine.status() | {"cpu_seconds": process_time()}
                frames.send(writer, (number, status))
            else:
                under_way[number] = _started(engine, verb, given)
                answering.create_task(answered(number, under_way[number]))


def _started(engine: loading.ServedEngine, verb: str, given: Any) -> Pending[Any]:
    match verb:
        case "generate":
            return engine.generate(given)
        case "score":
            request, segment = given
            return engine.score(request, Ready(segment))
        case "render":
            return start(engine.render(given))
        case "abort":
            return start(engine.abort(given))
        case _:
            raise ValueError(f"{verb!r} is no verb of an engine")


def main() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
