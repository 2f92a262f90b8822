"""One step of the model is one step of the table: whatever the model, the loop and the optimizer make of a step.

Models here give sums of vectors, and losses are linear in them: so gradients are known exactly, and the trained table
is compared with one that `hotrow.Table.update` was given the same by hand, bit for bit.
"""

from __future__ import annotations

import threading

import keras
import numpy as np
import pytest

import hotrow
from hotrow.bridges.stage import Stage

BACKEND = keras.backend.backend()
DIM = 4
RATE = 2.0**-7  # exact in float32
RNG = np.random.default_rng(1)
X = RNG.integers(0, 9, (32, 3)) + 2**40
G = RNG.integers(-8, 9, (32, DIM)).astype(np.float32)  # the gradient of each sample's sum: exact in any order
SGD = keras.optimizers.SGD

not_on_torch = pytest.mark.skipif(BACKEND == "torch", reason="Keras refuses steps_per_execution on torch")


class Dot(keras.losses.Loss):
    """Σ gradients · outputs: linear, so the gradients are exactly the targets."""

    def __init__(self):
        super().__init__(reduction="sum")

    def call(self, y_true, y_pred):
        return keras.ops.sum(keras.ops.cast(y_true, y_pred.dtype) * y_pred, axis=-1)


def summed(layer, x):
    return keras.layers.Lambda(lambda v: keras.ops.sum(v, axis=1), output_shape=(DIM,))(layer(x))


def model_of(optimizer, layer=None, **how):
    layer = layer or hotrow.keras.Embedding(None, DIM, seed=5)
    ids = keras.Input((3,))
    model = hotrow.keras.Model(ids, summed(layer, ids))
    model.compile(optimizer, Dot(), **how)
    return model, layer.table


def by_hand(optimizer, steps, seed=5):
    """The table that these steps make: (ids (n, 3), gradients (n, DIM), learning rate)."""
    table = hotrow.Table(DIM, optimizer=optimizer, seed=seed)
    for ids, gradients, rate in steps:
        every = np.repeat(gradients[:, None], ids.shape[1], axis=1)
        table.update(table.find(ids, grow=True), every, learning_rate=rate)
    return table


def batches(size=4, x=X, g=G, rate=None):
    return [(x[i : i + size], g[i : i + size], rate) for i in range(0, len(x), size)]


def fit(model, x=X, y=G, **how):
    return model.fit(x, y, batch_size=4, shuffle=False, verbose=0, **how)


def assert_same(table, expected):
    assert table.steps == expected.steps
    assert sorted(table.ids().tolist()) == sorted(expected.ids().tolist())
    np.testing.assert_array_equal(table.lookup(expected.ids(), unknown="error"), expected.vectors())


# --- one step --------------------------------------------------------------------------------------------------


HOW = [
    {},
    {"run_eagerly": True},
    pytest.param({"steps_per_execution": 2}, marks=not_on_torch),
    pytest.param({"steps_per_execution": 3}, marks=not_on_torch),  # 8 batches: the last execution has two
]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_eight_batches_are_eight_steps_of_the_table(how):
    model, table = model_of(keras.optimizers.Adam(RATE), **how)
    fit(model)
    assert_same(table, by_hand(hotrow.Adam(RATE, epsilon=1e-7), batches()))


@pytest.mark.parametrize("how", HOW, ids=str)
def test_a_layer_shared_by_two_inputs_makes_one_step_of_both(how):
    layer = hotrow.keras.Embedding(None, DIM, seed=5)
    a, b = keras.Input((3,)), keras.Input((3,))
    model = hotrow.keras.Model([a, b], summed(layer, a) + summed(layer, b))
    model.compile(keras.optimizers.Adam(RATE), Dot(), **how)
    fit(model, [X, X[::-1]])
    both = np.concatenate([X, X[::-1]], axis=1)
    assert_same(layer.table, by_hand(hotrow.Adam(RATE, epsilon=1e-7), batches(x=both)))


@pytest.mark.parametrize("how", HOW, ids=str)
def test_two_towers_that_share_a_layer_and_nothing_else_make_one_step(how):
    layer = hotrow.keras.Embedding(None, DIM, seed=5)
    a, b = keras.Input((3,)), keras.Input((3,))
    model = hotrow.keras.Model([a, b], [summed(layer, a), summed(layer, b)])
    model.compile(keras.optimizers.Adam(RATE), [Dot(), Dot()], **how)
    fit(model, [X, X[::-1]], [G, G])
    both = np.concatenate([X, X[::-1]], axis=1)
    assert_same(layer.table, by_hand(hotrow.Adam(RATE, epsilon=1e-7), batches(x=both)))


@pytest.mark.parametrize("how", HOW, ids=str)
def test_several_layers_on_one_table_make_one_step(how):
    first = hotrow.keras.Embedding(None, DIM, seed=5)
    second = hotrow.keras.Embedding(None, DIM, table=first.table)
    a, b = keras.Input((3,)), keras.Input((3,))
    model = hotrow.keras.Model([a, b], [summed(first, a), summed(second, b)])
    model.compile(keras.optimizers.Adam(RATE), [Dot(), Dot()], **how)
    fit(model, [X, X[::-1]], [G, G])
    both = np.concatenate([X, X[::-1]], axis=1)
    assert_same(first.table, by_hand(hotrow.Adam(RATE, epsilon=1e-7), batches(x=both)))


def test_two_tables_in_one_model_step_each_for_itself():
    layers = [hotrow.keras.Embedding(None, DIM, seed=s) for s in (5, 6)]
    a, b = keras.Input((3,)), keras.Input((3,))
    model = hotrow.keras.Model([a, b], summed(layers[0], a) + summed(layers[1], b))
    model.compile(keras.optimizers.Adam(RATE), Dot())
    words = np.array([f"user {i}" for i in X.ravel()], object).reshape(X.shape)
    fit(model, [X, words])
    assert_same(layers[0].table, by_hand(hotrow.Adam(RATE, epsilon=1e-7), batches()))
    expected = by_hand(hotrow.Adam(RATE, epsilon=1e-7), batches(x=words), seed=6)
    np.testing.assert_array_equal(layers[1].table.lookup(expected.ids()), expected.vectors())


@pytest.mark.parametrize("how", HOW[:3], ids=str)
@pytest.mark.parametrize("own", [None, hotrow.SGD(0.5)], ids=["followed", "its own optimizer"])
def test_four_accumulated_batches_are_one_step_of_their_mean(how, own):
    layer = hotrow.keras.Embedding(None, DIM, seed=5, optimizer=own)
    model, table = model_of(SGD(0.5, gradient_accumulation_steps=4), layer, **how)
    fit(model)
    assert_same(table, by_hand(hotrow.SGD(0.5), batches(16, g=G / 4)))


def test_accumulation_goes_on_in_the_next_epoch():
    model, table = model_of(SGD(0.5, gradient_accumulation_steps=3))
    model.fit(X, G, batch_size=4, shuffle=False, verbose=0, epochs=3)  # 24 batches
    x, g = np.tile(X, (3, 1)), np.tile(G, (3, 1))
    expected = by_hand(hotrow.SGD(0.5), batches(12, x, g / np.float32(3)))
    assert table.steps == 8
    np.testing.assert_allclose(table.lookup(expected.ids()), expected.vectors(), atol=1e-6)


def test_a_plain_keras_model_accumulates_for_a_layer_with_its_own_optimizer():
    layer = hotrow.keras.Embedding(9, DIM, seed=5, optimizer=hotrow.SGD(0.5))
    ids = keras.Input((3,), dtype="int32")
    model = keras.Model(ids, summed(layer, ids))
    model.compile(SGD(0.1, gradient_accumulation_steps=4), Dot())
    x = (X - 2**40).astype(np.int32)
    fit(model, x)
    assert_same(layer.table, by_hand(hotrow.SGD(0.5), batches(16, x, G / 4)))


def test_models_that_share_a_table_step_in_turns():
    first = hotrow.keras.Embedding(None, DIM, seed=5, optimizer=hotrow.Adam(RATE))
    second = hotrow.keras.Embedding(None, DIM, table=first.table)
    (a, table), (b, _) = (model_of(SGD(0.1), layer) for layer in (first, second))
    steps = []
    for i in range(0, 32, 8):
        for model, j in ((a, i), (b, i + 4)):
            model.train_on_batch(X[j : j + 4], G[j : j + 4])
            steps.append((X[j : j + 4], G[j : j + 4], None))
    assert_same(table, by_hand(hotrow.Adam(RATE), steps))


def test_two_optimizers_in_turns_are_refused():
    layer = hotrow.keras.Embedding(None, DIM)
    (a, _), (b, _) = (model_of(keras.optimizers.Adam(0.1), layer) for _ in range(2))
    b.train_on_batch(X, G)
    with pytest.raises(hotrow.errors.ArgumentError, match="another model's Adam, and can't go back"):
        a.train_on_batch(X, G)


def test_a_model_inside_a_model_in_inference_mode_trains_as_keras_trains_it():
    layer = hotrow.keras.Embedding(None, DIM, seed=5)
    ids = keras.Input((3,))
    inner = hotrow.keras.Model(ids, summed(layer, ids))
    outer_ids = keras.Input((3,))
    model = hotrow.keras.Model(outer_ids, inner(outer_ids, training=False))
    model.compile(keras.optimizers.Adam(RATE), Dot())
    fit(model)
    assert_same(layer.table, by_hand(hotrow.Adam(RATE, epsilon=1e-7), batches()))


# --- no step ---------------------------------------------------------------------------------------------------


def stray(model, x, training=True):
    """Take gradients, for no step."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = keras.ops.sum(model(x, training=training))
        tape.gradient(loss, [v.value for v in model.trainable_variables])
    elif BACKEND == "jax":
        import jax

        variables = [v.value for v in model.trainable_variables]
        gradients = jax.grad(lambda v: model.stateless_call(v, [], x, training=training)[0].sum())(variables)
        jax.block_until_ready(gradients)
    else:
        model(x, training=training).sum().backward()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("every", [None, 2])
def test_gradients_without_a_step_change_nothing_and_training_goes_on_like_a_twin(training, every):
    (a, ta), (b, tb) = (model_of(SGD(0.1, momentum=0.9, gradient_accumulation_steps=every)) for _ in range(2))
    fit(a)
    fit(b)
    before = ta.lookup(X)
    stray(a, X[:4], training)
    stray(a, X[4:8], training)
    assert len(Stage.of(ta).parts) == 2
    np.testing.assert_array_equal(ta.lookup(X), before)
    if every:  # nobody can tell a stray gradient from a micro-step, but by the step's value
        return
    fit(a)
    fit(b)
    assert_same(ta, tb)


def test_many_gradients_without_a_step_hold_little_memory():
    model, table = model_of(SGD(0.1))
    fit(model)
    for i in range(80):
        stray(model, X[i % 8 : i % 8 + 4])
    assert len(Stage.of(table).parts) <= 64
    fit(model)
    assert table.steps == 16
    assert not Stage.of(table).parts


def test_a_frozen_layer_moves_no_row_and_gives_none():
    layer = hotrow.keras.Embedding(None, DIM, seed=5, optimizer=hotrow.Adam(RATE))
    ids = keras.Input((3,))
    model = hotrow.keras.Model(ids, keras.layers.Dense(DIM)(summed(layer, ids)))
    model.compile(SGD(0.1), Dot())
    fit(model, X[:8], G[:8])
    before = layer.table.vectors()
    layer.trainable = False
    model.compile(SGD(0.1), Dot())
    fit(model)
    assert layer.table.steps == 2
    np.testing.assert_array_equal(layer.table.vectors(), before)
    layer.trainable = True
    model.compile(SGD(0.1), Dot())
    fit(model)
    assert layer.table.steps == 10


def test_evaluate_and_predict_and_validation_give_no_row():
    model, table = model_of(SGD(0.1))
    fit(model, X[:8], G[:8], validation_data=(X + 100, G))
    model.evaluate(X + 200, G, verbose=0)
    model.predict(X + 300, verbose=0)
    assert sorted(table.ids()) == sorted(np.unique(X[:8]))


# --- loss scales -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hotrow", "keras"])
def test_mixed_bfloat16_trains_as_float32_up_to_rounding(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, layer = linear_net(kind, SGD(0.01))
    fit(model, X_SMALL)
    assert layer.table.steps == 8
    np.testing.assert_allclose(layer.table.lookup(range(9)), expected_net(8), rtol=2e-2, atol=2e-3)


X_SMALL = (X - 2**40).astype(np.int32)


def linear_net(kind, optimizer, seed=5, gain=1.0):
    layer = hotrow.keras.Embedding(9, DIM, seed=seed, optimizer=None if kind == "hotrow" else hotrow.SGD(0.01))
    ids = keras.Input((3,), dtype="int32")
    total = keras.layers.Lambda(lambda v: gain * keras.ops.sum(v, axis=1), output_shape=(DIM,))(layer(ids))
    model = (hotrow.keras if kind == "hotrow" else keras).Model(ids, total)
    model.compile(optimizer, Dot())
    return model, layer


def expected_net(n, rate=0.01):
    return by_hand(hotrow.SGD(rate), batches(x=X_SMALL)[:n]).lookup(range(9))


class Steps(keras.callbacks.Callback):
    """Which batches the optimizer stepped on, by its own count."""

    def __init__(self):
        super().__init__()
        self.stepped, self.count = [], 0

    def on_train_batch_end(self, batch, logs=None):
        optimizer = self.model.optimizer
        count = int(keras.ops.convert_to_numpy(getattr(optimizer, "inner_optimizer", optimizer)._iterations.value))
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
            count = int(getattr(optimizer, "inner_optimizer", optimizer)._iterations.value)
        if count > self.count:
            self.stepped.append(batch)
        self.count = count


@pytest.mark.parametrize("kind", ["hotrow", "keras"])
@pytest.mark.parametrize("every", [None, 2])
def test_mixed_float16_takes_real_steps_only_and_their_gradients(kind, every):
    keras.config.set_dtype_policy("mixed_float16")
    inner = SGD(0.01, gradient_accumulation_steps=every)
    model, layer = linear_net(kind, keras.optimizers.LossScaleOptimizer(inner, 2.0**18, 3))
    steps = Steps()
    x, g = np.tile(X_SMALL, (3, 1)), np.tile(G, (3, 1))
    fit(model, x, g, callbacks=[steps])
    assert 0 < len(steps.stepped) < 24, "some steps must overflow for this test to say something"
    taken = [batches(x=x, g=g)[i] for i in steps.stepped]
    if every:
        pairs = [taken[i : i + 2] for i in range(0, len(taken) - 1, 2)]
        taken = [tuple(np.concatenate([a[i], b[i]]) for i in (0, 1)) for a, b in pairs]
        taken = [(ids, gradients / 2, None) for ids, gradients in taken]
    expected = by_hand(hotrow.SGD(0.01), taken)
    first = hotrow.Table(DIM, seed=5).lookup(range(9))
    assert layer.table.steps == expected.steps
    moved = expected.lookup(range(9)) - first
    np.testing.assert_allclose(layer.table.lookup(range(9)) - first, moved, rtol=1e-2, atol=1e-2 * np.abs(moved).max())


def test_mixed_float16_without_an_overflow_is_scaled_by_itself():
    keras.config.set_dtype_policy("mixed_float16")
    model, layer = linear_net("hotrow", SGD(0.01))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    model.optimizer.initial_scale = 64.0
    fit(model, X_SMALL)
    assert layer.table.steps == 8
    np.testing.assert_allclose(layer.table.lookup(range(9)), expected_net(8), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("kind", "factor"), [("hotrow", 1000.0), ("hotrow", 0.25), ("keras", 1024.0)])
def test_a_plain_optimizers_loss_scale_factor_is_taken_out_again(kind, factor):
    model, layer = linear_net(kind, SGD(0.01, loss_scale_factor=factor))
    fit(model, X_SMALL)
    assert layer.table.steps == 8
    np.testing.assert_allclose(layer.table.lookup(range(9)), expected_net(8), rtol=1e-5, atol=1e-7)


# --- learning rates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW, ids=str)
def test_each_steps_rate_is_the_schedules(how):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)  # exact powers of two
    model, table = model_of(SGD(schedule), **how)
    fit(model)
    steps = [(x, g, 0.5 * 0.5**i) for i, (x, g, _) in enumerate(batches())]
    assert_same(table, by_hand(hotrow.SGD(0.5), steps))


def test_an_accumulated_steps_rate_is_that_of_its_last_batch():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    model, table = model_of(SGD(schedule, gradient_accumulation_steps=2))
    fit(model)
    steps = [(x, g, 0.5 * 0.5 ** (2 * i + 1)) for i, (x, g, _) in enumerate(batches(8, g=G / 2))]
    assert_same(table, by_hand(hotrow.SGD(0.5), steps))


def test_a_callable_rate_is_asked():
    model, table = model_of(SGD(lambda: 0.25))
    if BACKEND == "jax":
        assert model.optimizer.learning_rate == 0.25
    fit(model)
    assert_same(table, by_hand(hotrow.SGD(0.25), batches()))


def test_a_rate_that_a_callback_assigns_is_the_next_steps():
    model, table = model_of(SGD(1.0))
    model.fit(
        X, G, batch_size=16, shuffle=False, verbose=0, epochs=3,
        callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.5**epoch)],
    )  # fmt: skip
    steps = [(x, g, 0.5**epoch) for epoch in range(3) for x, g, _ in batches(16)]
    assert_same(table, by_hand(hotrow.SGD(0.5), steps))


def test_reduce_on_plateau_takes_effect():
    model, table = model_of(SGD(1.0))
    reduce = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=1e9)
    model.fit(X, G, batch_size=16, shuffle=False, verbose=0, epochs=3, callbacks=[reduce])
    steps = [(x, g, rate) for rate in (1.0, 1.0, 0.5) for x, g, _ in batches(16)]  # its first epoch is the measure
    assert_same(table, by_hand(hotrow.SGD(0.5), steps))


@pytest.mark.parametrize("training_rate", [0.0])
def test_at_a_rate_of_zero_the_slots_go_on(training_rate):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [training_rate, 0.5])
    model, table = model_of(keras.optimizers.Adam(schedule))
    fit(model)
    steps = [(x, g, 0.0 if i <= 3 else 0.5) for i, (x, g, _) in enumerate(batches())]
    assert_same(table, by_hand(hotrow.Adam(0.5, epsilon=1e-7), steps))


def test_ftrl_with_l1_steps_every_time():
    model, table = model_of(keras.optimizers.Ftrl(0.125, l1_regularization_strength=1e6))
    fit(model)
    assert table.steps == 8
    assert not table.vectors().any()


# --- numbers of the optimizer that come late ---------------------------------------------------------------------


class Late(hotrow.keras.Model):
    """A model whose layers are built by its first batch."""

    def __init__(self, **how):
        super().__init__()
        self.embedding = hotrow.keras.Embedding(None, DIM, seed=5, **how)

    def call(self, x):
        return keras.ops.sum(self.embedding(x), axis=1)


@pytest.mark.parametrize("late", [False, True], ids=["functional", "subclassed"])
@pytest.mark.parametrize("names", [["embedding"], ["dense"]])
def test_exclude_from_weight_decay_is_honoured(late, names):
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=names)
    model = Late() if late else None
    if late:
        model.compile(optimizer, Dot())
        table = model.embedding.table
    else:
        model, table = model_of(optimizer)
    fit(model)
    decay = 0.0 if names == ["embedding"] else 0.5
    assert_same(table, by_hand(hotrow.AdamW(RATE, weight_decay=decay, epsilon=1e-7), batches()))


def test_exclusion_by_the_layers_own_variable_after_compile_is_honoured():
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=0.5)
    model, table = model_of(optimizer)
    optimizer.exclude_from_weight_decay(var_list=model.trainable_variables)
    fit(model)
    assert_same(table, by_hand(hotrow.AdamW(RATE, weight_decay=0.0, epsilon=1e-7), batches()))


def test_exclusion_is_honoured_in_the_layers_own_optimizer():
    own = keras.optimizers.AdamW(RATE, weight_decay=0.5)
    own.exclude_from_weight_decay(var_names=["embeddings"])
    layer = hotrow.keras.Embedding(9, DIM, seed=5, optimizer=own)
    ids = keras.Input((3,), dtype="int32")
    model = keras.Model(ids, summed(layer, ids))
    model.compile("sgd", Dot())
    fit(model, X_SMALL)
    assert_same(layer.table, by_hand(hotrow.AdamW(RATE, weight_decay=0.0, epsilon=1e-7), batches(x=X_SMALL)))


def test_numbers_of_the_optimizer_may_change_until_the_model_trains():
    model, table = model_of(keras.optimizers.Adam(RATE))
    model.optimizer.beta_1, model.optimizer.clipvalue = 0.5, 2.0
    fit(model)
    expected = hotrow.Table(DIM, optimizer=hotrow.Adam(RATE, beta_1=0.5, epsilon=1e-7), seed=5)
    for ids, gradients, _ in batches():
        batch = expected.find(ids, grow=True)
        merged = batch.merge(np.repeat(gradients[:, None], 3, axis=1).reshape(-1, DIM))
        expected.update(batch.unrepeated(), np.clip(merged, -2, 2))
    assert_same(table, expected)


def test_a_table_that_was_saved_under_another_optimizer_follows_the_compiled_one(tmp_path):
    model, _ = model_of(SGD(0.1))
    fit(model)
    model.save_weights(tmp_path / "a.weights.h5")
    other, table = model_of(keras.optimizers.Adam(RATE))
    other.load_weights(tmp_path / "a.weights.h5")
    fit(other)
    assert isinstance(table.optimizer, hotrow.Adam)
    assert table.steps == 8


def test_a_table_that_was_restored_by_hand_follows_the_compiled_optimizer():
    model, table = model_of(keras.optimizers.Adam(RATE))
    fit(model, X[:8], G[:8])
    table.restore(by_hand(hotrow.SGD(0.5), batches()[:3]).state())
    fit(model)
    assert isinstance(table.optimizer, hotrow.Adam)
    assert table.steps == 8


# --- reading in between ------------------------------------------------------------------------------------------


class Reads(keras.callbacks.Callback):
    def __init__(self, table, steps):
        super().__init__()
        self.table, self.expected = table, steps
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((self.table.steps, len(self.table), self.table.lookup(X), self.table.stats()["steps"]))


@pytest.mark.parametrize("how", HOW[:2], ids=str)
def test_a_callback_reads_the_table_as_it_is_after_each_batch(how):
    model, table = model_of(SGD(0.5, momentum=0.5), **how)
    reads = Reads(table, batches())
    fit(model, callbacks=[reads])
    for i, (steps, length, vectors, also) in enumerate(reads.seen):
        expected = by_hand(hotrow.SGD(0.5, momentum=0.5), batches()[: i + 1])
        assert (steps, length, also) == (i + 1, len(expected), i + 1)
        np.testing.assert_array_equal(vectors, expected.lookup(X))


def test_another_thread_sees_what_was_committed():
    """On JAX a step's result is in the trainer's hands, and only its own thread can ask for it."""
    model, table = model_of(SGD(0.5))
    seen = []

    class Ask(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            thread = threading.Thread(target=lambda: seen.append((table.steps, len(table))))
            thread.start()
            thread.join(60)

    fit(model, callbacks=[Ask()])
    behind = 1 if BACKEND == "jax" else 0
    assert [steps for steps, _ in seen] == [i + 1 - behind for i in range(8)]
    assert_same(table, by_hand(hotrow.SGD(0.5), batches()))


def test_another_thread_reads_while_the_model_trains():
    model, table = model_of(SGD(0.5))
    stop, errors, seen = threading.Event(), [], set()

    def read():
        while not stop.is_set():
            try:
                seen.add(table.steps)
                table.lookup(X)
                len(table)
            except Exception as error:
                errors.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    model.fit(X, G, batch_size=4, shuffle=False, verbose=0, epochs=10)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert not errors
    assert_same(table, by_hand(hotrow.SGD(0.5), batches() * 10))
