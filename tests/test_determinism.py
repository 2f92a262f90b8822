"""What is promised to the bit: first values for any order of arrival, steps for any number of threads, exact resume."""

from __future__ import annotations

import tempfile

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hotrow
from hotrow.table import initializers

OPTIMIZERS = [
    hotrow.SGD(0.1),
    hotrow.SGD(0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    hotrow.Adagrad(0.1),
    hotrow.RowwiseAdagrad(0.1),
    hotrow.RMSprop(0.01),
    hotrow.RMSprop(0.01, momentum=0.9, centered=True),
    hotrow.Adadelta(),
    hotrow.Adam(0.01),
    hotrow.Adam(0.01, amsgrad=True),
    hotrow.AdamW(0.01),
    hotrow.Adamax(0.01),
    hotrow.Nadam(0.01),
    hotrow.Lion(0.01),
    hotrow.Ftrl(0.1, l1=0.1),
    hotrow.Ftrl(0.1, learning_rate_power=-0.4),
]
INITIALIZERS = [
    hotrow.Uniform(0.1),
    hotrow.Normal(1.0, 0.5),
    hotrow.TruncatedNormal(2.0),
    hotrow.Constant(3.0),
    hotrow.Zeros(),
]


@pytest.fixture(autouse=True)
def _all_threads_again():
    yield
    hotrow.set_threads(None)


@pytest.mark.parametrize("initializer", INITIALIZERS, ids=repr)
@given(
    ids=st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1, max_size=20), seed=st.integers(0, 2**64 - 1)
)
def test_first_values_do_not_depend_on_the_order_of_arrival(initializer, ids, seed):
    forwards, backwards = (hotrow.Table(5, initializer=initializer, seed=seed) for _ in range(2))
    forwards.lookup(ids, grow=True)
    for id in reversed(ids):
        backwards.lookup([id], grow=True)
    assert (forwards.lookup(ids) == backwards.lookup(ids)).all()


@pytest.mark.parametrize("initializer", INITIALIZERS, ids=repr)
def test_first_values_are_as_specified(initializer):
    kind = {"Uniform": "uniform", "Normal": "normal", "TruncatedNormal": "truncated_normal"}.get(
        type(initializer).__name__, "constant"
    )
    got = hotrow.Table(9, initializer=initializer, seed=11).lookup([0, -1, 12345])
    for row, key in zip(got, (0, -1, 12345), strict=True):
        expected = [naive.first_value(kind, *initializer.numbers(), 11, key, j) for j in range(9)]
        np.testing.assert_allclose(row, expected, rtol=1e-6)  # the system's log and cos have a last bit of their own


def test_uniform_first_values_are_as_specified_to_the_bit():
    got = hotrow.Table(9, initializer=hotrow.Uniform(0.1), seed=11).lookup([0, -1])
    expected = [[naive.first_value("uniform", -0.1, 0.1, 11, key, j) for j in range(9)] for key in (0, -1)]
    assert got.tolist() == np.array(expected).tolist()


def test_first_values_are_distributed_as_they_say():
    ids = np.arange(2000)
    uniform = hotrow.Table(16, initializer=hotrow.Uniform(0.5)).lookup(ids)
    assert abs(uniform.mean()) < 0.01
    assert abs(uniform.std() - 0.5 / 3**0.5) < 0.01
    assert -0.5 <= uniform.min() < -0.499
    assert 0.499 < uniform.max() < 0.5
    normal = hotrow.Table(16, initializer=hotrow.Normal(2.0, 1.0)).lookup(ids)
    assert abs(normal.mean() - 1) < 0.05
    assert abs(normal.std() - 2) < 0.05
    truncated = hotrow.Table(16, initializer=hotrow.TruncatedNormal(1.0)).lookup(ids)
    assert abs(truncated).max() <= 2
    assert abs(truncated.std() - 0.8796) < 0.01  # of a normal cut at two standard deviations
    assert abs(np.corrcoef(normal[:, :4].T) - np.eye(4)).max() < 0.1
    assert abs(np.corrcoef(normal[:100, :].reshape(10, -1)) - np.eye(10)).max() < 0.35


@pytest.mark.parametrize("initializer", INITIALIZERS, ids=repr)
def test_a_config_makes_the_same_initializer(initializer):
    assert initializers.from_config(initializers.to_config(initializer)) == initializer


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(hotrow.ArgumentError, match="finite"):
        hotrow.Normal(float("nan"))


def train(table, steps, seed):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        ids = rng.zipf(1.3, 3000) % 1000
        batch = table.find(ids, grow=True)
        table.update(batch, table.lookup(batch) + rng.normal(size=(3000, table.dim)).astype(np.float32))
    return table


@pytest.mark.compiled  # sums in another order are machine code's, not Python's
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_steps_are_the_same_for_any_number_of_threads(optimizer, monkeypatch):
    from hotrow.table import index, rows

    for module in (index, rows):  # small batches, cut as if they were large
        monkeypatch.setattr(module, "_GRAIN", 256)
    results = []
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        trained = train(hotrow.Table(20, optimizer=optimizer, seed=5), 5, seed=1)
        results.append((trained.ids().tobytes(), trained.vectors().tobytes(), trained.lookup([5, 10**9]).tobytes()))
    assert results[0] == results[1] == results[2]


@pytest.mark.compiled
@pytest.mark.parametrize("mode", ["sum", "mean", "sqrtn", "max"])
def test_bags_are_the_same_for_any_number_of_threads(mode, monkeypatch):
    from hotrow.table import batch

    monkeypatch.setattr(batch, "_GRAIN", 256)
    ids, offsets = np.arange(5000) % 700, np.arange(0, 5001, 5)
    results = []
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        table = hotrow.Table(6, optimizer=hotrow.SGD(0.1))
        bags = table.find(ids, grow=True, offsets=offsets, pooling=mode)
        table.update(bags, table.lookup(bags))
        results.append(table.vectors().tobytes())
    assert results[0] == results[1] == results[2]


@pytest.mark.compiled  # without, deltas have the same (tests/test_deltas.py) in a tenth of the time
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_training_goes_on_after_a_save_as_if_there_had_been_none(optimizer):
    whole = train(train(hotrow.Table(7, optimizer=optimizer), 3, seed=1), 3, seed=2)
    half = train(hotrow.Table(7, optimizer=optimizer), 3, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        half.save(folder)
        resumed = train(hotrow.load(folder), 3, seed=2)
    assert resumed.steps == whole.steps == 6
    assert resumed.optimizer == optimizer
    assert resumed.ids().tobytes() == whole.ids().tobytes()
    assert resumed.vectors().tobytes() == whole.vectors().tobytes()


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    with pytest.raises(hotrow.ArgumentError, match="threads"):
        hotrow.set_threads(threads)
