"""Strings as bytes between two places of one long array.

String i of many is data[places[step · i] : places[step · i + 1]]. With step 1 they are Arrow's, each of which ends
where the next one begins; with step 2 each has a beginning and an end of its own:

    "cat", "dog"  →  data "catdog"    step 1, places [0, 3, 6]    step 2, places [0, 3, 3, 6]
"""

import numpy as np

from hotrow.kernels import jit, load32, load64, prefetch, store32, store64

AHEAD = 24  # strings between asking for one's places and for its bytes, and as many from there to reading them
HIGH = np.uint64(0x8080808080808080)  # of each byte the bit that ASCII hasn't got
BEYOND = np.uint64(0xFFFFFF80FFFFFF80)  # of each of two code points the bits


@jit(borrows=True)
def check(data, offsets, faults, start, stop):
    """Note what is wrong with Arrow's strings: faults[0] if offsets lead out of `data` or fall, else faults[1] if
    bytes aren't UTF-8.

    data uint8, offsets int64 (n + 1,) → faults uint8 (2,), 0 at first; all slices write the same.

        data "ü", offsets [0, 1, 2]  →  faults [0, 1]
    """
    last = offsets[start]
    fits = last >= 0
    for i in range(start, stop):
        following = offsets[i + 1]
        fits &= last <= following
        last = following
    if not fits or last > len(data):
        faults[0] = np.uint8(1)
        return
    at, end, high = np.uint64(offsets[start]), np.uint64(last), np.uint64(0)
    while at + np.uint64(8) <= end:
        high |= load64(data, at)
        at += np.uint64(8)
    while at < end:
        high |= np.uint64(data[at])
        at += np.uint64(1)
    if high & HIGH == np.uint64(0):  # ASCII, as nearly all ids of machines are
        return
    for i in range(start, stop):
        if not is_utf8(data, offsets[i], offsets[i + 1]):
            faults[1] = np.uint8(1)
            return


@jit(borrows=True)
def is_utf8(data, at, end):
    """Whether data[at:end] is UTF-8: shortest forms, no surrogates, nothing beyond U+10FFFF (Unicode, table 3-7)."""
    while at < end:
        first = data[at]
        at += 1
        if first < 0x80:
            continue
        low, high = 0x80, 0xBF  # of the second byte
        if first < 0xE0:
            more = 1
        elif first < 0xF0:
            more = 2
            low = 0xA0 if first == 0xE0 else 0x80
            high = 0x9F if first == 0xED else 0xBF
        else:
            more = 3
            low = 0x90 if first == 0xF0 else 0x80
            high = 0x8F if first == 0xF4 else 0xBF
        if first < 0xC2 or first > 0xF4 or at + more > end or data[at] < low or data[at] > high:
            return False
        for j in range(at + 1, at + more):
            if data[j] & 0xC0 != 0x80:
                return False
        at += more
    return True


@jit(borrows=True)
def move(source, begin, data, at, n):
    """Copy the `n` bytes of `source` from `begin` on to `data` from `at` on; all uint64. Two copies may overlap."""
    if n >= np.uint64(8):
        back, done = n - np.uint64(8), np.uint64(0)
        while done < back:
            store64(data, at + done, load64(source, begin + done))
            done += np.uint64(8)
        store64(data, at + back, load64(source, begin + back))
    elif n >= np.uint64(4):
        back = n - np.uint64(4)
        store32(data, at, load32(source, begin))
        store32(data, at + back, load32(source, begin + back))
    else:
        for j in range(n):
            data[at + np.uint64(j)] = source[begin + np.uint64(j)]


@jit(borrows=True)
def measure(units, unit, width, out, start, stop):
    r"""The bytes of each string of fixed width in UTF-8, without its zeros at the end; −1 if UTF-8 can't hold it.

    units uint8 (n · width · unit,): code points of four bytes (unit 4), or UTF-8 itself (unit 1) → out int64 (n,).

        units "ab\0ü\0\0", width 3  →  out [2, 2]
    """
    for i in range(start, stop):
        begin = np.uint64(i * width * unit)
        end = begin + np.uint64(width * unit)
        if unit == 1:
            while end > begin and units[end - np.uint64(1)] == 0:
                end -= np.uint64(1)
            out[i] = np.int64(end - begin)
            continue
        while end > begin and load32(units, end - np.uint64(4)) == np.uint64(0):
            end -= np.uint64(4)
        at, seen = begin, np.uint64(0)
        while at + np.uint64(8) <= end:
            seen |= load64(units, at)
            at += np.uint64(8)
        if at < end:
            seen |= load32(units, at)
        size = np.int64(end - begin) >> 2
        while seen & BEYOND != np.uint64(0) and begin < end and size >= 0:
            point = load32(units, begin)
            size += np.int64(point >= 0x80) + np.int64(point >= 0x800) + np.int64(point >= 0x10000)
            if 0xD800 <= point < 0xE000 or point > 0x10FFFF:
                size = -1
            begin += np.uint64(4)
        out[i] = size


@jit(borrows=True)
def encode(units, unit, width, offsets, data, start, stop):
    r"""Write strings of fixed width as UTF-8. offsets int64 (n + 1,): of their bytes in `data`, from `measure`.

    units "ab\0ü\0\0", width 3, offsets [0, 2, 4]  →  data "abü"
    """
    for i in range(start, stop):
        begin, at = np.uint64(i * width * unit), np.uint64(offsets[i])
        end = np.uint64(offsets[i + 1])
        if unit == 1:
            move(units, begin, data, at, end - at)
        elif not narrow(units, begin, data, at, min(end - at, np.uint64(width))):
            while at < end:
                at = put(data, at, load32(units, begin))
                begin += np.uint64(4)


@jit(borrows=True)
def narrow(units, begin, data, at, n):
    """Write `n` code points of four bytes as if they were ASCII; return whether they are."""
    seen, done = np.uint64(0), np.uint64(0)
    while done < n:
        if n < np.uint64(8):
            point = load32(units, begin + (done << np.uint64(2)))
            data[at + done] = np.uint8(point & np.uint64(255))
            seen |= point
            done += np.uint64(1)
            continue
        done = min(done, n - np.uint64(8))
        here = begin + (done << np.uint64(2))
        a, b = load64(units, here), load64(units, here + np.uint64(8))
        c, d = load64(units, here + np.uint64(16)), load64(units, here + np.uint64(24))
        seen |= a | b | c | d
        word = pair(a) | pair(b) << np.uint64(16) | pair(c) << np.uint64(32) | pair(d) << np.uint64(48)
        store64(data, at + done, word)
        done += np.uint64(8)
    return seen & BEYOND == np.uint64(0)


@jit(borrows=True)
def pair(points):
    """Two code points of ASCII, in 64 bits, as two bytes."""
    return (points | points >> np.uint64(24)) & np.uint64(0xFFFF)


@jit(borrows=True)
def put(data, at, point):
    """Write a code point as UTF-8; return the place behind it. at, point uint64."""
    if point < np.uint64(0x80):
        word, n = point, np.uint64(1)
    elif point < np.uint64(0x800):
        word, n = np.uint64(0x80C0) | point >> np.uint64(6), np.uint64(2)
    elif point < np.uint64(0x10000):
        word, n = np.uint64(0x8080E0) | point >> np.uint64(12), np.uint64(3)
    else:
        word, n = np.uint64(0x808080F0) | point >> np.uint64(18), np.uint64(4)
    for j in range(np.uint64(1), n):  # six bits each
        word |= (point >> np.uint64(6) * (n - np.uint64(1) - j) & np.uint64(0x3F)) << np.uint64(8) * j
    for j in range(n):
        data[at + j] = np.uint8(word >> np.uint64(8) * j & np.uint64(255))
    return at + n


@jit(borrows=True)
def close(joined, offsets, data, start, stop):
    r"""Write strings without the byte that stands between each two of them.

    joined uint8, offsets int64 (n + 1,) of what is written → data uint8.

        joined "cat\0dog", offsets [0, 3, 6]  →  data "catdog"
    """
    for i in range(start, stop):
        at = np.uint64(offsets[i])
        move(joined, at + np.uint64(i), data, at, np.uint64(offsets[i + 1]) - at)


@jit(borrows=True)
def number(codes, cells, inverse, first, used):
    """Number the values of a dictionary in the order in which codes first stand for them; return how many do.

    codes int (n,) → inverse int32 (n,), first int32 (≥ m,), where each stands first, and used int64 (≥ m,), its code.
    cells int32 (values,), −1 in all, is scratch.

        codes   [7, 2, 7, 5]
        inverse [0, 1, 0, 2]    first [0, 1, 3]    used [7, 2, 5]    → 3
    """
    m = 0
    for i in range(len(codes)):
        code = codes[i]
        if cells[code] < 0:
            cells[code] = m
            first[m] = i
            used[m] = code
            m += 1
        inverse[i] = cells[code]
    return m


@jit(borrows=True)
def sizes(places, step, end, at, out, start, stop):
    """The bytes of string at[i]; −1 where its places fall or lead out of `end` bytes of data.

    places int64, at int (n,) → out int64 (n,).

        places [0, 3, 6, 4], step 1, end 6, at [1, 0, 2]  →  out [3, 3, -1]
    """
    for i in range(start, stop):
        if i + AHEAD < stop:
            prefetch(places, step * np.int64(at[i + AHEAD]))
        place = step * np.int64(at[i])
        first, last = places[place], places[place + 1]
        out[i] = last - first if 0 <= first <= last <= end else -1


@jit(borrows=True)
def gather(source, places, step, at, offsets, data, start, stop):
    """Copy string at[i] of `source` to data[offsets[i] : offsets[i + 1]], which has its size.

    source, data uint8; places, offsets int64; at int (n,).

        source "catdog", at [1, 0], offsets [0, 3, 6]  →  data "dogcat"
    """
    for i in range(start, stop):
        if i + 2 * AHEAD < stop:
            prefetch(places, step * np.int64(at[i + 2 * AHEAD]))
        if i + AHEAD < stop:
            place = step * np.int64(at[i + AHEAD])
            prefetch(source, places[place])
            prefetch(source, places[place + 1] - 1)
        begin, here = np.uint64(places[step * np.int64(at[i])]), np.uint64(offsets[i])
        move(source, begin, data, here, np.uint64(offsets[i + 1]) - here)


@jit(borrows=True)
def same(a, p, b, q, n):
    """Whether the `n` bytes of `a` from `p` on are those of `b` from `q` on."""
    if n >= np.uint64(8):
        back = n - np.uint64(8)
        if load64(a, p) != load64(b, q) or load64(a, p + back) != load64(b, q + back):
            return False
        done = np.uint64(8)
        while done < back:
            if load64(a, p + done) != load64(b, q + done):
                return False
            done += np.uint64(8)
        return True
    if n >= np.uint64(4):
        back = n - np.uint64(4)
        return load32(a, p) == load32(b, q) and load32(a, p + back) == load32(b, q + back)
    done = np.uint64(0)
    while done < n and a[p + done] == b[q + done]:
        done += np.uint64(1)
    return done == n


@jit(borrows=True)
def differ_from_rows(data, offsets, first, rows, stored, places, step, out, start, stop):
    """Write whether Arrow's string first[u] isn't the one stored for rows[u]; False where that is −1.

    data uint8, offsets int64; first and rows int32 (m,) → out bool (m,). The string of row r is
    stored[places[step · r] : places[step · r + 1]].

        strings "cat", "dog"    first [0, 1], rows [1, 0]    stored "dog", "cow"  →  out [True, False]
    """
    for u in range(start, stop):
        if u + 2 * AHEAD < stop:
            prefetch(places, step * np.int64(rows[u + 2 * AHEAD]))
        if u + AHEAD < stop and rows[u + AHEAD] >= 0:
            place = step * np.int64(rows[u + AHEAD])
            prefetch(stored, places[place])
            prefetch(stored, places[place + 1] - 1)  # a short string, too, may lie in two cache lines
        out[u] = False
        if rows[u] >= 0:
            i, place = np.int64(first[u]), step * np.int64(rows[u])
            begin, there = offsets[i], places[place]
            n = offsets[i + 1] - begin
            out[u] = (
                n != places[place + 1] - there
                or not 0 <= there <= len(stored) - n  # a mapped file may be broken
                or not same(data, np.uint64(begin), stored, np.uint64(there), np.uint64(n))
            )


@jit(borrows=True)
def differ_from_firsts(data, offsets, inverse, first, out, start, stop):
    """Write whether Arrow's string i isn't its first, string first[inverse[i]].

    data uint8, offsets int64 (n + 1,); inverse int32 (n,), first int32 (m,) → out bool (n,).

        strings "cat", "dog", "cow"    inverse [0, 1, 0]    first [0, 1]  →  out [False, False, True]
    """
    for i in range(start, stop):
        other = np.int64(first[inverse[i]])
        out[i] = False
        if other != i:
            begin, there = offsets[i], offsets[other]
            n = offsets[i + 1] - begin
            out[i] = n != offsets[other + 1] - there or not same(
                data, np.uint64(begin), data, np.uint64(there), np.uint64(n)
            )


@jit(borrows=True)
def wipe(data, places, rows):
    """Overwrite the texts of `rows` with zeros and give them no length: nothing of a forgotten id stays.

    data uint8, places int64 with a beginning and an end for each row: both written.
    """
    for i in range(len(rows)):
        place = 2 * np.int64(rows[i])
        for j in range(places[place], places[place + 1]):
            data[j] = np.uint8(0)
        places[place] = 0
        places[place + 1] = 0
