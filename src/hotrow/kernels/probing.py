"""The hash index: buckets of five cells, each bucket one cache line, probed one after the other.

A cell is a key and its row. A bucket is eight words of 64 bits: five keys, then five row numbers + 1 of 32 bits (0: an
empty cell), then 32 bits that are 0. The cells of a bucket fill up from the left; a key that finds its bucket full goes
to the next one. At most four fifths of all cells are in use, so a look-up waits for memory about once.

    word        0    1    2    3    4      5          6          7
    bucket   [ key  key   0    0    0  |  1+r 1+r  |  0   0   |  0   – ]
"""

import numpy as np

from hotrow.kernels import approach, jit, prefetch
from hotrow.kernels.simd import copy

CELLS = 5  # in a bucket
WORDS = 8  # of a bucket
AHEAD = 24  # keys between asking for a bucket and reading it
HALFWAY = 10  # keys between asking for a row and copying it


@jit
def mix(key):
    """Spread a key over 64 bits, one to one (a xor-shift multiply finaliser, twice)."""
    h = np.uint64(key)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return h ^ (h >> np.uint64(32))


@jit
def home(key, mask):
    """The bucket where a key is looked for first."""
    return np.int64(mix(key) & np.uint64(mask))


@jit
def probe(cells, rows, mask, key, n_rows):
    """The row of a key, or −1. rows is `cells` as uint32.

    What a file holds may be mapped unread: it may have no empty cell, or rows from n_rows on, which count as none.
    """
    bucket = home(key, mask)
    for _ in range(mask + 1):
        at = bucket * WORDS
        cell = CELLS
        for c in range(CELLS - 1, -1, -1):  # without a branch; the first that fits, for empty cells look like key 0
            if cells[at + c] == key:
                cell = c
        place = 2 * at + 2 * CELLS
        if cell < CELLS and rows[place + cell] != 0:
            row = np.int64(rows[place + cell]) - 1
            return row if row < n_rows else np.int64(-1)
        if rows[place + CELLS - 1] == 0:
            return np.int64(-1)
        bucket = (bucket + 1) & mask
    return np.int64(-1)


@jit
def find(cells, n_rows, keys, rows, start, stop):
    """Write the row of each key, −1 where it has none: keys uint64 (n,) → rows int32 (n,).

    keys [7, 9, 7]  →  rows [0, -1, 0]
    """
    mask = len(cells) // WORDS - 1
    numbers = cells.view(np.uint32)
    for i in range(start, stop):
        if i + AHEAD < stop:
            prefetch(cells, home(keys[i + AHEAD], mask) * WORDS)
        rows[i] = probe(cells, numbers, mask, keys[i], n_rows)


@jit
def fetch(cells, n_rows, keys, data, stride, dim, rows, out, apart, start, stop):
    """Find the row of each key and copy its weights, in one pass: for ids that are looked up and not stepped.

    data float32 (flat), row r at data[r · stride : r · stride + dim] → rows int32 (n,), −1 where a key has none, and
    out float32 (flat), vector i at out[i · apart : i · apart + dim], zeros there.
    """
    mask = len(cells) // WORDS - 1
    numbers = cells.view(np.uint32)
    for i in range(start - HALFWAY, stop):
        if i + AHEAD < stop:
            prefetch(cells, home(keys[i + AHEAD], mask) * WORDS)
        if i + HALFWAY < stop:
            row = probe(cells, numbers, mask, keys[i + HALFWAY], n_rows)
            rows[i + HALFWAY] = row
            if row >= 0:
                approach(data, row * stride, dim)
        if i < start:
            continue
        row = np.int64(rows[i])
        if row < 0:
            out[i * apart : i * apart + dim] = np.float32(0)
        else:
            copy(data, row * stride, out, i * apart, dim)


@jit
def place(cells, numbers, mask, key, number):
    """Put a key that isn't there into the first empty cell from its home on. number: its row + 1."""
    bucket = home(key, mask)
    while numbers[2 * WORDS * bucket + 3 * CELLS - 1] != 0:
        bucket = (bucket + 1) & mask
    cell = 0
    while numbers[2 * WORDS * bucket + 2 * CELLS + cell] != 0:
        cell += 1
    cells[WORDS * bucket + cell] = key
    numbers[2 * WORDS * bucket + 2 * CELLS + cell] = number


@jit
def insert(cells, row_keys, keys, rows, free, n_free, n_rows):
    """Give a row to each key whose `rows` entry is −1; return the number of rows ever used and of free rows left.

    The keys that have no row must be distinct and absent. Rows come from `free` (last first), then from `n_rows` up.
    cells uint64, row_keys uint64 (the key of each row), rows int32 (n,): all written. The caller has made room.
    """
    mask = len(cells) // WORDS - 1
    numbers = cells.view(np.uint32)
    for i in range(len(keys)):
        if i + AHEAD < len(keys):
            prefetch(cells, home(keys[i + AHEAD], mask) * WORDS)
        if rows[i] >= 0:
            continue
        if n_free > 0:
            n_free -= 1
            row = np.int64(free[n_free])
        else:
            row = np.int64(n_rows)
            n_rows += 1
        place(cells, numbers, mask, keys[i], np.uint32(row + 1))
        row_keys[row] = keys[i]
        rows[i] = row
    return n_rows, n_free


@jit
def refill(cells, old_cells, start, stop):
    """Put the entries of the buckets start to stop of `old_cells` into larger `cells`."""
    mask = len(cells) // WORDS - 1
    numbers, old_numbers = cells.view(np.uint32), old_cells.view(np.uint32)
    near = AHEAD // CELLS
    for bucket in range(start, stop):
        if bucket + near < stop:
            for cell in range(CELLS):
                prefetch(cells, home(old_cells[WORDS * (bucket + near) + cell], mask) * WORDS)
        for cell in range(CELLS):
            number = old_numbers[2 * WORDS * bucket + 2 * CELLS + cell]
            if number == 0:
                break
            place(cells, numbers, mask, old_cells[WORDS * bucket + cell], number)


@jit
def fill(cells, keys, start, stop):
    """Enter `keys[start:stop]`, key i at row i, into cells that hold none of them."""
    mask = len(cells) // WORDS - 1
    numbers = cells.view(np.uint32)
    for i in range(start, stop):
        if i + AHEAD < stop:
            prefetch(cells, home(keys[i + AHEAD], mask) * WORDS)
        place(cells, numbers, mask, keys[i], np.uint32(i + 1))


@jit
def erase(cells, keys):
    """Take out keys that are there. No tombstones, no slow decay: what was pushed on from a full bucket moves back.

    buckets [a b c d e] [f . . . .], f at home in the first, − b  →  [a f c d e] [. . . . .]
    """
    mask = len(cells) // WORDS - 1
    numbers = cells.view(np.uint32)
    for i in range(len(keys)):
        bucket = home(keys[i], mask)
        cell = 0
        while cells[WORDS * bucket + cell] != keys[i] or numbers[2 * WORDS * bucket + 2 * CELLS + cell] == 0:
            cell += 1
            if cell == CELLS:
                cell = 0
                bucket = (bucket + 1) & mask
        while True:
            last = CELLS - 1
            while numbers[2 * WORDS * bucket + 2 * CELLS + last] == 0:
                last -= 1
            if last < CELLS - 1:  # it wasn't full: nothing was pushed on from here
                move(cells, numbers, bucket, last, bucket, cell)
                break
            # The bucket was full: the first later entry that may stand here takes the place.
            other = bucket
            found = False
            while not found and numbers[2 * WORDS * other + 3 * CELLS - 1] != 0:
                other = (other + 1) & mask
                for c in range(CELLS):
                    if numbers[2 * WORDS * other + 2 * CELLS + c] == 0:
                        break
                    away = (other - home(cells[WORDS * other + c], mask)) & mask
                    if away >= ((other - bucket) & mask):
                        cells[WORDS * bucket + cell] = cells[WORDS * other + c]
                        numbers[2 * WORDS * bucket + 2 * CELLS + cell] = numbers[2 * WORDS * other + 2 * CELLS + c]
                        bucket, cell = other, c
                        found = True
                        break
            if not found:
                move(cells, numbers, bucket, last, bucket, cell)
                break


@jit
def move(cells, numbers, bucket, cell, to_bucket, to_cell):
    """Move an entry over another place, and empty its own."""
    a, b = 2 * WORDS * bucket + 2 * CELLS + cell, 2 * WORDS * to_bucket + 2 * CELLS + to_cell
    key, number = cells[WORDS * bucket + cell], numbers[a]
    cells[WORDS * bucket + cell] = np.uint64(0)
    numbers[a] = np.uint32(0)
    if a != b:
        cells[WORDS * to_bucket + to_cell] = key
        numbers[b] = number
