"""A table trained in Keras on TensorFlow goes on in Keras, in torch and in JAX from one snapshot, and ends the same.

The dense part, a matrix and a bias by SGD, is handed over beside it as `dense.npz`. Keras runs in a process of its own,
for its backend is chosen once a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hotrow

DIM, BEFORE, AFTER, RATE = 4, 7, 9, 0.1
CASES = {  # how the table is trained, and ids
    "Adam": (hotrow.Adam(0.01), np.random.default_rng(5).integers(-(2**63), 2**63 - 1, 40)),
    "Adagrad": (hotrow.Adagrad(0.1), np.array([f"user {i} é" for i in range(40)], object)),
    "followed": (None, np.random.default_rng(6).integers(-(2**63), 2**63 - 1, 40)),  # Keras's own Nadam
}
each_case = pytest.mark.parametrize("name", CASES)


def batches(name):
    """(ids (16, 3), targets float32 (16, 1)): ids come again in a batch, and new ones also after the hand-over."""
    rng, pool = np.random.default_rng(3), CASES[name][1]
    for i in range(BEFORE + AFTER):
        yield pool[rng.integers(0, 10 + 2 * i, (16, 3))], rng.normal(size=(16, 1)).astype(np.float32)


def in_keras(folder):
    """Train each case with Keras on TensorFlow; save table and dense weights at the hand-over and at the end."""
    import keras

    keras.utils.set_random_seed(0)
    for name, (optimizer, pool) in CASES.items():
        ids = keras.Input((3,), dtype="string" if pool.dtype == object else "int64")
        layer = hotrow.keras.Embedding(None, DIM, optimizer=optimizer, seed=5)
        dense = keras.layers.Dense(1)
        model = hotrow.keras.Model(ids, dense(keras.layers.GlobalAveragePooling1D()(layer(ids))))
        dense.trainable = optimizer is not None  # else the optimizer is the table's alone
        model.compile(keras.optimizers.Nadam(0.01) if optimizer is None else keras.optimizers.SGD(RATE), "mse")
        for i, (x, y) in enumerate(batches(name)):
            if i == BEFORE:
                save(folder / name / "between", layer.table, *dense.get_weights())
            model.train_on_batch(x, y)
        save(folder / name / "keras", layer.table, *dense.get_weights())


def save(folder, table, kernel, bias):
    table.save(folder / "table")
    np.savez(folder / "dense.npz", kernel=kernel, bias=bias)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where Keras has left its tables."""
    folder = tmp_path_factory.mktemp("handover")
    code = "import sys, pathlib, test_handover; test_handover.in_keras(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", code, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def handed_over(folder, name):
    """The table, the dense weights, what is trained of them, and the batches that are left."""
    table = hotrow.load(folder / name / "between" / "table")
    with np.load(folder / name / "between" / "dense.npz") as dense:
        kernel, bias = dense["kernel"], dense["bias"]
    return table, kernel, bias, 0.0 if CASES[name][0] is None else RATE, list(batches(name))[BEFORE:]


def check_same(folder, name, table, kernel, bias):
    """All rows, slots and dense weights are those that Keras has ended with, to 1e-5."""
    expected = hotrow.load(folder / name / "keras" / "table")
    between = hotrow.load(folder / name / "between" / "table")
    assert expected.steps == between.steps + AFTER == table.steps
    assert len(expected) > len(between)
    assert table.optimizer == expected.optimizer
    ours, theirs = table.state(), expected.state()
    np.testing.assert_array_equal(ours.keys, theirs.keys)
    assert table.ids().tolist() == expected.ids().tolist()
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-5, atol=1e-5)
    assert ours.slots.keys() == theirs.slots.keys()
    assert ours.slots
    for slot, values in theirs.slots.items():
        np.testing.assert_allclose(ours.slots[slot], values, rtol=1e-5, atol=1e-5)
    with np.load(folder / name / "keras" / "dense.npz") as dense:
        np.testing.assert_allclose(kernel, dense["kernel"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(bias, dense["bias"], rtol=1e-5, atol=1e-5)
    known = between.ids().tolist()
    assert np.abs(table.lookup(known) - between.lookup(known)).max() > 1e-3  # it has been trained meanwhile


@each_case
def test_a_table_from_keras_goes_on_in_jax_as_it_would_have_in_keras(folder, name):
    import jax
    import jax.numpy as jnp

    table, kernel, bias, rate, rest = handed_over(folder, name)
    emb = hotrow.jax.Embedding(None, DIM, table=table)

    @jax.jit
    @jax.grad
    def gradients_of(weights, y):
        kernel, bias, vectors = weights
        return jnp.mean((vectors.mean(1) @ kernel + bias - y) ** 2)

    for ids, y in rest:
        batch = emb.find(ids)
        by_kernel, by_bias, by_vectors = gradients_of((kernel, bias, emb(batch)), y)
        kernel, bias = kernel - rate * by_kernel, bias - rate * by_bias
        emb.update(batch, by_vectors)
    check_same(folder, name, table, kernel, bias)


@each_case
def test_a_table_from_keras_goes_on_in_torch_as_it_would_have_in_keras(folder, name):
    import torch

    table, kernel, bias, rate, rest = handed_over(folder, name)
    emb = hotrow.torch.Embedding(None, DIM, table=table)
    dense = torch.nn.Linear(DIM, 1)
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(kernel.T.copy()))
        dense.bias.copy_(torch.from_numpy(bias))
    optimizer = torch.optim.SGD(dense.parameters(), rate)
    for ids, y in rest:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(dense(emb(ids).mean(1)), torch.from_numpy(y)).backward()
        optimizer.step()
        emb.step()
    check_same(folder, name, table, dense.weight.detach().numpy().T, dense.bias.detach().numpy())


@each_case
def test_a_table_from_keras_goes_on_with_numpy_alone(folder, name):
    table, kernel, bias, rate, rest = handed_over(folder, name)
    for ids, y in rest:
        batch = table.find(ids, grow=True)
        pooled = table.lookup(batch).mean(1)
        error = 2 * (pooled @ kernel + bias - y) / len(y)
        gradients = np.repeat((error @ kernel.T)[:, None] / 3, 3, axis=1)
        kernel, bias = kernel - rate * pooled.T @ error, bias - rate * error.sum(0)
        table.update(batch, gradients)
    check_same(folder, name, table, kernel, bias)
