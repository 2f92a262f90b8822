"""Training loops of one's own: the table steps when the optimizer does, on what it stepped on."""

from __future__ import annotations

import importlib

import keras
import numpy as np
import pytest

import hotrow
from hotrow.errors import ArgumentError

BACKEND = keras.backend.backend()
DIM = 4
RATE = 2.0**-7  # exact in float32
RNG = np.random.default_rng(4)
BIG = RNG.integers(-(2**62), 2**62, 9)
SMALL = np.arange(9)
WORDS = np.array([f"user {i} é" for i in range(9)], object)
AT = RNG.integers(0, 9, (8, 4, 3))  # 8 batches of 4 samples of 3 ids
G = RNG.integers(-8, 9, (8, 4, DIM)).astype(np.float32)  # the gradient of each sample's sum
KINDS = pytest.mark.parametrize("pool", [SMALL, BIG, WORDS], ids=["small", "64 bits", "strings"])

tensorflow, jax, torch = (
    pytest.mark.skipif(name != BACKEND, reason=f"a loop in {name}") for name in ("tensorflow", "jax", "torch")
)


def model_of(kind="hotrow", dtype=None, **layer):
    layer = hotrow.keras.Embedding(layer.pop("input_dim", None), DIM, seed=5, **layer)
    ids = keras.Input((3,), dtype=dtype)
    total = keras.layers.Lambda(lambda v: keras.ops.sum(v, axis=1), output_shape=(DIM,))(layer(ids))
    return (hotrow.keras if kind == "hotrow" else keras).Model(ids, total), layer


def by_hand(optimizer, pool, steps=range(8), g=G):
    """The table that these batches make; a tuple of batches is one step of all."""
    table = hotrow.Table(DIM, optimizer=optimizer, seed=5)
    for some in steps:
        some = list(some) if isinstance(some, tuple) else [some]
        ids, gradients = np.concatenate(pool[AT[some]]), np.concatenate(g[some])
        table.update(table.find(ids, grow=True), np.repeat(gradients[:, None], 3, axis=1))
    return table


def assert_same(table, expected, tmp_path=None):
    """Equal to the bit, whatever is read first."""
    assert len(table) == len(expected)
    np.testing.assert_array_equal(table.lookup(expected.ids(), unknown="error"), expected.vectors())
    assert table.steps == expected.steps
    if tmp_path is not None:
        table.save(tmp_path / "table")
        np.testing.assert_array_equal(hotrow.load(tmp_path / "table").lookup(expected.ids()), expected.vectors())


def loss_of(model, out, g):
    """Linear in the outputs, with these gradients."""
    return keras.ops.sum(out * keras.ops.convert_to_tensor(g)) + sum(model.losses)


ADAM, OURS = lambda: keras.optimizers.Adam(RATE), hotrow.Adam(RATE, epsilon=1e-7)


# --- TensorFlow ------------------------------------------------------------------------------------------------


def tf_step(model, optimizer, scaled=False):
    tf = importlib.import_module("tensorflow")

    def step(ids, g):
        with tf.GradientTape() as tape:
            loss = loss_of(model, model(ids, training=True), g)
            loss = optimizer.scale_loss(loss) if scaled else loss
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    return step


@tensorflow
@KINDS
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "tf.function"])
def test_a_gradient_tape_trains_a_hotrow_model_on_ids_as_they_are(pool, graph, tmp_path):
    tf = importlib.import_module("tensorflow")
    model, layer = model_of()
    optimizer = ADAM()
    model.compile(optimizer)
    step = tf_step(model, optimizer)
    step = tf.function(step) if graph else step
    for at, g in zip(AT, G, strict=True):
        step(tf.constant(pool[at].tolist() if pool is WORDS else pool[at]), tf.constant(g))
    assert_same(layer.table, by_hand(OURS, pool), tmp_path)


@tensorflow
@KINDS
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "tf.function"])
@pytest.mark.parametrize("how", ["own", "follow"])
def test_a_gradient_tape_trains_a_plain_model(pool, graph, how):
    tf = importlib.import_module("tensorflow")
    dtype = "string" if pool is WORDS else "int64"
    model, layer = model_of("keras", dtype, **({"optimizer": OURS} if how == "own" else {}))
    optimizer = ADAM()
    if how == "follow":
        layer.follow(optimizer)
    step = tf_step(model, optimizer)
    step = tf.function(step) if graph else step
    for at, g in zip(AT, G, strict=True):
        step(tf.constant(pool[at].tolist() if pool is WORDS else pool[at]), tf.constant(g))
    assert_same(layer.table, by_hand(OURS, pool))


@tensorflow
def test_the_rate_that_is_assigned_is_the_next_steps_in_a_graph():
    tf = importlib.import_module("tensorflow")
    model, layer = model_of("keras", "int64")
    optimizer = keras.optimizers.SGD(0.5)
    layer.follow(optimizer)
    step = tf.function(tf_step(model, optimizer))
    expected = hotrow.Table(DIM, seed=5)
    expected.set_optimizer(hotrow.SGD(0.5))
    for at, g, rate in zip(AT, G, 0.5 ** np.arange(8), strict=True):
        optimizer.learning_rate = rate
        step(tf.constant(SMALL[at]), tf.constant(g))
        expected.update(expected.find(at, grow=True), np.repeat(g[:, None], 3, axis=1), learning_rate=rate)
    assert_same(layer.table, expected)


@tensorflow
def test_gradients_that_a_loop_adds_up_are_one_step():
    tf = importlib.import_module("tensorflow")
    model, layer = model_of("keras", "int64", optimizer=hotrow.Adam(RATE))
    optimizer = keras.optimizers.SGD(0.1)
    variables = model.trainable_variables
    for i in range(0, 8, 2):
        total = None
        for j in (i, i + 1):
            with tf.GradientTape() as tape:
                loss = loss_of(model, model(tf.constant(SMALL[AT[j]]), training=True), G[j])
            gradients = tape.gradient(loss, variables)
            total = gradients if total is None else [a + b for a, b in zip(total, gradients, strict=True)]
        optimizer.apply_gradients(zip(total, variables, strict=True))
    assert_same(layer.table, by_hand(hotrow.Adam(RATE), SMALL, [(0, 1), (2, 3), (4, 5), (6, 7)]))


@tensorflow
def test_of_two_tapes_that_which_was_applied_counts():
    tf = importlib.import_module("tensorflow")
    model, layer = model_of()
    optimizer = ADAM()
    model.compile(optimizer)
    variables = model.trainable_variables
    for i in range(0, 8, 2):
        gradients = []
        for j in (i, i + 1):
            with tf.GradientTape() as tape:
                loss = loss_of(model, model(SMALL[AT[j]], training=True), G[j])
            gradients.append(tape.gradient(loss, variables))
        optimizer.apply_gradients(zip(gradients[0], variables, strict=True))
    expected = by_hand(OURS, SMALL, [0, 2, 4, 6])
    np.testing.assert_array_equal(layer.table.lookup(expected.ids()), expected.vectors())
    assert layer.table.steps == 4


@tensorflow
def test_a_persistent_tape_may_be_asked_twice():
    tf = importlib.import_module("tensorflow")
    model, layer = model_of()
    optimizer = ADAM()
    model.compile(optimizer)
    variables = model.trainable_variables
    for i in range(8):
        with tf.GradientTape(persistent=True) as tape:
            out = model(SMALL[AT[i]], training=True)
            losses = [loss_of(model, out, -G[i]), loss_of(model, out, G[i])]
        gradients = [tape.gradient(loss, variables) for loss in losses]
        optimizer.apply_gradients(zip(gradients[1], variables, strict=True))
    assert_same(layer.table, by_hand(OURS, SMALL))


# --- torch -----------------------------------------------------------------------------------------------------


@torch
@KINDS
def test_a_torch_loop_with_a_keras_optimizer_trains_a_hotrow_model(pool, tmp_path):
    model, layer = model_of()
    optimizer = ADAM()
    model.compile(optimizer)
    for at, g in zip(AT, G, strict=True):
        model.zero_grad()
        loss_of(model, model(pool[at], training=True), g).backward()
        optimizer.apply([v.value.grad for v in model.trainable_variables], model.trainable_variables)
    assert_same(layer.table, by_hand(OURS, pool), tmp_path)


@torch
@pytest.mark.parametrize("pool", [SMALL, BIG], ids=["small", "64 bits"])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("none", [True, False], ids=["grad=None", "grad=0"])
def test_a_torch_loop_with_torchs_own_optimizer_trains_a_layer_that_has_its_own(pool, kind, none):
    torch = importlib.import_module("torch")
    model, layer = model_of("keras", "int64", optimizer=OURS)
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1)
    for at, g in zip(AT, G, strict=True):
        optimizer.zero_grad(set_to_none=none)
        loss_of(model, model(torch.tensor(pool[at]), training=True), g).backward()
        optimizer.step()
    assert_same(layer.table, by_hand(OURS, pool))


@torch
@pytest.mark.parametrize("by", ["torch", "keras"])
def test_gradients_that_torch_adds_up_are_one_step(by):
    torch = importlib.import_module("torch")
    model, layer = model_of("keras", "int64", optimizer=OURS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1) if by == "torch" else keras.optimizers.SGD(0.1)
    for i in range(0, 8, 2):
        for j in (i, i + 1):
            loss_of(model, model(torch.tensor(AT[j]), training=True), G[j]).backward()
        if by == "torch":
            optimizer.step()
        else:
            optimizer.apply([v.value.grad for v in model.trainable_variables], model.trainable_variables)
        model.zero_grad()
    assert_same(layer.table, by_hand(OURS, SMALL, [(0, 1), (2, 3), (4, 5), (6, 7)]))


@torch
@pytest.mark.parametrize("by", ["torch", "keras"])
def test_gradients_that_torch_has_zeroed_are_for_no_step(by):
    torch = importlib.import_module("torch")
    model, layer = model_of("keras", "int64", optimizer=OURS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1) if by == "torch" else keras.optimizers.SGD(0.1)
    for i in range(0, 8, 2):
        for j in (i, i + 1):
            model.zero_grad()
            loss_of(model, model(torch.tensor(AT[j]), training=True), G[j]).backward()
        if by == "torch":
            optimizer.step()
        else:
            optimizer.apply([v.value.grad for v in model.trainable_variables], model.trainable_variables)
    expected = by_hand(OURS, SMALL, [1, 3, 5, 7])
    np.testing.assert_array_equal(layer.table.lookup(expected.ids()), expected.vectors())
    assert layer.table.steps == 4


@torch
def test_two_losses_of_one_forward_pass_are_one_step():
    torch = importlib.import_module("torch")
    model, layer = model_of("keras", "int64", optimizer=OURS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for at, g in zip(AT, G, strict=True):
        optimizer.zero_grad()
        out = model(torch.tensor(at), training=True)
        loss_of(model, out, g / 2).backward(retain_graph=True)
        loss_of(model, out, g / 2).backward()
        optimizer.step()
    assert_same(layer.table, by_hand(OURS, SMALL))


# --- JAX -------------------------------------------------------------------------------------------------------


def jax_loop(model, optimizer, ids, g, steps=range(8), jit=True, joined=1):
    """A loop of `stateless_call` and `stateless_apply`; its variables at the end are the model's again."""
    jax = importlib.import_module("jax")
    optimizer.build(model.trainable_variables)

    def loss(trainable, ids, g):
        out, _, losses = model.stateless_call(trainable, [], ids, training=True, return_losses=True)
        return (out * g).sum() + sum(losses)

    def step(trainable, state, ids, g):
        gradients = [jax.grad(loss)(trainable, ids[k], g[k]) for k in range(joined)]
        total = gradients[0] if joined == 1 else jax.tree.map(lambda *a: sum(a), *gradients)
        return optimizer.stateless_apply(state, total, trainable)

    step = jax.jit(step) if jit else step
    trainable = [v.value for v in model.trainable_variables]
    state = [v.value for v in optimizer.variables]
    for i in steps:
        batch = list(range(i, i + joined))
        trainable, state = step(trainable, state, ids[batch], g[batch])
    for variable, value in zip(model.trainable_variables, trainable, strict=True):
        variable.assign(value)


@jax
@pytest.mark.parametrize("jit", [True, False], ids=["jit", "eager"])
@pytest.mark.parametrize("kind", ["hotrow", "keras"])
def test_a_jax_loop_trains(jit, kind, tmp_path):
    model, layer = model_of(kind, "int32", input_dim=9)
    optimizer = ADAM()
    if kind == "hotrow":
        model.compile(optimizer)
    else:
        layer.follow(optimizer)
    jax_loop(model, optimizer, AT.astype(np.int32), G, jit=jit)
    assert_same(layer.table, by_hand(OURS, SMALL), tmp_path)


@jax
@KINDS
def test_a_jax_loop_that_is_not_compiled_takes_ids_as_they_are(pool):
    model, layer = model_of()
    optimizer = ADAM()
    model.compile(optimizer)
    jax_loop(model, optimizer, pool[AT], G, jit=False)
    assert_same(layer.table, by_hand(OURS, pool))


@jax
def test_gradients_that_a_jax_loop_adds_up_are_one_step():
    model, layer = model_of("keras", "int32", input_dim=9, optimizer=OURS)
    jax_loop(model, keras.optimizers.SGD(0.1), AT.astype(np.int32), G, range(0, 8, 2), joined=2)
    assert_same(layer.table, by_hand(OURS, SMALL, [(0, 1), (2, 3), (4, 5), (6, 7)]))


@jax
def test_a_jax_loop_reads_the_rate_of_each_step():
    jax = importlib.import_module("jax")
    model, layer = model_of("keras", "int32", input_dim=9)
    optimizer = keras.optimizers.SGD(0.5)
    layer.follow(optimizer)
    optimizer.build(model.trainable_variables)

    @jax.jit
    def step(trainable, state, ids, g):
        gradients = jax.grad(lambda t: (model.stateless_call(t, [], ids, training=True)[0] * g).sum())(trainable)
        return optimizer.stateless_apply(state, gradients, trainable)

    trainable = [v.value for v in model.trainable_variables]
    expected = hotrow.Table(DIM, optimizer=hotrow.SGD(0.5), seed=5)
    for at, g, rate in zip(AT, G, 0.5 ** np.arange(8), strict=True):
        jax.block_until_ready(trainable)
        optimizer.learning_rate = rate
        trainable, _ = step(trainable, [v.value for v in optimizer.variables], at.astype(np.int32), g)
        expected.update(expected.find(at, grow=True), np.repeat(g[:, None], 3, axis=1), learning_rate=rate)
    model.trainable_variables[0].assign(trainable[0])
    assert_same(layer.table, expected)


@jax
@pytest.mark.parametrize("gate", [True, False])
def test_no_layers_backward_goes_before_anothers_forward(gate):
    """XLA orders the host's calls by what they need of each other alone, and here they need nothing."""
    from hotrow.bridges import jax as bridge

    jax = importlib.import_module("jax")
    calls = []

    class Logged:
        def __init__(self, name):
            self.name = name

        def shapes(self, ids):
            return [(*ids[0], 2), ()]

        def pull(self, ids, hook):
            calls.append(f"{self.name} forward")
            return [np.ones((*ids.shape, 2), np.float32), np.float32(0)]

        def push(self, ids, *_, hooks):
            calls.append(f"{self.name} backward")
            return [np.float32(1)]

    def loss(hooks):
        outs = [bridge.lookup([np.arange(4)], [hooks[i]], -1.0, Logged(name)) for i, name in enumerate("AB")]
        total = (2 * outs[0][0]).sum() + (jax.numpy.tanh(outs[1][0]) ** 2).sum() + outs[0][1] + outs[1][1]
        return bridge.after_forward(total) if gate else total

    def body(hooks, _):
        value, gradients = jax.value_and_grad(loss)(hooks)
        return [a + b for a, b in zip(hooks, gradients, strict=True)], value

    jax.block_until_ready(jax.jit(lambda h: jax.lax.scan(body, h, None, length=2))([np.float32(0), np.float32(0)]))
    ordered = all(name.endswith("forward") == (i % 4 < 2) for i, name in enumerate(calls))
    assert len(calls) == 8
    assert ordered or not gate


@jax
def test_in_the_fit_of_a_plain_keras_model_a_table_can_not_follow():
    model, layer = model_of("keras", "int32", input_dim=9)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    layer.follow(model.optimizer)
    with pytest.raises(Exception, match=r"the host can't read the learning rate; expected hotrow.keras.Model"):
        model.fit(AT[0].astype(np.int32), G[0], verbose=0)


@jax
def test_a_schedule_is_refused_in_a_jax_loop():
    model, layer = model_of("keras", "int32", input_dim=9)
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9))
    layer.follow(optimizer)
    with pytest.raises(ArgumentError, match="on JAX the schedule of SGD can be read only in the train_step"):
        jax_loop(model, optimizer, AT.astype(np.int32), G)


# --- all of them -------------------------------------------------------------------------------------------------


def steps_of(model, optimizer, batches, weight=1.0, losses=True, training=True):
    """One loop for each backend: the loss of these batches, times `weight`, one step each."""
    if BACKEND == "jax":
        jax = importlib.import_module("jax")
        optimizer.build(model.trainable_variables)

        def loss(trainable, state, ids, g):
            out, _, own = model.stateless_call(trainable, [], ids, training=training, return_losses=True)
            total = ((out * g).sum() + (sum(own) if losses else 0.0)) * weight
            with keras.StatelessScope(state_mapping=zip(optimizer.variables, state, strict=True)):
                return optimizer.scale_loss(total)

        trainable, state = ([v.value for v in of] for of in (model.trainable_variables, optimizer.variables))
        for i in batches:
            gradients = jax.grad(loss)(trainable, state, AT[i].astype(np.int32), G[i])
            trainable, state = optimizer.stateless_apply(state, gradients, trainable)
        model.trainable_variables[0].assign(trainable[0])
        return
    for i in batches:
        if BACKEND == "torch":
            model.zero_grad()
            out = model(keras.ops.convert_to_tensor(AT[i].astype(np.int32)), training=training)
            total = loss_of(model, out, G[i]) if losses else keras.ops.sum(out * keras.ops.convert_to_tensor(G[i]))
            optimizer.scale_loss(total * weight).backward()
            gradients = [v.value.grad for v in model.trainable_variables]
        else:
            tf = importlib.import_module("tensorflow")
            with tf.GradientTape() as tape:
                out = model(keras.ops.convert_to_tensor(AT[i].astype(np.int32)), training=training)
                total = loss_of(model, out, G[i]) if losses else keras.ops.sum(out * G[i])
                total = optimizer.scale_loss(total * weight)
            gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)


@pytest.mark.parametrize("weight", [0.25, 3.0, 1.0])
@pytest.mark.parametrize("losses", [True, False], ids=["with model.losses", "without"])
@pytest.mark.parametrize("own", [{}, {"optimizer": hotrow.SGD(0.5)}], ids=["followed", "own"])
def test_a_loss_may_be_weighed_in_a_loop(weight, losses, own):
    model, layer = model_of("keras", "int32", input_dim=9, **own)
    optimizer = keras.optimizers.SGD(0.5)
    if not own:
        layer.follow(optimizer)
    steps_of(model, optimizer, range(8), weight, losses)
    assert_same(layer.table, by_hand(hotrow.SGD(0.5), SMALL, g=G * np.float32(weight)))


def test_a_scaled_loss_is_taken_out_again_in_a_loop():
    model, layer = model_of("keras", "int32", input_dim=9)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=1024.0)
    layer.follow(optimizer)
    optimizer.build(model.trainable_variables)
    steps_of(model, optimizer, range(8), weight=1.0)
    assert_same(layer.table, by_hand(hotrow.SGD(0.5), SMALL))


def test_a_scaled_loss_without_the_models_losses_is_refused():
    model, layer = model_of("keras", "int32", input_dim=9)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5))
    layer.follow(optimizer)
    with pytest.raises(Exception, match=r"optimizer.scale_loss\(loss \+ sum\(model.losses\)\)"):
        steps_of(model, optimizer, [0], losses=False)


def test_a_loop_in_inference_mode_trains_as_keras_trains_it():
    """`model(x, training=False)` says nothing of what the optimizer does."""
    model, layer = model_of("keras", "int32", input_dim=9, optimizer=OURS)
    steps_of(model, keras.optimizers.SGD(0.1), range(8), training=False)
    assert_same(layer.table, by_hand(OURS, SMALL))


@pytest.mark.skipif(BACKEND == "jax", reason="JAX's host can't ask for another model's state")
def test_models_that_share_a_table_step_in_turns():
    first, layer = model_of("keras", "int32", input_dim=9, optimizer=OURS)
    second, _ = model_of("keras", "int32", input_dim=9, table=layer.table)
    optimizers = [keras.optimizers.SGD(0.1) for _ in range(2)]
    for i in range(8):
        steps_of((first, second)[i % 2], optimizers[i % 2], [i])
    assert_same(layer.table, by_hand(OURS, SMALL))


def test_following_is_refused_where_the_layer_has_an_optimizer():
    layer = hotrow.keras.Embedding(9, DIM, optimizer=OURS)
    with pytest.raises(ArgumentError, match="has an optimizer of its own, Adam"):
        layer.follow(ADAM())


def test_nobody_trains_a_layer_that_was_told_of_no_optimizer():
    model, layer = model_of("keras", "int32", input_dim=9)
    with pytest.raises(Exception, match=r"or layer.follow\(optimizer\)"):
        steps_of(model, keras.optimizers.SGD(0.1), [0])
    assert layer.table.steps == 0
