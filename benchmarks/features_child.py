"""One backend of the benchmark `features`, in a process of its own: prints a JSON line of each side's rounds.

KERAS_BACKEND=jax python -m benchmarks.features_child ROWS BATCHES ROUNDS [dense]
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import hotrow
from benchmarks.fit_child import SPREAD, race

BATCH, FEATURES, DIM = 8192, 26, 16
NAMES = [f"c{i}" for i in range(FEATURES)]


def compiled(inputs, vectors, model_class):
    """Vectors to a number, trained by Adam."""
    model = model_class(inputs, keras.layers.Dense(1)(vectors))
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


def many(rows: int):
    """One Features layer of 26 columns, whose ids have their rows."""
    features = hotrow.keras.Features({name: hotrow.keras.Id(DIM) for name in NAMES}, output_mode="concat")
    inputs = features.inputs()
    for table in features.tables.values():
        table.find(np.arange(rows) * SPREAD, grow=True)
    return compiled(inputs, features(inputs), hotrow.keras.Model)


def one(rows: int):
    """One feature with as many ids, and a table with as many rows as the others have together."""
    layer, ids = hotrow.keras.Embedding(None, DIM), keras.Input((FEATURES,), dtype="int32")
    layer.table.find(np.arange(rows * FEATURES) * SPREAD, grow=True)
    return compiled(ids, keras.layers.Flatten()(layer(ids)), hotrow.keras.Model)


def dense(rows: int):
    """Keras's own, a layer a column."""
    inputs = {name: keras.Input((), dtype="int32", name=name) for name in NAMES}
    vectors = [keras.layers.Embedding(rows, DIM)(ids) for ids in inputs.values()]
    return compiled(inputs, keras.layers.Concatenate()(vectors), keras.Model)


def main(rows: int, batches: int, rounds: int, peer: str) -> dict[str, list[float]]:
    """The rounds of both sides, in turns."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, rows, (batches * BATCH, FEATURES))
    y = rng.normal(size=(len(ids), 1)).astype(np.float32)
    columns = {name: np.ascontiguousarray(ids[:, i]) for i, name in enumerate(NAMES)}
    raw = {name: column * SPREAD for name, column in columns.items()}
    sides = {"hotrow.keras.Features": (many(rows), raw)}
    if peer == "dense":
        small = {name: column.astype(np.int32) for name, column in columns.items()}
        sides["keras.layers.Embedding"] = dense(rows), small
    else:
        sides["hotrow.keras.Embedding"] = one(rows), (ids + rows * np.arange(FEATURES)) * SPREAD
    return race(sides, y, batches, rounds)


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:4]), *(sys.argv[4:] or ["one"]))))
