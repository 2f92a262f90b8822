"""The page that the project began with: its program, with two names taken from hotrow."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import hotrow

SMALL = [2, 3, 4, 5, 8, 1, 6, 7]
LABELS = [0, 1, 0, 1, 1, 0, 0, 1]
BIG = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 8).tolist()
TEXT = [f"user {i}" for i in range(8)]

each_kind = pytest.mark.parametrize(
    ("ids", "bound"), [(SMALL, 10), (BIG, None), (TEXT, None)], ids=["small", "64 bits", "strings"]
)


def page(ids: list, bound: int | None, epochs: int):
    """The page's own lines, but for `tf.keras.Model` and `layers.Embedding`, which are hotrow's."""
    input_x = keras.Input(shape=(None,))
    embedding_x = hotrow.keras.Embedding(bound, 10)(input_x)
    hidden1 = layers.Dense(50, activation="relu")(embedding_x)
    output = layers.Dense(2, activation="softmax")(hidden1)
    x_train, y_train = ids * 8, LABELS * 8
    model2 = hotrow.keras.Model(inputs=input_x, outputs=output)
    model2.compile(optimizer=keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model2, model2.fit(x_train, y_train, batch_size=4, epochs=epochs, verbose=0)


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("ids", "bound"), [(SMALL, 10), (BIG, None), (TEXT, None)], ids=["small", "64 bits", "strings"]
)
def test_the_program_of_the_page_trains_to_accuracy_1(ids, bound):
    model, history = page(ids, bound, epochs=60)
    assert history.history["accuracy"][-1] == 1.0
    table = model.layers[1].table
    assert len(table) == 8
    assert table.steps == 60 * 16


@pytest.mark.long
@pytest.mark.parametrize(
    ("ids", "bound"), [(SMALL, 10), (BIG, None), (TEXT, None)], ids=["small", "64 bits", "strings"]
)
def test_the_program_of_the_page_trains_its_1000_epochs(ids, bound):
    model, history = page(ids, bound, epochs=1000)
    assert history.history["accuracy"][-1] == 1.0
    assert model.layers[1].table.steps == 16_000
