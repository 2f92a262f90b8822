"""hotrow as a dict and loops: the specification. Slow, obvious, kept for ever; every kernel is held against it.

Numbers are float32 as in the library; where a kernel may round once for a multiply and an add (a fused
multiply-add), results agree to a rounding and not to the bit.
"""

from __future__ import annotations

import math

import numpy as np

F = np.float32
WORD = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def scramble(x: int) -> int:
    """SplitMix64's output function."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def gaussian(bits: int) -> float:
    radius = ((bits >> 24) + 1.0) * 2.0**-40
    angle = (bits & 0xFFFFFF) * 2.0**-24
    return math.sqrt(-2.0 * math.log(radius)) * math.cos(2.0 * math.pi * angle)


def first_value(kind: str, a: float, b: float, seed: int, key: int, column: int) -> np.float32:
    """The number that `column` of the row of `key` starts with."""
    counter = (scramble((key & WORD) ^ scramble((seed + GOLDEN) & WORD)) + GOLDEN * column) & WORD
    if kind == "constant":
        return F(a)
    if kind == "uniform":  # between a and b
        return F(a + (b - a) * ((scramble(counter) >> 40) * 2.0**-24))
    z = gaussian(scramble(counter))  # a: mean, b: standard deviation
    while kind == "truncated_normal" and abs(z) > 2:
        counter = (counter + 0xD1342543DE82EF95) & WORD
        z = gaussian(scramble(counter))
    return F(a + b * z)


def fingerprint64(s: bytes) -> int:
    """FarmHash's Fingerprint64: the key of a string, UTF-8."""
    k0, k1, k2, n = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F, len(s)

    def word(i, size=8):
        return int.from_bytes(s[i : i + size] if i >= 0 else s[i:][:size], "little")

    def rot(x, r):
        x &= WORD
        return (x >> r | x << (64 - r)) & WORD

    def fold(x):
        return (x & WORD) ^ ((x & WORD) >> 47)

    def join(u, v, mul):
        return fold(((v ^ fold((u ^ v) * mul)) & WORD) * mul) * mul & WORD

    def weak(i, a, b):
        a += word(i)
        total = a + word(i + 8) + word(i + 16)
        return total + word(i + 24) & WORD, rot(b + a + word(i + 24), 21) + rot(total, 44) + a & WORD

    mul = k2 + 2 * n
    if n == 0:
        return k2
    if n < 4:
        return fold((s[0] + (s[n >> 1] << 8)) * k2 & WORD ^ (n + (s[-1] << 2)) * k0 & WORD) * k2 & WORD
    if n < 8:
        return join(n + (word(0, 4) << 3), word(n - 4, 4), mul)
    if n <= 16:
        a, b = word(0) + k2 & WORD, word(n - 8)
        return join(rot(b, 37) * mul + a & WORD, (rot(a, 25) + b) * mul & WORD, mul)
    if n <= 32:
        a, b, c, d = word(0) * k1, word(8), word(n - 8) * mul, word(n - 16) * k2
        return join(rot(a + b, 43) + rot(c, 30) + d & WORD, a + rot(b + k2, 18) + c & WORD, mul)
    if n <= 64:
        a, b, c, d = word(0) * k2, word(8), word(n - 8) * mul, word(n - 16) * k2
        y = rot(a + b, 43) + rot(c, 30) + d & WORD
        z = join(y, a + rot(b + k2, 18) + c & WORD, mul)
        e, f, g, h = word(16) * mul, word(24), (y + word(n - 32)) * mul, (z + word(n - 24)) * mul
        return join(rot(e + f, 43) + rot(g, 30) + h & WORD, e + rot(f + a, 18) + g & WORD, mul)
    x, y = 81 * k2 + word(0), 81 * k1 + 113
    z = fold(y * k2 + 113) * k2
    v, w, mul = (0, 0), (0, 0), k1
    for i in [*range(0, (n - 1) // 64 * 64, 64), None]:
        odd = 1
        if i is None:  # once more, the last 64 bytes
            i, odd = n - 64, 9
            mul = k1 + ((z & 255) << 1)
            w = (w[0] + (n - 1 & 63), w[1])
            v = (v[0] + w[0], v[1])
            w = (w[0] + v[0], w[1])
        x = rot(x + y + v[0] + word(i + 8), 37) * mul ^ w[1] * odd
        y = rot(y + v[1] + word(i + 48), 42) * mul + v[0] * odd + word(i + 40)
        z = rot(z + w[0], 33) * mul
        v = weak(i, v[1] * mul, x + w[0])
        w = weak(i + 32, z + w[1], y + word(i + 16))
        x, z = z & WORD, x & WORD
    return join(join(v[0], w[0], mul) + fold(y) * k0 + z & WORD, join(v[1], w[1], mul) + x & WORD, mul)


# An optimizer: w and g are a row's weights and gradient, slots what it keeps of the row, empty at first, t the step.


def slot(slots, name, w, first=0.0):
    return slots.setdefault(name, np.full(len(w), first, F))


def decay(w, learning_rate, weight_decay):
    for j in range(len(w)):
        w[j] -= F(learning_rate * weight_decay) * w[j]


def sgd(
    w, slots, g, t, learning_rate=1e-2, momentum=0.0, nesterov=False, momentum_of_gradients=False, weight_decay=0.0
):
    decay(w, learning_rate, weight_decay)
    m = slot(slots, "m", w)
    before, after = (1, learning_rate) if momentum_of_gradients else (learning_rate, 1)
    for j in range(len(w)):
        pull = F(before) * g[j]
        m[j] = F(momentum) * m[j] - pull
        w[j] += F(after) * (F(momentum) * m[j] - pull if nesterov else m[j])


def adagrad(
    w, slots, g, t, learning_rate=1e-2, epsilon=1e-10, initial_accumulator=0.0, epsilon_in_root=0.0, weight_decay=0.0
):
    decay(w, learning_rate, weight_decay)
    a = slot(slots, "a", w, initial_accumulator)
    for j in range(len(w)):
        a[j] += g[j] * g[j]
        w[j] -= F(learning_rate) * g[j] / (np.sqrt(a[j] + F(epsilon_in_root)) + F(epsilon))


def rowwise_adagrad(
    w, slots, g, t, learning_rate=1e-2, epsilon=1e-8, initial_accumulator=0.0, epsilon_in_root=0.0, weight_decay=0.0
):
    decay(w, learning_rate, weight_decay)
    a = slot(slots, "a", w[:1], initial_accumulator)
    a[0] += F(sum(x * x for x in g)) / F(len(g))
    for j in range(len(w)):
        w[j] -= F(learning_rate) * g[j] / (np.sqrt(a[0] + F(epsilon_in_root)) + F(epsilon))


def rmsprop(
    w,
    slots,
    g,
    t,
    learning_rate=1e-2,
    rho=0.99,
    momentum=0.0,
    epsilon=1e-8,
    epsilon_in_root=0.0,
    centered=False,
    momentum_of_gradients=False,
    weight_decay=0.0,
):
    decay(w, learning_rate, weight_decay)
    before, after = (1, learning_rate) if momentum_of_gradients else (learning_rate, 1)
    v, mean, m = slot(slots, "v", w), slot(slots, "mean", w), slot(slots, "m", w)
    for j in range(len(w)):
        v[j] = F(rho) * v[j] + F(1 - rho) * g[j] * g[j]
        mean[j] = F(rho) * mean[j] + F(1 - rho) * g[j]
        variance = max(v[j] - mean[j] * mean[j], F(0)) if centered else v[j]
        m[j] = F(momentum) * m[j] + F(before) * g[j] / (np.sqrt(variance + F(epsilon_in_root)) + F(epsilon))
        w[j] -= F(after) * m[j]


def adadelta(w, slots, g, t, learning_rate=1.0, rho=0.9, epsilon=1e-6, weight_decay=0.0):
    decay(w, learning_rate, weight_decay)
    v, d = slot(slots, "v", w), slot(slots, "d", w)
    for j in range(len(w)):
        v[j] = F(rho) * v[j] + F(1 - rho) * g[j] * g[j]
        delta = g[j] * np.sqrt(d[j] + F(epsilon)) / np.sqrt(v[j] + F(epsilon))
        d[j] = F(rho) * d[j] + F(1 - rho) * delta * delta
        w[j] -= F(learning_rate) * delta


def adam(w, slots, g, t, learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-8, amsgrad=False, weight_decay=0.0):
    decay(w, learning_rate, weight_decay)
    rate = F(learning_rate * math.sqrt(1 - beta_2**t) / (1 - beta_1**t))
    m, v, most = slot(slots, "m", w), slot(slots, "v", w), slot(slots, "most", w)
    for j in range(len(w)):
        m[j] = F(beta_1) * m[j] + F(1 - beta_1) * g[j]
        v[j] = F(beta_2) * v[j] + F(1 - beta_2) * g[j] * g[j]
        most[j] = max(most[j], v[j])
        w[j] -= rate * m[j] / (np.sqrt(most[j] if amsgrad else v[j]) + F(epsilon))


def adamw(w, slots, g, t, weight_decay=1e-2, **options):
    adam(w, slots, g, t, weight_decay=weight_decay, **options)


def adamax(w, slots, g, t, learning_rate=2e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0):
    decay(w, learning_rate, weight_decay)
    m, u = slot(slots, "m", w), slot(slots, "u", w)
    for j in range(len(w)):
        m[j] = F(beta_1) * m[j] + F(1 - beta_1) * g[j]
        u[j] = max(F(beta_2) * u[j], abs(g[j]))
        w[j] -= F(learning_rate / (1 - beta_1**t)) * m[j] / (u[j] + F(epsilon))


def nadam(
    w,
    slots,
    g,
    t,
    learning_rate=2e-3,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    momentum_decay=4e-3,
    weight_decay=0.0,
):
    decay(w, learning_rate, weight_decay)
    schedule = [beta_1 * (1 - 0.5 * 0.96 ** (i * momentum_decay)) for i in range(1, t + 2)]
    product, product_next = math.prod(schedule[:t]), math.prod(schedule)
    m, v = slot(slots, "m", w), slot(slots, "v", w)
    for j in range(len(w)):
        m[j] = F(beta_1) * m[j] + F(1 - beta_1) * g[j]
        v[j] = F(beta_2) * v[j] + F(1 - beta_2) * g[j] * g[j]
        m_hat = F(schedule[t] / (1 - product_next)) * m[j] + F((1 - schedule[t - 1]) / (1 - product)) * g[j]
        w[j] -= F(learning_rate) * m_hat / (np.sqrt(v[j] / F(1 - beta_2**t)) + F(epsilon))


def lion(w, slots, g, t, learning_rate=1e-3, beta_1=0.9, beta_2=0.99, weight_decay=0.0):
    decay(w, learning_rate, weight_decay)
    m = slot(slots, "m", w)
    for j in range(len(w)):
        w[j] -= F(learning_rate) * np.sign(F(beta_1) * m[j] + F(1 - beta_1) * g[j])
        m[j] = F(beta_2) * m[j] + F(1 - beta_2) * g[j]


def ftrl(
    w,
    slots,
    g,
    t,
    learning_rate=1e-3,
    learning_rate_power=-0.5,
    initial_accumulator=0.1,
    l1=0.0,
    l2=0.0,
    l2_shrinkage=0.0,
    beta=0.0,
    weight_decay=0.0,
):
    decay(w, learning_rate, weight_decay)
    n, z = slot(slots, "n", w, initial_accumulator), slot(slots, "z", w)
    for j in range(len(w)):
        before = n[j] ** F(-learning_rate_power)
        n[j] += g[j] * g[j]
        after = n[j] ** F(-learning_rate_power)
        z[j] += g[j] + F(2 * l2_shrinkage) * w[j] - (after - before) / F(learning_rate) * w[j]
        held = min(max(z[j], F(-l1)), F(l1))
        w[j] = (held - z[j]) / (after / F(learning_rate) + F(2 * l2 + beta / learning_rate))


STEPS = {
    "SGD": sgd,
    "Adagrad": adagrad,
    "RowwiseAdagrad": rowwise_adagrad,
    "RMSprop": rmsprop,
    "Adadelta": adadelta,
    "Adam": adam,
    "AdamW": adamw,
    "Adamax": adamax,
    "Nadam": nadam,
    "Lion": lion,
    "Ftrl": ftrl,
}


class Table:
    """ids in, vectors out, gradients back. key_of turns an id into its 64-bit key; options are the optimizer's."""

    def __init__(self, dim, optimizer="Adam", seed=0, scale=0.05, key_of=lambda i: i, options=None):
        self.dim, self.optimizer, self.seed, self.scale, self.key_of = dim, optimizer, seed, scale, key_of
        self.options: dict = options or {}
        self.weights: dict = {}
        self.slots: dict = {}
        self.steps = 0

    def first(self, id):
        numbers = (
            first_value("uniform", -self.scale, self.scale, self.seed, self.key_of(id), j) for j in range(self.dim)
        )
        return np.array(list(numbers), F)

    def grow(self, ids):
        for id in ids:
            if id not in self.weights:
                self.weights[id] = self.first(id)
                self.slots[id] = {}

    def lookup(self, ids):
        return [self.weights[id].copy() if id in self.weights else self.first(id) for id in ids]

    def update(self, ids, gradients):
        if not ids:
            return
        self.steps += 1
        sums: dict = {}
        for id, g in zip(ids, gradients, strict=True):
            sums[id] = sums[id] + g if id in sums else g.copy()
        for id, g in sums.items():
            STEPS[self.optimizer](self.weights[id], self.slots[id], g, self.steps, **self.options)

    def set(self, ids, vectors):
        self.grow(ids)
        for id, vector in zip(ids, vectors, strict=True):
            self.weights[id] = vector.copy()

    def forget(self, ids):
        for id in ids:
            self.weights.pop(id, None)
            self.slots.pop(id, None)


def pool(vectors, offsets, mode, weights=None):
    """One vector of each bag vectors[offsets[b]:offsets[b + 1]]; zeros for an empty bag or one without weight."""
    out = []
    for begin, end in zip(offsets[:-1], offsets[1:], strict=True):
        bag = vectors[begin:end].astype(np.float64)
        w = np.ones(end - begin) if weights is None else np.asarray(weights[begin:end], np.float64)
        divisor = {"sum": 1.0, "max": 1.0, "mean": w.sum(), "sqrtn": math.sqrt((w * w).sum())}[mode]
        if end == begin or divisor == 0:
            out.append(np.zeros(vectors.shape[1]))
        elif mode == "max":
            out.append(bag.max(0))
        else:
            out.append((w[:, None] * bag).sum(0) / divisor)
    return np.array(out).reshape(len(offsets) - 1, vectors.shape[1])


def unpool(gradients, vectors, offsets, mode, weights=None):
    """The gradient of each id from its bag's; of equal maxima the first has it all."""
    out = np.zeros(vectors.shape)
    for b, (begin, end) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        w = np.ones(end - begin) if weights is None else np.asarray(weights[begin:end], np.float64)
        divisor = {"sum": 1.0, "max": 1.0, "mean": w.sum(), "sqrtn": math.sqrt((w * w).sum())}[mode]
        if end == begin or divisor == 0:
            continue
        if mode == "max":
            for j in range(vectors.shape[1]):
                out[begin + int(np.argmax(vectors[begin:end, j])), j] = gradients[b, j]
        else:
            out[begin:end] = w[:, None] * gradients[b] / divisor
    return out
