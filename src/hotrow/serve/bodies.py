"""The body of a request, whole, within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, cast

from hotrow.serve.answers import RefusedError

CLOSE = ((b"connection", b"close"),)
"""The header of an answer after which nothing more is read."""
_DROPPED = 16
"""How many times as large as it may be a body is read for the sake of its client."""


async def whole(
    headers: Mapping[bytes, bytes], receive: Callable[[], Awaitable[MutableMapping[str, Any]]], most: int, slow: float
) -> bytes:
    """The body; refused if it has more than `most` bytes, takes more than `slow` seconds, or its client is gone.

    What is somewhat too large is read to its end and dropped: who is still sending wouldn't see an answer.
    """
    size, pieces = 0, list[bytes]()
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 18 or int(length) > _DROPPED * most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(slow):
            more = True
            while more and size <= _DROPPED * most:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, "the body ended before its end", headers=CLOSE)
                piece, more = cast("bytes", message.get("body", b"")), message.get("more_body", False)
                size += len(piece)
                if size <= most:
                    pieces.append(piece)
    except TimeoutError:
        raise RefusedError(408, f"the body didn't come within {slow:g} s", headers=CLOSE) from None
    if size > most:
        raise _too_large(most)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, f"a body has at most {most:,} bytes here", headers=CLOSE)
