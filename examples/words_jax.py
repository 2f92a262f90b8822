"""Word vectors in JAX: skip-gram with negative sampling, on the English that comes with every Python (pydoc's topics).

In held-out sentences, a word's neighbour has to be told from a word drawn by frequency. The baseline knows frequency.
"""

import re
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np

import hotrow

DIM, REACH, NEGATIVES, BATCH, EPOCHS = 64, 4, 5, 512, 8
rng = np.random.default_rng(0)
parts = re.split(r"[.:;]\s|\n\n", " ".join(topics.values()).lower())
sentences = list(dict.fromkeys(tuple(re.findall("[a-z_]{4,}", part)) for part in parts))  # each once


def pairs_of(sentences):
    """Words at most REACH apart, as strings (n, 2)."""
    return np.array([(s[i], other) for s in sentences for i in range(len(s)) for other in s[i + 1 : i + 1 + REACH]])


train = pairs_of([s for i, s in enumerate(sentences) if i % 10])
train = np.concatenate([train, train[:, ::-1]])
words, count = np.unique(train[:, 0], return_counts=True)
test = pairs_of(sentences[::10])
test = test[np.isin(test, words).all(axis=1)]
drawn = rng.choice(words, len(test), p=count / count.sum())  # what a true neighbour is to be told from
noise = count**0.75 / (count**0.75).sum()
word = hotrow.jax.Embedding(None, DIM, optimizer=hotrow.Adagrad(0.1), initializer=hotrow.Uniform(0.1))
context = hotrow.jax.Embedding(None, DIM, optimizer=hotrow.Adagrad(0.1), initializer=hotrow.Zeros())


@jax.jit
@jax.grad
def gradients_of(vectors):
    """Of the words (batch, DIM), and of their neighbours and the drawn words (batch, 1 + NEGATIVES, DIM)."""
    scores = jnp.einsum("bd,bnd->bn", *vectors)
    return jnp.sum(jax.nn.softplus(scores.at[:, 0].multiply(-1)))


for _ in range(EPOCHS):
    for pairs in np.split(rng.permutation(train), range(BATCH, len(train), BATCH))[:-1]:  # the last one is shorter
        others = np.column_stack([pairs[:, 1:], rng.choice(words, (BATCH, NEGATIVES), p=noise)])
        a, b = word.find(pairs[:, 0]), context.find(others)
        by_a, by_b = gradients_of((word(a), context(b)))
        word.update(a, by_a)
        context.update(b, by_b)

center, score = word.lookup(test[:, 0]), lambda others: jnp.sum(center * context.lookup(others), axis=1)
true, false = (count[np.searchsorted(words, others)] for others in (test[:, 1], drawn))
for name, margin in ("hotrow.jax", score(test[:, 1]) - score(drawn)), ("by frequency", true - false):
    print(f"{name:12} accuracy {np.mean((margin > 0) + 0.5 * (margin == 0)):.3f}")
unit = word.table.vectors() / np.linalg.norm(word.table.vectors(), axis=1)[:, None]
known = word.table.ids().to_pylist()
for name in ("list", "module", "raised", "float"):
    print(f"{name:7}", *[known[i] for i in np.argsort(-(unit @ unit[known.index(name)]))[1:7]])
