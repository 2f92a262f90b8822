"""FarmHash Fingerprint64 of strings: the key of a string id.

The algorithm is `farmhashna::Hash64` of Google FarmHash (Geoff Pike, https://github.com/google/farmhash), which is
frozen: BigQuery's FARM_FINGERPRINT and TensorFlow's to_hash_bucket_fast give the same numbers. Strings come as Arrow
has them, all bytes in one array and an offset for each string:

    "cat", "", "dog"  →  data "catdog"   offsets [0, 3, 3, 6]

Below, `at` is the place in `data` where a string begins, and `n` is its length; both are uint64.
"""

import numpy as np

from hotrow.kernels import jit, load32, load64

K0 = np.uint64(0xC3A5C85C97CB3127)  # FarmHash's three odd constants
K1 = np.uint64(0xB492B66FBE98F273)
K2 = np.uint64(0x9AE16A3B2F90404F)


@jit(borrows=True)
def turn(x, bits):
    """Rotate to the right; `bits` is uint64, 1 to 63."""
    return x >> bits | x << (np.uint64(64) - bits)


@jit(borrows=True)
def fold(x):
    """Mix the high bits into the low ones."""
    return x ^ x >> np.uint64(47)


@jit(borrows=True)
def join(x, y, factor):
    """Hash two numbers to one."""
    return fold((y ^ fold((x ^ y) * factor)) * factor) * factor


@jit(borrows=True)
def hash_to_16(data, at, n):
    """A string of 0 to 16 bytes."""
    factor = K2 + n * np.uint64(2)
    if n >= np.uint64(8):
        x = load64(data, at) + K2
        y = load64(data, at + n - np.uint64(8))
        return join(turn(y, np.uint64(37)) * factor + x, (turn(x, np.uint64(25)) + y) * factor, factor)
    if n >= np.uint64(4):
        return join(n + (load32(data, at) << np.uint64(3)), load32(data, at + n - np.uint64(4)), factor)
    if n == np.uint64(0):
        return K2
    first, middle = np.uint64(data[at]), np.uint64(data[at + (n >> np.uint64(1))])
    last = np.uint64(data[at + n - np.uint64(1)])
    return fold((first + (middle << np.uint64(8))) * K2 ^ (n + (last << np.uint64(2))) * K0) * K2


@jit(borrows=True)
def mix32(x, data, at, back, factor):
    """Two numbers of 16 bytes at each end, `back` being the end; `x` is the first eight, already multiplied."""
    y = load64(data, at + np.uint64(8))
    z = load64(data, back - np.uint64(8)) * factor
    w = load64(data, back - np.uint64(16)) * K2
    return (
        turn(x + y, np.uint64(43)) + turn(z, np.uint64(30)) + w,
        x + turn(y + K2, np.uint64(18)) + z,
    )


@jit(borrows=True)
def hash_to_32(data, at, n):
    """A string of 17 to 32 bytes."""
    factor = K2 + n * np.uint64(2)
    x, y = mix32(load64(data, at) * K1, data, at, at + n, factor)
    return join(x, y, factor)


@jit(borrows=True)
def hash_to_64(data, at, n):
    """A string of 33 to 64 bytes: the outer 32 as above, then the inner ones."""
    factor = K2 + n * np.uint64(2)
    first = load64(data, at) * K2
    back = at + n
    x, y = mix32(first, data, at, back, factor)
    y = join(x, y, factor)
    z = load64(data, at + np.uint64(16)) * factor
    w = load64(data, at + np.uint64(24))
    x = (x + load64(data, back - np.uint64(32))) * factor
    y = (y + load64(data, back - np.uint64(24))) * factor
    return join(
        turn(z + w, np.uint64(43)) + turn(x, np.uint64(30)) + y,
        z + turn(w + first, np.uint64(18)) + x,
        factor,
    )


@jit(borrows=True)
def absorb32(data, at, x, y):
    """Take 32 bytes into a pair of numbers."""
    last = load64(data, at + np.uint64(24))
    x += load64(data, at)
    total = x + load64(data, at + np.uint64(8)) + load64(data, at + np.uint64(16))
    y = turn(x + y + last, np.uint64(21)) + turn(total, np.uint64(44))
    return total + last, y + x


@jit(borrows=True)
def hash_longer(data, at, n):
    """A string of more than 64 bytes: blocks of 64, and once more the last 64, which may overlap them."""
    start = np.uint64(81)
    y = start * K1 + np.uint64(113)
    z = fold(y * K2 + np.uint64(113)) * K2
    x = start * K2 + load64(data, at)
    v0 = v1 = w0 = w1 = np.uint64(0)
    rest = (n - np.uint64(1)) & np.uint64(63)
    end = at + n - np.uint64(1) - rest
    last = at + n - np.uint64(64)
    factor, weight = K1, np.uint64(1)
    while True:
        x = turn(x + y + v0 + load64(data, at + np.uint64(8)), np.uint64(37)) * factor ^ w1 * weight
        y = turn(y + v1 + load64(data, at + np.uint64(48)), np.uint64(42)) * factor
        y += v0 * weight + load64(data, at + np.uint64(40))
        z = turn(z + w0, np.uint64(33)) * factor
        v0, v1 = absorb32(data, at, v1 * factor, x + w0)
        w0, w1 = absorb32(data, at + np.uint64(32), z + w1, y + load64(data, at + np.uint64(16)))
        x, z = z, x
        if weight != np.uint64(1):
            break
        at += np.uint64(64)
        if at == end:
            at, weight = last, np.uint64(9)
            factor = K1 + ((z & np.uint64(255)) << np.uint64(1))
            w0 += rest
            v0 += w0
            w0 += v0
    return join(join(v0, w0, factor) + fold(y) * K0 + z, join(v1, w1, factor) + x, factor)


@jit(borrows=True)
def fingerprint64(data, offsets, out, start, stop):
    """Write the fingerprint of each string: string i is data[offsets[i] : offsets[i + 1]], in UTF-8.

    data uint8, offsets int64 (n + 1,), which need not begin at 0 → out uint64 (n,).

        data "catdog", offsets [0, 3, 6]  →  out [fingerprint of "cat", fingerprint of "dog"]
    """
    for i in range(start, stop):
        at = np.uint64(offsets[i])
        n = np.uint64(offsets[i + 1]) - at
        if n <= np.uint64(16):
            out[i] = hash_to_16(data, at, n)
        elif n <= np.uint64(32):
            out[i] = hash_to_32(data, at, n)
        elif n <= np.uint64(64):
            out[i] = hash_to_64(data, at, n)
        else:
            out[i] = hash_longer(data, at, n)
