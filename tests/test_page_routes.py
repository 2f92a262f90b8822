"""What the page asks the server for: maps, points, colours, ids by their place, completion, and its own files."""

from __future__ import annotations

import gc
import re
import socket
import weakref
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from browser import HOSTILE, lamps, serving, told
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import address, running
from serving import until as eventually

import hotrow

pytest.importorskip("starlette", reason="the server is an extra")
pytest.importorskip("plotly", reason="the page draws by plotly")

import httpx

from hotrow.errors import HotrowError
from hotrow.maps import Map
from hotrow.models import Vectors, open_folder
from hotrow.serve import Limits, create_app, desk
from hotrow.serve.completion import Completion
from hotrow.serve.page import _Page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("routes") / "lamps"
    lamps(path, 40)
    return path


@contextmanager
def asked(path, **how):
    """A client of a server of its own."""
    with serving(create_app(path, **how)) as address, httpx.Client(base_url=address) as client:
        yield client


@pytest.fixture(scope="module")
def client(folder):
    with asked(folder, metadata=told) as client:
        yield client


def refused(answer, status):
    assert answer.status_code == status
    assert answer.json()["error"]["status"] == status
    return answer.json()["error"]["message"]


def test_what_is_served_is_told_with_its_sides_and_columns(client, folder):
    answer = client.get("/v1/info").json()
    assert answer == {
        "name": "lamps",
        "kind": "table",
        "stamp": open_folder(folder).stamp,
        "sides": [
            {"name": "id", "rows": 40 + len(HOSTILE), "dim": 6, "kind": "string", "columns": ["<i>kind</i>", "size"]}
        ],
        "report": None,
    }


def test_points_and_columns_are_bytes_in_the_order_of_ids(client, folder):
    opened = open_folder(folder)
    map = client.get("/v1/map?side=id").json()
    assert (map["n"], map["method"], [column["kind"] for column in map["columns"]]) == (
        40 + len(HOSTILE),
        "pca",
        ["category", "number"],
    )
    answer = client.get("/v1/map/points", params={"side": "id", "stamp": map["stamp"]})
    assert np.array_equal(np.frombuffer(answer.content, "<f4").reshape(-1, 2), Map.open(opened).points)
    assert "immutable" in answer.headers["cache-control"]
    metadata = told(opened, "id")
    codes = client.get("/v1/map/column", params={"name": "<i>kind</i>"}).content
    assert np.array_equal(np.frombuffer(codes, "<i4"), metadata.columns["<i>kind</i>"].codes)
    sizes = client.get("/v1/map/column?name=size").content
    assert np.array_equal(np.frombuffer(sizes, "<f4"), metadata.columns["size"].numbers.astype("<f4"))


def test_ids_go_to_rows_and_back_whatever_they_are(client, folder):
    ids = open_folder(folder).side().ids().to_pylist()
    assert client.get("/v1/map/ids?rows=57,0,5").json()["ids"] == [ids[57], ids[0], ids[5]]
    answer = client.post("/v1/map/rows", json={"side": "id", "ids": [*ids, "no such lamp"]})
    assert answer.json()["rows"] == [*range(len(ids)), -1]
    assert client.get("/v1/map/rows", params={"id": ids[40:50]}).json()["rows"] == list(range(40, 50))


def test_integers_beyond_those_of_javascript_are_text(tmp_path):
    ids = np.array([2**64 - 1, 2**53 + 1, 7], np.uint64)
    table = hotrow.Table(2, ids="uint64")
    table.find(ids, grow=True)
    table.save(tmp_path / "table")
    with asked(tmp_path / "table") as client:
        assert client.get("/v1/map/ids?rows=0,1,2").json()["ids"] == ["18446744073709551615", "9007199254740993", "7"]
        rows = client.post("/v1/map/rows", json={"ids": ["7", "9007199254740993", "9007199254740992", "seven", "-1"]})
        assert rows.json()["rows"] == [2, 1, -1, -1, -1]
        assert client.get("/v1/complete?q=1844&k=5").json() == {"ids": ["18446744073709551615"], "rows": [0]}
        assert client.get("/v1/complete?q=7").json()["rows"] == [2, 0, 1]  # that one, then those with a 7 in them


def test_a_question_about_a_map_that_is_gone_is_409(client):
    for path in ("points", "column?name=size", "ids?rows=1"):
        joint = "&" if "?" in path else "?"
        assert "another map" in refused(client.get(f"/v1/map/{path}{joint}stamp=0123"), 409)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/map?side=user", 400),
        ("/v1/map/column?name=nothing", 404),
        ("/v1/map/ids?rows=", 400),
        ("/v1/map/ids?rows=1,-2", 400),
        ("/v1/map/ids?rows=60", 400),
        ("/v1/map/ids?rows=99999999999999999999", 400),
        ("/v1/map/ids?rows=" + ",".join(["1"] * 1001), 413),
        ("/v1/complete?q=a&k=0", 400),
        ("/v1/complete?q=a&k=1000000", 400),
        ("/page/no.js", 404),
        ("/page/..%2fhtml.py", 404),
        ("/page/__init__.py", 404),
    ],
)
def test_what_cant_be_answered_is_refused_in_words(client, path, status):
    assert refused(client.get(path), status)


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"[]", b'"ids"', b'{"ids": "a"}', b'{"ids": [1]}', b'{"ids": [], "side": 3}', b"[" * 100_000, b"\xff"],
)
def test_a_body_that_is_no_list_of_ids_is_refused(client, body):
    assert "ids" in refused(client.post("/v1/map/rows", content=body), 400)


def test_a_body_that_is_too_large_is_refused(client):
    refused(client.post("/v1/map/rows", content=b"x" * (2 << 20)), 413)
    refused(client.post("/v1/map/rows", json={"ids": ["a"] * 1001}), 413)


def test_the_page_and_its_files_come_packed_with_a_policy_and_once(client):
    page = client.get("/", headers={"accept-encoding": "gzip"})
    assert page.headers["content-encoding"] == "gzip"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'unsafe-eval';" in policy
    names = re.findall(r'(?:src|href)="page/([^"…]+)"', page.text)
    assert {"plotly.min.js", "main.js", "page.css"} <= set(names)
    for name in names:
        plain = client.get(f"/page/{name}", headers={"accept-encoding": "identity"})
        assert plain.headers["content-type"].startswith(("text/javascript", "text/css"))
        again = client.get(f"/page/{name}", headers={"if-none-match": plain.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert not re.search(r'(?:src|href)="(?!page/|data:|#)', page.text)


# --- completion ------------------------------------------------------------------------------------------------------


def completed(ids, typed, k):
    """As one would say it."""
    small = typed.lower()
    exact = [i for i, id in enumerate(ids) if id == typed]
    begin = [i for i, id in enumerate(ids) if id.lower().startswith(small)]
    within = [i for i, id in enumerate(ids) if small in id.lower()[1:] and i not in begin]
    return list(dict.fromkeys(exact + begin + within))[:k]


@settings(max_examples=60)
@given(
    ids=st.lists(st.text("abcABC-é%_.*", min_size=1, max_size=5), min_size=1, max_size=40, unique=True),
    typed=st.text("abAB-é%_.*", max_size=3),
    k=st.integers(1, 12),
)
def test_completion_is_that_id_then_those_that_begin_so_then_those_that_contain_it(ids, typed, k):
    made = Completion(Vectors.of(ids, np.zeros((len(ids), 1))))
    assert made.rows(typed, k).tolist() == completed(ids, typed, k)


def test_completion_of_an_earlier_save_is_not_kept():
    page = _Page(lambda: None)
    gone = []
    for _ in range(3):
        for side in ("item", "user"):
            vectors = Vectors.of(["lantern", "cup"], [[1.0], [2.0]], name=side)
            made = page._completion(vectors)
            assert page._completion(vectors) is made
            gone += [weakref.ref(vectors), weakref.ref(made)]
    del vectors, made
    gc.collect()
    assert [one() is None for one in gone] == [True] * 8 + [False] * 4


def test_completion_looks_through_more_ids_than_it_does_at_once(monkeypatch):
    monkeypatch.setattr("hotrow.serve.completion._SLICE", 7)
    ids = [f"{'ab'[i % 2]}{i}" for i in range(100)]
    made = Completion(Vectors.of(ids, np.zeros((100, 1))))
    for typed in ("b", "9", "a1", "b9", "99", "x", ""):
        for k in (1, 5, 60):
            assert made.rows(typed, k).tolist() == completed(ids, typed, k)


# --- a better map ----------------------------------------------------------------------------------------------------


def state(client):
    return client.get("/v1/map").json()["better"]


def until(client, wanted):
    for _ in range(1000):
        told = state(client)
        if told is not None and told["state"] == wanted:
            return told
        Event().wait(0.01)
    raise AssertionError(told)


def test_a_better_map_is_made_in_the_background_and_then_shown(folder, monkeypatch):
    go = Event()

    def better(self, progress=None):
        progress(1, 4, {"stage": "unfolding"})
        assert go.wait(30)
        return replace(self, points=self.points + np.float32(1), method="umap")

    monkeypatch.setattr(Map, "better", better)
    monkeypatch.setattr("hotrow.serve.better.check_umap", lambda: None)
    with asked(folder) as client:
        before = client.get("/v1/map").json()
        assert before["better"] is None
        assert client.post("/v1/map/better?side=id").json()["state"] == "running"
        assert client.post("/v1/map/better?side=id").json()["state"] == "running"  # the same one
        while state(client)["done"] != 0.25:
            Event().wait(0.01)
        assert client.get("/v1/map").json()["stamp"] == before["stamp"]  # which goes on being shown
        go.set()
        until(client, "ready")
        after = client.get("/v1/map").json()
        assert (after["method"], after["stamp"] == before["stamp"]) == ("umap", False)
        assert refused(client.get("/v1/map/points", params={"stamp": before["stamp"]}), 409)


def test_a_better_map_that_fails_says_why_and_can_be_tried_again(folder, monkeypatch):
    def better(self, progress=None):
        raise HotrowError("no room for it")

    monkeypatch.setattr(Map, "better", better)
    monkeypatch.setattr("hotrow.serve.better.check_umap", lambda: None)
    with asked(folder) as client:
        client.post("/v1/map/better")
        assert until(client, "failed")["message"] == "no room for it"
        client.post("/v1/map/better")
        until(client, "failed")


def test_a_better_map_of_few_ids_or_without_umap_is_refused(tmp_path, folder, monkeypatch):
    table = hotrow.Table(2)
    table.find([1, 2, 3], grow=True)
    table.save(tmp_path / "few")
    with asked(tmp_path / "few") as client:
        assert state(client)["state"] == "missing"
        refused(client.post("/v1/map/better"), 409)

    def missing():
        raise hotrow.MissingExtraError('pip install "hotrow[umap]"')

    monkeypatch.setattr("hotrow.serve.better.check_umap", missing)
    with asked(folder) as client:
        assert 'pip install "hotrow[umap]"' in state(client)["message"]
        refused(client.post("/v1/map/better"), 501)


def test_more_large_answers_of_the_page_than_are_sent_at_once_are_refused_as_busy(client, monkeypatch):
    points = client.get("/v1/map/points").content
    assert len(points) > 100
    monkeypatch.setattr(desk, "_SLOWLY", 100)
    answers = [client.get(path) for path in ("/v1/map/points", "/page/main.js", "/v1/lookup?id=a-lamp-000")]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].content == points
    assert client.head("/page/main.js").status_code == 200
    monkeypatch.setattr(desk, "_LARGE", 0)
    for path in ("/v1/map/points", "/page/main.js", "/v1/lookup?id=a-lamp-000"):
        answer = client.get(path)
        assert "large answers" in refused(answer, 503)
        assert answer.headers["retry-after"] == "1"
    monkeypatch.undo()
    assert 'hotrow_requests_total{path="other",status="503"} 2.0' in client.get("/metrics").text
    assert client.get("/health").status_code == 200


def test_large_answers_that_nobody_reads_leave_their_places_when_they_are_cut_off(tmp_path, monkeypatch):
    table = hotrow.Table(2)
    table.find(np.arange(1 << 20), grow=True)
    table.save(tmp_path)
    monkeypatch.setattr(desk, "_LARGE", 2)
    app = create_app(tmp_path, method="exact", limits=Limits(slow=6.0))  # long enough to be met, also on a busy machine
    with ExitStack() as opened:
        client = opened.enter_context(running(app))
        assert len(client.get("/v1/map/points").content) == 8 << 20
        for _ in range(2):
            deaf = opened.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(address(client.base_url))
            deaf.sendall(b"GET /v1/map/points HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: app.desk._large == 2)  # or one of them would be told to come again, and not the next
        assert client.get("/v1/map/points").status_code == 503
        eventually(lambda: client.get("/v1/map/points").status_code == 200)
