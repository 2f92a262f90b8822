"""Numbers as the text of JSON: the few digits by which each is known from its neighbours."""

import numpy as np

from hotrow.kernels import jit

WIDEST = 17
"""Bytes of a number and the comma after it, at most: -1.17549435e-38,"""


@jit(borrows=True)
def rows(values, bits, powers, halves, firsts, digits, out, start, stop):
    """Write rows of numbers as lists, a comma after each; how many bytes that are.

    values float32 (n, dim), bits the same memory as uint32
    powers float64 (108,): 10^(i − 54) at i, by which a number becomes nine digits
    halves float64 (256,): of numbers with these exponent bits, a bit less than half of the way to the next
    firsts int64 (256,): of numbers with these exponent bits, the largest power of ten that is none of them
    digits uint64 (10000,): the four digits of i as ASCII, the first one lowest
    → out uint8 (at least (stop − start) · (dim · WIDEST + 3) + 8,), and an int

        [[0.5, -2]]  →  "[0.5,-2.0],"

    A number is written with 7 digits, 8 or 9: the first that are nearer to it than half of the way to its neighbour.
    NaN and the infinities, of which JSON has none, are null.
    """
    at = np.uint64(0)
    for i in range(start, stop):
        out[at] = np.uint8(91)  # [
        at += np.uint64(1)
        for j in range(values.shape[1]):
            at = number(np.float64(values[i, j]), bits[i, j], powers, halves, firsts, digits, out, at)
            out[at] = np.uint8(44)  # ,
            at += np.uint64(1)
        at -= np.uint64(values.shape[1] > 0)
        out[at] = np.uint8(93)  # ]
        out[at + np.uint64(1)] = np.uint8(44)
        at += np.uint64(2)
    return np.int64(at)


@jit(inline=True, borrows=True)
def four(out, at, word):
    """Write four bytes at out[at], the lowest of `word` (uint64) first: `store32`, as a part of who calls it."""
    for j in range(4):
        out[at + np.uint64(j)] = np.uint8(word >> np.uint64(8 * j) & np.uint64(255))


@jit(inline=True, borrows=True)
def number(x, bits, powers, halves, firsts, digits, out, at):
    """Write one number (float64, and its bits as float32, uint32) at out[at]; where the next byte goes.

        0.1  →  "0.1"

    What is as likely as not, such as a sign, is calculated: a branch that is guessed wrong costs as much as all digits.
    """
    exponent = np.int64(bits >> np.uint32(23) & np.uint32(255))
    if exponent == 255:
        four(out, at, np.uint64(0x6C6C756E))  # null
        return at + np.uint64(4)
    out[at] = np.uint8(45)  # -
    at += np.uint64(bits >> np.uint32(31))
    x = abs(x)
    if x == 0.0:
        four(out, at, np.uint64(0x302E30))  # 0.0
        return at + np.uint64(3)
    ten = firsts[exponent]  # x is 10^ten to 10^(ten + 1), if not ten times as much
    ten += np.int64(x >= powers[ten + 55])
    if exponent == 0:  # the smallest have fewer bits
        while x >= powers[ten + 55]:
            ten += 1
    power = powers[62 - ten]
    scaled, half = x * power, halves[exponent] * power
    if bits & np.uint32(0x7FFFFF) == 0:  # below a power of two neighbours are nearer
        half *= 0.5
    seven = np.floor(scaled * 0.01 + 0.5)
    if abs(seven * 100.0 - scaled) <= half:
        return few(np.int64(seven), ten, digits, out, at)
    eight = np.floor(scaled * 0.1 + 0.5) * 10.0
    enough = np.int64(abs(eight - scaled) <= half)
    whole = np.int64(scaled + 0.5)
    whole += enough * (np.int64(eight) - whole)
    if whole >= 1_000_000_000:  # rounded up to the next power
        whole, ten = whole // 10, ten + 1
    return nine(np.uint64(whole), 9 - enough, ten, digits, out, at)


@jit(borrows=True)
def few(seven, ten, digits, out, at):
    """As `nine`, of seven digits (int64), and without zeros at their end.

    seven 2500000, ten −1  →  "0.25"
    """
    left = 7
    while seven % 10 == 0 and left > 1:
        seven //= 10
        left -= 1
    whole = seven
    for _ in range(left, 9):
        whole *= 10
    if whole >= 1_000_000_000:
        whole, ten = whole // 10, ten + 1
    return nine(np.uint64(whole), left, ten, digits, out, at)


@jit(inline=True, borrows=True)
def nine(whole, left, ten, digits, out, at):
    """Write whole (uint64, nine digits, of which `left` count) · 10^(ten − 8) at out[at]; where the next byte goes.

    whole 250000000, left 2, ten −1  →  "0.25"
    """
    top = whole // np.uint64(100_000_000)
    rest = whole - top * np.uint64(100_000_000)
    high = rest // np.uint64(10_000)
    low = rest - high * np.uint64(10_000)
    if -5 <= ten < 0:  # 0.00…, in which the point is before all digits
        four(out, at, np.uint64(0x30302E30))  # 0.00
        four(out, at + np.uint64(4), np.uint64(0x30303030))
        at += np.uint64(1 - ten)
        out[at] = np.uint8(np.uint64(48) + top)
        four(out, at + np.uint64(1), digits[high])
        four(out, at + np.uint64(5), digits[low])
        return at + np.uint64(left)
    out[at] = np.uint8(np.uint64(48) + top)
    if 0 <= ten < 8:  # the point is among them: what is after it goes a byte on
        four(out, at + np.uint64(1), digits[high])
        four(out, at + np.uint64(5), digits[low])
        point, end = np.int64(at) + ten + 1, np.int64(at) + max(left, ten + 2)
        for place in range(end, point, -1):
            out[np.uint64(place)] = out[np.uint64(place - 1)]
        out[np.uint64(point)] = np.uint8(46)
        return np.uint64(end + 1)
    out[at + np.uint64(1)] = np.uint8(46)
    four(out, at + np.uint64(2), digits[high])
    four(out, at + np.uint64(6), digits[low])
    at += np.uint64(max(left, 2) + 1)
    out[at] = np.uint8(101)  # e
    out[at + np.uint64(1)] = np.uint8(45) if ten < 0 else np.uint8(43)
    ten = abs(ten)
    out[at + np.uint64(2)] = np.uint8(48 + ten // 10)
    out[at + np.uint64(3)] = np.uint8(48 + ten % 10)
    return at + np.uint64(4)
