"""What is pending between backward and the optimizer's step, without a framework: the hook is a plain number here."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import hotrow
from hotrow.bridges.rounds import KEPT, Hook
from hotrow.bridges.rules import Rule
from hotrow.bridges.stage import Stage
from hotrow.errors import ArgumentError

DIM = 2


class Layer:
    """A layer and its optimizer, as far as the stage sees them: `value` is the hook's."""

    def __init__(self, table, value=0.0, peek=False):
        self.table, self.value = table, np.float32(value)
        self.stage = Stage.of(table)
        self.hook = Hook(lambda: float(self.value), peek)
        self.stage.add(self.hook)

    def forward(self, ids, training=True):
        ids = np.asarray(ids)
        batch = self.table.find(ids, grow=training)
        return self.stage.pull(self.hook, (self, ids), batch, float(self.value), training=training)[0]

    def backward(self, ids, gradient=1.0, scale=1.0, carried=False):
        ids = np.asarray(ids)
        batch = self.stage.recall(self.hook, (self, ids)) or self.table.find(ids, grow=True)
        full = np.full((*ids.shape, DIM), gradient * scale, np.float32)
        return self.stage.push(self.hook, batch, full, scale, None, carried=carried)

    def round(self, ids, gradient=1.0, **how):
        self.forward(ids)
        return self.backward(ids, gradient, **how)


@pytest.fixture
def table():
    return hotrow.Table(DIM, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())


def weights(table, ids):
    return table.lookup(ids)[..., 0].tolist()


def test_a_step_is_committed_by_the_next_read(table):
    layer = Layer(table)
    layer.value = layer.round([1, 2, 1])
    assert weights(table, [1, 2]) == [-2, -1]
    assert table.steps == 1


def test_a_step_is_committed_by_the_next_forward_pass_before_it_reads(table):
    layer = Layer(table)
    layer.value = layer.round([1, 2, 1])
    assert layer.forward([1])[0, 0] == -2


def test_what_no_step_took_is_never_committed(table):
    layer = Layer(table)
    layer.round([1], 5)
    assert weights(table, [1]) == [0]
    layer.value = layer.round([1], 7)
    assert weights(table, [1]) == [-7]
    assert table.steps == 1


@pytest.mark.parametrize("first", [0.0, 1.0, -3.5, float("nan"), float("inf")])
def test_any_value_may_be_there_at_the_start(table, first):
    layer = Layer(table, first)
    for _ in range(5):
        layer.value = layer.round([1])
    assert weights(table, [1]) == [-5]
    assert table.steps == 5


@pytest.mark.parametrize("added", [1, 2, 3])
def test_a_value_from_another_process_is_never_taken_for_a_step(added):
    """A restored hook holds what a stage like this one has written: the first step must differ from it."""
    other = Layer(hotrow.Table(DIM))
    value = sum(other.round([1]) for _ in range(added))
    for _ in range(2):
        table = hotrow.Table(DIM, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
        layer = Layer(table, value)
        for _ in range(3):
            layer.value = sum(layer.round([1]) for _ in range(added))
        assert table.steps == 3
        assert weights(table, [1]) == [-3 * added]
        value = layer.value


def test_a_maximum_says_where_an_accumulation_began(table):
    layer = Layer(table)
    layer.round([1], 100)  # for no step
    layer.value = max(layer.round([i], i) for i in (1, 2, 3, 6))
    assert weights(table, [1, 2, 3, 6]) == [-1 / 4, -2 / 4, -3 / 4, -6 / 4]
    assert table.steps == 1


def test_where_one_round_makes_a_step_a_greater_number_means_an_earlier_round(table):
    layer = Layer(table)
    layer.stage.rule = Rule(every=1)
    numbers = [layer.round([i], i) for i in (1, 2, 3)]
    layer.value = numbers[1]
    assert weights(table, [1, 2, 3]) == [0, -2, 0]


def test_skipped_rounds_of_an_accumulation_are_left_out(table):
    layer = Layer(table)
    numbers = [layer.round([i], i, scale=scale) for i, scale in ((1, 64.0), (2, 64.0), (3, 32.0), (4, 32.0))]
    layer.value = max(numbers[0], numbers[2], numbers[3])  # the second overflowed, say
    np.testing.assert_allclose(weights(table, [1, 2, 3, 4]), [-1 / 3, 0, -1, -4 / 3])


def test_a_sum_says_which_gradients_were_added_up(table):
    layer = Layer(table)
    layer.round([1], 100)
    layer.value = np.float32(layer.round([1], 1) + layer.round([2], 2) + layer.round([1], 3))
    assert weights(table, [1, 2]) == [-4, -2]
    assert table.steps == 1


def test_two_backward_passes_of_one_forward_pass_are_two_rounds(table):
    layer = Layer(table)
    layer.forward([1])
    layer.backward([1], 5)
    layer.value = layer.backward([1], 7)
    assert weights(table, [1]) == [-7]


def test_an_optimizer_that_takes_the_hook_for_a_weight_steps_on_the_latest_round(table):
    layer = Layer(table)
    layer.round([1], 5)
    layer.value -= np.float32(0.1) * layer.round([1], 7)
    assert weights(table, [1]) == [-7]


def test_and_on_the_rounds_whose_gradients_the_framework_carried_along(table):
    layer = Layer(table)
    layer.round([1], 5)
    layer.round([1], 7)
    layer.value -= np.float32(0.1) * layer.round([1], 9, carried=True)
    assert weights(table, [1]) == [-16]


def test_gradients_that_are_not_finite_make_the_hooks_not_finite_and_each_step_is_seen(table):
    layer = Layer(table)
    for step in range(1, 5):
        number = layer.round([1], np.inf)
        assert not np.isfinite(number)
        layer.value = number
        assert table.steps == step


def test_more_rounds_than_are_kept_in_one_step_are_refused(table):
    layer = Layer(table)
    numbers = [layer.round([1]) for _ in range(KEPT + 1)]
    layer.value = max(numbers)
    with pytest.raises(ArgumentError, match=f"more than {KEPT} backward passes"):
        layer.forward([1])


def test_a_model_that_says_how_many_rounds_a_step_has_may_have_any_number(table):
    layer = Layer(table)
    layer.stage.rule = Rule(every=100)
    layer.value = max(layer.round([1]) for _ in range(100))
    assert weights(table, [1]) == [-1]


def test_layers_of_one_forward_pass_make_one_step(table):
    a, b = Layer(table), Layer(table)
    for step in range(1, 4):
        for layer in (a, b):
            layer.forward([1])
        b.value, a.value = b.backward([1]), a.backward([1])
        a.forward([1])  # only one of them is asked
        assert weights(table, [1]) == [-2 * step]
        assert table.steps == step


def test_layers_that_are_trained_in_turns_make_a_step_each(table):
    a, b = (Layer(table, peek=True) for _ in range(2))
    for step in range(6):
        layer = (a, b)[step % 2]
        assert layer.forward([1])[0, 0] == -step
        layer.value = layer.backward([1])
    assert table.steps == 6


def test_a_layer_that_sits_a_step_out_joins_the_next(table):
    a, b = Layer(table), Layer(table)
    a.value = a.round([1])
    b.forward([1])
    a.forward([1])
    b.value, a.value = b.backward([1]), a.backward([1])
    assert weights(table, [1]) == [-3]
    assert table.steps == 2


def test_a_value_that_was_read_before_a_forward_pass_is_not_taken_after_it(table):
    """Another thread reads the hook, waits for the lock, and meanwhile the training goes on."""
    layer = Layer(table)
    number = layer.round([1])

    def read():
        layer.hook.read = lambda: None
        old = float(layer.value)
        layer.value = number
        layer.round([1], 50)  # and no optimizer's step yet
        return old

    layer.hook.read = read
    table.settle()
    assert len(layer.stage.parts) == 1
    assert weights(table, [1]) == [-1]


def test_what_can_not_be_read_now_stays_pending(table):
    layer = Layer(table)
    layer.value = layer.round([1])
    layer.hook.read = lambda: None
    assert table.steps == 0
    assert layer.forward([1])[0, 0] == -1


def test_a_scale_that_must_be_seen_and_is_not_is_refused_and_nothing_is_pending(table):
    layer = Layer(table)
    layer.stage.rule = Rule(scaled=True)
    layer.forward([1])
    with pytest.raises(ArgumentError, match=r"optimizer.scale_loss\(loss \+ sum\(model.losses\)\)"):
        layer.stage.push(layer.hook, table.find([1]), np.ones((1, DIM), np.float32), 0.0, None)
    assert not layer.stage.parts


@pytest.mark.parametrize(
    ("scaled", "factor", "divided"),
    [(None, 1.0, 1), (None, 1024.0, 1024), (None, 0.5, 1), (None, 3.0, 1), (False, 1024.0, 1), (True, 3.0, 3)],
)
def test_a_loss_scale_is_taken_out_and_a_weight_of_the_loss_is_not(scaled, factor, divided):
    assert Rule(scaled=scaled).scale(factor) == divided


def test_a_table_with_pending_gradients_can_be_let_go():
    layer = Layer(hotrow.Table(DIM))
    layer.round([1])
    gone = weakref.ref(layer.table)
    del layer
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_layers_on_one_table_add_up_in_the_order_in_which_they_joined(order):
    """Whichever gradients come first: the last bit of a sum depends on the order, and a resumed run must have it."""
    table = hotrow.Table(DIM, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    layers = [Layer(table) for _ in range(3)]
    for layer in layers:
        layer.forward([1])
    brought = dict(zip(range(3), (1e8, -1e8, 1.0), strict=True))
    for i in order:
        layers[i].value = layers[i].backward([1], brought[i])
    assert weights(table, [1]) == [-1.0]  # (1e8 − 1e8) + 1, and not 1e8 + (1 − 1e8)
