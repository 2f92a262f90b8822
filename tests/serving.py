"""A server in a thread of the tests' process, at a port that is free, and folders for it to serve."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import httpx
import numpy as np

import hotrow
from hotrow.models import NextItem, Retrieval
from hotrow.serve import create_app
from hotrow.serve.program import Server

ODD = [
    "lantern",
    "a/b",
    "a?b&c=d#e",
    "%41",
    "a+b c",
    "\u202egnp.exe",
    "é",
    "e\u0301",
    "日本",
    "🪔",
    "\x00",
    "\x1b[2J",
    "\r\nSet-Cookie: a=b",
    "<script>alert(1)</script>",
    '"',
    "\\",
    "",
    " ",
    "x" * 10_000,
]
"""Ids that are awkward in addresses, in JSON, in logs or on a terminal."""


@contextmanager
def running(app, client: dict | None = None) -> Generator[httpx.Client]:
    """A client of the application, which is served at a port of its own until the end."""
    server = Server(app, port=0)
    thread = threading.Thread(target=server.run, args=([server.socket],))
    thread.start()
    try:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False, **(client or {})) as one:
            while not server.started:
                time.sleep(0.01)
            yield one
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


@contextmanager
def serving(path, **options) -> Generator[httpx.Client]:
    """A client of what is in a folder, whose searches are made."""
    app = create_app(path, **options)
    with running(app) as client:
        made(client)
        yield client


def made(client: httpx.Client) -> None:
    """Wait until all searches are made, and served."""
    until(lambda: all(side["search"] == "ready" for side in client.get("/ready").json()["sides"].values()))


def until(true) -> None:
    """Wait until something is so, for a minute at most."""
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it never was")


def table_of(ids, dim: int = 4, seed: int = 0) -> hotrow.Table:
    """A table with a row for each of these ids."""
    table = hotrow.Table(dim, seed=seed)
    table.find(ids, grow=True)
    return table


def shop() -> Retrieval:
    """Two shelves; who takes from one takes more of it."""
    shelves = [["lantern", "candle", "t-light"], ["mug", "pot", "spoon"]]
    pairs = [(10 + who, item) for who in range(20) for item in shelves[who % 2][: 2 + who // 2 % 2]]
    return Retrieval(8, epochs=3).fit(([who for who, _ in pairs], [item for _, item in pairs]))


def days() -> NextItem:
    """What comes after what."""
    return NextItem(8, epochs=3).fit((["a"] * 3 + ["b"] * 3, ["tea", "mug", "pot", "pen", "ink", "pad"]))


def raw(url: str, data: bytes, *, wait: float = 30, ended: bool = False) -> bytes:
    """What a server answers to these bytes until it closes the connection, or the answer is there."""
    with socket.create_connection(address(url), timeout=wait) as connection:
        connection.sendall(data)
        if ended:
            connection.shutdown(socket.SHUT_WR)
        return drained(connection)


def drained(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    pieces = []
    try:
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    except ConnectionResetError:  # it had sent more than anybody wanted to read
        pass
    return b"".join(pieces)


def address(url: str) -> tuple[str, int]:
    """Host and port."""
    parsed = httpx.URL(str(url))
    return parsed.host, parsed.port


def vectors_of(answer: httpx.Response) -> np.ndarray:
    """The vectors of a lookup: float32 (n, dim)."""
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["vectors"], np.float64).astype(np.float32)
