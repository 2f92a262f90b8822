"""The server as a program: uvicorn, with clocks on its connections, and an end that lets requests end."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from hotrow.errors import ArgumentError
from hotrow.serve.protocol import guarded

if TYPE_CHECKING:
    from hotrow.serve.desk import AtDesk


class Server(uvicorn.Server):
    """uvicorn's, of one application at one address; `serve` runs it, and `should_exit = True` ends it.

    host  a name or an address; any but this machine's own needs a token
    port  0: one that is free
    """

    def __init__(self, app: AtDesk, host: str = "127.0.0.1", port: int = 8000) -> None:
        self.socket = _listening(app, host, port)
        limits = app.limits
        super().__init__(
            uvicorn.Config(
                app,
                http=guarded(limits),
                ws="none",
                interface="asgi3",
                lifespan="on",
                log_config=None,
                log_level="error",  # or each client that writes nonsense could write lines here
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=limits.connections + 1,
                timeout_graceful_shutdown=max(1, round(limits.stop)),
            )
        )

    @property
    def url(self) -> str:
        """Where it is reached."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(
    app: AtDesk, host: str = "127.0.0.1", port: int = 8000, *, started: Callable[[Server], None] | None = None
) -> None:
    """Answer until SIGTERM or Ctrl-C; requests in flight end before it returns, within `limits.stop` seconds.

    started: called once with the Server, whose `url` says where it is reached. After Ctrl-C, KeyboardInterrupt is
    raised. Raises ArgumentError for an address that others reach without a token, OSError for one that can't be had.
    """
    server = Server(app, host, port)
    if started is not None:
        started(server)
    gc.freeze()  # modules and machine code stay: no collection between two requests goes through them again
    with _terminated_quietly(), _shared_often():
        server.run([server.socket])


@contextmanager
def _shared_often() -> Generator[None]:
    """Within, a thread that searches, or looks for newer saves, holds a lookup up for .5 ms at a time, and not 5."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _terminated_quietly() -> Generator[None]:
    """Within, SIGTERM is no error: uvicorn ends by it, and raises it again, which would end the process with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _nothing)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _nothing(number: int, frame: object) -> None:
    """What is done about a signal that uvicorn has heeded."""


def _listening(app: AtDesk, host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise ArgumentError(f"there is no address {host!r:.200}, port {port}: {error}") from error
    if not app.has_token and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise ArgumentError(
            f"{host} can be reached from elsewhere, and anybody could ask: --token-file FILE makes them show a token; "
            "127.0.0.1 is for this machine alone"
        )
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let another process listen at the same port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"{host} port {port} can't be had: {error.strerror}") from error
    return listening
