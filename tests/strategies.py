"""Ids for Hypothesis to draw, shared by all tests. The ends of each range come up often."""

from __future__ import annotations

from math import prod

from hypothesis import strategies as st

INT64_EDGES = [-(2**63), -1, 0, 1, 2**31, 2**53 + 1, 2**63 - 1]
UINT64_EDGES = [0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
TEXT_EDGES = ["", "\0", "a\0", "\0a", "ü", "漢字", "🐫", "a" * 65]

# Bytes that are no UTF-8, each of its own fault (Unicode, table 3-7)
BAD_TEXT = {
    "a byte that begins nothing": b"\x80",
    "the last of them": b"\xbf",
    "an overlong slash": b"\xc0\xaf",
    "an overlong DEL": b"\xc1\xbf",
    "an overlong three": b"\xe0\x9f\xbf",
    "an overlong four": b"\xf0\x8f\xbf\xbf",
    "the first surrogate": b"\xed\xa0\x80",
    "the last surrogate": b"\xed\xbf\xbf",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "a first byte of no use": b"\xf5\x80\x80\x80",
    "the highest byte": b"\xff",
    "two of two bytes, cut": b"\xc3",
    "two of three bytes": b"\xe2\x82",
    "three of four bytes": b"\xf0\x9f\x90",
    "a second byte that is ASCII": b"\xc3(",
    "a third byte that begins": b"\xe2\x82\xc3",
    "a fourth byte that is ASCII": b"\xf0\x9f\x90a",
}


def int64_ids():
    """Any int64."""
    return st.sampled_from(INT64_EDGES) | st.integers(-100, 100) | st.integers(-(2**63), 2**63 - 1)


def uint64_ids():
    """Any uint64."""
    return st.sampled_from(UINT64_EDGES) | st.integers(0, 100) | st.integers(0, 2**64 - 1)


def text_ids():
    """Any string that UTF-8 can hold: empty, with NULs, of any length class of the fingerprint."""
    unicode = st.characters(exclude_categories=["Cs"])
    long = st.text("abcdefghij", min_size=17, max_size=200)
    return st.sampled_from(TEXT_EDGES) | st.text(unicode, max_size=20) | long


def ids_of_one_kind():
    """(kind, ids) with at least one id, of any kind."""
    kinds = {"int64": int64_ids(), "uint64": uint64_ids(), "string": text_ids()}
    return st.sampled_from(list(kinds)).flatmap(lambda kind: st.tuples(st.just(kind), lists(kinds[kind], min_size=1)))


def lists(ids, min_size=0, max_size=30):
    """Flat lists of ids; some come more than once."""
    short = st.lists(ids, min_size=min_size, max_size=max_size)
    return short | st.lists(ids, min_size=1, max_size=4).flatmap(
        lambda few: st.lists(st.sampled_from(few), min_size=min_size, max_size=max_size)
    )


def shapes(max_dims=3, max_side=4):
    """Shapes of arrays, () and those without items among them."""
    return st.lists(st.integers(0, max_side), max_size=max_dims).map(tuple)


def shaped(ids, max_dims=3, max_side=4):
    """(flat list of ids, the shape they have)."""
    return shapes(max_dims, max_side).flatmap(
        lambda shape: st.tuples(st.lists(ids, min_size=prod(shape), max_size=prod(shape)), st.just(shape))
    )
