"""The conformance suite, in Keras: what tests/conformance.py asks of every way into a table."""

from __future__ import annotations

import conformance
import keras
import numpy as np
import pytest
from conformance import BAD, DIM, OPTIMIZERS, POOLS

import hotrow


class InKeras:
    """A model that gives the vectors themselves, and whose loss has the gradients that are asked for."""

    def __init__(self, optimizer=None, table=None, **how):
        given = {"optimizer": optimizer or hotrow.SGD(0.1), "seed": 5} if table is None else {"table": table}
        layer = hotrow.keras.Embedding(None, DIM, **given)
        ids = keras.Input((None,))
        self.model = hotrow.keras.Model(ids, layer(ids))
        self.table = layer.table
        self.model.compile("sgd", DotLoss(), **how)

    def lookup(self, ids):
        return self.model.predict_on_batch(ids)

    def step(self, ids, gradients):
        self.model.train_on_batch(ids, gradients)


class DotLoss(keras.losses.Loss):
    """Σ gradients · vectors: its derivative by the vectors is the gradients, exactly."""

    def __init__(self):
        super().__init__(reduction="sum")

    def call(self, y_true, y_pred):
        return keras.ops.sum(y_true * y_pred, axis=-1)


@pytest.mark.enough("torch")  # a backend has no part in the optimizers; Adam comes with each kind of ids
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_the_trained_table_is_the_same_to_the_bit(optimizer):
    conformance.check_trained(InKeras(optimizer), "small")


@pytest.mark.parametrize("kind", POOLS)
def test_the_trained_table_is_the_same_for_ids_of_every_kind(kind):
    conformance.check_trained(InKeras(hotrow.Adam(0.01)), kind)


@pytest.mark.parametrize("kind", POOLS)
def test_the_trained_table_is_the_same_run_eagerly(kind):
    conformance.check_trained(InKeras(hotrow.Adam(0.01), run_eagerly=True), kind)


def test_unknown_ids_have_their_first_value():
    conformance.check_unknown(InKeras())


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_can_not_be_ids_is_refused_alike(bad):
    conformance.check_refused(InKeras(), bad)


def test_strings_for_a_table_of_integers_are_refused_and_change_nothing():
    subject = InKeras()
    subject.step(np.array([[1]]), np.ones((1, 1, DIM), np.float32))
    before = subject.table.lookup([1])
    text = conformance.error_of(subject.step, [["cup"]], np.ones((1, 1, DIM), np.float32))
    assert "got 'cup' at position 0 for a table of int64 ids; expected integers" in text
    assert len(subject.table) == 1
    np.testing.assert_array_equal(subject.table.lookup([1]), before)
