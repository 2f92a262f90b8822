"""Optimizer steps: one pass that sums a row's gradients and steps it while it is in cache.

Every kernel has the same face:

    step(data, stride, dim, rows, starts, items, gradients, numbers, start, stop)

data float32 (flat): row r is data[r · stride : (r + 1) · stride], its weights first, then its slots. rows int32 (m,)
are distinct; a row of −1 is skipped. Row u's gradients are those of the ids items[starts[u]:starts[u + 1]], summed in
that order, so the result doesn't depend on how u is cut into slices; gradients float32 (flat), that of id i at
gradients[i · dim]. numbers float32: the decay first, the part of the weights that goes before the step (Loshchilov and
Hutter 2019), then the optimizer's own, see each kernel.

A kernel goes from row to row; its `…_block` has the formula, for a block of a row (see `simd.py`): n numbers of it from
j on, the row being at `at` in data, and its summed gradient in g.

Only the batch's rows move ("lazy"). A slot that an option asks for lies behind the others, and is only touched then.
NaN in a gradient is NaN in the weights.
"""

import numpy as np

from hotrow.kernels import LINE, ORDERED, approach, jit
from hotrow.kernels.simd import REST, WHOLE, WIDTH, add_up, load, root, splat, store, sum_of, where_more

NEAR = 24  # cache lines of rows between asking for one and stepping it


@jit(inline=True)
def ahead_of(stride):
    """How many rows ahead to ask for one."""
    return max(2, NEAR // ((stride + LINE - 1) // LINE))


@jit(inline=True)
def come(data, stride, rows, u, ahead, stop):
    """Ask the cache for the row that comes up."""
    if u + ahead < stop:
        approach(data, np.int64(rows[u + ahead]) * stride, stride)


@jit(fastmath=ORDERED, inline=True)
def sgd_block(data, at, dim, j, n, g, decay, lr, mu, nesterov, after):
    """A block of `sgd`."""
    w = load(data, at + j, n)
    w = w - decay * w
    if mu == 0:
        store(data, at + j, n, w - splat(lr) * load(g, j, n))
        return
    pull = splat(lr) * load(g, j, n)
    speed = splat(mu) * load(data, at + dim + j, n) - pull
    store(data, at + dim + j, n, speed)
    if nesterov > 0:
        speed = splat(mu) * speed - pull
    store(data, at + j, n, w + splat(after) * speed)


@jit(fastmath=ORDERED)
def sgd(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """w −= lr · g. numbers: decay, lr, μ, nesterov, after. No slots. Robbins and Monro 1951.

    With μ > 0: m ← μ · m − lr · g, w += after · m, or w += after · (μ · m − lr · g) if nesterov. Slots: m (dim).
    Polyak 1964, Sutskever et al. 2013. after is 1, or the learning rate, and lr 1, where m gathers gradients.
    """
    decay, lr, mu, nesterov, after = splat(numbers[0]), numbers[1], numbers[2], numbers[3], numbers[4]
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        at = np.int64(rows[u]) * stride
        for j in range(0, whole, WIDTH):
            sgd_block(data, at, dim, j, WIDTH, g, decay, lr, mu, nesterov, after)
        if rest:
            sgd_block(data, at, dim, whole, rest, g, decay, lr, mu, nesterov, after)


@jit(fastmath=ORDERED, inline=True)
def adagrad_block(data, at, dim, j, n, g, decay, lr, epsilon, inside):
    """A block of `adagrad`."""
    w, pull = load(data, at + j, n), load(g, j, n)
    a = load(data, at + dim + j, n) + pull * pull
    store(data, at + dim + j, n, a)
    store(data, at + j, n, w - decay * w - lr * pull / (root(a + inside) + epsilon))


@jit(fastmath=ORDERED)
def adagrad(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """a += g², w −= lr · g / (√(a + δ) + ε). numbers: decay, lr, ε, δ. Slots: a (dim). Duchi, Hazan, Singer 2011."""
    decay, lr, epsilon, inside = splat(numbers[0]), splat(numbers[1]), splat(numbers[2]), splat(numbers[3])
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        at = np.int64(rows[u]) * stride
        for j in range(0, whole, WIDTH):
            adagrad_block(data, at, dim, j, WIDTH, g, decay, lr, epsilon, inside)
        if rest:
            adagrad_block(data, at, dim, whole, rest, g, decay, lr, epsilon, inside)


@jit(fastmath=ORDERED, inline=True)
def pull_block(data, at, j, n, g, decay, rate):
    """A block of `rowwise_adagrad`."""
    w = load(data, at + j, n)
    store(data, at + j, n, w - decay * w - rate * load(g, j, n))


@jit(fastmath=ORDERED)
def rowwise_adagrad(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """a += mean(g²), w −= lr · g / (√(a + δ) + ε). numbers: decay, lr, ε, δ. Slots: a (1): one a row, as FBGEMM's."""
    decay, lr, epsilon, inside = splat(numbers[0]), numbers[1], numbers[2], numbers[3]
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        squares = splat(np.float32(0))
        for j in range(0, whole, WIDTH):
            squares = squares + load(g, j, WIDTH) * load(g, j, WIDTH)
        if rest:
            squares = squares + load(g, whole, rest) * load(g, whole, rest)
        at = np.int64(rows[u]) * stride
        a = data[at + dim] + sum_of(squares) / np.float32(dim)
        data[at + dim] = a
        rate = splat(lr / (np.sqrt(a + inside) + epsilon))
        for j in range(0, whole, WIDTH):
            pull_block(data, at, j, WIDTH, g, decay, rate)
        if rest:
            pull_block(data, at, whole, rest, g, decay, rate)


@jit(fastmath=ORDERED, inline=True)
def rmsprop_block(data, at, dim, end, j, n, g, constants, centered, mu, after):
    """A block of `rmsprop`."""
    decay, lr, rho, rest_of, epsilon, inside = constants
    w, pull = load(data, at + j, n), load(g, j, n)
    spread = rho * load(data, at + dim + j, n) + rest_of * pull * pull
    store(data, at + dim + j, n, spread)
    if centered > 0:
        mean = rho * load(data, at + 2 * dim + j, n) + rest_of * pull
        store(data, at + 2 * dim + j, n, mean)
        variance, zero = spread - mean * mean, splat(np.float32(0))
        spread = where_more(zero, variance, zero, variance)
    pull = lr * pull / (root(spread + inside) + epsilon)
    if mu > 0:
        pull = pull + splat(mu) * load(data, end - dim + j, n)
        store(data, end - dim + j, n, pull)
        pull = splat(after) * pull
    store(data, at + j, n, w - decay * w - pull)


@jit(fastmath=ORDERED)
def rmsprop(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """v ← moving mean of g², w −= lr · g / (√(v + δ) + ε). Slots: v (dim). Tieleman and Hinton 2012.

    centered: c ← moving mean of g, and v − c² in place of v (Graves 2013); rounding may leave that below 0, which a
    variance isn't. μ > 0: m ← μ · m + what would be taken from w, w −= m. Slots: c (dim) and m (dim), if asked for.
    numbers: decay, lr, ρ, 1 − ρ, ε, δ, centered, μ, after; w −= after · m, see `sgd`.
    """
    decay, lr, rho, rest_of = splat(numbers[0]), splat(numbers[1]), splat(numbers[2]), splat(numbers[3])
    constants = (decay, lr, rho, rest_of, splat(numbers[4]), splat(numbers[5]))
    centered, mu, after = numbers[6], numbers[7], numbers[8]
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        at = np.int64(rows[u]) * stride
        end = at + stride
        for j in range(0, whole, WIDTH):
            rmsprop_block(data, at, dim, end, j, WIDTH, g, constants, centered, mu, after)
        if rest:
            rmsprop_block(data, at, dim, end, whole, rest, g, constants, centered, mu, after)


@jit(fastmath=ORDERED, inline=True)
def adadelta_block(data, at, dim, j, n, g, decay, lr, rho, rest_of, epsilon):
    """A block of `adadelta`."""
    w, pull, d = load(data, at + j, n), load(g, j, n), load(data, at + 2 * dim + j, n)
    square = rho * load(data, at + dim + j, n) + rest_of * pull * pull
    delta = root(d + epsilon) * pull / root(square + epsilon)
    store(data, at + dim + j, n, square)
    store(data, at + 2 * dim + j, n, rho * d + rest_of * delta * delta)
    store(data, at + j, n, w - decay * w - lr * delta)


@jit(fastmath=ORDERED)
def adadelta(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """v ← moving mean of g², Δ = g · √(d + ε) / √(v + ε), d ← moving mean of Δ², w −= lr · Δ. Zeiler 2012.

    numbers: decay, lr, ρ, 1 − ρ, ε. Slots: v (dim), d (dim).
    """
    decay, lr, rho, rest_of = splat(numbers[0]), splat(numbers[1]), splat(numbers[2]), splat(numbers[3])
    epsilon = splat(numbers[4])
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        at = np.int64(rows[u]) * stride
        for j in range(0, whole, WIDTH):
            adadelta_block(data, at, dim, j, WIDTH, g, decay, lr, rho, rest_of, epsilon)
        if rest:
            adadelta_block(data, at, dim, whole, rest, g, decay, lr, rho, rest_of, epsilon)


@jit(fastmath=ORDERED, inline=True)
def adam_block(data, at, dim, j, n, g, decay, lr, b1, c1, b2, c2, epsilon, amsgrad):
    """A block of `adam`."""
    w, pull = load(data, at + j, n), load(g, j, n)
    mean = b1 * load(data, at + dim + j, n) + c1 * pull
    square = b2 * load(data, at + 2 * dim + j, n) + c2 * pull * pull
    store(data, at + dim + j, n, mean)
    store(data, at + 2 * dim + j, n, square)
    if amsgrad > 0:
        most = load(data, at + 3 * dim + j, n)
        square = where_more(most, square, most, square)
        store(data, at + 3 * dim + j, n, square)
    store(data, at + j, n, w - decay * w - lr * mean / (root(square) + epsilon))


@jit(fastmath=ORDERED)
def adam(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """m, v ← moving means of g and g², w −= lr' · m / (√v + ε). Slots: m (dim), v (dim). Kingma and Ba 2015.

    numbers: decay, lr' (the learning rate times √(1 − β2ᵗ) / (1 − β1ᵗ)), β1, 1 − β1, β2, 1 − β2, ε, amsgrad: then
    there is a slot h (dim), h ← max(h, v), and h in place of v (Reddi, Kale, Kumar 2018). Lazy as torch's SparseAdam.
    """
    decay, lr, b1, c1 = splat(numbers[0]), splat(numbers[1]), splat(numbers[2]), splat(numbers[3])
    b2, c2, epsilon, amsgrad = splat(numbers[4]), splat(numbers[5]), splat(numbers[6]), numbers[7]
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        at = np.int64(rows[u]) * stride
        for j in range(0, whole, WIDTH):
            adam_block(data, at, dim, j, WIDTH, g, decay, lr, b1, c1, b2, c2, epsilon, amsgrad)
        if rest:
            adam_block(data, at, dim, whole, rest, g, decay, lr, b1, c1, b2, c2, epsilon, amsgrad)


@jit(fastmath=ORDERED, inline=True)
def adamax_block(data, at, dim, j, n, g, decay, lr, b1, c1, b2, epsilon):
    """A block of `adamax`."""
    w, pull, zero = load(data, at + j, n), load(g, j, n), splat(np.float32(0))
    mean = b1 * load(data, at + dim + j, n) + c1 * pull
    size, norm = where_more(zero, pull, zero - pull, pull), b2 * load(data, at + 2 * dim + j, n)
    norm = where_more(norm, size, norm, size)
    store(data, at + dim + j, n, mean)
    store(data, at + 2 * dim + j, n, norm)
    store(data, at + j, n, w - decay * w - lr * mean / (norm + epsilon))


@jit(fastmath=ORDERED)
def adamax(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """m ← moving mean of g, n ← max(β2 · n, |g|), w −= lr' · m / (n + ε). Slots: m (dim), n (dim). Kingma and Ba 2015.

    numbers: decay, lr' (the learning rate over 1 − β1ᵗ), β1, 1 − β1, β2, ε.
    """
    decay, lr, b1, c1 = splat(numbers[0]), splat(numbers[1]), splat(numbers[2]), splat(numbers[3])
    b2, epsilon = splat(numbers[4]), splat(numbers[5])
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        at = np.int64(rows[u]) * stride
        for j in range(0, whole, WIDTH):
            adamax_block(data, at, dim, j, WIDTH, g, decay, lr, b1, c1, b2, epsilon)
        if rest:
            adamax_block(data, at, dim, whole, rest, g, decay, lr, b1, c1, b2, epsilon)


@jit(fastmath=ORDERED, inline=True)
def nadam_block(data, at, dim, j, n, g, decay, p, q, r, b1, c1, b2, c2, epsilon):
    """A block of `nadam`."""
    w, pull = load(data, at + j, n), load(g, j, n)
    mean = b1 * load(data, at + dim + j, n) + c1 * pull
    square = b2 * load(data, at + 2 * dim + j, n) + c2 * pull * pull
    store(data, at + dim + j, n, mean)
    store(data, at + 2 * dim + j, n, square)
    store(data, at + j, n, w - decay * w - (p * mean + q * pull) / (root(r * square) + epsilon))


@jit(fastmath=ORDERED)
def nadam(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """m, v ← moving means of g and g², w −= (p · m + q · g) / (√(r · v) + ε). Slots: m (dim), v (dim). Dozat 2016.

    numbers: decay, p, q, r, β1, 1 − β1, β2, 1 − β2, ε. With the schedule u and its product U up to step t,
    p = lr · u′ / (1 − U · u′), u′ being the next step's u; q = lr · (1 − u) / (1 − U); r = 1 / (1 − β2ᵗ).
    """
    decay, p, q, r, b1 = splat(numbers[0]), splat(numbers[1]), splat(numbers[2]), splat(numbers[3]), splat(numbers[4])
    c1, b2, c2, epsilon = splat(numbers[5]), splat(numbers[6]), splat(numbers[7]), splat(numbers[8])
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        at = np.int64(rows[u]) * stride
        for j in range(0, whole, WIDTH):
            nadam_block(data, at, dim, j, WIDTH, g, decay, p, q, r, b1, c1, b2, c2, epsilon)
        if rest:
            nadam_block(data, at, dim, whole, rest, g, decay, p, q, r, b1, c1, b2, c2, epsilon)


@jit(fastmath=ORDERED, inline=True)
def lion_block(data, at, dim, j, n, g, decay, lr, b1, c1, b2, c2):
    """A block of `lion`."""
    w, pull, m = load(data, at + j, n), load(g, j, n), load(data, at + dim + j, n)
    way, zero = b1 * m + c1 * pull, splat(np.float32(0))  # 0 stays 0, and NaN itself
    way = where_more(way, zero, lr, where_more(zero, way, zero - lr, way))
    store(data, at + j, n, w - decay * w - way)
    store(data, at + dim + j, n, b2 * m + c2 * pull)


@jit(fastmath=ORDERED)
def lion(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """w −= lr · sign(β1 · m + (1 − β1) · g), m ← β2 · m + (1 − β2) · g. Slots: m (dim). Chen et al. 2023.

    numbers: decay, lr, β1, 1 − β1, β2, 1 − β2.
    """
    decay, lr, b1, c1 = splat(numbers[0]), splat(numbers[1]), splat(numbers[2]), splat(numbers[3])
    b2, c2 = splat(numbers[4]), splat(numbers[5])
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        at = np.int64(rows[u]) * stride
        for j in range(0, whole, WIDTH):
            lion_block(data, at, dim, j, WIDTH, g, decay, lr, b1, c1, b2, c2)
        if rest:
            lion_block(data, at, dim, whole, rest, g, decay, lr, b1, c1, b2, c2)


@jit(inline=True)
def raise_squares(data, at, dim, k, g, before, after):
    """n += g², and nᵏ before and after it, where k isn't 1/2."""
    for j in range(dim):
        n = data[at + dim + j]
        before[j] = n**k
        n += g[j] * g[j]
        after[j] = n**k
        data[at + dim + j] = n


@jit(fastmath=ORDERED, inline=True)
def ftrl_block(data, at, dim, j, n, g, before, after, is_half, decay, inverse, l1, l2, shrink):
    """A block of `ftrl`."""
    w, pull, z = load(data, at + j, n), load(g, j, n), load(data, at + 2 * dim + j, n)
    w = w - decay * w
    if is_half:
        squares = load(data, at + dim + j, n)
        old = root(squares)
        squares = squares + pull * pull
        new = root(squares)
        store(data, at + dim + j, n, squares)
    else:
        old, new = load(before, j, n), load(after, j, n)
    y, low = z + (pull + shrink * w - (new - old) * inverse * w), splat(np.float32(0)) - l1
    held = where_more(low, y, low, y)
    held = where_more(held, l1, l1, held)
    store(data, at + 2 * dim + j, n, y)
    store(data, at + j, n, (held - y) / (new * inverse + l2))


@jit(fastmath=ORDERED)
def ftrl(data, stride, dim, rows, starts, items, gradients, numbers, start, stop):
    """Follow the regularized leader (McMahan et al. 2013). Slots: n (dim), z (dim). numbers: decay, 1/lr, k, λ1, Λ, σ.

    n′ = n + g², z += g + σ · w − (n′ᵏ − nᵏ) / lr · w, w = (z held to ±λ1 − z) / (n′ᵏ / lr + Λ), n ← n′: exactly 0
    where |z| ≤ λ1. Λ is 2 λ2 + β / lr, σ twice the shrinkage. k is 1/2 in the paper, and quicker so.
    """
    decay, inverse, k = splat(numbers[0]), splat(numbers[1]), numbers[2]
    l1, l2, shrink, is_half = splat(numbers[3]), splat(numbers[4]), splat(numbers[5]), k == np.float32(0.5)
    before, after = np.empty(dim, np.float32), np.empty(dim, np.float32)
    g, whole, rest, ahead = np.empty(dim, np.float32), dim & WHOLE, dim & REST, ahead_of(stride)
    for u in range(start, stop):
        come(data, stride, rows, u, ahead, stop)
        if rows[u] < 0:
            continue
        add_up(gradients, dim, dim, items, starts[u], starts[u + 1], starts[stop], g, 0)
        at = np.int64(rows[u]) * stride
        if not is_half:
            raise_squares(data, at, dim, k, g, before, after)
        for j in range(0, whole, WIDTH):
            ftrl_block(data, at, dim, j, WIDTH, g, before, after, is_half, decay, inverse, l1, l2, shrink)
        if rest:
            ftrl_block(data, at, dim, whole, rest, g, before, after, is_half, decay, inverse, l1, l2, shrink)
