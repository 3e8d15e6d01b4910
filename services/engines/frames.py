"""Python objects over a socket, between two processes of ours."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

_LENGTH = 8


def send(writer: asyncio.StreamWriter, message: Any) -> None:
    """Send without waiting; what the other end has not read is kept in memory."""
    packed = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    writer.write(len(packed).to_bytes(_LENGTH, "big") + packed)


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next message; raises EOFError where the other end has left."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
        return pickle.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise EOFError from None
