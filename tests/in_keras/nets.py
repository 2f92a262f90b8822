"""Small models that the tests of hotrow.keras share, and their twins made of Keras's own layer."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

import hotrow

DIM = 3
KINDS = ["functional", "subclassed", "sequential"]


def vectors(kind: str, length: int | None = None, **how):
    """A model that gives the vectors of ids, and its table."""
    layer = hotrow.keras.Embedding(None, DIM, seed=1, **how)
    model = {"functional": _functional, "subclassed": _subclassed, "sequential": _sequential}[kind](layer, length)
    model.compile("sgd", "mse")
    return model, layer.table


def _functional(layer, length):
    ids = keras.Input((length,))
    return hotrow.keras.Model(ids, layer(ids))


def _sequential(layer, length):
    return hotrow.keras.Sequential([layer] if length is None else [keras.Input((length,)), layer])


def _subclassed(layer, length):
    class Vectors(hotrow.keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def call(self, ids):
            return self.layer(ids)

    return Vectors()


def classifier(words: int | None = None, *, optimizer="sgd", **compiled):
    """A functional model of 2 ids a sample: hotrow's for words=None, else its twin of Keras's layer for 0 … words − 1.

    Both begin with the same weights; id 0 of the twin is that of `names(…)[0]`.
    """
    keras.utils.set_random_seed(3)
    ids = keras.Input((2,))
    rng = np.random.default_rng(7)
    dense = layers.Dense(2, "softmax", kernel_initializer=keras.initializers.RandomNormal(0.5, seed=2))
    if words is None:
        layer, make = hotrow.keras.Embedding(None, DIM), hotrow.keras.Model
    else:
        layer, make = layers.Embedding(words, DIM), keras.Model
    model = make(ids, dense(layers.Flatten()(layer(ids))))
    start = rng.normal(size=(20, DIM)).astype(np.float32)
    if words is None:
        layer.table.set(NAMES[:20], start)
    else:
        layer.set_weights([start[:words]])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **compiled)
    return model, layer


NAMES = [f"id {i}" for i in range(20)]


def named(numbers):
    """The names of small ids, as the user would have them."""
    return np.array(NAMES, object)[np.asarray(numbers)]


def data(n=24, words=8, seed=0):
    """Small ids (n, 2) and labels (n,)."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, words, (n, 2))
    return x, (x.sum(1) % 2).astype(np.int64)
