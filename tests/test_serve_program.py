"""`hotrow serve` as a process: where it listens, who may ask, and how it ends."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import uvicorn
from serving import address, shop, table_of, until, vectors_of

from hotrow.apps import cli
from hotrow.apps.serve import read_token
from hotrow.errors import DataError, MissingExtraError

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("program")
    table_of(range(1000), 512).save(root / "table")
    shop().save(root / "shop")
    return root


@contextmanager
def program(*arguments, code=0, **environment):
    """A running `hotrow serve`, and a client of it; at its end its exit code is compared."""
    command = [sys.executable, "-m", "hotrow", "serve", *map(str, arguments), "--port", "0", "--json", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            with httpx.Client(base_url=json.loads(line)["url"], timeout=60, trust_env=False) as client:
                yield process, client
            assert process.wait(60) == code, process.stderr.read()
        finally:
            process.kill()


def test_a_request_in_flight_is_answered_before_sigterm_ends_it(folder):
    ids = list(range(1000))
    body = json.dumps({"ids": ids}).encode()
    with program(folder / "table") as (process, client):
        with socket.create_connection(address(client.base_url), timeout=60) as slow:
            slow.sendall(b"POST /v1/lookup HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            slow.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body[:100])
            until(lambda: "hotrow_requests_in_flight 2.0" in client.get("/metrics").text)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            slow.sendall(body[100:])
            answer = b""
            while piece := slow.recv(1 << 16):
                answer += piece
        head, _, content = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert len(json.loads(content)["vectors"]) == 1000
        with pytest.raises(httpx.TransportError):
            httpx.get(client.base_url, trust_env=False)


def test_ctrl_c_ends_it_as_it_ends_all_commands(folder):
    with program(folder / "shop", code=130) as (process, client):
        assert client.get("/v1/lookup?id=mug").status_code == 200
        process.send_signal(signal.SIGINT)


def test_options_become_limits_hosts_and_metadata(folder, tmp_path):
    (tmp_path / "shelves.csv").write_text("item,shelf\nlantern,light\nmug,tea\npot,tea\ncandle,light\n", "utf-8")
    options = [
        "--metadata",
        f"item={tmp_path / 'shelves.csv'}",
        "--max-ids",
        "2",
        "--max-k",
        "3",
        "--metric",
        "euclidean",
    ]
    with program(folder / "shop", *options, "--allow-host", "lamps.local") as (process, client):
        until(lambda: client.get("/ready").json()["sides"]["item"]["search"] == "ready")
        found = client.get("/v1/similar?id=mug&where=shelf:tea", headers={"host": "lamps.local"}).json()
        assert found["metric"] == "euclidean"
        assert {each["id"] for each in found["similar"]} <= {"pot", "spoon"}
        assert client.get("/v1/lookup?id=mug&id=pot&id=candle").status_code == 413
        assert client.get("/v1/similar?id=mug&k=4").status_code == 413
        process.send_signal(signal.SIGTERM)


def test_a_token_file_lets_others_ask_who_have_it(folder, tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n", "ascii")
    path.chmod(0o600)
    with program(folder / "shop", "--host", "0.0.0.0", "--token-file", path) as (process, client):
        assert client.get("/v1/lookup?id=mug").status_code == 401
        assert vectors_of(client.get("/v1/lookup?id=mug", headers={"authorization": f"Bearer {TOKEN}"})).shape == (1, 8)
        process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("text", ["", "short", "with blanks in it, and long", "é" * 20, "x" * 2000])
def test_a_token_that_cannot_be_one_is_refused_with_what_makes_one(tmp_path, text):
    path = tmp_path / "token"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="openssl rand"):
        read_token(path)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="there are no such permissions here")
def test_a_token_that_others_can_read_is_warned_of(tmp_path, caplog):
    path = tmp_path / "token"
    path.write_text(TOKEN, "ascii")
    path.chmod(0o644)
    assert read_token(path) == TOKEN
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "holds neither"),
        (["shop", "--host", "0.0.0.0"], "--token-file"),
        (["shop", "--token-file", "nowhere"], "openssl rand -hex 32 > nowhere"),
        (["shop", "--token-file", "."], "openssl rand"),
        (["shop", "--metadata", "nope.csv"], "nope.csv"),
        (["shop", "--metadata", "user=nope.csv"], "nope.csv"),
        (["shop", "--metadata", "shelf=shelves.csv"], "there is no side 'shelf'"),
        (["shop", "--metadata", "a.csv", "--metadata", "b.csv"], "twice"),
    ],
)
def test_what_cannot_be_served_is_one_line_that_says_what_would_be(folder, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(folder)
    assert cli.main(["serve", *arguments, "--port", "0"]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_uvicorn_that_is_too_old_is_named_with_what_brings_a_newer_one(monkeypatch):
    from hotrow.serve import protocol

    monkeypatch.delattr(protocol.HttpToolsProtocol, "_start_asgi_task")
    spec = importlib.util.spec_from_file_location("older", protocol.__file__)
    with pytest.raises(MissingExtraError, match=f"finds {re.escape(uvicorn.__version__)}.*--upgrade uvicorn"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize("port", ["65536", "-1", "x", "८"])
def test_a_port_that_is_none_is_wrong_usage(port):
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "model", "--port", port])
    assert ended.value.code == 2


def test_what_is_served_is_what_the_table_has(folder):
    with program(folder / "table") as (process, client):
        given = [3, 999]
        found = vectors_of(client.post("/v1/lookup", json={"ids": given}))
        assert np.array_equal(found, table_of(range(1000), 512).lookup(given))
        process.send_signal(signal.SIGTERM)
