"""The hash index: open addressing with linear probing over 64-bit keys.

A cell is one uint64: the high half is a tag (the high half of the key's hash), the low half is row + 1, and 0 is an
empty cell. The whole key stands at its row in `row_keys`; the tag spares nearly every look at a key that isn't ours.

    cells     [ 0 | tag,2 | tag,1 | 0 | … ]        8 bytes a cell, a power of two of them, at most 3/4 in use
    row_keys  [ key of row 0 | key of row 1 | … ]  8 bytes a row
"""

import numpy as np

from hotrow.kernels import jit, prefetch

AHEAD = 24  # keys between asking for a cell and reading it
HALFWAY = 12  # keys between asking for a row's key, or its weights, and reading it
LINE = 16  # floats in a cache line


@jit
def mix(key):
    """Spread a key over 64 bits, one to one (a xor-shift multiply finaliser, twice)."""
    h = np.uint64(key)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return h ^ (h >> np.uint64(32))


@jit
def find(cells, row_keys, keys, rows, start, stop):
    """Write the row of each key, −1 where it has none.

    cells uint64 (power of two,), row_keys uint64 (any,), keys uint64 (n,) → rows int32 (n,).

        keys [7, 9, 7]  →  rows [0, -1, 0]
    """
    mask = np.uint64(len(cells) - 1)
    low = np.uint64(0xFFFFFFFF)
    for i in range(start, stop):
        if i + AHEAD < stop:
            prefetch(cells, np.int64(mix(keys[i + AHEAD]) & mask))
        if i + HALFWAY < stop:
            near = cells[mix(keys[i + HALFWAY]) & mask] & low
            if near != np.uint64(0):
                prefetch(row_keys, np.int64(near) - 1)
        key = keys[i]
        h = mix(key)
        tag = h >> np.uint64(32)
        c = h & mask
        row = np.int64(-1)
        for _ in range(len(cells)):  # a file mapped unread may be full, or name rows that it doesn't have
            cell = cells[c]
            if cell == np.uint64(0):
                break
            if cell >> np.uint64(32) == tag:
                candidate = np.int64(cell & low) - 1
                if candidate < len(row_keys) and row_keys[candidate] == key:
                    row = candidate
                    break
            c = (c + np.uint64(1)) & mask
        rows[i] = row


@jit
def candidate(cells, key):
    """The row in the first cell whose tag is the key's, −1 if an empty cell comes before: the one, but for 1 in 2³²."""
    mask = np.uint64(len(cells) - 1)
    h = mix(key)
    c = h & mask
    for _ in range(len(cells)):
        cell = cells[c]
        if cell == np.uint64(0):
            break
        if cell >> np.uint64(32) == h >> np.uint64(32):
            return np.int64(cell & np.uint64(0xFFFFFFFF)) - 1
        c = (c + np.uint64(1)) & mask
    return np.int64(-1)


@jit
def fetch(cells, row_keys, keys, data, stride, dim, rows, out, start, stop):
    """Find the row of each key and copy its weights, in one pass: for ids that are looked up and not stepped.

    cells, row_keys, keys and rows as in `find`; data float32 (flat), row r at data[r · stride : r · stride + dim]
    → rows int32 (n,), −1 where a key has none, and out float32 (n, dim), zeros there.
    """
    mask = np.uint64(len(cells) - 1)
    for i in range(start - HALFWAY, stop):
        if i + AHEAD < stop:
            prefetch(cells, np.int64(mix(keys[i + AHEAD]) & mask))
        if i + HALFWAY < stop:
            near = candidate(cells, keys[i + HALFWAY])
            if near >= len(row_keys):
                near = np.int64(-1)
            rows[i + HALFWAY] = near
            if near >= 0:
                prefetch(row_keys, near)
                for c in range(0, dim, LINE):
                    prefetch(data, near * stride + c)
        if i < start:
            continue
        row = np.int64(rows[i])
        if row >= 0 and row_keys[row] != keys[i]:
            find(cells, row_keys, keys, rows, i, i + 1)
            row = np.int64(rows[i])
        o = out[i]
        if row < 0:
            o[:] = np.float32(0)
        else:
            w = data[row * stride : row * stride + dim]
            for j in range(dim):
                o[j] = w[j]


@jit
def insert(cells, row_keys, keys, rows, free, n_free, n_rows):
    """Give a row to each key whose `rows` entry is −1; return the number of rows ever used and of free rows left.

    The keys that have no row must be distinct and absent. Rows come from `free` (last first), then from `n_rows` up.
    cells uint64, row_keys uint64, rows int32 (n,), free int32: all written. The caller has made room.
    """
    mask = np.uint64(len(cells) - 1)
    for i in range(len(keys)):
        if i + HALFWAY < len(keys):
            prefetch(cells, np.int64(mix(keys[i + HALFWAY]) & mask))
        if rows[i] >= 0:
            continue
        if n_free > 0:
            n_free -= 1
            row = np.int64(free[n_free])
        else:
            row = np.int64(n_rows)
            n_rows += 1
        h = mix(keys[i])
        c = h & mask
        while cells[c] != np.uint64(0):
            c = (c + np.uint64(1)) & mask
        cells[c] = ((h >> np.uint64(32)) << np.uint64(32)) | np.uint64(row + 1)
        row_keys[row] = keys[i]
        rows[i] = row
    return n_rows, n_free


@jit
def fill(cells, keys, rows, start, stop):
    """Enter `keys[start:stop]` into cells that don't hold them, key i at row `rows[i]` (−1: leave it out)."""
    mask = np.uint64(len(cells) - 1)
    for i in range(start, stop):
        if i + HALFWAY < stop:
            prefetch(cells, np.int64(mix(keys[i + HALFWAY]) & mask))
        if rows[i] < 0:
            continue
        h = mix(keys[i])
        c = h & mask
        while cells[c] != np.uint64(0):
            c = (c + np.uint64(1)) & mask
        cells[c] = ((h >> np.uint64(32)) << np.uint64(32)) | np.uint64(rows[i] + 1)


@jit
def refill(cells, old_cells, row_keys, start, stop):
    """Move the entries of `old_cells[start:stop]` into larger `cells`."""
    mask = np.uint64(len(cells) - 1)
    low = np.uint64(0xFFFFFFFF)
    for i in range(start, stop):
        if i + AHEAD < stop and old_cells[i + AHEAD] != np.uint64(0):
            prefetch(row_keys, np.int64(old_cells[i + AHEAD] & low) - 1)
        if i + HALFWAY < stop and old_cells[i + HALFWAY] != np.uint64(0):
            prefetch(cells, np.int64(mix(row_keys[np.int64(old_cells[i + HALFWAY] & low) - 1]) & mask))
        cell = old_cells[i]
        if cell == np.uint64(0):
            continue
        c = mix(row_keys[np.int64(cell & low) - 1]) & mask
        while cells[c] != np.uint64(0):
            c = (c + np.uint64(1)) & mask
        cells[c] = cell


@jit
def erase(cells, row_keys, keys):
    """Take keys out, closing each gap by moving later cells of the same run back: no tombstones, no slow decay.

    [a a b . ] − first a  →  [a b . . ]
    """
    mask = np.uint64(len(cells) - 1)
    low = np.uint64(0xFFFFFFFF)
    for i in range(len(keys)):
        c = mix(keys[i]) & mask
        while cells[c] != np.uint64(0) and row_keys[np.int64(cells[c] & low) - 1] != keys[i]:
            c = (c + np.uint64(1)) & mask
        if cells[c] == np.uint64(0):
            continue
        gap = c
        c = (c + np.uint64(1)) & mask
        while cells[c] != np.uint64(0):
            home = mix(row_keys[np.int64(cells[c] & low) - 1]) & mask
            if ((c - home) & mask) >= ((c - gap) & mask):  # its home isn't beyond the gap
                cells[gap] = cells[c]
                gap = c
            c = (c + np.uint64(1)) & mask
        cells[gap] = np.uint64(0)
