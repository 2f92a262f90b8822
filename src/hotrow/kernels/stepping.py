"""Optimizer steps: one pass that sums a row's gradients and steps it while it is in cache.

Every kernel has the same face:

    step(data, stride, dim, rows, starts, items, gradients, numbers, start, stop)

data float32 (flat): row r is data[r · stride : (r + 1) · stride], its weights first, then its slots. rows int32 (m,)
are distinct; a row of −1 is skipped. Row u's gradients are gradients[items[starts[u]:starts[u + 1]]], summed in that
order, so the result doesn't depend on how u is cut into slices. numbers float32: the decay first, the part of the
weights that goes before the step (Loshchilov and Hutter 2019), then the optimizer's own, see each kernel.

Only the batch's rows move ("lazy"). A slot that an option asks for lies behind the others, and is only touched then.
NaN in a gradient is NaN in the weights: max(a, b) and min(a, b) are a unless b is more or less, so NaN stands first.
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
def fade(w, decay):
    """w −= decay · w."""
    for j in range(len(w)):
        w[j] -= decay * w[j]


@jit(fastmath=ORDERED)
def sgd(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """w −= lr · g. numbers: decay, lr, μ, nesterov, after. No slots. Robbins and Monro 1951.

    With μ > 0: m ← μ · m − lr · g, w += after · m, or w += after · (μ · m − lr · g) if nesterov. Slots: m (dim).
    Polyak 1964, Sutskever et al. 2013. after is 1, or the learning rate, and lr 1, where m gathers gradients.
    """
    decay, lr, mu, nesterov, after = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        if mu == 0:
            for j in range(dim):
                w[j] -= lr * total[j]
            continue
        m = data[at + dim : at + 2 * dim]
        for j in range(dim):
            pull = lr * total[j]
            speed = mu * m[j] - pull
            m[j] = speed
            w[j] += after * (mu * speed - pull if nesterov > 0 else speed)


@jit(fastmath=ORDERED)
def adagrad(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """a += g², w −= lr · g / (√(a + δ) + ε). numbers: decay, lr, ε, δ. Slots: a (dim). Duchi, Hazan, Singer 2011."""
    decay, lr, epsilon, inside = numbers[0], numbers[1], numbers[2], numbers[3]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        a = data[at + dim : at + 2 * dim]
        for j in range(dim):
            g = total[j]
            sum_ = a[j] + g * g
            a[j] = sum_
            w[j] -= lr * g / (np.sqrt(sum_ + inside) + epsilon)


@jit(fastmath=REORDERED)
def rowwise_adagrad(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """a += mean(g²), w −= lr · g / (√(a + δ) + ε). numbers: decay, lr, ε, δ. Slots: a (1): one a row, as FBGEMM's."""
    decay, lr, epsilon, inside = numbers[0], numbers[1], numbers[2], numbers[3]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        squares = np.float32(0)
        for j in range(dim):
            squares += total[j] * total[j]
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        a = data[at + dim] + squares / np.float32(dim)
        data[at + dim] = a
        rate = lr / (np.sqrt(a + inside) + epsilon)
        for j in range(dim):
            w[j] -= rate * total[j]


@jit(fastmath=ORDERED)
def rmsprop(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """v ← moving mean of g², w −= lr · g / (√(v + δ) + ε). Slots: v (dim). Tieleman and Hinton 2012.

    centered: c ← moving mean of g, and v − c² in place of v (Graves 2013); rounding may leave that below 0, which a
    variance isn't. μ > 0: m ← μ · m + what would be taken from w, w −= m. Slots: c (dim) and m (dim), if asked for.
    numbers: decay, lr, ρ, 1 − ρ, ε, δ, centered, μ, after; w −= after · m, see `sgd`.
    """
    decay, lr, rho, rest, epsilon, inside = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    centered, mu, after = numbers[6] > 0, numbers[7], numbers[8]
    total, spread = np.empty(dim, np.float32), np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        v = data[at + dim : at + 2 * dim]
        for j in range(dim):
            square = rho * v[j] + rest * total[j] * total[j]
            v[j] = square
            spread[j] = square
        if centered:
            c = data[at + 2 * dim : at + 3 * dim]
            for j in range(dim):
                mean = rho * c[j] + rest * total[j]
                c[j] = mean
                variance = spread[j] - mean * mean
                spread[j] = np.float32(0) if variance < 0 else variance
        for j in range(dim):
            total[j] = lr * total[j] / (np.sqrt(spread[j] + inside) + epsilon)
        if mu > 0:
            m = data[at + stride - dim : at + stride]
            for j in range(dim):
                total[j] += mu * m[j]
                m[j] = total[j]
                total[j] *= after
        for j in range(dim):
            w[j] -= total[j]


@jit(fastmath=ORDERED)
def adadelta(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """v ← moving mean of g², Δ = g · √(d + ε) / √(v + ε), d ← moving mean of Δ², w −= lr · Δ. Zeiler 2012.

    numbers: decay, lr, ρ, 1 − ρ, ε. Slots: v (dim), d (dim).
    """
    decay, lr, rho, rest, epsilon = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        v = data[at + dim : at + 2 * dim]
        d = data[at + 2 * dim : at + 3 * dim]
        for j in range(dim):
            g = total[j]
            square = rho * v[j] + rest * g * g
            delta = np.sqrt(d[j] + epsilon) * g / np.sqrt(square + epsilon)
            v[j] = square
            d[j] = rho * d[j] + rest * delta * delta
            w[j] -= lr * delta


@jit(fastmath=ORDERED)
def adam(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """m, v ← moving means of g and g², w −= lr' · m / (√v + ε). Slots: m (dim), v (dim). Kingma and Ba 2015.

    numbers: decay, lr' (the learning rate times √(1 − β2ᵗ) / (1 − β1ᵗ)), β1, 1 − β1, β2, 1 − β2, ε, amsgrad: then
    there is a slot h (dim), h ← max(h, v), and h in place of v (Reddi, Kale, Kumar 2018). Lazy as torch's SparseAdam.
    """
    decay, lr, b1, c1, b2, c2, epsilon = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6],
    )  # fmt: skip
    amsgrad = numbers[7] > 0
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        m = data[at + dim : at + 2 * dim]
        v = data[at + 2 * dim : at + 3 * dim]
        if not amsgrad:
            for j in range(dim):
                g = total[j]
                mean = b1 * m[j] + c1 * g
                square = b2 * v[j] + c2 * g * g
                m[j] = mean
                v[j] = square
                w[j] -= lr * mean / (np.sqrt(square) + epsilon)
            continue
        h = data[at + 3 * dim : at + 4 * dim]
        for j in range(dim):
            g = total[j]
            mean = b1 * m[j] + c1 * g
            square = b2 * v[j] + c2 * g * g
            most = max(square, h[j])
            m[j] = mean
            v[j] = square
            h[j] = most
            w[j] -= lr * mean / (np.sqrt(most) + epsilon)


@jit(fastmath=ORDERED)
def adamax(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """m ← moving mean of g, n ← max(β2 · n, |g|), w −= lr' · m / (n + ε). Slots: m (dim), n (dim). Kingma and Ba 2015.

    numbers: decay, lr' (the learning rate over 1 − β1ᵗ), β1, 1 − β1, β2, ε.
    """
    decay, lr, b1, c1, b2, epsilon = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        m = data[at + dim : at + 2 * dim]
        n = data[at + 2 * dim : at + 3 * dim]
        for j in range(dim):
            g = total[j]
            mean = b1 * m[j] + c1 * g
            norm = max(abs(g), b2 * n[j])
            m[j] = mean
            n[j] = norm
            w[j] -= lr * mean / (norm + epsilon)


@jit(fastmath=ORDERED)
def nadam(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """m, v ← moving means of g and g², w −= (p · m + q · g) / (√(r · v) + ε). Slots: m (dim), v (dim). Dozat 2016.

    numbers: decay, p, q, r, β1, 1 − β1, β2, 1 − β2, ε. With the schedule u and its product U up to step t,
    p = lr · u′ / (1 − U · u′), u′ being the next step's u; q = lr · (1 − u) / (1 − U); r = 1 / (1 − β2ᵗ).
    """
    decay, p, q, r, b1, c1 = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    b2, c2, epsilon = numbers[6], numbers[7], numbers[8]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        m = data[at + dim : at + 2 * dim]
        v = data[at + 2 * dim : at + 3 * dim]
        for j in range(dim):
            g = total[j]
            mean = b1 * m[j] + c1 * g
            square = b2 * v[j] + c2 * g * g
            m[j] = mean
            v[j] = square
            w[j] -= (p * mean + q * g) / (np.sqrt(r * square) + epsilon)


@jit(fastmath=ORDERED)
def lion(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """w −= lr · sign(β1 · m + (1 − β1) · g), m ← β2 · m + (1 − β2) · g. Slots: m (dim). Chen et al. 2023.

    numbers: decay, lr, β1, 1 − β1, β2, 1 − β2.
    """
    decay, lr, b1, c1, b2, c2 = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    total = np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        m = data[at + dim : at + 2 * dim]
        for j in range(dim):
            g = total[j]
            way = b1 * m[j] + c1 * g  # 0 stays 0, and NaN itself
            w[j] -= lr if way > 0 else (-lr if way < 0 else way)
            m[j] = b2 * m[j] + c2 * g


@jit(fastmath=ORDERED)
def ftrl(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """Follow the regularized leader (McMahan et al. 2013). Slots: n (dim), z (dim). numbers: decay, 1/lr, k, λ1, Λ, σ.

    n′ = n + g², z += g + σ · w − (n′ᵏ − nᵏ) / lr · w, w = (z held to ±λ1 − z) / (n′ᵏ / lr + Λ), n ← n′: exactly 0
    where |z| ≤ λ1. Λ is 2 λ2 + β / lr, σ twice the shrinkage. k is 1/2 in the paper, and quicker so.
    """
    decay, inverse, k, l1, l2, shrink = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    total, before, after = np.empty(dim, np.float32), np.empty(dim, np.float32), np.empty(dim, np.float32)
    for u in range(start, stop):
        approach(data, stride, rows, u, stop)
        if rows[u] < 0:
            continue
        merge(gradients, items, starts[u], starts[u + 1], total)
        at = np.int64(rows[u]) * stride
        w = data[at : at + dim]
        if decay > 0:
            fade(w, decay)
        n = data[at + dim : at + 2 * dim]
        z = data[at + 2 * dim : at + 3 * dim]
        if k == np.float32(0.5):
            for j in range(dim):
                before[j] = np.sqrt(n[j])
                n[j] += total[j] * total[j]
                after[j] = np.sqrt(n[j])
        else:
            for j in range(dim):
                before[j] = n[j] ** k
                n[j] += total[j] * total[j]
                after[j] = n[j] ** k
        for j in range(dim):
            y = z[j] + (total[j] + shrink * w[j] - (after[j] - before[j]) * inverse * w[j])
            z[j] = y
            held = min(max(y, -l1), l1)
            w[j] = (held - y) / (after[j] * inverse + l2)
