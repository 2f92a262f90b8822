"""A connection that its client can't hold for as long as it likes.

uvicorn ends a connection on which nothing comes between two requests. Here one is ended as well whose head comes
slowly, one whose head or trailers come without end, and one whose client doesn't read what it asked for.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hotrow.errors import MissingExtraError
from hotrow.serve.limits import Limits

if not hasattr(HttpToolsProtocol, "_start_asgi_task"):  # it would never be called, and a client's end not be seen
    raise MissingExtraError(
        f"the server needs a newer uvicorn, such as 0.54, and finds {uvicorn.__version__}: "
        "pip install --upgrade uvicorn"
    )

_PROGRESS = 64 << 10
"""Bytes that a client reads in `limits.slow` seconds, at least, while more of its answer waits to be sent."""

_MORE = 64
"""Connections beyond the limit that are told so; whoever comes after them isn't."""
_AT_ONCE = struct.pack("ii", 1, 0)
"""Of SO_LINGER: on, for no second."""
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: 20\r\n\r\nThe head is too long"
)


class Guarded(HttpToolsProtocol):
    """uvicorn's protocol, with a clock on what it waits for without one."""

    limits: Limits
    """What a client may take."""
    _head_clock: asyncio.TimerHandle | None = None
    _read_clock: asyncio.TimerHandle | None = None
    _loose = 0
    """Bytes of a head, of trailers or of a chunk's line, since the last of a body, or the last head, has ended."""
    _answering: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connected, and has so long to say what they want."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections + _MORE:
            transport.abort()
            return
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._gone()
        self._stop_waiting()
        self._has_read()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """The client sends no more, and the connection is closed, a moment before it is said to be lost."""
        self._gone()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _gone(self) -> None:
        """Nothing more is written to it: what is being answered may not be the newest of several requests."""
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()

    # --- the head ----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Some bytes; those that are no body's are counted, whatever they are of."""
        newest = cast("RequestResponseCycle | None", self.cycle)
        if self._head_clock is None and (newest is None or newest.response_complete):
            self._wait_for_head()
        self._loose += len(data)
        super().data_received(data)
        if self._loose > self.limits.head and not self.transport.is_closing():
            answering, self._loose = self._answering, 0
            self._gone()
            if answering is None or answering.response_complete or not answering.response_started:
                self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is there; what comes after it is waited for by whoever reads it."""
        self._stop_waiting()
        self._loose = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a body, which whoever reads it counts; what comes after its answer is nobody's."""
        if not self.cycle.response_complete:
            self._loose = 0
        super().on_body(body)

    def _wait_for_head(self) -> None:
        self._head_clock = self.loop.call_later(self.limits.slow, self._end)

    def _stop_waiting(self) -> None:
        if self._head_clock is not None:
            self._head_clock.cancel()
            self._head_clock = None

    # --- the answer --------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client doesn't read as quickly as is written."""
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has read."""
        self._has_read()
        super().resume_writing()

    def _watch(self, left: int) -> None:
        self._read_clock = self.loop.call_later(self.limits.slow, self._look, left)

    def _look(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if before - left < _PROGRESS:
            self._drop()
        else:
            self._watch(left)

    def _drop(self) -> None:
        """End it, and what the system has still to send: or that would wait for its reader, too."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._end()

    def _end(self) -> None:
        self._gone()
        self.transport.abort()

    def _has_read(self) -> None:
        if self._read_clock is not None:
            self._read_clock.cancel()
            self._read_clock = None


def guarded(limits: Limits) -> type[Guarded]:
    """The class of protocols with these limits."""

    class Limited(Guarded):
        pass

    Limited.limits = limits
    return Limited
