"""Bags of ids, as numbers that any framework can hold: one int32 code for each whole bag, so that nothing is padded.

    tags   [["red", "small"], [], ["red"]]
    codes  [-2147483647, -2147483646, -2147483645]

However Keras shuffles and cuts the column, a code brings its bag along: the codes of its ids, and their weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hotrow.bridges import ragged
from hotrow.bridges.codes import PAD, Words, decode, encode, held, issue, refuse_stray
from hotrow.errors import ArgumentError
from hotrow.table.batch import Bags, Batch
from hotrow.table.table import Table


class BagCodes:
    """The bags of one column; bag i has code base + i.

    codes    int32 (ids,), of the ids of all bags, one bag after the other
    offsets  int64 (bags + 1,)
    weights  float32 (ids,), or None
    """

    def __init__(self, codes: np.ndarray, words: Words, offsets: np.ndarray, weights: np.ndarray | None) -> None:
        self.codes, self.words, self.offsets, self.weights = codes, words, offsets, weights
        self.base = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1


def encode_bags(bags: Any, *, weights: Any = None, mask: Any = None) -> tuple[np.ndarray, BagCodes]:
    """A code for each bag, int32 (bags,), and what must be held while they are in use.

    bags     lists of ids, an Arrow list array, a matrix: see `ragged.take_apart`
    weights  numbers in the same form, one for each id
    mask     an id that stands for nothing, and is left out

    Raises what `encode` and `take_apart` raise, and ArgumentError for weights of another form.

    >>> from hotrow.bridges.bag_codes import encode_bags
    >>> codes, bags = encode_bags([["red", "small"], [], ["red"]])
    >>> (codes - bags.base).tolist(), bags.offsets.tolist(), bags.words.ids.to_pylist()
    ([0, 1, 2], [0, 2, 2, 3], ['red', 'small'])
    """
    ids, offsets = ragged.take_apart(bags)
    numbers = None if weights is None else ragged.take_weights(weights, offsets)
    codes, words = encode(ids)
    if mask is not None:
        keep = codes != words.base + words.place(mask)
        if not keep.all():
            codes, numbers = codes[keep], None if numbers is None else numbers[keep]
            offsets = np.concatenate([[0], np.cumsum(keep)])[offsets]
    coded = BagCodes(codes, words, offsets, numbers)
    issue(coded)
    return np.arange(coded.base, coded.base + len(coded), dtype=np.int32), coded


def decode_bags(codes: np.ndarray, table: Table, mode: int, *, grow: bool = False) -> Batch:
    """The Batch of the bags that these codes stand for, int32 (bags,), pooled by `mode`. Else as `decode`."""
    coded, which = _bags_of(codes)
    starts, ends = coded.offsets[which], coded.offsets[which + 1]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends - starts)])
    at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], ends - starts)
    weights = np.zeros(0, np.float32) if coded.weights is None else coded.weights[at]
    return decode(coded.codes[at], table, grow=grow, bags=Bags(offsets, weights, mode))


def decode_sequences(codes: np.ndarray, table: Table, length: int, *, grow: bool = False) -> Batch:
    """The Batch of the last `length` ids of each bag, (bags, length), filled up with padding. Else as `decode`."""
    coded, which = _bags_of(codes)
    ends = coded.offsets[which + 1]
    lengths = np.minimum(ends - coded.offsets[which], length)
    places = np.arange(length)
    isnt_pad = places < lengths[:, None]
    dense = np.full((len(which), length), PAD, np.int32)
    dense[isnt_pad] = coded.codes[((ends - lengths)[:, None] + places)[isnt_pad]]
    return decode(dense, table, grow=grow, padded=True)


def _bags_of(codes: np.ndarray) -> tuple[BagCodes, np.ndarray]:
    """Whose codes these are, and which of its bags, int64 (bags,)."""
    flat = codes.reshape(-1)
    if not len(flat):
        return BagCodes(np.zeros(0, np.int32), encode(np.zeros(0, np.int64))[1], np.zeros(1, np.int64), None), flat
    coded = held(int(flat.min()), int(flat.max()))
    if not isinstance(coded, BagCodes):
        if isinstance(coded, Words):
            raise ArgumentError(
                "got ids where bags of ids were expected: give each example a list of ids, [[1, 2], []]"
            )
        refuse_stray(int(flat[0]))
    assert isinstance(coded, BagCodes)
    return coded, flat.astype(np.int64) - coded.base
