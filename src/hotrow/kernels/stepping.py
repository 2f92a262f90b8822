"""Optimizer steps: one pass that sums a row's gradients and steps it while it is in cache.

Every kernel has the same face:

    step(data, stride, dim, rows, starts, items, gradients, numbers, start, stop)

data float32 (flat): row r is data[r · stride : (r + 1) · stride], its weights first, then its slots. rows int32 (m,)
are distinct; a row of −1 is skipped. Row u's gradients are gradients[items[starts[u]:starts[u + 1]]], summed in that
order, so the result doesn't depend on how u is cut into slices. numbers float32: the optimizer's own, see each kernel.
"""

import numpy as np

from hotrow.kernels import ORDERED, REORDERED, jit, prefetch

AHEAD = 6  # rows between asking for one and stepping it
LINE = 16  # floats in a cache line


@jit(fastmath=ORDERED)
def merge(gradients, items, begin, end, total):
    """Sum the gradients of one row, in batch order."""
    g = gradients[items[begin]]
    for j in range(len(total)):
        total[j] = g[j]
    for s in range(begin + 1, end):
        if s + AHEAD < end:
            prefetch(gradients, np.int64(items[s + AHEAD]) * len(total))
        g = gradients[items[s]]
        for j in range(len(total)):
            total[j] += g[j]


@jit
def approach(data, stride, rows, u, stop):
    """Ask the cache for the row that comes up AHEAD of u."""
    if u + AHEAD < stop:
        at = np.int64(rows[u + AHEAD]) * stride
        for c in range(0, stride, LINE):
            prefetch(data, at + c)


@jit(fastmath=ORDERED)
def sgd(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """w −= lr · g. numbers: lr. No slots. Robbins and Monro 1951."""
    lr = numbers[0]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        for j in range(dim):
            w[j] -= lr * total[j]


@jit(fastmath=ORDERED)
def adagrad(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """a += g², w −= lr · g / (√a + ε). numbers: lr, ε. Slots: a (dim). Duchi, Hazan, Singer 2011."""
    lr, epsilon = numbers[0], numbers[1]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        a = data[at + dim : at + 2 * dim]
        for j in range(dim):
            g = total[j]
            sum_ = a[j] + g * g
            a[j] = sum_
            w[j] -= lr * g / (np.sqrt(sum_) + epsilon)


@jit(fastmath=REORDERED)
def rowwise_adagrad(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """a += mean(g²), w −= lr · g / (√a + ε). numbers: lr, ε. Slots: a (1): a number a row, as FBGEMM's."""
    lr, epsilon = numbers[0], numbers[1]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        squares = np.float32(0)
        for j in range(dim):
            squares += total[j] * total[j]
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        a = data[at + dim] + squares / np.float32(dim)
        data[at + dim] = a
        rate = lr / (np.sqrt(a) + epsilon)
        for j in range(dim):
            w[j] -= rate * total[j]


@jit(fastmath=ORDERED)
def adam(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """m, v ← moving means of g and g², w −= lr' · m / (√v + ε). Slots: m (dim), v (dim). Kingma and Ba 2015.

    numbers: lr' (the learning rate times √(1 − β2ᵗ) / (1 − β1ᵗ)), β1, 1 − β1, β2, 1 − β2, ε. Only the batch's rows
    move ("lazy"), as torch's SparseAdam.
    """
    lr, b1, c1, b2, c2, epsilon = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        m = data[at + dim : at + 2 * dim]
        v = data[at + 2 * dim : at + 3 * dim]
        for j in range(dim):
            g = total[j]
            mean = b1 * m[j] + c1 * g
            square = b2 * v[j] + c2 * g * g
            m[j] = mean
            v[j] = square
            w[j] -= lr * mean / (np.sqrt(square) + epsilon)
