"""Numbers as JSON: read back, each is the same to the bit; what a person wrote comes out as they wrote it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotrow.kernels import INTERPRETED
from hotrow.serve.numbers import rows_as_json

MANY = 2_000 if INTERPRETED else 1_000_000


def read(vectors):
    """What a reader of JSON makes of it, as float32: of the nearest float64, the nearest float32."""
    return np.array(json.loads(bytes(rows_as_json(vectors))), np.float64).astype(np.float32)


def check(values):
    values = np.asarray(values, np.float32).reshape(1, -1)
    assert np.array_equal(read(values).view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"), (-0.0, "-0.0"), (1, "1.0"), (-2, "-2.0"), (0.1, "0.1"), (0.3, "0.3"), (1 / 3, "0.33333334"),
        (123456.78, "123456.78"), (1e7, "10000000.0"), (1e8, "1.0e+08"), (1e-5, "0.00001"), (1.5e-6, "1.5e-06"),
        (3.4028235e38, "3.4028235e+38"), (9.9999999, "10.0"), (np.nan, "null"), (np.inf, "null"), (-np.inf, "-null"),
    ],
)  # fmt: skip
def test_a_number_is_written_with_the_digits_that_it_needs(number, text):
    assert bytes(rows_as_json(np.array([[number]], np.float32))).decode() == f"[[{text.replace('-null', 'null')}]]"


def test_all_powers_of_two_and_of_ten_and_their_neighbours_are_read_back():
    with np.errstate(under="ignore"):
        powers = np.array([*(2.0**e for e in range(-149, 128)), *(float(f"1e{e}") for e in range(-45, 39))], np.float32)
    for values in (powers, -powers, np.nextafter(powers, np.float32(0)), np.nextafter(powers, np.float32(1e38))):
        check(values)


def test_numbers_of_any_bits_are_read_back():
    bits = np.random.default_rng(0).integers(0, 2**32, MANY, dtype=np.uint32)
    bits[bits >> 23 & 255 == 255] = 0  # NaN and infinities
    check(bits.view(np.float32))


def test_numbers_as_in_vectors_are_read_back_and_take_no_more_bytes_than_the_shortest():
    orjson = pytest.importorskip("orjson")
    vectors = (np.random.default_rng(1).standard_normal((MANY // 64, 64)) * 0.1).astype(np.float32)
    assert np.array_equal(read(vectors), vectors)
    shortest = len(orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY))
    assert len(rows_as_json(vectors)) <= 1.001 * shortest


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_any_numbers_are_read_back(numbers):
    check(numbers)


@pytest.mark.parametrize(("shape", "text"), [((0, 3), "[]"), ((2, 0), "[[],[]]"), ((1, 1), "[[0.0]]")])
def test_lists_of_any_length_are_lists(shape, text):
    assert bytes(rows_as_json(np.zeros(shape, np.float32))).decode() == text


def test_rows_that_lie_apart_are_written_as_if_they_did_not():
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert read(wide[:, 1:3]).tolist() == wide[:, 1:3].tolist()
