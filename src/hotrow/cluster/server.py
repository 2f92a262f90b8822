"""The thread of a shard that answers requests over ZeroMQ, one after the other."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from shutil import rmtree
from threading import Lock, Thread, get_ident
from typing import Any

import numpy as np
import zmq

from hotrow.cluster import keys
from hotrow.cluster.arena import Arenas
from hotrow.cluster.leavings import note, sweep
from hotrow.cluster.wire import decode, encode, size
from hotrow.errors import HotrowError

Answer = Callable[[dict[str, Any], list[np.ndarray], Callable[..., None]], bool]
"""answer(fields, arrays, reply) → whether it was answered, or will be; False: ask `again` when something has moved."""
log = logging.getLogger("hotrow")
_SOCKETS = "hotrow-shard-"
_LONGEST = 90  # bytes in the path of a Unix socket's folder; the system has room for some 107


class Server:
    """Listens on a Unix socket in a folder of its own, and on TCP once somebody on another node wants it.

    secret: what each request must show; it is told over Ray alone. Over TCP it is not even read from those who haven't
    the keys that are made of it.
    """

    def __init__(self, secret: str, index: int, answer: Answer) -> None:
        self._secret, self._answer = secret.encode(), answer
        self.arenas = Arenas()
        remove_sockets(secret, f"{index}-")  # of one that was killed
        sweep(Path(_parent()).glob(f"{_SOCKETS}*"))  # and of other tables
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_prefix(secret)}{index}-", dir=_parent()))  # only for this user
        note(self._folder, os.getpid())
        self.local = f"ipc://{self._folder / 'shard'}"
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)  # who asks has a bound of its own
        self._socket.bind(self.local)
        self._wake_address = f"inproc://wake-{id(self)}"
        self._wake = self._context.socket(zmq.PULL)
        self._wake.bind(self._wake_address)
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waking = Lock()
        self._waker: Any = None
        self._waiting: list[tuple[bytes, dict[str, Any], list[np.ndarray]]] = []
        self._counts = {"bytes_in": 0, "bytes_out": 0}
        self._busy: tuple[float, float | None] = 0.0, None  # seconds, and since when with the request of this moment
        self._address: str | None = None
        self._doorkeeper: Any = None
        self._thread = Thread(target=self._run, name="hotrow-shard", daemon=True)
        self._stopped = False

    def start(self) -> None:
        """From now on it answers."""
        self._thread.start()

    def stop(self) -> None:
        """From now on it doesn't."""
        self._stopped = True
        self.soon(lambda: None)
        self._thread.join(10)
        if self._doorkeeper is not None:
            self._doorkeeper.stop()
        with self._waking:
            if not self._thread.is_alive():
                self._context.destroy(0)
        rmtree(self._folder, ignore_errors=True)

    def counts(self) -> dict[str, float]:
        """Bytes and seconds since the start, and how many requests wait for a change."""
        busy, since = self._busy
        if since is not None:
            busy += time.perf_counter() - since
        return {**self._counts, "seconds_busy": busy, "waiting": len(self._waiting)}

    def remote(self, address: str) -> str:
        """The endpoint for other nodes, at this address of the machine; opened at the first call."""
        done: Future[str] = Future()

        def bind() -> None:
            try:
                if self._address is None:
                    self._doorkeeper = self._doorkeeper or keys.guard(self._socket, self._secret.decode())
                    port = self._socket.bind_to_random_port(f"tcp://{address}")
                    self._address = f"tcp://{address}:{port}"
                done.set_result(self._address)
            except (HotrowError, zmq.ZMQError, OSError) as error:
                done.set_exception(error)

        self.soon(bind)
        return done.result(10)

    def soon(self, job: Callable[[], None]) -> None:
        """Let the server's thread do it, which alone may use its socket."""
        self._jobs.put(job)
        with self._waking:
            if self._context.closed:
                return
            if self._waker is None:
                self._waker = self._context.socket(zmq.PUSH)
                self._waker.connect(self._wake_address)
            self._waker.send(b"")

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException:  # Ray starts another; this one would be there and say nothing
            log.exception("a shard ends, for it can't answer any more")
            os._exit(1)

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while not self._stopped:
            ready = dict(poller.poll())
            began, busy = time.perf_counter(), self._busy[0]
            self._busy = busy, began
            if self._wake in ready:
                self._wake.recv()
                self._jobs.get()()
            if self._socket in ready:
                with suppress(zmq.ZMQError):
                    who, *parts = self._socket.recv_multipart(copy=False)
                    self._take(who.bytes, parts)
            self._busy = busy + time.perf_counter() - began, None
        self._socket.close()

    def _take(self, who: bytes, parts: list[Any]) -> None:
        try:
            fields, arrays = decode(parts, self.arenas)
            shown = str(fields.get("secret")).encode()
        except (HotrowError, ValueError, RecursionError):
            return  # whoever this is, it isn't hotrow
        if not hmac.compare_digest(shown, self._secret) or not isinstance(fields.get("id"), int):
            return
        self._counts["bytes_in"] += len(parts[0]) + sum(array.nbytes for array in arrays)  # in the arena, too
        if not self._ask(who, fields, arrays):
            self._waiting.append((who, fields, arrays))
        elif "number" in fields:
            self.again()

    def again(self) -> None:
        """Ask those again that wait for something, in the order in which they came. On the server's thread."""
        changed = True
        while changed and self._waiting:
            waiting, self._waiting, changed = self._waiting, [], False
            for one in waiting:
                if self._ask(*one):
                    changed |= "number" in one[1]
                else:
                    self._waiting.append(one)

    def _ask(self, who: bytes, fields: dict[str, Any], arrays: list[np.ndarray]) -> bool:
        def reply(told: dict[str, Any], made: Sequence[np.ndarray] = ()) -> None:
            parts = encode({**told, "id": fields["id"]}, made)
            in_room = sum(array.nbytes for array in fields.get("room", ())) if told.get("in_room") else 0
            self._counts["bytes_out"] += size(parts) + in_room
            if get_ident() == self._thread.ident:
                self._send(who, parts)
            else:
                self.soon(lambda: self._send(who, parts))

        try:
            return self._answer(fields, arrays, reply)
        except Exception as error:  # noqa: BLE001 — whoever asked is told, and the shard goes on
            reply({"error": f"{type(error).__name__}: {error}"})
            return True

    def _send(self, who: bytes, parts: list[Any]) -> None:
        with suppress(zmq.ZMQError):  # whoever asked is gone
            self._socket.send_multipart([who, *parts], copy=False)


def _parent() -> str:
    """The folder for temporary ones, if the path of a socket fits in there."""
    return tempfile.gettempdir() if len(tempfile.gettempdir()) < _LONGEST - 40 else "/tmp"  # noqa: S108


def _prefix(secret: str) -> str:
    return f"{_SOCKETS}{hashlib.sha256(secret.encode()).hexdigest()[:12]}-"


def remove_sockets(secret: str, which: str = "") -> None:
    """Remove what shards of this secret have left on this machine, where a kill let them remove nothing."""
    for folder in Path(_parent()).glob(f"{_prefix(secret)}{which}*"):
        rmtree(folder, ignore_errors=True)
