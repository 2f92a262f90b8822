"""The optimizers against torch's and Keras's own, and against the specification."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec

import naive
import numpy as np
import pytest
import torch

import hotrow
from hotrow.table import optimizers

DIM = 8
PLAIN = [
    hotrow.SGD(0.1),
    hotrow.Adagrad(0.1),
    hotrow.RowwiseAdagrad(0.1),
    hotrow.RMSprop(0.01),
    hotrow.Adadelta(),
    hotrow.Adam(0.01),
    hotrow.AdamW(0.01),
    hotrow.Adamax(0.01),
    hotrow.Nadam(0.01),
    hotrow.Lion(0.01),
    hotrow.Ftrl(0.1),
]
OPTIONS = [
    hotrow.SGD(0.1, weight_decay=0.1),
    hotrow.SGD(0.1, 0.9, weight_decay=0.1),
    hotrow.SGD(0.1, 0.9, nesterov=True),
    hotrow.SGD(0.1, 0.9, nesterov=True, momentum_of_gradients=True),
    hotrow.Adagrad(0.1, epsilon=0.0, initial_accumulator=0.1, epsilon_in_root=1e-7, weight_decay=0.1),
    hotrow.RowwiseAdagrad(0.1, epsilon=0.0, epsilon_in_root=1e-2, weight_decay=0.1),
    hotrow.RMSprop(0.01, 0.9, centered=True),
    hotrow.RMSprop(0.01, 0.9, momentum=0.5, weight_decay=0.1),
    hotrow.RMSprop(0.01, 0.9, momentum=0.5, momentum_of_gradients=True),
    hotrow.RMSprop(0.01, 0.9, 0.5, 0.0, epsilon_in_root=1e-7, centered=True),
    hotrow.Adadelta(0.5, 0.95, 1e-7, weight_decay=0.1),
    hotrow.Adam(0.01, amsgrad=True, weight_decay=0.1),
    hotrow.AdamW(0.01, 0.8, 0.9, weight_decay=0.3),
    hotrow.Adamax(0.01, 0.8, 0.9, weight_decay=0.1),
    hotrow.Nadam(0.01, momentum_decay=1.0, weight_decay=0.1),
    hotrow.Lion(0.01, 0.95, 0.98, weight_decay=0.1),
    hotrow.Ftrl(0.1, -0.4, 0.2, l1=0.1, l2=0.2, l2_shrinkage=0.3, beta=0.5, weight_decay=0.1),
]
ALL = PLAIN + OPTIONS


def test_every_optimizer_is_in_these_tests():
    assert [type(optimizer) for optimizer in PLAIN] == list(optimizers.OPTIMIZERS.values())
    assert set(naive.STEPS) == set(optimizers.OPTIMIZERS)


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_steps_are_as_specified(optimizer):
    rng = np.random.default_rng(2)
    table = hotrow.Table(DIM, optimizer=optimizer, seed=3)
    expected = naive.Table(DIM, type(optimizer).__name__, seed=3, options=asdict(optimizer))
    ids = list(range(12))
    table.find(ids, grow=True)
    expected.grow(ids)
    for _ in range(25):
        batch = rng.integers(0, 12, 9).tolist()  # with duplicates, and rows that are left alone for some steps
        gradients = rng.normal(size=(9, DIM)).astype(np.float32)
        table.update(batch, gradients)
        expected.update(batch, gradients)
    np.testing.assert_allclose(table.lookup(ids), expected.lookup(ids), rtol=1e-5, atol=1e-6)


def torch_twin(optimizer, weight):
    """torch's optimizer of the same name, on an Embedding with sparse gradients."""
    twins = {
        "SGD": lambda p: torch.optim.SGD(p, lr=optimizer.learning_rate),
        "Adagrad": lambda p: torch.optim.Adagrad(p, lr=optimizer.learning_rate),
        "Adam": lambda p: torch.optim.SparseAdam(p, lr=optimizer.learning_rate),
    }
    return twins[type(optimizer).__name__]([weight])


@pytest.mark.parametrize("optimizer", [hotrow.SGD(0.1), hotrow.Adagrad(0.1), hotrow.Adam(0.01)], ids=repr)
def test_steps_on_some_of_the_rows_end_where_torch_ends(optimizer):
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


def train(optimizer, weights, gradients):
    """The weights after a step with each of the gradients, every row in each."""
    table = hotrow.Table(weights.shape[1], optimizer=optimizer)
    table.set(range(len(weights)), weights)
    batch = table.find(range(len(weights)))
    for g in gradients:
        table.update(batch, g)
    return table.vectors()


def whole_batches(steps):
    """Weights, and gradients for all of them: none near 0, where epsilon or a rounding would decide the step."""
    rng = np.random.default_rng(4)
    gradients = rng.uniform(0.1, 1, (steps, 10, DIM)) * rng.choice([-1, 1], (steps, 10, DIM))
    return rng.normal(size=(10, DIM)).astype(np.float32), gradients.astype(np.float32)


TORCH = [
    (hotrow.SGD(0.1, 0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    (hotrow.SGD(0.1, 0.9, nesterov=True), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
    (hotrow.Adagrad(initial_accumulator=0.1), lambda p: torch.optim.Adagrad(p, initial_accumulator_value=0.1)),
    (hotrow.RMSprop(), torch.optim.RMSprop),
    (hotrow.RMSprop(centered=True), lambda p: torch.optim.RMSprop(p, centered=True)),
    (hotrow.RMSprop(0.01, 0.9, 0.5), lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, momentum=0.5)),
    (hotrow.RMSprop(momentum=0.5, centered=True), lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True)),
    (hotrow.Adadelta(), torch.optim.Adadelta),
    (hotrow.Adam(), torch.optim.Adam),
    (hotrow.Adam(amsgrad=True), lambda p: torch.optim.Adam(p, amsgrad=True)),
    (hotrow.AdamW(), torch.optim.AdamW),
    (hotrow.AdamW(0.01, weight_decay=0.3), lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3)),
    (hotrow.Adamax(), torch.optim.Adamax),
    (hotrow.Nadam(), torch.optim.NAdam),
    (
        hotrow.Nadam(0.01, momentum_decay=0.5, weight_decay=0.1),
        lambda p: torch.optim.NAdam(p, lr=0.01, momentum_decay=0.5, weight_decay=0.1, decoupled_weight_decay=True),
    ),
]


@pytest.mark.parametrize(("optimizer", "twin"), [pytest.param(*pair, id=repr(pair[0])) for pair in TORCH])
def test_steps_on_every_row_end_where_torch_ends(optimizer, twin):
    weights, gradients = whole_batches(30)
    parameter = torch.nn.Parameter(torch.tensor(weights, dtype=torch.float64))  # float32 rounds 1 − lr · weight_decay
    twin = twin([parameter])
    for g in gradients:
        parameter.grad = torch.tensor(g, dtype=torch.float64)
        twin.step()
    expected = parameter.detach().numpy()
    np.testing.assert_allclose(train(optimizer, weights, gradients), expected, rtol=1e-6, atol=1e-6)


KERAS = [  # ours, and how Keras's of the same name is called
    (hotrow.SGD(0.1), {"learning_rate": 0.1}),
    (hotrow.SGD(0.1, 0.9, weight_decay=0.1), {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    (hotrow.SGD(0.1, 0.9, nesterov=True), {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    (hotrow.Adagrad(1e-3, epsilon=0.0, initial_accumulator=0.1, epsilon_in_root=1e-7), {}),
    (
        hotrow.Adagrad(0.1, epsilon=0.0, epsilon_in_root=1e-2),
        {"learning_rate": 0.1, "initial_accumulator_value": 0.0, "epsilon": 1e-2},
    ),
    (hotrow.RMSprop(1e-3, 0.9, epsilon=0.0, epsilon_in_root=1e-7), {}),
    (
        hotrow.RMSprop(1e-3, 0.9, 0.5, epsilon=0.0, epsilon_in_root=1e-7, centered=True, weight_decay=0.1),
        {"momentum": 0.5, "centered": True, "weight_decay": 0.1},
    ),
    (hotrow.Adadelta(1e-3, 0.95, 1e-7), {}),
    (
        hotrow.Adadelta(1.0, 0.9, 1e-3, weight_decay=0.1),
        {
            "learning_rate": 1.0,
            "rho": 0.9,
            "epsilon": 1e-3,
            "weight_decay": 0.1,
        },
    ),
    (hotrow.Adam(epsilon=1e-7), {}),
    (hotrow.Adam(0.01, epsilon=1e-7, amsgrad=True), {"learning_rate": 0.01, "amsgrad": True}),
    (hotrow.AdamW(epsilon=1e-7, weight_decay=0.004), {}),
    (hotrow.Adamax(1e-3, epsilon=1e-7), {}),
    (hotrow.Nadam(1e-3, epsilon=1e-7, momentum_decay=1.0), {}),
    (hotrow.Nadam(0.01, 0.8, 0.9, 1e-3, 1.0), {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
    (hotrow.Lion(), {}),
    (hotrow.Lion(0.01, weight_decay=0.1), {"learning_rate": 0.01, "weight_decay": 0.1}),
    (hotrow.Ftrl(), {}),
    (
        hotrow.Ftrl(0.1, -0.4, 0.2, l1=0.1, l2=0.2, l2_shrinkage=0.3, beta=0.5, weight_decay=0.1),
        {
            "learning_rate": 0.1,
            "learning_rate_power": -0.4,
            "initial_accumulator_value": 0.2,
            "l1_regularization_strength": 0.1,
            "l2_regularization_strength": 0.2,
            "l2_shrinkage_regularization_strength": 0.3,
            "beta": 0.5,
            "weight_decay": 0.1,
        },
    ),
]
TRAIN_KERAS = """
import json, sys
import keras
import numpy as np
given, out = np.load(sys.argv[1]), []
for name, options in json.loads(sys.argv[2]):
    optimizer, variable = getattr(keras.optimizers, name)(**options), keras.Variable(given["weights"])
    for g in given["gradients"]:
        optimizer.apply([keras.ops.convert_to_tensor(g)], [variable])
    out.append(keras.ops.convert_to_numpy(variable))
np.save(sys.argv[3], out)
"""


@pytest.fixture(scope="module")
def keras_ends(tmp_path_factory):
    """Where Keras's optimizers end. In a process of its own, for a process has one backend of Keras."""
    folder = tmp_path_factory.mktemp("keras")
    weights, gradients = whole_batches(100)
    np.savez(folder / "given.npz", weights=weights, gradients=gradients)
    wanted = json.dumps([(type(optimizer).__name__, options) for optimizer, options in KERAS])
    command = [sys.executable, "-c", TRAIN_KERAS, str(folder / "given.npz"), wanted, str(folder / "out.npy")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment |= {"KERAS_BACKEND": "torch", "KERAS_HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "out.npy")


@pytest.mark.compiled  # without, to be as specified is enough
@pytest.mark.skipif(find_spec("keras") is None, reason="Keras isn't installed")
@pytest.mark.parametrize("case", [pytest.param(i, id=repr(pair[0])) for i, pair in enumerate(KERAS)])
def test_steps_on_every_row_end_where_keras_ends(case, keras_ends):
    got = train(KERAS[case][0], *whole_batches(100))
    np.testing.assert_allclose(got, keras_ends[case], rtol=1e-5, atol=1e-5)


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


def test_weights_decay_when_their_row_moves():
    table = hotrow.Table(2, optimizer=hotrow.SGD(0.5, weight_decay=0.5), initializer=hotrow.Constant(8.0))
    table.find([1, 2], grow=True)
    table.update([1], np.zeros((1, 2), np.float32))
    assert table.lookup([1, 2]).tolist() == [[6.0, 6.0], [8.0, 8.0]]
    table.update([1], np.zeros((1, 2), np.float32), learning_rate=1.0)
    assert table.lookup(1).tolist() == [3.0, 3.0]


def test_without_decay_adamw_is_adam_to_the_bit():
    data = whole_batches(10)
    assert (train(hotrow.AdamW(weight_decay=0.0), *data) == train(hotrow.Adam(), *data)).all()
    assert (train(hotrow.AdamW(), *data) == train(hotrow.Adam(weight_decay=0.01), *data)).all()


def test_a_slot_that_no_option_asks_for_is_not_there():
    assert list(hotrow.SGD(nesterov=True).slot_widths(DIM)) == []
    assert list(hotrow.SGD(momentum=0.9).slot_widths(DIM)) == ["momentum"]
    assert list(hotrow.RMSprop(momentum=0.9).slot_widths(DIM)) == ["v", "momentum"]
    assert list(hotrow.RMSprop(momentum=0.9, centered=True).slot_widths(DIM)) == ["v", "mean", "momentum"]
    assert list(hotrow.Adam(amsgrad=True).slot_widths(DIM)) == ["m", "v", "v_max"]


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_a_gradient_of_zeros_makes_no_nan(optimizer):
    zeros = np.zeros((3, 2, DIM), np.float32)
    assert np.isfinite(train(optimizer, np.ones((2, DIM), np.float32), zeros)).all()


def test_a_variance_that_rounding_leaves_below_zero_is_zero():
    same = np.full((200, 1, DIM), 123.456, np.float32)
    assert np.isfinite(train(hotrow.RMSprop(rho=0.5, centered=True), same[0], same)).all()


def test_ftrl_makes_a_weight_of_little_use_exactly_zero():
    gradients = np.array([[[0.01, 1.0]]] * 20, np.float32)
    useless, useful = train(hotrow.Ftrl(0.1, l1=1.0), np.ones((1, 2), np.float32), gradients)[0]
    assert useless == 0
    assert useful < 0


def test_ftrl_refuses_a_learning_rate_of_zero_and_changes_nothing():
    table = hotrow.Table(2, optimizer=hotrow.Ftrl())
    before = table.lookup([1], grow=True)
    with pytest.raises(hotrow.ArgumentError, match="above 0"):
        table.update([1], np.ones((1, 2), np.float32), learning_rate=0.0)
    assert (table.lookup([1]) == before).all()
    assert table.steps == 0


@pytest.mark.parametrize("beta_1", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("decay", [0.0, 4e-3, 1.0])
def test_nadam_knows_the_product_of_its_schedule_at_any_step(beta_1, decay):
    expected = [1.0]
    for t in range(1, 1001):
        expected.append(expected[-1] * beta_1 * (1 - 0.5 * 0.96 ** (t * decay)))
    for step in (1, 2, 63, 64, 65, 500, 1000):
        got = optimizers._product(beta_1, decay, step)
        assert math.isclose(got, expected[step], rel_tol=1e-12, abs_tol=1e-17)
    assert optimizers._product(beta_1, decay, 10**6) == 0.0


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_a_config_makes_the_same_optimizer(optimizer):
    config = json.loads(json.dumps(optimizers.to_config(optimizer)))
    assert optimizers.from_config(config) == optimizer


def test_a_config_from_before_there_were_options_is_read():
    adam = {"name": "Adam", "learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-6}
    assert optimizers.from_config(adam) == hotrow.Adam(0.1, 0.8, 0.9, 1e-6)
    assert optimizers.from_config({"name": "SGD", "learning_rate": 1}) == hotrow.SGD(1.0)


@pytest.mark.parametrize(
    "junk",
    [
        {},
        {"name": "Muon"},
        {"name": ["SGD"]},
        {"name": "Optimizer", "learning_rate": 0.1},
        {"name": "SGD", "speed": 0.1},
        {"name": "SGD", "learning_rate": "0.1"},
        {"name": "SGD", "learning_rate": None},
        {"name": "SGD", "learning_rate": True},
        {"name": "SGD", "learning_rate": 10**400},
        {"name": "SGD", "learning_rate": float("nan")},
        {"name": "SGD", "momentum": 1.0},
        {"name": "SGD", "nesterov": 1},
        {"name": "SGD", "nesterov": "true"},
        {"name": "Adam", "amsgrad": 0.0},
        {"name": "Adam", "kernel": 0.0},
        "SGD",
        None,
    ],
    ids=repr,
)
def test_a_config_that_is_none_is_refused(junk):
    with pytest.raises((KeyError, TypeError, hotrow.ArgumentError)):
        optimizers.from_config(junk)


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
        lambda: hotrow.Adagrad(epsilon_in_root=-1.0),
        lambda: hotrow.SGD(momentum=1.0),
        lambda: hotrow.SGD(momentum=-0.1),
        lambda: hotrow.SGD(nesterov=1),
        lambda: hotrow.SGD(weight_decay=-0.1),
        lambda: hotrow.AdamW(weight_decay=float("inf")),
        lambda: hotrow.RMSprop(rho=1.0),
        lambda: hotrow.RMSprop(centered=None),
        lambda: hotrow.Adadelta(rho=-0.1),
        lambda: hotrow.Nadam(momentum_decay=float("nan")),
        lambda: hotrow.Ftrl(learning_rate_power=0.5),
        lambda: hotrow.Ftrl(learning_rate_power=float("-inf")),
        lambda: hotrow.Ftrl(l1=-1.0),
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
