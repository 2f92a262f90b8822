"""Duplicates: which ids of a batch are the same, and where each stands."""

import numpy as np

from hotrow.kernels import jit
from hotrow.kernels.simd import add_up, nothing_of, splat, sum_of


@jit
def mix(key):
    """Spread a key over 64 bits: one round of the two in probing.py, enough for a table of the batch's size."""
    h = np.uint64(key)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return h ^ (h >> np.uint64(32))


@jit
def distinct(keys, cells, inverse, first, found):
    """Number the distinct keys in the order they are first seen; return how many there are.

    keys uint64 (n,) → inverse int32 (n,), first int32 (≥ m,), found uint64 (≥ m,).
    cells int32 (a power of two ≥ 2n) is scratch of any content.

        keys    [7, 9, 7, 4]
        inverse [0, 1, 0, 2]    first [0, 1, 3]    found [7, 9, 4]    → 3
    """
    mask = np.uint64(len(cells) - 1)
    for c in range(len(cells)):
        cells[c] = -1
    m = 0
    for i in range(len(keys)):
        key = keys[i]
        c = mix(key) & mask
        while True:
            u = cells[c]
            if u < 0:
                cells[c] = m
                first[m] = i
                found[m] = key
                inverse[i] = m
                m += 1
                break
            if found[u] == key:
                inverse[i] = u
                break
            c = (c + np.uint64(1)) & mask
    return m


@jit
def group(inverse, starts, items):
    """List the places of each distinct id, in batch order (a counting sort).

    inverse int32 (n,) → starts int32 (m + 1,), items int32 (n,): those of u are items[starts[u]:starts[u + 1]].

        inverse [0, 1, 0, 2]  →  starts [0, 2, 3, 4]    items [0, 2, 1, 3]
    """
    m = len(starts) - 1
    starts[:] = 0
    for i in range(len(inverse)):
        starts[inverse[i] + 1] += 1
    for u in range(m):
        starts[u + 1] += starts[u]
    for i in range(len(inverse)):
        u = inverse[i]
        items[starts[u]] = i
        starts[u] += 1
    for u in range(m, 0, -1):  # each start was moved on to its own stop, which is the next one's start
        starts[u] = starts[u - 1]
    starts[0] = 0


@jit
def total(gradients, apart, starts, items, out, dim, start, stop):
    """Sum the gradients of each distinct id, in batch order; return whether all sums are finite.

    gradients float32 (flat), that of id i at gradients[i · apart : i · apart + dim] → out float32 (flat), the sum of
    u at out[u · dim : (u + 1) · dim].

    starts [0, 2, 3]    items [0, 2, 1]    gradients [a, b, c]  →  [a + c, b]
    """
    nothing = splat(np.float32(0))
    for u in range(start, stop):
        add_up(gradients, apart, dim, items, starts[u], starts[u + 1], starts[stop], out, u * dim)
        nothing = nothing + nothing_of(out, u * dim, dim)
    return sum_of(nothing) == 0
