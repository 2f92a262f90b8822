"""Vectors as JSON, in about half the time that a library takes: writing them is most of what a lookup costs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from hotrow.kernels import decimals, readonly, threads


def rows_as_json(vectors: np.ndarray) -> memoryview:
    """float32 (n, dim) as a list of lists. NaN and infinities are null; all others are read back to the bit.

    >>> bytes(rows_as_json(np.array([[0.1, -2.0]], np.float32)))
    b'[[0.1,-2.0]]'
    """
    values = np.ascontiguousarray(vectors, np.float32)
    out = np.empty(values.size * decimals.WIDEST + 3 * len(values) + 16, np.uint8)
    out[0] = ord("[")
    arrays: Any = readonly(values), readonly(values.view(np.uint32)), *_tables(), out[1:]
    end = 1 + threads.run(decimals.rows, [0, len(values)], *arrays)[0]
    end -= len(values) > 0  # the last comma
    out[end] = ord("]")
    return out.data[: end + 1]


@cache
def _tables() -> tuple[np.ndarray, ...]:
    """Powers, halves, firsts and digits, as `decimals.rows` takes them."""
    exponents = np.maximum(np.arange(256), 1)
    firsts = np.floor((exponents - 127) * np.log10(2.0)).astype(np.int64)
    firsts[0] = -45  # the smallest numbers have fewer bits, and are smaller than their exponent says
    made = (
        np.array([float(f"1e{power}") for power in range(-54, 54)]),
        0.4999 * 2.0 ** (exponents - 150),
        firsts,
        np.frombuffer("".join(f"{i:04d}" for i in range(10_000)).encode("ascii"), "<u4").astype(np.uint64),
    )
    return tuple(map(readonly, made))
