"""All at once: clients who ask and check every answer, a table that is saved again and again, and somebody hostile.

In save g of the table the vector of id i is [g, i, g + i, g − i, …]: so each answer says of which save it is, and
whether it is of that one alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

import hotrow
from benchmarks.serve_client import ARROW, Child, Connection, child, request

ROWS, DIM = 20_000, 16
LIMITS = {"slow": 2.0, "body": 200_000, "head": 20_000, "connections": 100}
_MOST = 400_000
"""Requests of a client."""


@dataclass
class Found:
    """What came of it: answers that were checked, what was wrong with any, what the hostile client has tried."""

    answers: int = 0
    hostile: int = 0
    saves: int = 0
    wrong: list[str] = field(default_factory=list)
    stamps: dict[str, int] = field(default_factory=dict)
    memory: float = 0.0
    """Of the server's process at the end, as a share of what it was after a fifth of the time."""
    files: int = 0
    """Open at the end, less those at the beginning."""


def soak(folder: Path, seconds: float, *, clients: int = 2) -> Found:
    """Serve a table for so long in a process of its own, and ask it all the time."""
    found, ended = Found(), threading.Event()
    table = hotrow.Table(DIM)
    _set(table, 0)
    table.save(folder)
    with child({"path": str(folder), "every": 0.1, "limits": LIMITS}) as server:
        _ready(server.port)
        open_before = _open_files(server)
        workers = [threading.Thread(target=_ask, args=(server.port, found, ended, n)) for n in range(clients)]
        workers += [
            threading.Thread(target=_save, args=(table, folder, found, ended)),
            threading.Thread(target=_be_hostile, args=(server.port, found, ended)),
        ]
        for worker in workers:
            worker.start()
        ended.wait(seconds / 5)
        before = _resident(server)
        ended.wait(seconds * 4 / 5)
        ended.set()
        for worker in workers:
            worker.join(120)
        time.sleep(LIMITS["slow"] + 1)  # in which what the hostile client has left open is closed
        found.memory = _resident(server) / before
        found.files = _open_files(server) - open_before
    return found


# --- the table -------------------------------------------------------------------------------------------------------


def vectors(ids: np.ndarray, generation: int) -> np.ndarray:
    """float32 (n, DIM): which save, which id, and both together; whole numbers below 2^24, so exact."""
    columns = [np.full(len(ids), generation), ids, ids + generation, ids - generation]
    return np.stack(columns * (DIM // 4), axis=1).astype(np.float32)


def _set(table: hotrow.Table, generation: int) -> None:
    ids = np.arange(ROWS)
    table.set(ids, vectors(ids, generation))


def _save(table: hotrow.Table, folder: Path, found: Found, ended: threading.Event) -> None:
    """Another save every half second: three deltas, then a snapshot."""
    while not ended.wait(0.5):
        found.saves += 1
        _set(table, found.saves)
        if found.saves % 4:
            table.save_delta(folder)
        else:
            table.save(folder)


# --- who asks --------------------------------------------------------------------------------------------------------


def _ask(port: int, found: Found, ended: threading.Event, seed: int) -> None:
    chance, connection = random.Random(seed), Connection(port)
    asks = (_get, _post, _arrow, _near, _unknown, _picture)
    for _ in range(_MOST):
        if ended.is_set():
            break
        ask = chance.choice(asks)
        try:
            ask(connection, chance, found)
            found.answers += 1
        except Exception as error:  # noqa: BLE001 — whatever is wrong is told at the end
            found.wrong.append(f"{ask.__name__}: {error!r:.300}")
            connection.close()
            connection = Connection(port)
    connection.close()


def _ids(chance: random.Random) -> list[int]:
    return [chance.randrange(ROWS) for _ in range(chance.randrange(1, 200))]


def _get(connection: Connection, chance: random.Random, found: Found) -> None:
    ids = _ids(chance)
    status, _, body = connection.ask(request("GET", "/v1/lookup?" + "&".join(f"id={id}" for id in ids)))
    _check_lookup(status, body, ids, found)


def _post(connection: Connection, chance: random.Random, found: Found) -> None:
    ids = _ids(chance)
    given = json.dumps({"ids": ids}).encode()
    status, _, body = connection.ask(request("POST", "/v1/lookup", given, Content_Type="application/json"))
    _check_lookup(status, body, ids, found)


def _check_lookup(status: int, body: bytes, ids: list[int], found: Found) -> None:
    answer = json.loads(body)
    assert status == 200, body[:300]
    assert answer["ids"] == ids
    _check_vectors(np.array(answer["vectors"], np.float32), ids, answer["stamp"], found)


def _arrow(connection: Connection, chance: random.Random, found: Found) -> None:
    ids = _ids(chance)
    stream = io.BytesIO()
    table = pa.table({"id": pa.array(ids, pa.int64())})
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    asked = request("POST", "/v1/lookup", stream.getvalue(), Content_Type=ARROW, Accept=ARROW)
    status, _, body = connection.ask(asked)
    assert status == 200, body[:300]
    read = pa.ipc.open_stream(body).read_all()
    assert read["id"].to_pylist() == ids
    made = read["vector"].combine_chunks().flatten().to_numpy().reshape(-1, DIM)
    _check_vectors(made, ids, read.schema.metadata[b"stamp"].decode(), found)


def _check_vectors(made: np.ndarray, ids: list[int], stamp: str, found: Found) -> None:
    generation = int(made[0, 0])
    assert np.array_equal(made, vectors(np.array(ids), generation)), "vectors of several saves, or of other ids"
    assert found.stamps.setdefault(stamp, generation) == generation, "a stamp that two saves have"


def _near(connection: Connection, chance: random.Random, _: Found) -> None:
    id = chance.randrange(ROWS)
    status, _, body = connection.ask(request("GET", f"/v1/similar?id={id}&k=5"))
    answer = json.loads(body)
    assert status == 200, body[:300]
    scores = [each["score"] for each in answer["similar"]]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert id not in {each["id"] for each in answer["similar"]}


def _unknown(connection: Connection, chance: random.Random, _: Found) -> None:
    status, _, body = connection.ask(request("GET", f"/v1/lookup?id={ROWS + chance.randrange(1000)}"))
    assert status == 404, body[:300]


def _picture(connection: Connection, chance: random.Random, _: Found) -> None:
    id = chance.randrange(ROWS)
    status, _, body = connection.ask(request("GET", f"/v1/explain?id={id}"))
    answer = json.loads(body)
    assert status == 200, body[:300]
    assert np.array_equal(np.float32(answer["vector"])[None], vectors(np.array([id]), int(answer["vector"][0])))


# --- who is hostile --------------------------------------------------------------------------------------------------


def _be_hostile(port: int, found: Found, ended: threading.Event) -> None:
    """Slow, huge, malformed, half closed: each a connection of its own, some of them left open."""
    chance, left = random.Random(99), list[socket.socket]()
    json_head = "POST /v1/lookup HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    deep = b'{"ids": ' + b"[" * 50_000
    everything = json.dumps({"ids": list(range(10_000))}).encode()
    tries = (
        lambda: chance.randbytes(chance.randrange(1, 3000)),
        lambda: b"GET /v1/lookup?id=" + chance.randbytes(50) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        lambda: b"GET / HTTP/1.1\r\nA: " + b"a" * chance.randrange(100_000),
        lambda: json_head.encode() + b"Content-Length: 100000000000\r\n\r\n{",
        lambda: json_head.encode() + b"Content-Length: 500000\r\n\r\n" + b" " * 500_000,
        lambda: json_head.encode() + b"Content-Length: %d\r\n\r\n" % len(deep) + deep,
        lambda: json_head.encode() + b"Content-Length: 50\r\n\r\n{",
        lambda: json_head.encode() + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        lambda: json_head.encode() + b"Content-Length: %d\r\n\r\n" % len(everything) + everything,
        lambda: b"GET /v1/similar?id=1&k=1000&where=a:b HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
        lambda: b"GET / HT",
    )
    while not ended.wait(0.02):
        found.hostile += 1
        with contextlib.suppress(OSError):
            one = socket.create_connection(("127.0.0.1", port), timeout=5)
            left.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.sendall(chance.choice(tries)())
            if chance.random() < 0.3:
                one.shutdown(socket.SHUT_WR)
        while len(left) > chance.randrange(30):
            left.pop(chance.randrange(len(left))).close()
    for one in left:
        one.close()


# --- the server's process --------------------------------------------------------------------------------------------


def _ready(port: int) -> None:
    connection = Connection(port)
    while b'"being made"' in connection.ask(request("GET", "/ready"))[2]:
        time.sleep(0.05)
    connection.close()


def _resident(server: Child) -> int:
    return int(Path(f"/proc/{server.pid}/statm").read_text("ascii").split()[1])


def _open_files(server: Child) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
