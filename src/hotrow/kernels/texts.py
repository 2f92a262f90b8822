"""Strings as bytes between two places of one long array."""

import numpy as np

from hotrow.kernels import jit


@jit
def copy(source, starts, ends, at, data, new_starts, new_ends, rows, used):
    """Append text `at[i]` of `source` to `data` and note its place as row `rows[i]`'s; return the bytes in use.

    source, data uint8; starts, ends, new_starts, new_ends int64; at int64 (n,), rows int32 (n,). The caller made room.

        source "catdog", at [1]  →  data "…dog", new_starts[r], new_ends[r] = used, used + 3
    """
    for i in range(len(at)):
        begin = starts[at[i]]
        length = ends[at[i]] - begin
        for j in range(length):
            data[used + j] = source[begin + j]
        new_starts[rows[i]] = used
        used += length
        new_ends[rows[i]] = used
    return used


@jit
def wipe(data, starts, ends, rows):
    """Overwrite the texts of `rows` with zeros and give them no length: nothing of a forgotten id stays."""
    for i in range(len(rows)):
        for j in range(starts[rows[i]], ends[rows[i]]):
            data[j] = np.uint8(0)
        starts[rows[i]] = 0
        ends[rows[i]] = 0
