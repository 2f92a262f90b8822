"""Kernels of strings do with bytes what Python does with str, and nothing beyond their arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import BAD_TEXT as BAD
from strategies import lists, text_ids

from hotrow.kernels import load32, load64, readonly, store32, store64, texts

PATTERN = bytes((i * i * 31 + i * 7 + 1) % 251 for i in range(300))


def pack(raw, first=0):
    """Bytes as Arrow has them, behind `first` bytes that are none of theirs."""
    data = np.frombuffer(b"\xff" * first + b"".join(raw), np.uint8)
    return readonly(data), readonly(first + np.cumsum([0, *map(len, raw)]).astype(np.int64))


def numbers(values):
    return readonly(np.array(values, np.int64))


def is_text(raw):
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- loads and stores -----------------------------------------------------------------------------------------------


def test_bytes_are_loaded_and_stored_as_little_endian_numbers():
    data = readonly(np.frombuffer(PATTERN, np.uint8))
    out = np.zeros(20, np.uint8)
    for at in range(11):
        four, eight = (int.from_bytes(PATTERN[at : at + n], "little") for n in (4, 8))
        assert (int(load32(data, np.uint64(at))), int(load64(data, np.uint64(at)))) == (four, eight)
        store64(out, np.uint64(at), np.uint64(eight))
        assert out[at : at + 8].tobytes() == PATTERN[at : at + 8]
        store32(out, np.uint64(at), np.uint64(2**32 - 1))
        assert out[at : at + 8].tobytes() == b"\xff" * 4 + PATTERN[at + 4 : at + 8]


@pytest.mark.parametrize("length", [*range(26), 63, 64, 65])
def test_any_number_of_bytes_is_moved_and_none_beside_them(length):
    out = np.full(length + 4, 7, np.uint8)
    source = readonly(np.frombuffer(PATTERN, np.uint8))
    texts.move(source, np.uint64(5), out, np.uint64(2), np.uint64(length))
    assert out.tobytes() == b"\7\7" + PATTERN[5 : 5 + length] + b"\7\7"


# --- what Arrow promises ---------------------------------------------------------------------------------------------


def faults(data, offsets, start=0, stop=None):
    out = np.zeros(2, np.uint8)
    texts.check(data, offsets, out, start, len(offsets) - 1 if stop is None else stop)
    return out.tolist()


@given(st.lists(st.binary(max_size=9) | text_ids().map(str.encode), max_size=20), st.integers(0, 3))
def test_strings_are_good_exactly_if_each_of_them_is_utf8(raw, first):
    assert faults(*pack(raw, first)) == [0, not all(map(is_text, raw))]


@given(text_ids(), text_ids(), st.sampled_from(list(BAD)), st.integers(0, 3))
def test_what_is_no_utf8_is_noticed_at_any_place(before, after, fault, others):
    raw = before.encode() + BAD[fault] + after.encode()
    assert not is_text(raw)
    assert faults(*pack([b"good"] * others + [raw] + [b"good"] * others)) == [0, 1]


@pytest.mark.parametrize("fault", BAD)
def test_no_two_strings_make_up_for_each_other(fault):
    whole = "ü€🐫".encode()
    for cut in range(1, len(whole)):
        halves = [whole[:cut], whole[cut:]]
        assert faults(*pack(halves)) == [0, not all(map(is_text, halves))]
    assert faults(*pack([BAD[fault], b""])) == [0, 1]


@given(lists(text_ids(), min_size=1), st.data())
def test_only_the_strings_of_a_slice_are_checked(drawn, data):
    raw = [text.encode() for text in drawn]
    start = data.draw(st.integers(0, len(raw)))
    stop = data.draw(st.integers(start, len(raw)))
    raw = [text if start <= i < stop else b"\xff" for i, text in enumerate(raw)]
    assert faults(*pack(raw), start, stop) == [0, 0]


BROKEN = [[0, 4, 3], [1, 0, 3], [-1, 2, 3], [0, 2, 4], [0, 10**18, 3], [0, -(2**63), 3], [3, 4, 4], [-5, -4, -3]]


@pytest.mark.parametrize("offsets", BROKEN)
def test_offsets_that_fall_or_lead_out_of_the_bytes_are_noticed_and_nothing_is_read(offsets):
    assert faults(readonly(np.frombuffer(b"\xff\xff\xff", np.uint8)), numbers(offsets)) == [1, 0]


# --- NumPy's strings -------------------------------------------------------------------------------------------------


def encoded(array):
    """The strings of a NumPy array of U or S in UTF-8, or −1 for those that have none."""
    unit = 4 if array.dtype.kind == "U" else 1
    width, n = array.itemsize // unit, len(array)
    units = readonly(array.view(np.uint8))
    sizes = np.zeros(n, np.int64)
    texts.measure(units, unit, width, sizes, 0, n)
    if (sizes < 0).any():
        return sizes.tolist()
    offsets = np.cumsum([0, *sizes])
    data = np.full(offsets[-1], 7, np.uint8)
    texts.encode(units, unit, width, readonly(offsets), data, 0, n)
    return [data[a:b].tobytes() for a, b in zip(offsets, offsets[1:], strict=False)]


@given(lists(text_ids() | st.text(st.characters(max_codepoint=127), max_size=40), min_size=1))
@example(["", "ü" * 9, "a" * 8, "a" * 7 + "🐫", "a" * 8 + "€", "\0ü"])
def test_strings_of_fixed_width_become_utf8_without_the_nuls_at_their_end(drawn):
    expected = [text.rstrip("\0").encode() for text in drawn]
    assert encoded(np.array(drawn)) == expected
    assert encoded(np.array([text.encode() for text in drawn])) == expected


@pytest.mark.parametrize("length", range(20))
@pytest.mark.parametrize("point", ["a", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U0010ffff"])
def test_each_code_point_is_encoded_wherever_it_stands(length, point):
    drawn = ["b" * i + point + "b" * (length - i) for i in range(length + 1)]
    assert encoded(np.array(drawn)) == [text.encode() for text in drawn]


@pytest.mark.parametrize("point", [0xD800, 0xDFFF, 0x110000, 0xFFFFFFFF])
def test_what_utf8_can_not_hold_is_noticed(point):
    units = np.array([[97, 97, 97], [97, point, 97], [point, 0, 0], [97, 97, point]], np.uint32)
    assert encoded(units.view("<U3").reshape(-1)) == [3, -1, -1, -1]


# --- taking strings apart and together -------------------------------------------------------------------------------


@given(lists(text_ids().map(lambda text: text.replace("\0", "").encode()), min_size=1))
def test_joined_strings_are_closed_up(raw):
    offsets = pack(raw)[1]
    data = np.zeros(offsets[-1], np.uint8)
    texts.close(readonly(np.frombuffer(b"\0".join(raw), np.uint8)), offsets, data, 0, len(raw))
    assert data.tobytes() == b"".join(raw)


@given(st.lists(st.integers(0, 20), max_size=60))
def test_values_are_numbered_as_they_are_first_seen(codes):
    inverse, first, used = np.zeros(len(codes), np.int32), np.zeros(len(codes), np.int32), np.zeros(21, np.int64)
    m = texts.number(numbers(codes), np.full(21, -1, np.int32), inverse, first, used)
    order = list(dict.fromkeys(codes))
    assert used[:m].tolist() == order
    assert first[:m].tolist() == [codes.index(code) for code in order]
    assert inverse.tolist() == [order.index(code) for code in codes]


@given(lists(text_ids().map(str.encode), min_size=1), st.integers(0, 5), st.booleans(), st.data())
def test_strings_are_gathered_from_anywhere(raw, first, is_arrow, data):
    source, offsets = pack(raw, first)
    step, places = (1, offsets) if is_arrow else (2, readonly(np.repeat(offsets, 2)[1:-1]))
    at = data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=60))
    sizes = np.zeros(len(at), np.int64)
    texts.sizes(places, step, len(source), numbers(at), sizes, 0, len(at))
    assert sizes.tolist() == [len(raw[i]) for i in at]
    out = np.zeros(sizes.sum(), np.uint8)
    texts.gather(source, places, step, numbers(at), numbers(np.cumsum([0, *sizes])), out, 0, len(at))
    assert out.tobytes() == b"".join(raw[i] for i in at)


def test_a_string_whose_places_lead_out_of_the_bytes_has_no_size():
    places, sizes = numbers([0, 3, 2, 3, 4, -1, 3, 2**62]), np.zeros(7, np.int64)
    texts.sizes(places, 1, 3, numbers(range(7)), sizes, 0, 7)
    assert sizes.tolist() == [3, -1, 1, -1, -1, -1, -1]


@given(lists(text_ids().map(str.encode), min_size=1), st.data())
def test_wiped_strings_are_zeros_and_empty_and_all_others_stay(raw, data):
    source, offsets = pack(raw, 2)
    out, places = source.copy(), np.repeat(offsets, 2)[1:-1].copy()
    rows = data.draw(st.lists(st.integers(0, len(raw) - 1), unique=True))
    texts.wipe(out, places, readonly(np.array(rows, np.int32)))
    left = [b"\0" * len(text) if i in rows else text for i, text in enumerate(raw)]
    assert out.tobytes() == b"\xff\xff" + b"".join(left)
    assert places.reshape(-1, 2)[rows].tolist() == [[0, 0]] * len(rows)
    kept = [i for i in range(len(raw)) if i not in rows]
    assert places.reshape(-1, 2)[kept].tolist() == [[offsets[i], offsets[i + 1]] for i in kept]


# --- whether two are the same -----------------------------------------------------------------------------------------


def same(a, b):
    (left, _), (right, _) = pack([a], 3), pack([b], 6)
    return bool(texts.same(left, np.uint64(3), right, np.uint64(6), np.uint64(len(a))))


@pytest.mark.parametrize("length", [*range(1, 26), 63, 64, 65])
def test_a_single_byte_makes_the_difference_wherever_it_stands(length):
    text = PATTERN[:length]
    assert same(text, text)
    assert same(b"", b"")
    assert not any(same(text, text[:i] + bytes([text[i] ^ 1]) + text[i + 1 :]) for i in range(length))


@given(lists(text_ids().map(str.encode), min_size=1), lists(text_ids().map(str.encode), min_size=1), st.data())
def test_strings_differ_from_those_of_their_rows_where_their_bytes_do(given_, stored, data):
    stored = stored + given_[:3]
    pairs = st.tuples(st.integers(0, len(given_) - 1), st.integers(-1, len(stored) - 1))
    at = data.draw(st.lists(pairs, max_size=60))
    first, rows = (readonly(np.array([pair[k] for pair in at], np.int32)) for k in (0, 1))
    kept, offsets = pack(stored, 2)
    out = np.zeros(len(at), bool)
    for step, places in ((1, offsets), (2, readonly(np.repeat(offsets, 2)[1:-1]))):
        texts.differ_from_rows(*pack(given_, 1), first, rows, kept, places, step, out, 0, len(at))
        assert out.tolist() == [j >= 0 and given_[i] != stored[j] for i, j in at]


def test_a_stored_string_that_leads_out_of_its_file_differs_and_is_not_read():
    rows = readonly(np.arange(4, dtype=np.int32))
    out = np.zeros(4, bool)
    places = numbers([-3, 0, 2, 5, 2**62, 2**62 + 3, 0, 3])
    first = readonly(np.zeros(4, np.int32))
    texts.differ_from_rows(*pack([b"abc"]), first, rows, pack([b"abc"])[0], places, 2, out, 0, 4)
    assert out.tolist() == [True, True, True, False]


@given(lists(text_ids().map(str.encode), min_size=1), st.data())
def test_strings_differ_from_their_firsts_where_their_bytes_do(raw, data):
    n = len(raw)
    group = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    order = list(dict.fromkeys(group))
    first = [group.index(g) for g in order]
    inverse = readonly(np.array([order.index(g) for g in group], np.int32))
    out = np.zeros(n, bool)
    texts.differ_from_firsts(*pack(raw, 2), inverse, readonly(np.array(first, np.int32)), out, 0, n)
    assert out.tolist() == [raw[i] != raw[group.index(g)] for i, g in enumerate(group)]
