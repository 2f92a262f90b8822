"""Two strings with one 64-bit fingerprint are two ids. The pairs here are true collisions, computed."""

from __future__ import annotations

import struct

import naive
import numpy as np
import pyarrow as pa
import pytest

import hotrow

WORD = 2**64 - 1
K1, K2 = 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
MUL = (K2 + 64) & WORD  # for strings of 32 bytes


def rotate(x: int, r: int) -> int:
    return ((x >> r) | (x << (64 - r))) & WORD


def colliding(n: int, seed: int = 0) -> list[str]:
    """n ASCII strings of 32 bytes with one fingerprint.

    The hash of 32 bytes sees them as four words, from which it makes a, b, c, d, and of those only
    u = rot(a + b, 43) + rot(c, 30) + d and v = a + rot(b + k2, 18) + c. So moving a and −c alike, and d after them,
    changes nothing: draw a's word as ASCII, solve for c's and d's, and keep what is ASCII too (one draw in 2¹⁶).
    """
    rng = np.random.default_rng(seed)
    inverse_mul, inverse_k2 = pow(MUL, -1, 2**64), pow(K2, -1, 2**64)
    w0, w1, w2, w3 = struct.unpack("<4Q", b"thirty-two bytes of plain ASCII.")
    a, c, d = w0 * K1 & WORD, w3 * MUL & WORD, w2 * K2 & WORD
    found = [struct.pack("<4Q", w0, w1, w2, w3).decode()]
    letters = rng.integers(97, 123, (1 << 20, 8), dtype=np.uint8)
    for word in letters.view("<u8").ravel().tolist():
        other = word * K1 & WORD
        w3 = (c - (other - a)) * inverse_mul & WORD
        if w3 & 0x8080808080808080:
            continue
        moved = (
            rotate((a + w1) & WORD, 43) + rotate(c, 30) - rotate((other + w1) & WORD, 43) - rotate(w3 * MUL & WORD, 30)
        )
        w2 = (d + moved) * inverse_k2 & WORD
        if w2 & 0x8080808080808080:
            continue
        found.append(struct.pack("<4Q", word, w1, w2, w3).decode())
        if len(found) == n:
            return found
    raise AssertionError("not enough draws")


@pytest.fixture(scope="module")
def twins():
    return colliding(5)


def test_the_strings_do_collide(twins):
    assert len(set(twins)) == 5
    assert len({naive.fingerprint64(t.encode()) for t in twins}) == 1


@pytest.mark.parametrize("together", [True, False])
def test_colliding_strings_are_told_apart(twins, together):
    table = hotrow.Table(2, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    if together:
        table.find([*twins, *twins], grow=True)
    else:
        for twin in twins:
            table.find(["other", twin], grow=True)
    assert len(table) == 5 + (not together)
    for i, twin in enumerate(twins):
        table.update([twin, twin], np.full((2, 2), i, np.float32))
    assert table.lookup(twins)[:, 0].tolist() == [0, -2, -4, -6, -8]
    assert table.lookup(twins[::-1])[:, 0].tolist() == [-8, -6, -4, -2, 0]
    assert table.lookup(twins[3]).tolist() == [-6, -6]
    assert set(twins) <= set(table.ids().to_pylist())


def test_an_unknown_twin_of_a_known_string_is_unknown(twins):
    table = hotrow.Table(2)
    first = table.lookup(twins[:2])
    table.set([twins[0]], np.ones((1, 2)))
    assert twins[1] not in table
    assert table.lookup(twins[:2]).tolist() == [[1, 1], first[1].tolist()]
    with pytest.raises(hotrow.UnknownIdError):
        table.update([twins[1]], np.ones((1, 2), np.float32))


def test_first_values_of_colliding_strings_do_not_depend_on_their_order(twins):
    one, other = hotrow.Table(2), hotrow.Table(2)
    one.find(twins, grow=True)
    other.find(twins[::-1], grow=True)
    assert (one.lookup(twins) == other.lookup(twins)).all()


def test_a_twin_lives_on_when_the_string_that_came_first_is_forgotten(twins):
    table = hotrow.Table(1)
    table.set(twins[:3], np.array([[0.0], [1.0], [2.0]]))
    table.forget([twins[0]])
    assert twins[0] not in table
    assert table.lookup(twins[1:3]).tolist() == [[1.0], [2.0]]
    table.set([twins[3], twins[0]], np.array([[3.0], [9.0]]))
    assert table.lookup(twins[:4]).tolist() == [[9.0], [1.0], [2.0], [3.0]]
    table.forget([twins[1]])
    assert table.lookup([twins[0], twins[2], twins[3]]).tolist() == [[9.0], [2.0], [3.0]]
    assert twins[1] not in table


@pytest.mark.parametrize("reopen", [hotrow.load, hotrow.view])
def test_twins_are_told_apart_after_a_save(twins, reopen, tmp_path):
    table = hotrow.Table(1)
    table.set(["other", *twins[:3]], np.array([[9.0], [0.0], [1.0], [2.0]]))
    table.save(tmp_path)
    again = reopen(tmp_path)
    assert again.lookup([*twins[:3], "other"]).tolist() == [[0.0], [1.0], [2.0], [9.0]]
    assert twins[3] not in again


def test_twins_in_a_dictionary_are_told_apart(twins):
    table = hotrow.Table(1, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    values = [twins[2], "other", twins[0], twins[1], twins[2]]
    ids = pa.DictionaryArray.from_arrays(pa.array([3, 0, 1, 3, 2, 4, 3]), pa.array(values))
    texts = ids.cast(pa.string()).to_pylist()
    batch = table.find(ids, grow=True)
    expected = hotrow.Table(1).find(texts, grow=True)
    for name in ("rows", "inverse", "first", "keys", "distinct"):
        assert getattr(batch, name).tolist() == getattr(expected, name).tolist()
    assert batch.rows.tolist() == [0, 1, 2, 0, 3, 1, 0]
    assert table.find(ids).rows.tolist() == batch.rows.tolist()
    assert table.ids().to_pylist() == [twins[1], twins[2], "other", twins[0]]
    table.update(ids, np.arange(7, dtype=np.float32).reshape(7, 1))
    assert table.lookup([twins[1], twins[2], "other", twins[0]]).ravel().tolist() == [-9, -6, -2, -4]


def test_a_twin_in_a_dictionary_is_not_its_known_brother(twins):
    table = hotrow.Table(1)
    table.find([twins[0]], grow=True)
    ids = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 1]), pa.array([twins[1], twins[0]]))
    assert table.find(ids).rows.tolist() == [-1, 0, -1, 0]
