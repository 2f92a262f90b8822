"""Padding inside a model: where Keras's own mask goes, and that what comes out is what Keras's layer gives."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import hotrow

IDS = np.array([[1, 2, 0], [3, 0, 0], [5, 4, 1]])
MATRIX = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
MATRIX[0] = 0  # as the table has it; Keras would train the row of padding

HEADS = ["pooled", "recurrent", "attention", "handed on", "joined", "in the loss"]


def head_of(name, vectors):
    """What reads the mask: from vectors to the last layer's input."""
    if name == "recurrent":
        return layers.LSTM(3)(vectors)
    if name == "in the loss":
        return vectors
    if name == "attention":
        vectors = layers.MultiHeadAttention(2, 2)(vectors, vectors)
    if name == "handed on":
        vectors = layers.TimeDistributed(layers.Dense(3))(vectors)
    if name == "joined":
        vectors = layers.Concatenate()([vectors, vectors])
    return layers.GlobalAveragePooling1D()(vectors)


def losses(head, embedding, model_class) -> tuple[list[float], np.ndarray]:
    """Of three epochs, from the same weights, and what is predicted then."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((3,))
    model = model_class(ids, layers.Dense(1)(head_of(head, embedding(6, 4, mask_zero=True, weights=[MATRIX])(ids))))
    model.compile("sgd", "mse")
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        if variable.path.split("/")[-1] != "embeddings":
            variable.assign(draw.normal(size=variable.shape))
    labels = draw.normal(size=(3, *model.output.shape[1:]))
    history = model.fit(IDS, labels, epochs=3, shuffle=False, verbose=0)
    return history.history["loss"], model.predict(IDS, verbose=0)


@pytest.mark.parametrize("head", HEADS)
def test_a_mask_goes_where_that_of_keras_goes(head):
    ours = losses(head, hotrow.keras.Embedding, hotrow.keras.Model)
    theirs = losses(head, layers.Embedding, keras.Model)
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-5)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5)


@pytest.mark.parametrize("padding", ["", 2**40], ids=["a string", "64 bits"])
def test_padding_of_any_kind_is_left_out_and_gets_no_row(padding):
    words = ["cup", "mug", "hat"] if padding == "" else [2**41, 2**42, 2**43]
    layer = hotrow.keras.Embedding(None, 4, mask_id=padding, seed=1)
    ids = keras.Input((None,))
    model = hotrow.keras.Model(ids, layers.GlobalAveragePooling1D()(layer(ids)))
    model.compile("sgd", "mse")
    model.fit([[words[0], padding], [words[1], words[2]]], np.zeros((2, 4)), verbose=0)
    assert len(layer.table) == 3
    pooled = model.predict([[words[0], padding], [words[1], words[2]]], verbose=0)
    vectors = layer.table.lookup(words)
    np.testing.assert_allclose(pooled, [vectors[0], (vectors[1] + vectors[2]) / 2], atol=1e-6)
