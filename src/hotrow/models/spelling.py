"""Ids that are written like one that nobody knows: a mistyped id is told from a new one by what there is beside it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np

from hotrow.table.utf8 import buffers

_OTHER = 4  # bytes that a spelling may be longer or shorter: a letter has as many at most
_LONGEST = 200  # bytes; what is longer is no typing error
_LOOKED_AT = 50_000  # of how they begin and end, those that are nearest in length
_COMPARED = 200  # in earnest, those that begin and end most like it


def alike(ids: Any, wanted: str, n: int = 3) -> list[str]:
    """The n ids, of an Arrow array of strings, that are written most like `wanted`; fewer if few are.

    Of the ids of nearly its length those are compared that begin and end with the most of the same bytes: whatever one
    mistake does, the two together are all of the rest.
    """
    text = np.frombuffer(wanted.encode("utf-8", "surrogatepass"), np.uint8)
    if not 0 < len(text) <= _LONGEST or not len(ids):
        return []
    data, offsets = buffers(ids)
    starts, ends = offsets[:-1], offsets[1:]
    lengths = ends - starts
    near = np.flatnonzero((np.abs(lengths - len(text)) <= _OTHER) & (lengths > 0))
    first, last = data[starts[near]], data[ends[near] - 1]
    near = near[(first == text[0]) | (last == text[-1])]
    if not len(near):
        return []
    if len(near) > _LOOKED_AT:
        near = np.sort(near[np.argsort(np.abs(lengths[near] - len(text)), kind="stable")[:_LOOKED_AT]])
    common = _common(data, starts[near], lengths[near], text, 1) + _common(data, starts[near], lengths[near], text, -1)
    best = near[np.argsort(-common, kind="stable")[:_COMPARED]]
    return get_close_matches(wanted, ids.take(np.sort(best)).to_pylist(), n, 0.6)


def _common(data: np.ndarray, starts: np.ndarray, lengths: np.ndarray, text: np.ndarray, way: int) -> np.ndarray:
    """How many bytes each of the ids begins with, or with way=−1 ends with, as `text` does: int64 (n,)."""
    count = np.zeros(len(starts), np.int64)
    going = np.arange(len(starts))
    for place in range(len(text)):
        going = going[lengths[going] > place]
        at = starts[going] + (place if way > 0 else lengths[going] - 1 - place)
        going = going[data[at] == text[place if way > 0 else len(text) - 1 - place]]
        if not len(going):
            break
        count[going] += 1
    return count
