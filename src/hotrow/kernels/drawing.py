"""First values: each a function of (seed, key, column), whatever the order of arrival, the thread or the shard."""

import math

import numpy as np

from hotrow.kernels import jit

CONSTANT, UNIFORM, NORMAL, TRUNCATED_NORMAL = 0, 1, 2, 3


@jit
def scramble(x):
    """The output function of SplitMix64 (Steele, Lea, Flood 2014): a counter in, 64 random bits out."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit
def gaussian(bits):
    """One standard normal number from 64 random bits (Box and Muller 1958)."""
    radius = (np.float64(bits >> np.uint64(24)) + 1.0) * 2.0**-40  # in (0, 1]
    angle = np.float64(bits & np.uint64(0xFFFFFF)) * 2.0**-24
    return math.sqrt(-2.0 * math.log(radius)) * math.cos(2.0 * math.pi * angle)


@jit
def first_values(data, stride, dim, rows, keys, seed, kind, a, b, slots, start, stop):
    """Write the first weights and slots of new rows.

    data float32 (flat), row r at data[r · stride:]; rows int32 (n,), keys uint64 (n,), seed uint64; slots float32
    (stride − dim,). kind and (a, b): CONSTANT (value, –), UNIFORM (low, high), NORMAL and TRUNCATED_NORMAL (mean,
    standard deviation), the last one drawn again beyond two standard deviations. A row of −1 is left out.
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    base = scramble(np.uint64(seed) + golden)
    for i in range(start, stop):
        if rows[i] < 0:
            continue
        at = np.int64(rows[i]) * stride
        w = data[at : at + dim]
        stream = scramble(keys[i] ^ base)
        if kind == CONSTANT:
            w[:] = np.float32(a)
        elif kind == UNIFORM:
            for j in range(dim):
                bits = scramble(stream + golden * np.uint64(j))
                w[j] = np.float32(a + (b - a) * (np.float64(bits >> np.uint64(40)) * 2.0**-24))
        else:
            for j in range(dim):
                counter = stream + golden * np.uint64(j)
                z = gaussian(scramble(counter))
                while kind == TRUNCATED_NORMAL and abs(z) > 2.0:
                    counter += np.uint64(0xD1342543DE82EF95)
                    z = gaussian(scramble(counter))
                w[j] = np.float32(a + b * z)
        for j in range(len(slots)):
            data[at + dim + j] = slots[j]
