"""Trained vectors in a model of Keras's own layers, for whoever has Keras and not hotrow."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np


def save(path: Path, keys: list[Any], matrix: np.ndarray) -> None:
    """Write a lookup of `keys`, strings or integers, and an Embedding of `matrix`, float32 (keys + 1, dim).

    Row 0 is that of all other ids. The input is one id each, (n,); the layers `lookup` and `vectors` can be
    taken out and used as any.
    """
    text = isinstance(keys[0], str)
    taken = set(keys)  # a key that is the lookup's own word for others would be taken for that
    others = next(one for one in (f"[UNK{i or ''}]" if text else -1 - i for i in count()) if one not in taken)
    made: Any = keras.layers.StringLookup if text else keras.layers.IntegerLookup
    lookup = made(vocabulary=np.array(keys, object if text else np.int64), oov_token=others, name="lookup")
    embedding = keras.layers.Embedding(*matrix.shape, name="vectors")
    ids = keras.Input(shape=(), dtype="string" if text else "int64", name="ids")
    model = keras.Model(ids, embedding(lookup(ids)))
    embedding.set_weights([matrix])
    model.save(path)
