"""Clients that are slow, huge, malformed or gone hold nothing up for long, and get no 500."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from dataclasses import replace

import pytest
from serving import address, drained, made, raw, running, table_of, until

from hotrow.errors import ArgumentError
from hotrow.serve import Limits, create_app
from hotrow.serve.answers import RefusedError
from hotrow.serve.hands import Hands

LIMITS = Limits(head=4096, body=10_000, slow=0.4, connections=8, threads=1, waiting=1, answer=1.0, stop=1.0)
IDS = list(range(2000))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("table")
    table_of(IDS, 256).save(path)
    return path


@pytest.fixture
def client(folder, caplog):
    with running(create_app(folder, limits=LIMITS)) as one:
        made(one)
        yield one
        assert one.get("/health").status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def head(*lines: str, host: str = "localhost") -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, f"Host: {host}", "")).encode("latin-1")


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def dripped(connection: socket.socket, drop: bytes) -> bool:
    """Whether the other side has had enough of one drop after the other."""
    try:
        for _ in range(200):
            connection.sendall(drop)
            time.sleep(0.05)
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (head("GET /v1/lookup?id=\x01 HTTP/1.1"), 400),
        (head("GET /v1/lookup?id=\xff HTTP/1.1", "Connection: close"), 400),
        (head("GET /v1/lookup?id=1#x HTTP/1.1", "Connection: close"), 200),
        (head("GET //evil.example/v1/lookup HTTP/1.1", "Connection: close"), 404),
        (head("GET http://evil.example/health HTTP/1.1", "Connection: close"), 200),
        (head("OPTIONS * HTTP/1.1", "Connection: close"), 0),
        (head("CONNECT evil.example:80 HTTP/1.1"), 400),
        (head("GET /health HTTP/1.1", "A: b\x00c"), 400),
        (head("GET /health HTTP/1.1", "Connection: Upgrade, close", "Upgrade: websocket"), 200),
        (b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", 421),
        (head("POST /v1/lookup HTTP/1.1", "Content-Length: -1"), 400),
        (head("POST /v1/lookup HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
        (head("POST /v1/lookup HTTP/1.1", "Content-Length: 99999999999999999999999"), 400),
        (head("POST /v1/lookup HTTP/1.1", "Content-Length: 1000000000000"), 413),
        (head("POST /v1/lookup HTTP/1.1", "Transfer-Encoding: chunked") + b"zz\r\n", 400),
        (
            head("POST /v1/lookup HTTP/1.1", "Transfer-Encoding: chunked", "Connection: close")
            + b"2\r\n{}\r\n0\r\n\r\n",
            400,
        ),
        (head("POST /v1/lookup HTTP/1.1", "Content-Length: 20000", "Connection: close") + b" " * 20_000, 413),
        (head("POST /v1/lookup HTTP/1.1", "Content-Length: 10") + b"{", 408),
        (head("GET /v1/lookup?" + "id=1&" * 1200 + "id=1 HTTP/1.1", "Connection: close"), 414),
    ],
)
def test_what_is_no_request_or_too_much_of_one_is_answered_and_ended(client, data, expected):
    answer = raw(client.base_url, data)
    found = status(answer)
    assert found == expected or (expected == 0 and 400 <= found < 500), answer[:300]


def test_a_request_without_a_host_is_refused_from_the_first_on(folder):
    with running(create_app(folder)) as client:
        for version in ("1.0", "1.1"):
            data = f"GET /health HTTP/{version}\r\nConnection: close\r\n\r\n".encode()
            assert status(raw(client.base_url, data)) == 421
            assert status(raw(client.base_url, data.replace(b"\r\nC", b"\r\nHost:\r\nC"))) == 421


def test_a_head_that_comes_slowly_or_never_is_cut_off(client):
    begin = time.monotonic()
    with socket.create_connection(address(client.base_url), timeout=30) as silent:
        assert silent.recv(1) == b""
    with socket.create_connection(address(client.base_url), timeout=30) as slow:
        slow.sendall(b"GET / HT")
        assert drained(slow) == b""
    with socket.create_connection(address(client.base_url), timeout=30) as lines:
        lines.sendall(head("GET /health HTTP/1.1"))
        assert lines.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert dripped(lines, b"\r\n")
    assert time.monotonic() - begin < 25


CHUNKED = head("POST /v1/lookup HTTP/1.1", "Transfer-Encoding: chunked")
RUBBISH = pytest.mark.parametrize("rubbish", [b"a" * 1200, b"a: b\r\n" * 200])


def taken(connection: socket.socket, rubbish: bytes) -> bool:
    """Whether the other side takes ten megabytes of it."""
    try:
        for _ in range(8500):
            connection.sendall(rubbish)
    except OSError:
        return False
    return True


@RUBBISH
@pytest.mark.parametrize(
    "begin",
    [
        b"GET /health HTTP/1.1\r\nA: ",
        CHUNKED + b"0\r\nA: ",
        CHUNKED + b"2\r\n{}\r\n0\r\nA: ",
        CHUNKED + b"1;a=",
    ],
    ids=["head", "trailers", "trailers of a body", "line of a chunk"],
)
def test_a_head_and_what_else_is_no_body_is_cut_off_if_it_has_no_end(client, begin, rubbish):
    with socket.create_connection(address(client.base_url), timeout=30) as endless:
        endless.sendall(begin)
        assert not taken(endless, rubbish)


@RUBBISH
def test_a_head_without_end_is_cut_off_while_the_request_before_it_is_answered(folder, monkeypatch, rubbish):
    from hotrow.search import Search

    going, held = threading.Event(), threading.Event()

    def slow(*_, **__):
        going.set()
        held.wait(60)
        raise ArgumentError("nobody waits for this")

    monkeypatch.setattr(Search, "similar", slow)
    with running(create_app(folder, limits=replace(LIMITS, answer=60.0))) as client:
        made(client)
        with socket.create_connection(address(client.base_url), timeout=30) as endless:
            endless.sendall(head("GET /v1/similar?id=1 HTTP/1.1"))
            assert going.wait(60)
            endless.sendall(b"GET /health HTTP/1.1\r\nA: ")
            try:
                assert not taken(endless, rubbish)
            finally:
                held.set()


def test_a_large_body_in_chunks_of_one_byte_is_read_to_its_end(client):
    body = b'{"ids": [1]%b}' % (b" " * 9000)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\nA: b\r\n\r\n"
    begin = head("POST /v1/lookup HTTP/1.1", "Transfer-Encoding: chunked", "Connection: close")
    assert status(raw(client.base_url, begin + chunks)) == 200


def test_a_body_without_end_after_its_answer_is_cut_off(client):
    with socket.create_connection(address(client.base_url), timeout=30) as endless:
        endless.sendall(head("GET /health HTTP/1.1", "Content-Length: 1000000000"))
        assert endless.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert dripped(endless, b"a")


def test_who_does_not_read_is_cut_off(client):
    body = b'{"ids": %b}' % str(IDS).replace(" ", "").encode()
    ask = head("POST /v1/lookup HTTP/1.1", f"Content-Length: {len(body)}", "Content-Type: application/json") + body
    with socket.create_connection(address(client.base_url), timeout=30) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(ask)
        until(lambda: client.get("/metrics").text.count("\nhotrow_requests_in_flight 2.0") == 1)
        until(lambda: client.get("/metrics").text.count("\nhotrow_requests_in_flight 1.0") == 1)
        assert len(drained(deaf)) < 500_000  # what was sent and not read is gone with the connection


def test_who_hangs_up_in_the_middle_leaves_nothing_behind(client):
    for data in (
        b"GET",
        head("POST /v1/lookup HTTP/1.1", "Content-Length: 100") + b"{",
        head("GET /v1/similar?id=1 HTTP/1.1"),
    ):
        for _ in range(5):
            with socket.create_connection(address(client.base_url), timeout=30) as gone:
                gone.sendall(data)
            raw(client.base_url, data, ended=True)
    until(lambda: client.get("/metrics").text.count("\nhotrow_requests_in_flight 1.0") == 1)


def test_more_connections_than_allowed_are_told_or_ended_and_others_served_after(client):
    held = [socket.create_connection(address(client.base_url), timeout=30) for _ in range(90)]
    try:
        one = held[-1]
        one.sendall(head("GET /health HTTP/1.1"))
        assert drained(one)[:12] in {b"HTTP/1.1 503", b""}
    finally:
        for connection in held:
            connection.close()
    until(lambda: status(raw(client.base_url, head("GET /health HTTP/1.1", "Connection: close"))) == 200)


def test_work_that_takes_too_long_or_is_too_much_is_refused(folder):
    async def ask():
        hands, held = Hands(LIMITS), threading.Event()
        begun = []

        def work(name, wait=True):
            begun.append(name)
            return held.wait() if wait else name

        first = asyncio.create_task(hands.do(lambda: work("first")))
        second = asyncio.create_task(hands.do(lambda: work("second", wait=False)))
        await asyncio.sleep(0.1)
        with pytest.raises(RefusedError, match="too many requests") as refused:
            await hands.do(lambda: work("third", wait=False))
        assert refused.value.status == 503
        with pytest.raises(RefusedError, match="longer than 1 s"):
            await first
        with pytest.raises(RefusedError, match="too many requests"):  # it has never begun
            await second
        gone = asyncio.create_task(hands.do(lambda: work("gone", wait=False)))
        await asyncio.sleep(0.1)
        gone.cancel()
        await asyncio.sleep(0.1)
        last = asyncio.create_task(hands.do(lambda: work("last", wait=False)))
        await asyncio.sleep(0.1)
        held.set()
        assert await last == "last"
        assert begun == ["first", "last"]
        hands.close()

    asyncio.run(ask())


def test_threads_that_are_let_go_are_there_again_also_for_another_loop():
    hands, held = Hands(LIMITS), threading.Event()

    async def leave_one_behind():
        with pytest.raises(RefusedError, match="longer than 1 s"):
            await hands.do(held.wait)
        hands.close()

    async def ask():
        return await asyncio.gather(hands.do(lambda: 1), hands.do(lambda: 2))

    for _ in range(2):
        asyncio.run(leave_one_behind())
        assert asyncio.run(ask()) == [1, 2]
        hands.close()
    held.set()


def test_an_error_that_nobody_thought_of_is_500_and_told_once_without_what_was_asked(folder, caplog, monkeypatch):
    from hotrow.serve import served

    monkeypatch.setattr(served.Served, "lookup", lambda *_: 1 // 0)
    with running(create_app(folder)) as client, caplog.at_level(logging.INFO, "hotrow"):
        for id in ("12345", "67890"):
            answer = client.get(f"/v1/lookup?id={id}")
            assert answer.status_code == 500
            assert "log" in answer.json()["error"]["message"]
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1
    assert "12345" not in caplog.text


def test_ids_of_any_kind_never_come_into_the_log(folder, caplog):
    with running(create_app(folder)) as client, caplog.at_level(logging.INFO):
        made(client)
        caplog.clear()
        for path in ("/v1/lookup?id=777", "/v1/lookup?id=%1b%5b2J", "/%1b%5b2J", "/v1/lookup?id=1"):
            client.get(path)
        assert not [record for record in caplog.records if record.name.startswith(("hotrow", "uvicorn"))]


def test_an_address_that_others_reach_needs_a_token(folder):
    from hotrow.serve.program import Server

    app = create_app(folder)
    for host in ("0.0.0.0", "::"):
        with pytest.raises(ArgumentError, match="--token-file"):
            Server(app, host, 0)
    with pytest.raises(ArgumentError, match="no address"):
        Server(app, "no such host", 0)
    taken = Server(app, port=0)
    with pytest.raises(OSError, match="can't be had"):
        Server(app, port=taken.socket.getsockname()[1])
    taken.socket.close()
    Server(create_app(folder, token="x" * 16), "0.0.0.0", 0).socket.close()
