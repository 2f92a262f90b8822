"""Strings find the same rows whatever holds them, and come back as they went in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from naive import fingerprint64
from strategies import lists, text_ids

import hotrow
from hotrow.errors import CorruptError
from hotrow.table.strings import Strings, Texts
from hotrow.table.utf8 import buffers


def coded(texts, values):
    """A dictionary-encoded array of `texts` whose dictionary is `values`, which has each of them."""
    places = {text: i for i, text in enumerate(values)}
    return pa.DictionaryArray.from_arrays(pa.array([places[text] for text in texts], pa.int32()), pa.array(values))


def alternating(texts, values):
    """As `coded`, of a dictionary that has everything twice: every other id is of the second half."""
    at = {text: i for i, text in enumerate(values)}
    places = [at[text] + len(values) * (i % 2) for i, text in enumerate(texts)]
    return pa.DictionaryArray.from_arrays(pa.array(places), pa.array([*values, *values]))


HOLDERS = {
    "objects": lambda texts: np.array(texts, object),
    "string": lambda texts: pa.array(texts, pa.string()),
    "string, sliced": lambda texts: pa.array(["x", *texts, "y"]).slice(1, len(texts)),
    "large_string": lambda texts: pa.array(texts, pa.large_string()),
    "string_view": lambda texts: pa.array(texts, pa.string_view()),
    "chunked": lambda texts: pa.chunked_array([texts[:2], [], texts[2:]], pa.string()),
    "a dictionary": lambda texts: pa.array(texts).dictionary_encode(),
    "a dictionary in another order": lambda texts: coded(texts, sorted(set(texts))),
    "a dictionary of more": lambda texts: coded(texts, ["unused", *sorted(set(texts), reverse=True)]),
    "a dictionary with repeated texts": lambda texts: alternating(texts, sorted(set(texts))),
    "a longer dictionary with repeated texts": lambda texts: alternating(texts, [*map(str, range(99)), *set(texts)]),
    "dictionaries": lambda texts: pa.chunked_array([coded(part, part) for part in (texts[:1], texts[1:]) if part]),
}


@pytest.mark.parametrize("holder", HOLDERS)
@given(lists(text_ids(), min_size=1), lists(text_ids(), max_size=5))
@example(["b", "a", "b", "c", "a", "b"], ["c"])
def test_a_batch_is_that_of_the_list_of_the_strings(holder, texts, known):
    table = hotrow.Table(2, ids="string")
    table.find(known, grow=True)
    held = HOLDERS[holder](texts)
    order = list(dict.fromkeys(texts))
    rows = {text: row for row, text in enumerate(dict.fromkeys(known))}
    for grow in (False, True, False):
        batch = table.find(held, grow=grow)
        if grow:
            rows = {text: row for row, text in enumerate(dict.fromkeys([*known, *texts]))}
        assert batch.inverse.tolist() == [order.index(text) for text in texts]
        assert batch.first.tolist() == [texts.index(text) for text in order]
        assert batch.keys.tolist() == [fingerprint64(text.encode()) for text in order]
        assert batch.distinct.tolist() == [rows.get(text, -1) for text in order]
        assert [batch.name(u) for u in range(len(order))] == [
            f"{text!r} (position {texts.index(text)})" for text in order
        ]
    assert table.ids().to_pylist() == list(rows)
    assert (table.lookup(held) == table.lookup(texts)).all()
    assert table.forget(held).removed == len(order)
    assert table.ids().to_pylist() == [text for text in rows if text not in order]


@pytest.mark.compiled
@pytest.mark.parametrize("grow", [True, False])
def test_many_strings_are_found_by_all_threads_as_by_one(grow):
    rng = np.random.default_rng(0)
    texts = [f"{'漢' * (i % 3)}user_{i}" for i in rng.integers(0, 60_000, 150_000)]
    table = hotrow.Table(1, ids="string")
    table.find(texts[: 150_000 if grow else 50_000], grow=True)
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts[: 150_000 if grow else 50_000]))}
    assert table.ids().to_pylist() == list(rows)
    expected = [rows.get(text, -1) for text in texts]
    for held in (texts, np.array(texts), np.array(texts, object), [text.encode() for text in texts], pa.array(texts)):
        assert table.find(held).rows.tolist() == expected
    for holder in HOLDERS.values():
        assert table.find(holder(texts)).rows.tolist() == expected


def texts_of(strings):
    return Texts(*buffers(pa.array(strings, pa.large_string())), 1)


@given(lists(text_ids(), min_size=1), lists(text_ids(), min_size=1), st.data())
def test_the_string_of_each_row_is_kept_until_it_is_erased(loaded, written, data):
    arrays = buffers(pa.array(loaded, pa.large_string()))
    fixed, grown = Strings.over(*arrays, writable=False), Strings.over(*arrays, writable=True)
    expected = dict(enumerate(loaded))
    at = data.draw(st.permutations(range(len(written))))
    rows = data.draw(st.permutations(range(len(loaded), len(loaded) + len(written) + 3)))[: len(written)]
    grown.write(np.array(rows, np.int32), texts_of(written).take(np.array(at)))
    expected |= {row: written[i] for row, i in zip(rows, at, strict=True)}
    gone = data.draw(st.lists(st.sampled_from(sorted(expected)), unique=True))
    grown.erase(np.array(gone, np.int32))
    left = [row for row in expected if row not in gone]
    assert grown.take(np.array(left, np.int32)).to_pylist() == [expected[row] for row in left]
    assert grown.nbytes == sum(len(text.encode()) for text in [*loaded, *written])
    assert fixed.take(np.arange(len(loaded), dtype=np.int32)).to_pylist() == loaded


def test_a_stored_string_that_leads_out_of_its_file_is_named_as_such():
    strings = Strings.over(np.frombuffer(b"abc", np.uint8), np.array([0, 9, 3]), writable=False)
    with pytest.raises(CorruptError, match="hotrow verify"):
        strings.take(np.array([0], np.int32))
