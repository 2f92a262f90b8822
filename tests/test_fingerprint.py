"""The fingerprint is FarmHash's to the bit, for every length."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from naive import fingerprint64 as specification
from strategies import lists, text_ids

from hotrow.kernels import fingerprint, readonly

PUBLISHED = {
    # BigQuery's documentation of FARM_FINGERPRINT
    "1footrue": -1541654101129638711,
    "2applefalse": 2794438866806483259,
    "3true": -4880158226897771312,
    # test vectors of implementations in other languages
    "": 0x9AE16A3B2F90404F,
    "a": 0xB3454265B6DF75E3,
    "ab": 0xAA8D6E5242ADA51E,
    "abc": 0x24A5B3A074E7F369,
    "abcdefghij": 0x8A3ABB6A5F3FB7FB,
    "hello world": 0x588FB7478BD6B01B,
    "test": 8581389452482819506,
    "test" * 8: -4196240717365766262,
    "alphabet": -2427165924636348523,
}
PATTERN = bytes((i * i * 31 + i * 7 + 1) % 251 for i in range(300))
# Of PATTERN[:length], by Google's C++ (pyfarmhash 0.5.1): each side of each change of branch.
BY_LENGTH = {
    0: 0x9AE16A3B2F90404F,
    1: 0x47A24C13B17E583E,
    3: 0x595DFD9B83136EE9,
    4: 0x7B46936BA7F2D830,
    7: 0xCCD1DCF2D365F787,
    8: 0x31AF9807CD2C44F3,
    16: 0x852D28649C2CDA2B,
    17: 0x3D782C65CD9B29AB,
    32: 0x341C9E24BC68DDAB,
    33: 0xFE533DAB1D91DF95,
    64: 0x41658DA41FB92579,
    65: 0x3E0FFA6FEB51046A,
    128: 0x3B681C840FEFB36A,
    129: 0xE909BBEA67F2C2BE,
    300: 0x93EDEC672E842E18,
}
ALL_LENGTHS = "ee956f5a204133fc1706e928a790766179cf7076ab6cd2b9167b8f20fb80eac2"  # SHA-256 of all 301, little-endian


def pack(texts, first=0):
    """Texts as Arrow has them, behind `first` bytes that are none of theirs."""
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    data = np.frombuffer(b"\xff" * first + b"".join(raw), np.uint8)
    offsets = first + np.cumsum([0, *map(len, raw)])
    return readonly(data), readonly(offsets.astype(np.int64))


def fingerprints(texts, first=0):
    out = np.zeros(len(texts), np.uint64)
    fingerprint.fingerprint64(*pack(texts, first), out, 0, len(texts))
    return out


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_vectors_come_out(text):
    assert int(fingerprints([text])[0]) == PUBLISHED[text] % 2**64


def test_buckets_are_those_of_tensorflow():
    assert (fingerprints(["Hello", "TensorFlow", "2.x"]) % np.uint64(3)).tolist() == [0, 2, 2]


def test_every_length_up_to_300_is_as_googles_own_code_has_it():
    found = fingerprints([PATTERN[:n] for n in range(301)])
    assert {n: int(found[n]) for n in BY_LENGTH} == BY_LENGTH
    assert hashlib.sha256(found.astype("<u8").tobytes()).hexdigest() == ALL_LENGTHS


def test_every_length_up_to_300_is_as_specified_wherever_it_begins():
    texts = [PATTERN[n % 7 :][:n] for n in range(294)]
    assert fingerprints(texts, first=3).tolist() == [specification(text) for text in texts]


@given(lists(text_ids()), st.integers(0, 9))
@example([], 0)
def test_any_text_is_as_specified(texts, first):
    assert fingerprints(texts, first).tolist() == [specification(text.encode()) for text in texts]


def test_only_the_strings_of_the_slice_are_written():
    data, offsets = pack(["a", "b", "c", "d"])
    out = np.zeros(4, np.uint64)
    fingerprint.fingerprint64(data, offsets, out, 1, 3)
    assert out.tolist() == [0, *fingerprints(["b", "c"]).tolist(), 0]
