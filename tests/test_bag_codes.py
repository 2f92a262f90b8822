"""A code stands for a whole bag: whatever is encoded is pooled, cut and trained as the bag it was."""

from __future__ import annotations

import gc

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ids_of_one_kind

import hotrow
from hotrow.bridges.bag_codes import decode_bags, decode_sequences, encode_bags
from hotrow.bridges.codes import decode, encode
from hotrow.errors import ArgumentError
from hotrow.table.batch import POOLINGS


@st.composite
def bags_of_one_kind(draw):
    """(bags of ids, which of them a batch has)."""
    _, ids = draw(ids_of_one_kind())
    cuts = sorted(draw(st.lists(st.integers(0, len(ids)), max_size=5)))
    bags = [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    which = draw(st.lists(st.integers(0, len(bags) - 1), max_size=8))
    return bags, which


def table(dim=3):
    return hotrow.Table(dim, optimizer=hotrow.SGD(1.0), seed=3)


def flat(bags):
    return [id for bag in bags for id in bag], np.cumsum([0, *map(len, bags)])


@pytest.mark.parametrize("pooling", POOLINGS)
@given(bags_of_one_kind(), st.booleans())
def test_bags_are_pooled_as_the_specification_has_it(pooling, drawn, grow):
    bags, which = drawn
    codes, coded = encode_bags(bags)
    t = table()
    chosen = [bags[i] for i in which]
    batch = decode_bags(codes[which], t, POOLINGS[pooling], grow=grow)
    ids, offsets = flat(chosen)
    vectors = table().lookup(ids)  # first values: the same with a row and without
    expected = naive.pool(vectors, offsets.tolist(), pooling)
    np.testing.assert_allclose(t.lookup(batch), expected, rtol=1e-5, atol=1e-7)
    assert len(t) == (len(set(ids)) if grow else 0)
    assert len(coded) == len(bags)


@given(bags_of_one_kind())
def test_what_is_decoded_again_is_found_faster_and_the_same(drawn):
    bags, which = drawn
    codes, coded = encode_bags(bags)
    t = table()
    first = t.lookup(decode_bags(codes, t, POOLINGS["sum"], grow=True))
    again = decode_bags(codes[which], t, POOLINGS["sum"])
    np.testing.assert_array_equal(t.lookup(again), first[which])
    assert len(coded.words) == len(t)


@given(bags_of_one_kind(), st.integers(1, 6))
def test_sequences_hold_the_last_ids_then_padding(drawn, length):
    bags, which = drawn
    codes, coded = encode_bags(bags)
    t = table()
    for grow in (False, True, False):
        batch = decode_sequences(codes[which], t, length, grow=grow)
        vectors, padding = t.lookup(batch), batch.places_of_padding()
        assert vectors.shape == (len(which), length, 3)
        for row, i in enumerate(which):
            kept = bags[i][-length:]
            if kept:
                np.testing.assert_array_equal(vectors[row, : len(kept)], t.lookup(kept))
            assert not vectors[row, len(kept) :].any()
            assert [*(padding.reshape(-1, length)[row] if padding is not None else [False] * length)] == [
                place >= len(kept) for place in range(length)
            ]
    assert len(coded) == len(bags)


def test_padding_is_never_trained():
    t = table()
    codes, _held = encode_bags([["a"], ["b", "a"]])
    before = t.lookup(["a", "b"])
    for grow in (True, False):  # found for the first time, and known
        batch = decode_sequences(codes, t, 3, grow=grow)
        t.update(batch, np.ones((2, 3, 3), np.float32))
    np.testing.assert_allclose(t.lookup(["a", "b"]), before - np.array([[4], [2]]), atol=1e-6)
    assert len(t) == 2


def test_bags_whose_ids_were_forgotten_are_pooled_as_the_unknown():
    t = table()
    codes, _held = encode_bags([["a", "b"], ["b"]])
    batch = decode_bags(codes, t, POOLINGS["sum"], grow=True)
    t.set(["a", "b"], np.ones((2, 3), np.float32))
    t.forget(["b"])
    new = table().lookup(["b"])[0]
    for each in (batch, decode_bags(codes, t, POOLINGS["sum"])):
        np.testing.assert_allclose(t.lookup(each), [1 + new, new], rtol=1e-6)


def test_a_bags_maximum_is_trained_where_it_came_from():
    t = table(1)
    t.set(["a", "b"], np.array([[1.0], [2.0]], np.float32))
    codes, _held = encode_bags([["a", "b"]])
    batch = decode_bags(codes, t, POOLINGS["max"], grow=True)
    assert t.lookup(batch).tolist() == [[2.0]]
    t.update(batch, np.ones((1, 1), np.float32))
    assert t.lookup(["a", "b"]).tolist() == [[1.0], [1.0]]


def test_equal_bags_of_two_columns_have_codes_of_their_own():
    a, _a = encode_bags([[1, 2], [3]])
    b, _b = encode_bags([[1, 2], [3]])
    assert not set(a.tolist()) & set(b.tolist())


def test_codes_of_ids_are_no_codes_of_bags_nor_the_other_way_round():
    ids, _words = encode([5, 6])
    bags, _bags = encode_bags([[5], [6]])
    with pytest.raises(ArgumentError, match="got ids where bags of ids were expected"):
        decode_bags(ids, table(), POOLINGS["sum"])
    with pytest.raises(ArgumentError, match="which stands for no id"):
        decode(bags, table())
    with pytest.raises(ArgumentError, match="which stands for no id"):
        decode_bags(np.array([3], np.int32), table(), POOLINGS["sum"])


def test_codes_whose_bags_are_gone_are_refused():
    codes, held = encode_bags([[5], [6]])
    del held
    gc.collect()
    with pytest.raises(ArgumentError, match="which stands for no id"):
        decode_bags(codes, table(), POOLINGS["sum"])


def test_no_bags_at_all_are_none():
    t = table()
    codes, _held = encode_bags([])
    assert t.lookup(decode_bags(codes, t, POOLINGS["mean"], grow=True)).shape == (0, 3)
    assert t.lookup(decode_sequences(codes, t, 2, grow=True)).shape == (0, 2, 3)


@pytest.mark.parametrize("grow", [False, True])
def test_empty_bags_are_zeros(grow):
    t = table()
    codes, _held = encode_bags([[], []])
    assert not t.lookup(decode_bags(codes, t, POOLINGS["mean"], grow=grow)).any()
    assert t.lookup(decode_sequences(codes, t, 2, grow=grow)).shape == (2, 2, 3)


def test_vectors_are_written_to_columns_of_a_wider_matrix():
    t = table()
    codes, _held = encode_bags([["a", "b"], ["c"]])
    wide = np.full((2, 9), 7, np.float32)
    for ids, out in (
        (decode_bags(codes, t, POOLINGS["sum"], grow=True), wide[:, :3]),
        (t.find(["a", "zz"]), wide[:, 3:6]),
        (["c", "b"], wide[:, 6:]),
    ):
        assert t.lookup(ids, out=out) is out
        np.testing.assert_array_equal(out, t.lookup(ids))
    with pytest.raises(ArgumentError, match="out must be"):
        t.lookup(["a", "b"], out=np.zeros((2, 6), np.float32)[:, ::2])
    integers = hotrow.Table(3, seed=1)
    np.testing.assert_array_equal(integers.lookup([1, 2], out=wide[:, 3:6]), integers.lookup([1, 2]))
