"""Codes stand for ids on their way to a layer: whatever is encoded is found again, in any table, as the id it was."""

from __future__ import annotations

import gc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import ids_of_one_kind, int64_ids, lists
from test_collisions import colliding

import hotrow
from hotrow.bridges import codes as codes_
from hotrow.bridges.codes import FIRST, LAST, decode, encode
from hotrow.errors import ArgumentError, IdError, KindError


def plain(ids):
    return ids.tolist() if isinstance(ids, np.ndarray) else ids.to_pylist()


def meant(codes, words):
    """The ids that codes of one Words stand for."""
    return plain(words.take(codes.reshape(-1).astype(np.int64) - words.base))


def table(dim=2, **how):
    return hotrow.Table(dim, optimizer=hotrow.SGD(1.0), **how)


# --- encode ----------------------------------------------------------------------------------------------------------


@given(ids_of_one_kind())
def test_codes_stand_for_the_ids_that_they_were_made_of(drawn):
    kind, ids = drawn
    codes, words = encode(ids)
    assert codes.dtype == np.int32
    assert meant(codes, words) == ids
    assert len(words) == len(set(ids))
    assert words.kind == kind or (words.kind == "int64" and max(ids) < 2**63)


@given(ids_of_one_kind())
def test_equal_ids_have_equal_codes_and_only_these(drawn):
    ids = drawn[1]
    codes = encode(ids)[0].tolist()
    assert [ids.index(i) for i in ids] == [codes.index(c) for c in codes]


@given(st.lists(ids_of_one_kind(), min_size=2, max_size=6))
def test_several_words_at_once_have_codes_of_their_own(drawn):
    encoded = [encode(ids) for _, ids in drawn]
    ranges = [set(codes.reshape(-1).tolist()) for codes, _ in encoded]
    assert sum(map(len, ranges)) == len(set().union(*ranges))
    for (codes, words), (_, ids) in zip(encoded, drawn, strict=True):
        assert meant(codes, words) == ids


def test_codes_have_the_shape_of_the_ids():
    assert encode(np.zeros((2, 3, 1), np.int64))[0].shape == (2, 3, 1)
    assert encode([["a", "b"]])[0].shape == (1, 2)
    assert encode([])[0].shape == (0,)
    assert encode(7)[0].shape == ()


@pytest.mark.parametrize(
    "ids",
    [
        ["cup", b"cup", "mug"],
        np.array(["cup", "cup", "mug"]),
        np.array(["cup", "cup", "mug"], object),
        pa.array(["cup", "cup", "mug"]),
        pa.array(["mug", "cup", "cup", "mug"]).dictionary_encode()[1:],
        pa.chunked_array([pa.array(["cup"]).dictionary_encode(), pa.array(["cup", "mug"]).dictionary_encode()]),
    ],
    ids=["list", "U", "object", "Arrow", "dictionary", "chunks"],
)
def test_strings_are_encoded_whatever_holds_them(ids):
    if isinstance(ids, list):
        ids = [text if isinstance(text, str) else text.decode() for text in ids]
    codes, words = encode(ids)
    assert meant(codes, words) == ["cup", "cup", "mug"]
    assert len(words) == 2


def test_no_code_is_a_small_number():
    codes = np.concatenate([encode(np.arange(n))[0] for n in (1, 10, 1000)])
    assert codes.min() >= FIRST
    assert codes.max() < LAST


@pytest.mark.parametrize("bad", [[1.5], [None], [True], ["a", 1], [float("nan")]])
def test_what_can_not_be_an_id_is_refused_as_by_a_table(bad):
    with pytest.raises((IdError, KindError)) as here:
        encode(bad)
    with pytest.raises((IdError, KindError)) as there:
        table().lookup(bad)
    assert str(here.value) == str(there.value)


# --- ranges ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """Only 20 codes in all."""
    gc.collect()
    monkeypatch.setattr(codes_, "FIRST", -1000)
    monkeypatch.setattr(codes_, "LAST", -980)
    monkeypatch.setattr(codes_, "_next", -1000)


def test_codes_are_given_again_when_nobody_holds_their_words(few):
    for n in range(100):
        codes, words = encode(np.arange(n % 20 + 1))
        assert meant(codes, words) == list(range(n % 20 + 1))
        assert codes.min() >= -1000
        assert codes.max() < -980
        del words


def test_codes_that_are_held_are_not_given_again(few):
    (kept, words), (_, dropped) = encode(["a", "b", "c"]), encode(range(10))
    del dropped
    for _ in range(30):
        other, _words = encode(range(8))
        assert not set(other.tolist()) & set(kept.tolist())
    assert meant(kept, words) == ["a", "b", "c"]


def test_more_ids_than_codes_are_refused(few):
    with pytest.raises(ArgumentError, match="21 distinct ids or bags at once are more"):
        encode(range(21))
    held = encode(range(15))
    with pytest.raises(ArgumentError, match="6 distinct ids or bags at once"):
        encode(range(6))
    del held
    encode(range(20))


# --- decode ----------------------------------------------------------------------------------------------------------


@given(ids_of_one_kind(), st.data())
def test_decoded_ids_have_the_rows_that_the_ids_themselves_have(drawn, data):
    kind, ids = drawn
    known = data.draw(lists(st.sampled_from(ids)))
    by_ids, by_codes = table(ids=kind), table(ids=kind)
    for each in (by_ids, by_codes):
        each.find(known, grow=True)
    codes, _words = encode(ids)
    for grow in (False, True, False):
        expected, got = by_ids.find(ids, grow=grow), decode(codes, by_codes, grow=grow)
        np.testing.assert_array_equal(got.rows, expected.rows)
        np.testing.assert_array_equal(got.distinct, expected.distinct)
        np.testing.assert_array_equal(got.inverse, expected.inverse)
        np.testing.assert_array_equal(by_codes.lookup(got), by_ids.lookup(expected))
        assert len(by_codes) == len(by_ids)
        assert [got.name(u) for u in range(len(got.distinct))] == [expected.name(u) for u in range(len(got.distinct))]
    gradients = np.ones((len(ids), 2), np.float32)
    by_ids.update(ids, gradients)
    by_codes.update(decode(codes, by_codes, grow=True), gradients)
    np.testing.assert_array_equal(by_codes.lookup(ids), by_ids.lookup(ids))


@given(lists(int64_ids(), min_size=1), lists(int64_ids(), min_size=1), st.booleans())
def test_one_id_in_codes_of_several_words_is_one_id(some, others, grow):
    one = table()
    one.find(some[::2], grow=True)
    (a, _w), (b, _v) = encode(some), encode(others)
    batch = decode(np.concatenate([a, b]), one, grow=grow)
    rows = batch.distinct[batch.distinct >= 0]
    assert len(rows) == len(set(rows.tolist()))
    np.testing.assert_array_equal(batch.rows, one.find(some + others).rows)
    if grow:
        other = table()
        other.find(some[::2], grow=True)
        gradients = np.random.default_rng(0).normal(size=(len(batch), 2)).astype(np.float32)
        other.update(other.find(some + others, grow=True), gradients)
        one.update(batch, gradients)
        np.testing.assert_array_equal(one.lookup(some + others), other.lookup(some + others))


def test_names_are_those_of_the_ids_for_codes_of_several_words():
    (a, _w), (b, _v) = encode(["cup"]), encode(["mug", "cup"])
    batch = decode(np.concatenate([a, b]), table())
    assert batch.name(1) == "'mug' (position 1)"


def test_one_array_of_codes_serves_several_tables():
    codes, _words = encode([5, 7, 5])
    one, other = table(), table()
    other.find([1, 2, 7], grow=True)
    assert decode(codes, one, grow=True).rows.tolist() == [0, 1, 0]
    assert decode(codes, other, grow=True).rows.tolist() == [3, 2, 3]
    assert decode(codes, one, grow=True).rows.tolist() == [0, 1, 0]


def test_all_ids_of_the_words_decide_the_kind_and_not_the_first_batch_of_them():
    codes, _words = encode(np.array([1, 2**63], np.uint64))
    one = table()
    decode(codes[:1], one, grow=True)
    decode(codes[1:], one, grow=True)
    assert one.kind == "uint64"
    assert one.ids().tolist() == [1, 2**63]


def test_ids_of_another_kind_than_the_tables_are_refused_and_change_nothing():
    one = table(ids="int64")
    one.find([1], grow=True)
    codes, _words = encode(["cup"])
    with pytest.raises(KindError, match="'cup'"):
        decode(codes, one, grow=True)
    assert one.ids().tolist() == [1]


def test_a_check_sees_ids_until_they_have_a_row():
    one, seen = table(), []
    codes, _words = encode([3, 1, 3])
    decode(codes, one, check=lambda ids: seen.append(ids.tolist()))
    decode(codes, one, grow=True, check=lambda ids: seen.append(ids.tolist()))
    decode(codes, one, grow=True, check=lambda ids: seen.append(ids.tolist()))
    assert seen == [[3, 1], [3, 1]]


# --- forgotten and restored ------------------------------------------------------------------------------------------


@given(lists(int64_ids(), min_size=2), st.data())
def test_ids_that_were_forgotten_meanwhile_are_asked_for_again(ids, data):
    one = table()
    codes, _words = encode(ids)
    decode(codes, one, grow=True)
    gone = data.draw(lists(st.sampled_from(ids), min_size=1))
    one.forget(gone)
    one.find([2**40 + i for i in range(len(set(gone)))], grow=True)  # others take their rows
    batch = decode(codes, one)
    assert [row < 0 for row in batch.rows] == [i in gone for i in ids]
    np.testing.assert_array_equal(one.lookup(batch), one.lookup(ids))
    again = decode(codes, one, grow=True)
    np.testing.assert_array_equal(again.rows, one.find(ids).rows)


def test_a_batch_that_was_decoded_before_ids_were_forgotten_leaves_their_new_owner_alone():
    one = table(initializer=hotrow.Zeros())
    codes, _words = encode([1, 2])
    for _ in range(2):  # the second time all rows are known
        batch = decode(codes, one, grow=True)
        one.forget([1])
        one.find([9], grow=True)
        one.update(batch, np.ones((2, 2), np.float32))
        assert one.lookup([9]).tolist() == [[0, 0]]
        one.forget([9])


def test_ids_that_are_forgotten_while_they_are_decoded_are_unknown_and_not_trained(monkeypatch):
    one = table(initializer=hotrow.Zeros())
    codes, _words = encode([1, 2])
    rows = codes_.Words.rows

    def forgetting(self, *args):
        found = rows(self, *args)
        one.forget([1])  # as another thread would
        one.find([9], grow=True)
        return found

    monkeypatch.setattr(codes_.Words, "rows", forgetting)
    batch = decode(codes, one, grow=True)
    assert [row < 0 for row in batch.rows] == [True, False]
    one.update(batch, np.ones((2, 2), np.float32))
    assert one.lookup([9, 2]).tolist() == [[0, 0], [-1, -1]]


def test_rows_are_asked_for_again_when_the_table_became_another():
    one, other = table(), table()
    other.find([8, 7], grow=True)
    codes, _words = encode([7, 8])
    assert decode(codes, one, grow=True).rows.tolist() == [0, 1]
    one.restore(other.state())
    assert decode(codes, one).rows.tolist() == [1, 0]


# --- padding ---------------------------------------------------------------------------------------------------------


@given(ids_of_one_kind(), st.booleans(), st.booleans())
def test_the_mask_is_padding_also_where_it_has_a_row(drawn, had, grow):
    kind, ids = drawn
    one, mask = table(ids=kind), ids[len(ids) // 2]
    if had:
        one.find([mask], grow=True)
    codes, _words = encode(ids)
    if had:
        decode(codes, one, grow=True)  # another layer, for which it is an id
    before = len(one)
    for _ in range(2):
        batch = decode(codes, one, mask=mask, grow=grow)
        assert [bool(batch.padding[u]) for u in batch.inverse] == [i == mask for i in ids]
        assert (one.lookup(batch)[[i == mask for i in ids]] == 0).all()
        assert len(one) == (len(set(ids)) - (not had) if grow else before)
    assert (decode(codes, one).padding is None) or not decode(codes, one).padding.any()


def test_a_mask_that_no_id_is_pads_nothing():
    for mask, ids in ((0, [1, 2]), (-1, [2**63, 1]), (2**63, [1, 2]), ("", ["cup"])):
        codes, _words = encode(ids)
        one = table(ids="uint64" if mask == 2**63 else None)
        assert not decode(codes, one, mask=mask, grow=True).padding.any()


def test_a_mask_of_another_kind_is_refused_and_changes_nothing():
    codes, _words = encode(["cup"])
    one = table()
    with pytest.raises(KindError, match="0"):
        decode(codes, one, mask=0, grow=True)
    assert one.kind is None
    assert len(one) == 0


# --- strings with one fingerprint ------------------------------------------------------------------------------------


def test_strings_with_one_fingerprint_are_told_apart():
    twins = colliding(3)
    (codes, words), (again, _more) = encode([*twins, *twins]), encode(twins[::-1])
    assert len(words) == 3
    one = table(initializer=hotrow.Zeros())
    batch = decode(codes, one, grow=True)
    assert len(set(batch.rows.tolist())) == 3
    one.update(batch, np.repeat(np.array([[1.0], [2], [3], [1], [2], [3]], np.float32), 2, axis=1))
    assert one.lookup(twins)[:, 0].tolist() == [-2, -4, -6]
    mixed = decode(np.concatenate([codes, again]), one)
    assert len(mixed.distinct) == 3
    assert one.lookup(mixed)[:, 0].tolist() == [-2, -4, -6] * 2 + [-6, -4, -2]
    padded = decode(codes, one, mask=twins[1])
    assert padded.padding[padded.inverse].tolist() == [False, True, False] * 2


# --- strays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stray", [0, 7, -1, 2**31 - 1, -(2**31), LAST, FIRST - 1])
def test_numbers_that_are_no_codes_are_refused(stray):
    codes, _words = encode([1, 2, 3])
    with pytest.raises(ArgumentError, match=f"got {stray}, which stands for no id"):
        decode(np.array([codes[0], stray], np.int64).astype(np.int32), table(), grow=True)


def test_codes_whose_words_are_gone_are_refused():
    codes, words = encode([11, 12])
    one = table()
    decode(codes, one, grow=True)
    del words
    gc.collect()
    with pytest.raises(ArgumentError, match="stands for no id"):
        decode(codes, one, grow=True)


def test_a_code_next_to_the_last_of_its_words_is_refused():
    codes, words = encode([1, 2])
    with pytest.raises(ArgumentError, match="stands for no id"):
        decode(np.array([words.base, words.base + 2], np.int32), table())
    del codes
