"""A client that costs little, so that what is timed is the server: requests made beforehand, bare sockets."""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARROW = "application/vnd.apache.arrow.stream"
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Child:
    """A server in a process of its own."""

    port: int
    pid: int


@contextmanager
def child(case: Mapping[str, Any]) -> Generator[Child]:
    """`benchmarks.serve_child` with this case, until the end."""
    command = [sys.executable, "-m", "benchmarks.serve_child", json.dumps(case)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Child(int(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as bytes; names of headers have _ for -."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Connection:
    """One connection, and how much of an answer has come by it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._pieces: list[bytes] = []
        self._left: int | None = None

    def fileno(self) -> int:
        """For a selector."""
        return self.socket.fileno()

    def read(self) -> bool:
        """Read what is there; whether the answer is whole. ConnectionError if it ends before."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise ConnectionError("the server has closed the connection")
        self._pieces.append(piece)
        if self._left is None:
            head = b"".join(self._pieces)
            end = head.find(b"\r\n\r\n") + 4
            if end < 4:
                return False
            at = head.lower().index(b"content-length:") + 15
            self._left = int(head[at : head.index(b"\r\n", at)]) + end - len(head)
        else:
            self._left -= len(piece)
        return self._left <= 0

    def answer(self) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer that is whole."""
        head, _, body = b"".join(self._pieces).partition(b"\r\n\r\n")
        self._pieces, self._left = [], None
        return int(head.split(b" ", 2)[1]), head, body

    def ask(self, data: bytes) -> tuple[int, bytes, bytes]:
        """Send a request, and wait for its answer."""
        self.socket.sendall(data)
        while not self.read():
            pass
        return self.answer()

    def close(self) -> None:
        """End it."""
        self.socket.close()


def load(port: int, requests: Sequence[bytes], count: int, connections: int) -> float:
    """Requests a second: `count` of them, each connection sending its next one when the last is answered."""
    with _open(port, connections) as (selector, all):
        begin, sent = time.perf_counter(), 0
        for one in all:
            one.socket.sendall(requests[sent % len(requests)])
            sent += 1
        answered = 0
        while answered < count:
            for key, _ in selector.select(60):
                one: Connection = key.fileobj  # type: ignore[assignment]
                if one.read():
                    _check(one)
                    answered += 1
                    if sent < count:
                        one.socket.sendall(requests[sent % len(requests)])
                        sent += 1
        return count / (time.perf_counter() - begin)


def latencies(port: int, requests: Sequence[bytes], count: int, rate: float, connections: int) -> list[float]:
    """Milliseconds from when each request was due to its answer; one is due each 1/rate seconds, come what may."""
    with _open(port, connections) as (selector, free):
        due, taken = dict[Connection, float](), list[float]()
        begin, sent = time.perf_counter(), 0
        while len(taken) < count:
            now = time.perf_counter()
            while sent < count and free and begin + sent / rate <= now:
                one = free.pop()
                due[one] = begin + sent / rate
                one.socket.sendall(requests[sent % len(requests)])
                sent += 1
            wait = begin + sent / rate - time.perf_counter() if sent < count and free else 60
            for key, _ in selector.select(max(0.0, wait)):
                one = key.fileobj  # type: ignore[assignment]
                if one.read():
                    taken.append(1e3 * (time.perf_counter() - due.pop(one)))
                    _check(one)
                    free.append(one)
        return taken


def _check(one: Connection) -> None:
    status, _, body = one.answer()
    if status != 200:
        raise AssertionError(f"answered {status}: {body[:200]!r}")


@contextmanager
def _open(port: int, count: int) -> Generator[tuple[selectors.BaseSelector, list[Connection]]]:
    all = [Connection(port) for _ in range(count)]
    with selectors.DefaultSelector() as selector:
        for one in all:
            selector.register(one, selectors.EVENT_READ)
        try:
            yield selector, list(all)
        finally:
            for one in all:
                one.close()
