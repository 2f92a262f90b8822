"""The optimizers against torch's own, and against the specification."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hotrow
from hotrow.table import optimizers

DIM = 8
ALL = [hotrow.SGD(0.1), hotrow.Adagrad(0.1), hotrow.RowwiseAdagrad(0.1), hotrow.Adam(0.01)]


def torch_twin(optimizer, weight):
    """torch's optimizer of the same name, on an Embedding with sparse gradients."""
    twins = {
        "SGD": lambda p: torch.optim.SGD(p, lr=optimizer.learning_rate),
        "Adagrad": lambda p: torch.optim.Adagrad(p, lr=optimizer.learning_rate),
        "Adam": lambda p: torch.optim.SparseAdam(p, lr=optimizer.learning_rate),
    }
    return twins[type(optimizer).__name__]([weight])


@pytest.mark.parametrize("optimizer", [o for o in ALL if not isinstance(o, hotrow.RowwiseAdagrad)], ids=repr)
def test_steps_end_where_torch_ends(optimizer):
    rng = np.random.default_rng(1)
    table = hotrow.Table(DIM, optimizer=optimizer, initializer=hotrow.Normal(1.0))
    ids = np.arange(50)
    embedding = torch.nn.Embedding.from_pretrained(
        torch.tensor(table.lookup(ids, grow=True)), freeze=False, sparse=True
    )
    twin = torch_twin(optimizer, embedding.weight)
    torch.sparse.check_sparse_tensor_invariants.enable()  # torch warns unless one decides
    for _ in range(30):
        batch = rng.integers(0, 50, 40)  # with duplicates, and rows that are left alone for some steps
        gradients = rng.normal(size=(40, DIM)).astype(np.float32)
        table.update(batch, gradients)
        twin.zero_grad()
        embedding(torch.tensor(batch)).backward(torch.tensor(gradients))
        twin.step()
    np.testing.assert_allclose(table.lookup(ids), embedding.weight.detach().numpy(), rtol=1e-6, atol=1e-6)


def test_rowwise_adagrad_divides_by_the_root_of_the_mean_square():
    table = hotrow.Table(2, optimizer=hotrow.RowwiseAdagrad(1.0, epsilon=0.0), initializer=hotrow.Zeros())
    table.update(table.find([1], grow=True), np.array([[3.0, 4.0]], np.float32))
    expected = -np.array([3.0, 4.0]) / np.sqrt((9 + 16) / 2)
    np.testing.assert_allclose(table.lookup(1), expected, rtol=1e-6)


def test_an_initial_accumulator_is_in_every_new_row():
    table = hotrow.Table(2, optimizer=hotrow.Adagrad(1.0, initial_accumulator=3.0), initializer=hotrow.Zeros())
    table.update(table.find([1], grow=True), np.ones((1, 2), np.float32))
    np.testing.assert_allclose(table.lookup(1), [-0.5, -0.5], rtol=1e-6)
    table.forget([1])
    table.update(table.find([2], grow=True), np.ones((1, 2), np.float32))  # the same row, used again
    np.testing.assert_allclose(table.lookup(2), [-0.5, -0.5], rtol=1e-6)


def test_a_learning_rate_may_be_given_for_one_step():
    table = hotrow.Table(1, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    table.update(table.find([1], grow=True), np.ones((1, 1), np.float32), learning_rate=0.25)
    assert table.lookup(1).tolist() == [-0.25]


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_a_config_makes_the_same_optimizer(optimizer):
    assert optimizers.from_config(optimizers.to_config(optimizer)) == optimizer


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_slots_are_as_wide_as_the_optimizer_says(optimizer):
    assert len(optimizer.first_slots(DIM)) == optimizer.slots(DIM) == sum(optimizer.slot_widths(DIM).values())


@pytest.mark.parametrize(
    "make",
    [
        lambda: hotrow.SGD(-0.1),
        lambda: hotrow.SGD(float("nan")),
        lambda: hotrow.SGD(float("inf")),
        lambda: hotrow.Adam(beta_1=1.0),
        lambda: hotrow.Adam(beta_2=-0.1),
        lambda: hotrow.Adagrad(epsilon=-1.0),
    ],
)
def test_numbers_that_cannot_be_right_are_refused(make):
    with pytest.raises(hotrow.ArgumentError, match="must be"):
        make()


def test_nan_in_a_gradient_is_seen_in_the_row_and_nowhere_else():
    for optimizer in ALL:
        table = hotrow.Table(DIM, optimizer=optimizer)
        before = table.lookup([1, 2], grow=True)
        table.update([1], np.full((1, DIM), np.nan, np.float32))
        after = table.lookup([1, 2])
        assert np.isnan(after[0]).all()
        assert (after[1] == before[1]).all()
