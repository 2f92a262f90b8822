"""What the server answers: vectors, neighbours and recommendations, and where it can't, why not."""

from __future__ import annotations

import json
import subprocess
import sys
from urllib.parse import quote

import httpx
import numpy as np
import pyarrow as pa
import pytest
from serving import ODD, days, made, running, serving, shop, table_of, vectors_of

import hotrow
from hotrow.errors import ArgumentError, DataError
from hotrow.models import open_folder
from hotrow.serve import Limits, create_app
from hotrow.serve.openapi import described

ARROW = "application/vnd.apache.arrow.stream"
NUMBERS = [5, -7, 2**53 + 1, -(2**63), 2**63 - 1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    shop().save(root / "shop")
    days().save(root / "days")
    table_of(ODD).save(root / "odd")
    table_of(NUMBERS).save(root / "numbers")
    return root


@pytest.fixture(scope="module")
def shopped(folders):
    from hotrow.search import Metadata

    def told(folder, side):
        if side != "item":
            return None
        table = {
            "item": ["lantern", "candle", "mug", "pot"],
            "shelf": ["light", "light", "tea", "tea"],
            "price": [9, 2, 4, 7],
        }
        return Metadata.of(table, folder.side(side))

    with serving(folders / "shop", metadata=told, limits=Limits(ids=50, k=20)) as client:
        yield client


@pytest.fixture(scope="module")
def odd(folders):
    with serving(folders / "odd") as client:
        yield client


@pytest.fixture(scope="module")
def numbers(folders):
    with serving(folders / "numbers") as client:
        yield client


# --- vectors ---------------------------------------------------------------------------------------------------------


def test_any_id_is_looked_up_by_get_and_by_post(folders, odd):
    expected = hotrow.view(folders / "odd").lookup(ODD)
    for answer in (odd.get("/v1/lookup", params={"id": ODD}), odd.post("/v1/lookup", json={"ids": ODD})):
        assert answer.json()["ids"] == ODD
        assert np.array_equal(vectors_of(answer), expected)
    one = odd.get(f"/v1/lookup?id={quote('a/b', safe='')}&id={quote('日本')}").json()
    assert one["ids"] == ["a/b", "日本"]
    assert (one["side"], one["dim"]) == ("id", 4)


def test_integers_are_json_numbers_to_the_last_bit(folders, numbers):
    expected = hotrow.view(folders / "numbers").lookup(NUMBERS)
    for answer in (
        numbers.get("/v1/lookup", params={"id": list(map(str, NUMBERS))}),
        numbers.post("/v1/lookup", json={"ids": NUMBERS}),
        numbers.post("/v1/lookup", json={"ids": list(map(str, NUMBERS))}),
    ):
        assert answer.json()["ids"] == NUMBERS
        assert np.array_equal(vectors_of(answer), expected)


@pytest.mark.parametrize(("name", "ids"), [("odd", ODD), ("numbers", NUMBERS)])
def test_arrow_goes_in_and_comes_out(folders, request, name, ids):
    client, sink = request.getfixturevalue(name), pa.BufferOutputStream()
    table = pa.table({"id": ids})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    given = {"content": sink.getvalue().to_pybytes(), "headers": {"content-type": ARROW, "accept": ARROW}}
    answer = client.post("/v1/lookup?side=id", **given)
    assert answer.headers["content-type"] == ARROW
    read = pa.ipc.open_stream(answer.content).read_all()
    assert read["id"].to_pylist() == ids
    assert read.schema.field("vector").type == pa.list_(pa.float32(), 4)
    vectors = read["vector"].combine_chunks().flatten().to_numpy().reshape(-1, 4)
    assert np.array_equal(vectors, hotrow.view(folders / name).lookup(ids))
    assert read.schema.metadata == {b"side": b"id", b"stamp": client.get("/ready").json()["stamp"].encode()}


def test_many_vectors_are_as_right_as_few(tmp_path):
    ids = [f"id {i}" for i in range(9000)]
    table = table_of(ids, 32)
    table.save(tmp_path)
    with serving(tmp_path) as client:
        assert np.array_equal(vectors_of(client.post("/v1/lookup", json={"ids": ids})), table.lookup(ids))


def test_an_unknown_id_is_404_with_what_is_written_like_it(odd, numbers):
    error = odd.get("/v1/lookup", params={"id": ["lantern", "lantren", "é"]}).json()["error"]
    assert (error["status"], error["unknown"], error["alike"]) == (404, ["lantren"], ["lantern"])
    assert "'lantren'" in error["message"]
    error = numbers.post("/v1/lookup", json={"ids": [5, 6, 8]}).json()["error"]
    assert (error["status"], error["unknown"]) == (404, [6, 8])
    assert "1 more" in error["message"]


# --- what is near ----------------------------------------------------------------------------------------------------


def same(found, expected):
    """The same ids in the same order, and scores that differ by rounding alone."""
    assert [each["id"] for each in found] == expected[0]
    assert [each["score"] for each in found] == pytest.approx(expected[1], abs=1e-5)


def test_what_is_near_is_what_the_model_says(folders, shopped):
    model = open_folder(folders / "shop").model
    ids, scores = model.similar(["lantern", "mug"], k=3)
    found = shopped.get("/v1/similar", params={"id": "lantern", "k": 3}).json()
    assert (found["id"], found["side"], found["metric"]) == ("lantern", "item", "cosine")
    same(found["similar"], (ids[0], scores[0]))
    both = shopped.post("/v1/similar", json={"ids": ["lantern", "mug"], "k": 3}).json()["results"]
    for each, *expected in zip(both, ids, scores, strict=True):
        same(each["similar"], expected)
    users = model.similar([10], k=2, side="user")
    same(shopped.get("/v1/similar?id=10&k=2&side=user").json()["similar"], (users[0][0], users[1][0]))


def test_what_is_near_to_vectors_and_to_several_ids_is_found(folders, shopped):
    vector = open_folder(folders / "shop").side().lookup(["mug"])
    (near,) = shopped.post("/v1/similar", json={"vectors": vector.tolist(), "k": 2}).json()["results"]
    assert near["similar"][0] == {"id": "mug", "score": pytest.approx(1, abs=1e-5)}
    found = shopped.post("/v1/similar", json={"positive": ["mug", "pot"], "negative": ["lantern"], "k": 1}).json()
    assert [each["id"] for each in found["similar"]] == ["spoon"]


def test_what_is_near_can_be_filtered_by_what_is_known(shopped):
    def near(**asked):
        answer = shopped.post("/v1/similar", json={"ids": ["lantern"], **asked}).json()
        return {each["id"] for each in answer["results"][0]["similar"]}

    assert near(where={"shelf": "tea"}) == {"mug", "pot"}
    assert near(where={"shelf": ["tea", "light"]}) == {"mug", "pot", "candle"}
    assert near(where={"price": [3, None]}) == {"mug", "pot"}
    by_query = shopped.get("/v1/similar?id=lantern&where=shelf:tea&where=price:5..9").json()["similar"]
    assert [each["id"] for each in by_query] == ["pot"]
    assert shopped.get("/v1/similar?id=lantern&where=colour:red").status_code == 400
    assert shopped.get("/v1/similar?id=10&side=user&where=shelf:tea").status_code == 400


# --- what goes with --------------------------------------------------------------------------------------------------


def test_recommendations_are_those_of_the_model(folders, shopped):
    model = open_folder(folders / "shop").model
    for given, expected in (
        (shopped.get("/v1/recommend?user=10&k=2"), model.recommend([10], k=2)),
        (shopped.post("/v1/recommend", json={"items": ["mug"], "k": 2}), model.recommend_for([["mug"]], k=2)),
    ):
        same(given.json()["recommended"], (expected[0][0], expected[1][0]))
    assert shopped.get("/v1/recommend?user=7").status_code == 404
    error = shopped.post("/v1/recommend", json={"items": ["mug", "mugg"]}).json()["error"]
    assert (error["status"], error["alike"]) == (404, ["mug"])


def test_what_comes_next_goes_by_items_in_their_order(folders):
    model = open_folder(folders / "days").model
    with serving(folders / "days") as client:
        found = client.post("/v1/recommend", json={"items": ["tea", "mug"], "k": 2}).json()["recommended"]
        ids, scores = model.recommend([["tea", "mug"]], k=2)
        same(found, (ids[0], scores[0]))
        error = client.get("/v1/recommend?user=a").json()["error"]
    assert error["status"] == 400
    assert "POST" in error["message"]


def test_a_saved_table_recommends_nothing_and_says_so(odd):
    for answer in (
        odd.post("/v1/recommend", json={"items": ["lantern"]}),
        odd.get("/v1/recommend?user=lantern"),
    ):
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert message == "a saved table recommends nothing; /v1/similar?id=… has what is near an id"


# --- the picture -----------------------------------------------------------------------------------------------------


def test_the_picture_of_an_id_has_its_row_among_others(folders, odd):
    side = open_folder(folders / "odd").side()
    for id in ("lantern", ODD[9], ODD[-1]):
        told = odd.get("/v1/explain", params={"id": id}).json()
        shown = told["shown"]
        row = shown["rows"].index(told["row"])
        assert (told["id"], shown["ids"][row], told["rows"], told["dim"]) == (id, id, len(ODD), 4)
        assert sum(shown["one_hot"]) == shown["one_hot"][row] == 1
        product = np.array(shown["one_hot"]) @ np.array(shown["weights"])
        assert product == pytest.approx(np.array(told["vector"])[shown["columns"]])
        assert np.array_equal(np.float32(told["vector"]), side.lookup([id])[0])


# --- about itself ----------------------------------------------------------------------------------------------------


def test_the_server_says_what_it_serves_and_counts_what_it_has_answered(folders, shopped):
    assert shopped.get("/health").json() == {"status": "ok"}
    ready = shopped.get("/ready").json()
    assert (ready["ready"], ready["kind"], ready["problem"]) == (True, "retrieval", None)
    assert ready["sides"]["item"] == {"rows": 6, "dim": 8, "ids": "string", "search": "ready"}
    before = shopped.get("/metrics").text
    shopped.get("/v1/lookup?id=mug&id=pot")
    shopped.get("/v1/lookup?id=nothing")
    after = shopped.get("/metrics").text

    def count(text, name):
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)), 0.0)

    for name, more in (
        ('hotrow_ids_total{side="item"}', 2),
        ('hotrow_unknown_ids_total{side="item"}', 1),
        ('hotrow_requests_total{path="/v1/lookup",status="200"}', 1),
        ('hotrow_requests_total{path="/v1/lookup",status="404"}', 1),
        ('hotrow_request_seconds_count{path="/v1/lookup"}', 2),
    ):
        assert count(after, name) - count(before, name) == more
    assert f'hotrow_served{{kind="retrieval",stamp="{ready["stamp"]}"}} 1.0' in after


def fits(value, schema, document):
    """Whether a value is what a schema says, of the few words of JSON Schema that the server's own uses."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return fits(value, document["components"]["schemas"][name], document)
    if "anyOf" in schema:
        return any(fits(value, one, document) for one in schema["anyOf"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    types = {"object": dict, "array": list, "string": str, "null": type(None), "boolean": bool, "integer": int}
    if not any(
        isinstance(value, types.get(kind, int | float)) and (kind == "boolean" or not isinstance(value, bool))
        for kind in kinds
    ):
        return False
    if isinstance(value, list) and "items" in schema:
        return all(fits(one, schema["items"], document) for one in value)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return set(schema["required"]) <= set(value) <= set(known) and all(
            fits(one, known[name], document) for name, one in value.items()
        )
    return True


CALLS = {
    ("get", "/v1/lookup"): {"params": {"id": "mug"}},
    ("post", "/v1/lookup"): {"json": {"ids": ["mug"]}},
    ("get", "/v1/similar"): {"params": {"id": "mug"}},
    ("post", "/v1/similar"): {"json": {"positive": ["mug"]}},
    ("get", "/v1/recommend"): {"params": {"user": "10"}},
    ("post", "/v1/recommend"): {"json": {"items": ["mug"]}},
    ("get", "/v1/explain"): {"params": {"id": "mug"}},
}


def test_every_path_is_described_and_answers_what_is_described(shopped):
    document = shopped.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    called = set()
    for path, operations in document["paths"].items():
        for method, told in operations.items():
            answer = shopped.request(method, path, **CALLS.get((method, path), {}))
            assert answer.status_code == 200, (path, answer.text)
            content = told["responses"]["200"]["content"]
            kind = answer.headers["content-type"].partition(";")[0]
            assert kind in content
            value = answer.json() if kind == "application/json" else answer.text
            assert fits(value, content[kind]["schema"], document), (path, value)
            called.add((method, path))
            wrong = shopped.request(method, path, params={"nonsense": "1"})
            error = told["responses"]["400"]["content"]["application/json"]["schema"]
            assert wrong.status_code == 400, path
            assert fits(wrong.json(), error, document)
    assert set(CALLS) < called


def test_the_manual_needs_no_network(shopped):
    page = shopped.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for path in shopped.get("/openapi.json").json()["paths"]:
        assert path in page.text
    assert "<script" not in page.text
    assert "//" not in page.text.replace("http://127.0.0.1", "")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/lookup", 400),
        ("/v1/lookup?id=", 404),
        ("/v1/lookup?id=%zz", 400),
        ("/v1/lookup?id=%ff", 400),
        ("/v1/lookup?id=%ed%a0%80", 400),
        ("/v1/lookup?id=mug&side=nothing", 400),
        ("/v1/lookup?id=mug&sides=item", 400),
        ("/v1/lookup?id=mug&side=item&side=item", 400),
        ("/v1/lookup?mug", 400),
        ("/v1/lookup?%69d=mug", 400),
        ("/v1/similar?id=mug&k=0", 400),
        ("/v1/similar?id=mug&k=x", 400),
        ("/v1/similar?id=mug&k=1000", 413),
        ("/v1/similar?id=mug&k=" + "9" * 400, 400),
        ("/v1/similar?id=mug&where=shelf", 400),
        ("/v1/similar?id=mug&id=pot", 400),
        ("/v1/recommend?user=ann", 400),
        ("/v1/recommend?user=", 400),
        ("/v1/recommend?user=%d9%a1", 400),
        ("/v1/recommend?user=1_0", 400),
        ("/v1/recommend?user=99999999999999999999", 400),
        ("/v1/lookup?side=user&id=1&id=2,3", 400),
        ("/v1/lookup?side=user&id=5-", 400),
        ("/v1/lookup?side=user&id=" + "9" * 5000, 400),
        ("/v1/explain?id=nothing", 404),
        ("/nothing", 404),
        ("/v1/lookup/", 404),
        ("/v1/%00", 404),
        ("/health?a=b", 400),
        ("/v1/lookup?" + "&".join(f"a{i}=1" for i in range(30)), 400),
        ("/v1/lookup?" + "&".join("id=mug" for _ in range(51)), 413),
    ],
)
def test_a_query_that_cannot_be_right_is_refused(shopped, path, status):
    answer = shopped.get(httpx.URL(str(shopped.base_url).rstrip("/") + path))
    assert answer.status_code == status
    assert answer.json()["error"]["status"] == status
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"mug"', 400),
        (b"{}", 400),
        (b'{"ids": null}', 400),
        (b'{"ids": "mug"}', 400),
        (b'{"ids": []}', 400),
        (b'{"ids": [null]}', 400),
        (b'{"ids": [true]}', 400),
        (b'{"ids": [1.5]}', 400),
        (b'{"ids": [1]}', 400),
        (b'{"ids": [["mug"]]}', 400),
        (b'{"ids": [{"id": "mug"}]}', 400),
        (b'{"ids": ["\\ud800"]}', 400),
        (b'{"ids": ["\xff"]}', 400),
        (b'{"ids": ["mug"], "ids": ["pot"]}', 400),
        (b'{"ids": ["mug"], "\\u0069ds": ["pot"]}', 400),
        (b'{"ids": ["mug"], "more": 1}', 400),
        (b'{"ids": NaN}', 400),
        (b'{"side": "user", "ids": [18446744073709551616]}', 400),
        (b'{"side": "user", "ids": [-9223372036854775809]}', 400),
        (b'{"side": "user", "ids": [1e3]}', 400),
        (b'{"side": "user", "ids": [1' + b"0" * 400 + b"]}", 400),
        (b'{"side": 1, "ids": ["mug"]}', 400),
        (b'{"ids": ' + b"[" * 100_000, 400),
        (b'{"ids": ' + b"[" * 900 + b"]" * 900 + b"}", 400),
        (b'{"ids": ["mug"]} ', 200),
        (b'{"ids": ["mug"]}{}', 400),
        (b'{"ids": ["\\u006dug"]}', 200),
        (b'{"ids": ["ids\\u0022: \\u0022"]}', 404),
        (b'{"ids": ["mug", "\\"ids\\""]}', 404),
        (b'{"ids": [' + b",".join([b'"mug"'] * 51) + b"]}", 413),
    ],
)
def test_a_body_that_cannot_be_right_is_refused(shopped, body, status):
    answer = shopped.post("/v1/lookup", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"ids": ["mug"], "vectors": [[0] * 8]},
        {"negative": ["mug"]},
        {"ids": ["mug"], "negative": ["pot"]},
        {"positive": []},
        {"vectors": []},
        {"vectors": [[0] * 7]},
        {"vectors": [[0] * 8, [0] * 7]},
        {"vectors": [[1e39] * 8]},
        {"vectors": [["0"] * 8]},
        {"vectors": [[True] * 8]},
        {"vectors": [0] * 8},
        {"vectors": [[]]},
        {"vectors": [[10**300] * 8]},
        {"ids": ["mug"], "k": 1.5},
        {"ids": ["mug"], "k": True},
        {"ids": ["mug"], "where": []},
        {"ids": ["mug"], "where": {"price": {"least": 1}}},
        {"ids": ["mug"], "where": {"shelf": []}},
        {"ids": ["mug"], "where": {}},
    ],
)
def test_a_search_that_cannot_be_right_is_refused(shopped, asked):
    answer = shopped.post("/v1/similar", content=json.dumps(asked), headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text


def stream(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


IDS = pa.table({"id": ["mug"] * 40})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (stream(IDS), 200),
        (b"", 400),
        (b"\xff" * 100, 400),
        (stream(IDS)[:-50], 400),
        (stream(IDS)[len(IDS.schema.serialize()) :], 400),
        (stream(IDS, compression="zstd"), 400),
        (stream(IDS, compression="lz4"), 400),
        (stream(pa.table({"id": ["mug"], "b": [1]})), 400),
        (stream(pa.table({"id": [1.5]})), 400),
        (stream(pa.table({"id": pa.array(["mug"]).dictionary_encode()})), 400),
        (stream(pa.table({"id": ["mug", None]})), 400),
        (stream(pa.table({"id": ["mug"] * 60})), 413),
        (stream(pa.table({"id": [1]})), 400),
        (stream(pa.table({"id": [["mug"]]})), 400),
        (stream(pa.table({"id": ["no"]})), 404),
        (stream(IDS.slice(0, 0)), 400),
    ],
)
def test_an_arrow_stream_that_cannot_be_right_is_refused(shopped, body, status):
    answer = shopped.post("/v1/lookup", content=body, headers={"content-type": ARROW})
    assert answer.status_code == status, answer.text


def test_any_flipped_bit_of_an_arrow_stream_is_an_answer_or_a_refusal(shopped):
    body, random = stream(pa.table({"id": ["mug", "pot", "lantern"]})), np.random.default_rng(0)
    for at in random.integers(0, 8 * len(body), 150).tolist():
        flipped = bytearray(body)
        flipped[at // 8] ^= 1 << at % 8
        answer = shopped.post("/v1/lookup", content=bytes(flipped), headers={"content-type": ARROW})
        assert answer.status_code in {200, 400, 404, 413}, (at, answer.text)


def test_more_that_is_near_than_is_found_at_once_is_refused_before_it_is_looked_for(folders):
    with serving(folders / "odd", limits=Limits(found=12)) as client:
        for what, each in (("ids", "lantern"), ("vectors", [1, 2, 3, 4])):
            for count, k, expected in ((4, 3, 200), (12, 1, 200), (5, 3, 413), (2, 7, 413), (0, 3, 400)):
                answer = client.post("/v1/similar", json={what: [each] * count, "k": k})
                assert answer.status_code == expected, answer.text
        assert client.post("/v1/similar", json={"ids": ["lantern", "é"]}).status_code == 413  # of each, 10
        assert client.post("/v1/similar", json={"positive": ["lantern"] * 5, "k": 12}).status_code == 200
        assert client.get("/v1/similar?id=lantern&k=12").status_code == 200
        assert "<th>ids or vectors, times k</th><td>12</td>" in client.get("/docs").text


FUZZED = """
import random, sys
from hotrow.serve.answers import RefusedError
from hotrow.serve.arrow import ids_of
body, values = sys.stdin.buffer.read(), [0, 1, 2, 3, 4, 8, 12, 16, 127, 128, 255]
random.seed(0)
for _ in range(10_000):
    wrong = bytearray(body)
    for at in random.sample(range(8, 130), 3):
        wrong[at] = random.choice(values)
    try:
        ids_of(bytes(wrong), 100)
    except RefusedError as error:
        assert error.status in {400, 413}
"""


def test_an_arrow_stream_of_any_bytes_is_read_or_refused_and_never_ends_the_process():
    body = stream(pa.table({"id": [1, 2, 3]}))
    done = subprocess.run([sys.executable, "-c", FUZZED], check=False, input=body, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]


def test_methods_and_types_that_are_not_taken_are_named(shopped):
    wrong = shopped.put("/v1/lookup")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")
    assert shopped.post("/health").status_code == 405
    assert shopped.post("/v1/lookup", content=b"a=b", headers={"content-type": "text/plain"}).status_code == 415
    assert shopped.post("/v1/lookup?side=item", json={"ids": ["mug"]}).status_code == 400
    head = shopped.head("/v1/lookup?id=mug")
    assert (head.status_code, head.content) == (200, b"")


def test_a_model_that_is_not_there_is_told_with_what_makes_one(tmp_path):
    with pytest.raises(DataError, match="hotrow train"):
        create_app(tmp_path)


@pytest.mark.parametrize("wrong", [{"ids": 0}, {"k": True}, {"slow": -1.0}, {"body": 1.5}, {"answer": float("nan")}])
def test_a_limit_that_is_none_is_refused(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        Limits(**wrong)


# --- who may ask -----------------------------------------------------------------------------------------------------


def test_without_its_token_nothing_is_told_but_that_it_is_there(folders):
    app = create_app(folders / "odd", token="correct horse battery staple".replace(" ", "-"))
    with running(app) as client:
        for given in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic abc"},
            {"authorization": "Bearer é".encode()},
        ):
            for path in ("/v1/lookup?id=lantern", "/ready", "/metrics", "/docs", "/nothing", "/v1/info"):
                answer = client.get(path, headers=given)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "lantern" not in answer.text
        assert client.get("/health").status_code == 200
        right = {"authorization": "Bearer correct-horse-battery-staple", "host": "elsewhere.example"}
        with httpx.Client(base_url=client.base_url, headers=right, trust_env=False) as knowing:
            made(knowing)
        assert client.get("/v1/lookup?id=lantern", headers=right).status_code == 200
        assert client.get("/openapi.json", headers=right).json()["security"] == [{"token": []}]


def test_a_name_or_a_page_of_another_site_cannot_ask_on_this_machine(folders):
    with running(create_app(folders / "odd", hosts=["localhost", "127.0.0.1", "::1", "lamps.local"])) as client:
        for host in ("localhost", "127.0.0.1:80", "[::1]:9", "LAMPS.local:1", "localhost."):
            assert client.get("/health", headers={"host": host}).status_code == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "[::2]", "", "localhost@evil.example"):
            assert client.get("/health", headers={"host": host}).status_code == 421
        for origin, status in (("http://evil.example", 403), ("null", 403), ("http://localhost:8000", 200)):
            assert client.get("/health", headers={"origin": origin}).status_code == status


def test_answers_cannot_be_taken_for_pages(shopped):
    for path in ("/v1/lookup?id=mug", "/nothing", "/health", "/metrics", "/v1/lookup?id=%3Cscript%3E"):
        headers = shopped.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_description_is_made_of_the_endpoints_that_answer(folders):
    app = create_app(folders / "odd")
    paths = described(app.endpoints, token=False)["paths"]
    assert {(e.method.lower(), e.path) for e in app.endpoints} == {(m, p) for p, all in paths.items() for m in all}
