"""One backend of the benchmark `fit`, in a process of its own: prints a JSON line of each side's rounds.

KERAS_BACKEND=jax python -m benchmarks.fit_child ROWS BATCHES ROUNDS
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import hotrow

BATCH, IDS, DIM = 4096, 10, 32
SPREAD = 1_000_003
"""hotrow is given 64-bit ids, of which each is row × SPREAD; keras.layers.Embedding the rows."""


class Clock(keras.callbacks.Callback):
    """Milliseconds a step, of each epoch; its end waits for the last step's loss."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches, self.taken = batches, list[float]()

    def on_epoch_begin(self, epoch, logs=None) -> None:
        """Start."""
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None) -> None:
        """Stop, when the loss is known."""
        float(logs["loss"])
        self.taken.append(1e3 * (time.perf_counter() - self.begin) / self.batches)


def model_of(embedding, model_class):
    """Ids to a number: the mean of their vectors, through one unit."""
    ids = keras.Input((IDS,), dtype="int32")
    out = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(embedding(ids)))
    model = model_class(ids, out)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


def race(sides, y, batches: int, rounds: int) -> dict[str, list[float]]:
    """The rounds of models by name, (model, x) each, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds + 1):  # the first one compiles
        for name, (model, x) in sides.items():
            clock = Clock(batches)
            model.fit(x, y, batch_size=len(y) // batches, epochs=2, shuffle=False, verbose=0, callbacks=[clock])
            taken[name] += clock.taken if i else []
    return taken


def main(rows: int, batches: int, rounds: int) -> dict[str, list[float]]:
    """The rounds of both sides, in turns; equal after the first epoch, or an error."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, rows, (batches * BATCH, IDS))
    y = rng.normal(size=(len(x), 1)).astype(np.float32)
    first = None if rows > 1_000_000 else rng.normal(scale=0.05, size=(rows, DIM)).astype(np.float32)
    layers = hotrow.keras.Embedding(None, DIM), keras.layers.Embedding(rows, DIM)
    sides = {
        "hotrow.keras.Embedding, raw 64-bit ids": (model_of(layers[0], hotrow.keras.Model), x * SPREAD),
        "keras.layers.Embedding, ready-made rows": (model_of(layers[1], keras.Model), x.astype(np.int32)),
    }
    for low in range(0, rows, 1 << 20):
        known = np.arange(low, min(rows, low + (1 << 20))) * SPREAD
        layers[0].table.find(known, grow=True)
        if first is not None:
            layers[0].table.set(known, first[known // SPREAD])
    if first is not None:
        layers[1].set_weights([first])
    (ours, _), (theirs, _) = sides.values()
    ours.layers[-1].set_weights(theirs.layers[-1].get_weights())
    return race(sides, y, batches, rounds)


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
