"""What is known of ids: aligned with the side, asked by value and by range, and a mistake is never an empty answer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hotrow
from hotrow.models import Vectors, spelling
from hotrow.search import Metadata, Search

IDS = ["cup", "mug", "lamp", "lantern"]


def side(ids=IDS, name="item"):
    return Vectors.of(ids, np.eye(len(ids), dtype=np.float32), name)


def known(**columns):
    return Metadata.of({"item": ["lantern", "cup", "nobody", "cup", None], **columns}, side())


def test_columns_stand_in_the_order_of_the_side_and_strangers_are_counted():
    rooms = ["hall", "kitchen", "attic", "cellar", "x"]
    metadata = known(room=rooms, price=[12, 4, 1, 2, 3], old=[True, None, False, True, True])
    assert list(metadata.columns) == ["room", "price", "old"]
    room, price, old = metadata.columns.values()
    assert [room.values[c] if c >= 0 else None for c in room.codes] == ["kitchen", None, None, "hall"]
    assert room.codes.dtype == np.int32
    assert price.numbers.dtype == np.float64
    assert np.array_equal(price.numbers, np.array([4, np.nan, np.nan, 12]), equal_nan=True)
    assert old.kind == "category"
    assert old.codes.tolist() == [-1, -1, -1, 0]
    assert (metadata.missing, metadata.strange, metadata.repeated) == (2, 2, 1)


def test_values_are_listed_most_frequent_first():
    metadata = Metadata.of({"item": IDS, "room": ["b", "a", "c", "a"]}, side())
    assert metadata.columns["room"].values == ["a", "b", "c"]
    assert metadata.columns["room"].codes.tolist() == [1, 0, 2, 0]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abc") | st.none(), st.integers(-3, 3) | st.none()), min_size=4, max_size=4))
def test_where_is_what_a_loop_says(rows):
    metadata = Metadata.of(
        {
            "item": IDS,
            "s": pa.array([s for s, _ in rows], pa.string()),
            "x": pa.array([x for _, x in rows], pa.int64()),
        },
        side(),
    )
    there = {s for s, _ in rows if s is not None}
    for s in there:
        assert metadata.where({"s": s}).tolist() == [row[0] == s for row in rows]
        assert metadata.where({"s": s, "x": (0, None)}).tolist() == [
            row[0] == s and row[1] is not None and row[1] >= 0 for row in rows
        ]
    assert metadata.where({"s": sorted(there)}).tolist() == [row[0] is not None for row in rows]
    for low, high in ((None, 1), (-1, 2), (2, None), (None, None)):
        expected = [
            x is not None and (low is None or x >= low) and (high is None or x <= high) for _, x in rows
        ]  # fmt: skip
        assert metadata.where({"x": (low, high)}).tolist() == expected
    assert metadata.where({"x": 2}).tolist() == [x == 2 for _, x in rows]
    assert metadata.where({"x": [1, 2]}).tolist() == [x in (1, 2) for _, x in rows]


def test_numbers_are_told_apart_where_float32_does_not():
    ids = np.arange(1_000)
    metadata = Metadata.of({"id": ids, "ts": 1_700_000_000 + ids}, side(ids, "id"))
    assert metadata.where({"ts": 1_700_000_500}).sum() == 1
    assert metadata.where({"ts": (1_700_000_500, 1_700_000_509)}).sum() == 10
    assert metadata.where(metadata.parse(["ts=1700000990.."])).sum() == 10


def test_a_value_is_compared_with_no_more_values_than_look_like_it(monkeypatch):
    compared = []
    close = spelling.get_close_matches
    monkeypatch.setattr(spelling, "get_close_matches", lambda *args: compared.append(len(args[1])) or close(*args))
    ids = np.arange(3_000)
    metadata = Metadata.of({"id": ids, "name": [f"name {i:05}" for i in ids]}, side(ids, "id"))
    with pytest.raises(hotrow.ArgumentError, match="no id has 'name 0012x' in 'name'; there are 'name 00"):
        metadata.where({"name": "name 0012x"})
    assert compared == [200]


def test_ids_that_the_kind_of_the_side_cannot_hold_are_strange():
    for own, given_ids in (
        (np.array([1, 2]), np.array([2, 2**63 + 5], np.uint64)),
        (np.array([1, 2], np.uint64), np.array([2, -1])),
    ):
        metadata = Metadata.of({"id": given_ids, "x": [7.0, 8.0]}, side(own, "id"))
        assert metadata.strange == 1
        assert np.array_equal(metadata.columns["x"].numbers, [np.nan, 7], equal_nan=True)


def test_views_of_text_are_text():
    views = pa.array(["mug", None, "cup"]).cast(pa.string_view())
    metadata = Metadata.of(pa.table({"item": views, "room": views}), side())
    assert metadata.where({"room": "mug"}).tolist() == [False, True, False, False]


def test_conditions_are_read_from_text():
    metadata = known(
        **{"a=b": ["hall", "kitchen", "attic", "cellar", "x"], "a": ["1", "2", "3", "4", "5"]}, n=[1, 2, 3, 4, 5]
    )
    assert metadata.parse(["a=b=kitchen", "a:2", "n=1..2"]) == {"a=b": ["kitchen"], "a": ["2"], "n": ("1", "2")}
    assert metadata.parse(["a=1", "a=2", "n=..3"]) == {"a": ["1", "2"], "n": (None, "3")}
    assert metadata.where(metadata.parse(["n=1.5.."])).tolist() == [True, False, False, False]
    assert metadata.where(metadata.parse(["a=2.."])).tolist() == [True, False, False, False]  # text, but all numbers
    assert metadata.where(metadata.parse(["n=2", "a=b=kitchen"])).tolist() == [True, False, False, False]


@pytest.mark.parametrize("kind", ["int64", "uint64", "string"])
def test_ids_of_every_kind_find_their_rows(kind):
    ids = np.array([1, 2**63 - 1, 3], np.int64 if kind != "uint64" else np.uint64)
    ids = ids.astype(str).tolist() if kind == "string" else ids
    metadata = Metadata.of({"x": [1.0, 2.0, 3.0], "item": pa.array(ids)}, side(ids))
    assert metadata.columns["x"].numbers.tolist() == [1, 2, 3]
    if kind != "string":
        texts = Metadata.of({"item": [str(i) for i in ids], "x": [1.0, 2.0, 3.0]}, side(ids))
        assert texts.columns["x"].numbers.tolist() == [1, 2, 3]


def test_dictionaries_are_text_and_what_is_neither_text_nor_number_is_left_out():
    metadata = known(
        d=pa.array(["a", "b", None, "a", "b"]).dictionary_encode(),
        tags=[["x"], [], None, [], []], when=pa.array([0, 1, 2, 3, 4], pa.timestamp("s")),
    )  # fmt: skip
    assert metadata.columns["d"].values == ["b", "a"] or metadata.columns["d"].values == ["a", "b"]
    assert set(metadata.left_out) == {"tags", "when"}
    with pytest.raises(hotrow.ArgumentError, match=r"'d'; got 'tags' .*neither text nor numbers"):
        metadata.where({"tags": "x"})


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda m: m.where({"roon": "hall"}), "the columns 'room', 'price'; got 'roon'"),
        (lambda m: m.where({"room": "halll"}), "no id has 'halll' in 'room'; there are 'hall'"),
        (lambda m: m.where({"room": ["hall", "attic"]}), "'attic'"),  # only of an id that the side hasn't
        (lambda m: m.where({"price": "much"}), "takes numbers; 'price' was asked for 'much'"),
        (lambda m: m.where({"price": (1, "much")}), "takes numbers"),
        (lambda m: m.where({"room": (1, 2)}), "'room' isn't all numbers"),
        (lambda m: m.where({}), "no condition"),
        (lambda m: m.parse(["room"]), "got 'room'"),
        (lambda m: m.parse(["nothing=1"]), "got 'nothing'"),
        (lambda m: m.parse(["price=1..2", "price=3"]), "several conditions"),
        (lambda m: m.parse(["price=3", "price=1..2"]), "several conditions"),
    ],
)
def test_a_condition_that_cannot_hold_says_what_there_is(ask, says):
    metadata = known(room=["hall", "kitchen", "attic", "cellar", "x"], price=[12, 4, 1, 2, 3])
    with pytest.raises(hotrow.ArgumentError, match=says):
        ask(metadata)


@pytest.mark.parametrize(
    ("table", "more", "says"),
    [
        ({"name": ["x", "y"], "b": [1, 2]}, {}, "no id of the 4 items"),
        ({"name": [1, 2], "b": [1, 2]}, {}, "is int64, and ids of items are string"),
        ({"item": ["cup"]}, {"id": "sku"}, "no column 'sku'; it has 'item'"),
        ({}, {}, "without columns"),
        (pa.table([["cup"], [1], [2]], ["id", "a", "a"]), {}, "several columns named 'a'"),
    ],
)
def test_a_table_that_tells_nothing_of_the_side_is_refused(table, more, says):
    with pytest.raises(hotrow.DataError, match=says):
        Metadata.of(table, side(), **more)


def test_what_is_near_is_filtered_by_what_is_known():
    vectors = Vectors.of(IDS, np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]], np.float32), "item")
    metadata = Metadata.of({"item": IDS, "room": ["kitchen", "kitchen", "hall", "hall"]}, vectors)
    search = Search(vectors)
    assert search.similar(["cup"], 3, within=metadata.where({"room": "hall"}))[0] == [["lamp", "lantern"]]
    assert search.most_similar("cup", within=metadata.where({"room": "kitchen"}))[0][0] == "mug"
