"""Rows to vectors, and back: gather, and the four ways to make one vector of a bag."""

import math

import numpy as np

from hotrow.kernels import ORDERED, approach, jit
from hotrow.kernels.simd import add_scaled, copy

SUM, MEAN, SQRTN, MAX = 0, 1, 2, 3
AHEAD = 12  # rows between asking for one and reading it


@jit
def gather(data, stride, dim, rows, inverse, out, apart, start, stop):
    """Copy the weights of row `rows[inverse[i]]` to `out[i]`; zeros where that row is −1.

    data float32 (flat), row r at data[r · stride : r · stride + dim]; rows int32 (m,), inverse int32 (n,) → out
    float32 (flat), vector i at out[i · apart : i · apart + dim].
    """
    front = np.int64(0)  # distinct ids are numbered as they are first seen: so the next one to be new is known
    for i in range(start):
        front = max(front, np.int64(inverse[i]) + 1)
    for i in range(start, stop):
        while front < min(inverse[i] + AHEAD, len(rows)):
            approach(data, np.int64(rows[front]) * stride, dim)
            front += 1
        row = np.int64(rows[inverse[i]])
        if row < 0:
            out[i * apart : i * apart + dim] = np.float32(0)
        else:
            copy(data, row * stride, out, i * apart, dim)


@jit
def scatter(data, stride, dim, rows, inverse, vectors, start, stop):
    """Write `vectors[i]` to the weights of row `rows[inverse[i]]`; of two for one row, the later stays."""
    for i in range(start, stop):
        at = np.int64(rows[inverse[i]]) * stride
        data[at : at + dim] = vectors[i]


@jit
def share(weights, mode, begin, end):
    """By what a bag's weighted sum is divided: the sum of its weights, or the root of the sum of their squares.

    0 for a bag without weight: such a bag is all zeros. The rule is TensorFlow's embedding_lookup_sparse.
    """
    if mode == SUM:
        return np.float32(1)
    total = 0.0
    for i in range(begin, end):
        w = np.float64(weights[i]) if len(weights) > 0 else 1.0
        total += w if mode == MEAN else w * w
    return np.float32(total) if mode == MEAN else np.float32(math.sqrt(total))


@jit(fastmath=ORDERED)
def pool(data, stride, dim, rows, inverse, offsets, weights, mode, out, apart, winners, start, stop):
    """Make one vector of each bag: sum, mean, sqrtn or max of its rows; an empty bag is zeros.

    offsets int64 (bags + 1,), weights float32 (n,) or (0,) for none → out float32 (flat), bag b at out[b · apart : b ·
    apart + dim]; with MAX also winners int32 (bags, dim): the place in the batch that each element came from, the first
    of equals, −1 in an empty bag.

        values  [a  b  c  d]    offsets [0, 2, 2, 4]    →    bags  {a, b}  {}  {c, d}
    """
    for bag in range(start, stop):
        begin = offsets[bag]
        end = offsets[bag + 1]
        o = out[bag * apart : bag * apart + dim]
        o[:] = np.float32(0)
        if mode == MAX:
            best = winners[bag]
            best[:] = -1
            for i in range(begin, end):
                at = np.int64(rows[inverse[i]]) * stride
                for j in range(dim):
                    if best[j] < 0 or data[at + j] > o[j]:
                        o[j] = data[at + j]
                        best[j] = i
            continue
        divisor = share(weights, mode, begin, end)
        if divisor == np.float32(0):
            continue
        for i in range(begin, end):
            if i + AHEAD < offsets[stop]:
                approach(data, np.int64(rows[inverse[i + AHEAD]]) * stride, dim)
            scale = (weights[i] if len(weights) > 0 else np.float32(1)) / divisor
            add_scaled(data, np.int64(rows[inverse[i]]) * stride, scale, out, bag * apart, dim)


@jit
def unpool(gradients, apart, offsets, weights, mode, winners, out, start, stop):
    """The gradient of `pool`: what each id of each bag gets of its bag's gradient.

    gradients float32 (flat), bag b at gradients[b · apart : b · apart + dim] → out float32 (n, dim), the places of the
    bags start to stop.
    """
    dim = out.shape[1]
    for bag in range(start, stop):
        begin = offsets[bag]
        end = offsets[bag + 1]
        g = gradients[bag * apart : bag * apart + dim]
        if mode == MAX:
            for i in range(begin, end):
                out[i] = np.float32(0)
            for j in range(dim):
                if winners[bag, j] >= 0:
                    out[winners[bag, j], j] = g[j]
            continue
        divisor = share(weights, mode, begin, end)
        for i in range(begin, end):
            o = out[i]
            if divisor == np.float32(0):
                o[:] = np.float32(0)
                continue
            scale = (weights[i] if len(weights) > 0 else np.float32(1)) / divisor
            for j in range(dim):
                o[j] = scale * g[j]
