"""The hash index: buckets of five cells, each bucket one cache line, probed one after the other.

A cell is a key and its row. A bucket is eight words of 64 bits: five keys, then five row numbers + 1 of 32 bits (0: an
empty cell), then 32 bits that are 0. The cells of a bucket fill up from the left; a key that finds its bucket full goes
to the next one. At most four fifths of all cells are in use, so a look-up waits for memory about once.

    word        0    1    2    3    4      5          6          7
    bucket   [ key  key   0    0    0  |  1+r 1+r  |  0   0   |  0   – ]

It grows without a pause: twice as many buckets are laid out behind, and at each insertion some of the old ones move
there. Meanwhile a key is where the bucket it is at home in, among the old ones, says: moved on, or not yet. A part that
moves ends with a bucket that isn't full, so that nothing which is at home in it stands behind it.

    cells   [ … | old: moved moved moved·still still still | new: … ]
                                        ↑ moved                       frame int64 (6,), see MASK … MOVED

`numbers` below is `cells` as uint32. A spot is (bucket, mask, base): of the buckets base … base + mask, one.
"""

import numpy as np

from hotrow.kernels import INTERPRETED, approach, jit, prefetch
from hotrow.kernels.simd import copy, lowest, matches

CELLS = 5  # in a bucket
WORDS = 8  # of a bucket
KEYS = 0b11111  # which of the words are keys
AHEAD = 28  # keys between asking for a bucket and the end of a look-up
GLANCE, SETTLE = 16, 8  # keys between a look into that bucket alone, and into those behind it, and the end
UNSETTLED = -2  # a row that stands in a later bucket, or nowhere

MASK, BASE, OLD_MASK, OLD_BASE, ORIGIN, MOVED = 0, 1, 2, 3, 4, 5
"""What stands in a frame: of the buckets and of the old ones, how many less 1 and from where on; the first to move, and
how many have. Where nothing moves, the old ones are the same."""


@jit(inline=True)
def mix(key):
    """Spread a key over 64 bits, one to one (a xor-shift multiply finaliser, twice)."""
    h = np.uint64(key)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return h ^ (h >> np.uint64(32))


@jit(inline=True)
def number_at(bucket, cell):
    """Where a row number stands in `numbers`."""
    return 2 * WORDS * bucket + 2 * CELLS + cell


@jit(inline=True)
def read(frame):
    """A frame as a tuple, read once for all keys: what is written meanwhile might be it, for all a compiler knows."""
    return frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]


@jit(inline=True)
def home(key, frame):
    """The spot where a key is looked for first."""
    h = np.int64(mix(key))
    has_moved = (((h & frame[OLD_MASK]) - frame[ORIGIN]) & frame[OLD_MASK]) < frame[MOVED]
    mask = frame[MASK] if has_moved else frame[OLD_MASK]
    return h & mask, mask, frame[BASE] if has_moved else frame[OLD_BASE]


@jit(inline=True)
def call(cells, key, frame):
    """Ask the cache for the bucket where a key is looked for first."""
    if INTERPRETED:
        return
    bucket, _, base = home(key, frame)
    prefetch(cells, (base + bucket) * WORDS)


@jit(inline=True)
def probe(cells, numbers, frame, key, n_rows):
    """The row of a key, or −1.

    What a file holds may be mapped unread: it may have no empty cell, or rows from n_rows on, which count as none.
    """
    bucket, mask, base = home(key, frame)
    for _ in range(mask + 1):
        here = matches(cells, (base + bucket) * WORDS, key) & KEYS
        if here:  # the first that fits, for empty cells look like key 0
            row = np.int64(numbers[number_at(base + bucket, lowest(here))]) - 1
            if row >= 0:
                return row if row < n_rows else np.int64(-1)
        if numbers[number_at(base + bucket, CELLS - 1)] == 0:
            return np.int64(-1)
        bucket = (bucket + 1) & mask
    return np.int64(-1)


@jit(inline=True)
def glance(cells, numbers, frame, key, n_rows):
    """As `probe`, but UNSETTLED where the first bucket doesn't tell: the cache is asked for the second one.

    A key in eight stands behind its first bucket, and each that is waited for costs as much as ten that were asked for.
    """
    bucket, mask, base = home(key, frame)
    here = matches(cells, (base + bucket) * WORDS, key) & KEYS
    if here:
        row = np.int64(numbers[number_at(base + bucket, lowest(here))]) - 1
        if row >= 0:
            return row if row < n_rows else np.int64(-1)
    if numbers[number_at(base + bucket, CELLS - 1)] == 0:
        return np.int64(-1)
    prefetch(cells, (base + ((bucket + 1) & mask)) * WORDS)
    return np.int64(UNSETTLED)


@jit
def find(cells, frame, n_rows, keys, rows, start, stop):
    """Write the row of each key, −1 where it has none: keys uint64 (n,) → rows int32 (n,); return how many have none.

    keys [7, 9, 7]  →  rows [0, -1, 0]    → 1
    """
    numbers = cells.view(np.uint32)
    frame, missing = read(frame), 0
    for i in range(start - AHEAD, stop):
        if i + AHEAD < stop:
            call(cells, keys[i + AHEAD], frame)
        if start <= i + SETTLE < stop:
            rows[i + SETTLE] = glance(cells, numbers, frame, keys[i + SETTLE], n_rows)
        if i < start:
            continue
        if rows[i] == UNSETTLED:
            rows[i] = probe(cells, numbers, frame, keys[i], n_rows)
        missing += rows[i] < 0
    return missing


@jit
def fetch(cells, frame, n_rows, keys, data, stride, dim, rows, out, apart, start, stop):
    """Find the row of each key and copy its weights, in one pass: for ids that are looked up and not stepped.

    data float32 (flat), row r at data[r · stride : r · stride + dim] → rows int32 (n,), −1 where a key has none, and
    out float32 (flat), vector i at out[i · apart : i · apart + dim], zeros there. Returns how many have none.
    """
    numbers = cells.view(np.uint32)
    frame, missing = read(frame), 0
    for i in range(start - AHEAD, stop):
        if i + AHEAD < stop:
            call(cells, keys[i + AHEAD], frame)
        if start <= i + GLANCE < stop:
            rows[i + GLANCE] = glance(cells, numbers, frame, keys[i + GLANCE], n_rows)
        if start <= i + SETTLE < stop:
            if rows[i + SETTLE] == UNSETTLED:
                rows[i + SETTLE] = probe(cells, numbers, frame, keys[i + SETTLE], n_rows)
            if rows[i + SETTLE] >= 0:
                approach(data, np.int64(rows[i + SETTLE]) * stride, dim)
        if i < start:
            continue
        row = np.int64(rows[i])
        if row < 0:
            missing += 1
            out[i * apart : i * apart + dim] = np.float32(0)
        else:
            copy(data, row * stride, out, i * apart, dim)
    return missing


@jit(inline=True)
def place(cells, numbers, spot, key, number):
    """Put a key that isn't there into the first empty cell from a spot on. number: its row + 1."""
    bucket, mask, base = spot
    while numbers[number_at(base + bucket, CELLS - 1)] != 0:
        bucket = (bucket + 1) & mask
    cell = 0
    while numbers[number_at(base + bucket, cell)] != 0:
        cell += 1
    cells[WORDS * (base + bucket) + cell] = key
    numbers[number_at(base + bucket, cell)] = number


@jit
def insert(cells, frame, keys, rows, free, counts):
    """Give a row to each key whose `rows` entry is −1.

    The keys that have no row must be distinct and absent. Rows come from `free` (last first), then from those never
    used. counts int64 (2,): how many rows were ever used, and how many of `free` are left. cells uint64, rows int32
    (n,) and counts are written, all by the end: a Ctrl-C comes before or after. The caller has made room.
    """
    numbers = cells.view(np.uint32)
    n_rows, n_free = counts[0], counts[1]
    for i in range(len(keys)):
        if i + AHEAD < len(keys):
            call(cells, keys[i + AHEAD], frame)
        if rows[i] >= 0:
            continue
        if n_free > 0:
            n_free -= 1
            row = np.int64(free[n_free])
        else:
            row = np.int64(n_rows)
            n_rows += 1
        place(cells, numbers, home(keys[i], frame), keys[i], np.uint32(row + 1))
        rows[i] = row
    counts[0], counts[1] = n_rows, n_free


@jit
def open_bucket(cells, mask, base):
    """The first of these buckets that isn't full: there is one."""
    numbers = cells.view(np.uint32)
    bucket = 0
    while numbers[number_at(base + bucket, CELLS - 1)] != 0:
        bucket = (bucket + 1) & mask
    return bucket


@jit
def move(cells, frame, least):
    """Move on at least so many of the old buckets, if there are, up to one that isn't full. frame is written."""
    numbers = cells.view(np.uint32)
    mask, base, old_mask, moved = frame[MASK], frame[BASE], frame[OLD_MASK], frame[MOVED]
    end = min(moved + least, old_mask + 1)
    is_full = False
    while moved < end or is_full:  # past the last one, too: what didn't fit there went on to the first
        at = WORDS * (frame[OLD_BASE] + ((frame[ORIGIN] + moved) & old_mask))
        is_full = numbers[2 * at + 3 * CELLS - 1] != 0
        for cell in range(CELLS):
            number = numbers[2 * at + 2 * CELLS + cell]
            if number == 0:
                break
            key = cells[at + cell]
            place(cells, numbers, (np.int64(mix(key)) & mask, mask, base), key, number)
        cells[at : at + WORDS] = np.uint64(0)
        moved += 1
    frame[MOVED] = min(moved, old_mask + 1)


@jit
def fill(cells, frame, keys, start, stop):
    """Enter `keys[start:stop]`, key i at row i, into cells that hold none of them."""
    numbers = cells.view(np.uint32)
    for i in range(start, stop):
        if i + AHEAD < stop:
            call(cells, keys[i + AHEAD], frame)
        place(cells, numbers, home(keys[i], frame), keys[i], np.uint32(i + 1))


@jit
def keys_of(cells, base, out, start, stop):
    """Write the key of each row in the buckets base + start to base + stop: → out uint64 (rows,), no others."""
    numbers = cells.view(np.uint32)
    for bucket in range(base + start, base + stop):
        for cell in range(CELLS):
            number = np.int64(numbers[number_at(bucket, cell)])
            if number == 0:
                break
            if number <= len(out):
                out[number - 1] = cells[WORDS * bucket + cell]


@jit
def erase(cells, frame, keys):
    """Take out keys that are there. No tombstones, no slow decay: what was pushed on from a full bucket moves back.

    buckets [a b c d e] [f . . . .], f at home in the first, − b  →  [a f c d e] [. . . . .]
    """
    numbers = cells.view(np.uint32)
    for i in range(len(keys)):
        bucket, mask, base = home(keys[i], frame)
        cell = 0
        while cells[WORDS * (base + bucket) + cell] != keys[i] or numbers[number_at(base + bucket, cell)] == 0:
            cell += 1
            if cell == CELLS:
                cell = 0
                bucket = (bucket + 1) & mask
        while True:
            last = CELLS - 1
            while numbers[number_at(base + bucket, last)] == 0:
                last -= 1
            if last < CELLS - 1:  # it wasn't full: nothing was pushed on from here
                shift(cells, numbers, base + bucket, last, base + bucket, cell)
                break
            # The bucket was full: the first later entry that may stand here takes the place.
            other = bucket
            found = False
            while not found and numbers[number_at(base + other, CELLS - 1)] != 0:
                other = (other + 1) & mask
                for c in range(CELLS):
                    if numbers[number_at(base + other, c)] == 0:
                        break
                    away = (other - np.int64(mix(cells[WORDS * (base + other) + c]))) & mask
                    if away >= ((other - bucket) & mask):
                        cells[WORDS * (base + bucket) + cell] = cells[WORDS * (base + other) + c]
                        numbers[number_at(base + bucket, cell)] = numbers[number_at(base + other, c)]
                        bucket, cell = other, c
                        found = True
                        break
            if not found:
                shift(cells, numbers, base + bucket, last, base + bucket, cell)
                break


@jit(inline=True)
def shift(cells, numbers, bucket, cell, to_bucket, to_cell):
    """Move an entry over another place, and empty its own."""
    a, b = number_at(bucket, cell), number_at(to_bucket, to_cell)
    key, number = cells[WORDS * bucket + cell], numbers[a]
    cells[WORDS * bucket + cell] = np.uint64(0)
    numbers[a] = np.uint32(0)
    if a != b:
        cells[WORDS * to_bucket + to_cell] = key
        numbers[b] = number


@jit
def touched(cells, frame, keys, origin, chunk, out):
    """Which chunks of a file a look-up of keys has read, where its buckets lie from byte `origin` on.

    keys uint64 (n,) → out uint8 (chunks,): 1 for each chunk of `chunk` bytes.
    """
    numbers = cells.view(np.uint32)
    for i in range(len(keys)):
        bucket, mask, base = home(keys[i], frame)
        for _ in range(mask + 1):
            at = origin + 8 * WORDS * (base + bucket)
            out[at // chunk] = 1
            out[(at + 8 * WORDS - 1) // chunk] = 1
            here = matches(cells, (base + bucket) * WORDS, keys[i]) & KEYS
            if here or numbers[number_at(base + bucket, CELLS - 1)] == 0:
                break
            bucket = (bucket + 1) & mask


RIGHT, HOLED, BEYOND = 0, 1, 2
"""What is wrong with buckets: nothing; one isn't filled from the left, or has something behind; a row there isn't."""


@jit
def check(cells, seen, start, stop):
    """Look at the buckets start to stop: what is wrong with one of them, and how many cells are in use.

    cells uint64 → seen uint8 (rows,): 1 for each row that stands in a cell.
    """
    numbers = cells.view(np.uint32)
    count = 0
    for bucket in range(start, stop):
        ended = False
        for cell in range(CELLS):
            number = np.int64(numbers[number_at(bucket, cell)])
            if number == 0:
                ended = True
            elif ended:
                return HOLED, count
            elif number > len(seen):
                return BEYOND, count
            else:
                seen[number - 1] = 1
                count += 1
        if numbers[number_at(bucket, CELLS)] != 0:
            return HOLED, count
    return RIGHT, count
