"""`hotrow.keras.Embedding` ends where `keras.layers.Embedding` does, on the same backend; what can't is refused."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

import hotrow
from hotrow.errors import ArgumentError

BACKEND = keras.backend.backend()
V, DIM, N = 6, 4, 100  # ids, floats a vector, steps
RNG = np.random.default_rng(2)
W = RNG.normal(scale=0.5, size=(V, DIM)).astype(np.float32)
OPT = keras.optimizers

EVERY = np.stack([RNG.permutation(V) for _ in range(N)])  # each batch has every row once
SOME = RNG.integers(0, V, (N, V))  # some rows of a batch come twice, others not at all
Y = RNG.normal(size=(N, 1)).astype(np.float32)


def net(layer, model_class, optimizer, **how):
    """Vectors through one unit whose weights are known, so that gradients depend on everything before."""
    keras.utils.set_random_seed(3)
    ids = keras.Input((V,), dtype="int32")
    flat = keras.layers.Flatten()(layer(ids))
    model = model_class(ids, keras.layers.Dense(1, name="out")(flat))
    model.compile(optimizer, "mse", **how)
    return model


def both(make, x=EVERY, y=Y, own=(), theirs=None, **how):
    """Train both on the same, a sample a batch; return (our matrix, theirs), and the mean losses up to each batch."""
    ends, losses = [], []
    for embedding, model_class, optimizer in (
        (hotrow.keras.Embedding(V, DIM, weights=[W], **dict(own)), hotrow.keras.Model, make()),
        (keras.layers.Embedding(V, DIM, weights=[W], **dict(own)), keras.Model, (theirs or make)()),
    ):
        model = net(embedding, model_class, optimizer, **how)
        seen = Losses()
        model.fit(x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[seen])
        losses.append(seen.all)
        ends.append(np.asarray(keras.ops.convert_to_numpy(embedding.embeddings)))
    return ends, losses


class Losses(keras.callbacks.Callback):
    """The running mean of the loss after each batch."""

    def __init__(self):
        super().__init__()
        self.all = []

    def on_train_batch_end(self, batch, logs=None):
        self.all.append(float(logs["loss"]))


def assert_alike(ends, losses, tolerance=1e-5):
    ours, theirs = ends
    assert np.abs(theirs - W).max() > 1e-3, "the weights must move for this test to say something"
    np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=0)
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-5)


# TensorFlow and JAX run the same formulas of Keras, torch has its own of each optimizer; the rest is each one's.
SURROUNDED = {"SGD", "Adam", "weight decay", "clipvalue", "clipnorm", "accumulated", "schedule"}
formulas = pytest.mark.enough("tensorflow", "torch")

OPTIMIZERS = {
    "SGD": lambda: OPT.SGD(0.05),
    "momentum": lambda: OPT.SGD(0.005, momentum=0.9),
    "nesterov": lambda: OPT.SGD(0.005, momentum=0.9, nesterov=True),
    "RMSprop": lambda: OPT.RMSprop(0.003),
    "RMSprop centered": lambda: OPT.RMSprop(0.003, centered=True),
    "RMSprop momentum": lambda: OPT.RMSprop(0.002, momentum=0.5, rho=0.8),
    "Adagrad": lambda: OPT.Adagrad(0.05),
    "Adadelta": lambda: OPT.Adadelta(1.0, epsilon=1e-4),
    "Adam": lambda: OPT.Adam(0.01),
    "amsgrad": lambda: OPT.Adam(0.01, amsgrad=True, beta_1=0.8, epsilon=1e-4),
    "AdamW": lambda: OPT.AdamW(0.01, weight_decay=0.1),
    "Adamax": lambda: OPT.Adamax(0.01),
    "Nadam": lambda: OPT.Nadam(0.01),
    "Ftrl": lambda: OPT.Ftrl(0.05, l1_regularization_strength=0.01, l2_regularization_strength=0.01, beta=0.1),
    "Ftrl shrinkage": lambda: OPT.Ftrl(0.05, l2_shrinkage_regularization_strength=0.01, learning_rate_power=-0.4),
    "weight decay": lambda: OPT.SGD(0.05, weight_decay=0.1),
    "clipvalue": lambda: OPT.SGD(0.05, clipvalue=0.05),
    "clipnorm": lambda: OPT.Adam(0.01, clipnorm=0.1),
    "clipnorm 0": lambda: OPT.SGD(0.05, clipnorm=0.0),
    "clipvalue 0": lambda: OPT.SGD(0.05, clipvalue=0.0),
    "accumulated": lambda: OPT.Adam(0.01, gradient_accumulation_steps=3, clipnorm=0.1),
    "schedule": lambda: OPT.Adam(OPT.schedules.CosineDecay(0.02, 60)),
}


@pytest.mark.parametrize(
    "make",
    [pytest.param(make, id=name, marks=[] if name in SURROUNDED else formulas) for name, make in OPTIMIZERS.items()],
)
def test_where_every_row_is_in_every_batch_any_optimizer_ends_where_keras_ends(make):
    assert_alike(*both(make))


def test_a_loss_scale_factor_changes_nothing():
    """Against the optimizer without it, for Keras on TensorFlow has no division of an Embedding's gradient."""
    scaled = lambda: OPT.Adam(0.01, loss_scale_factor=128.0, clipvalue=0.05)  # noqa: E731
    assert_alike(*both(scaled, theirs=lambda: OPT.Adam(0.01, clipvalue=0.05)))


def test_sgd_ends_where_keras_ends_when_batches_have_some_of_the_rows():
    assert_alike(*both(lambda: OPT.SGD(0.05), SOME))


@pytest.mark.parametrize("make", [OPTIMIZERS["Adam"], OPTIMIZERS["clipnorm"]], ids=["Adam", "clipnorm"])
def test_run_eagerly_ends_where_keras_ends(make):
    assert_alike(*both(make, EVERY[:20], Y[:20], run_eagerly=True))


class Dot(keras.losses.Loss):
    def __init__(self):
        super().__init__(reduction="sum")

    def call(self, y_true, y_pred):
        return keras.ops.sum(keras.ops.reshape(y_true, keras.ops.shape(y_pred)) * y_pred, axis=(-2, -1))


def test_lion_takes_the_signs_that_keras_takes():
    """The gradients are given, and far from 0: a sign that rounding could turn would be a step of two rates."""
    signs = np.repeat(RNG.choice([-1.0, 1.0], (N // 10, V, DIM)), 10, axis=0) * RNG.uniform(1, 2, (N, V, DIM))
    ends = []
    order = np.tile(np.arange(V), (N, 1))
    for embedding, model_class in (
        (hotrow.keras.Embedding(V, DIM, weights=[W]), hotrow.keras.Model),
        (keras.layers.Embedding(V, DIM, weights=[W]), keras.Model),
    ):
        ids = keras.Input((V,), dtype="int32")
        model = model_class(ids, embedding(ids))
        model.compile(OPT.Lion(0.01, weight_decay=0.01), Dot())
        model.fit(order, signs.astype(np.float32), batch_size=1, shuffle=False, verbose=0)
        ends.append(np.asarray(keras.ops.convert_to_numpy(embedding.embeddings)))
    np.testing.assert_allclose(*ends, atol=1e-5, rtol=0)
    assert np.abs(ends[1] - W).max() > 0.1


R, C = keras.regularizers, keras.constraints
OWN = {
    "L1": {"embeddings_regularizer": R.L1(0.01)},
    "L2": {"embeddings_regularizer": R.L2(0.1)},
    "L1L2": {"embeddings_regularizer": "L1L2"},
    "MaxNorm": {"embeddings_constraint": C.MaxNorm(0.9, axis=1)},
    "MinMaxNorm": {"embeddings_constraint": C.MinMaxNorm(0.5, 0.9, rate=0.5, axis=1)},
    "UnitNorm": {"embeddings_constraint": C.UnitNorm(axis=1)},
    "NonNeg": {"embeddings_constraint": "NonNeg"},
    "L2 and MaxNorm": {"embeddings_regularizer": R.L2(0.1), "embeddings_constraint": C.MaxNorm(0.9, axis=-1)},
}


@pytest.mark.parametrize(
    "own", [pytest.param(own, id=name, marks=[] if "L2" in name else formulas) for name, own in OWN.items()]
)
def test_regularizers_and_constraints_act_as_in_keras_and_losses_are_equal(own):
    ends, losses = both(OPTIMIZERS["Adam"], own=own)
    assert_alike(ends, losses)
    np.testing.assert_allclose(*losses, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: OPT.SGD(0.05, loss_scale_factor=64.0), OPTIMIZERS["accumulated"]])
def test_regularizers_go_with_scaled_losses_and_accumulation(make):
    assert_alike(*both(make, own=OWN["L2"]))


# --- refusals ----------------------------------------------------------------------------------------------------


class Mine(keras.optimizers.SGD):
    pass


REFUSED_OPTIMIZERS = {
    "global_clipnorm": (lambda: OPT.SGD(0.1, global_clipnorm=1.0), "global_clipnorm=1.0.*use clipnorm="),
    "use_ema": (lambda: OPT.SGD(0.1, use_ema=True), "use_ema=True.*averaging would touch every row"),
    "Adafactor": (OPT.Adafactor, "can't follow Adafactor: it factors the whole matrix"),
    "Lamb": (OPT.Lamb, "can't follow Lamb: its step depends on the norm of the whole matrix"),
    "Muon": (OPT.Muon, "can't follow Muon: it makes the whole matrix orthogonal"),
    "a class of the user's": (lambda: Mine(0.1), "can't follow Mine: it isn't one of Keras's own"),
    "inside a loss scale": (lambda: OPT.LossScaleOptimizer(OPT.SGD(0.1, use_ema=True)), "use_ema=True"),
}


@pytest.mark.parametrize(("make", "text"), REFUSED_OPTIMIZERS.values(), ids=REFUSED_OPTIMIZERS.keys())
def test_an_optimizer_that_a_table_can_not_follow_is_refused_with_the_reason(make, text):
    with pytest.raises(ArgumentError, match=text):
        net(hotrow.keras.Embedding(V, DIM), hotrow.keras.Model, make())
    with pytest.raises(ArgumentError, match=text):
        hotrow.keras.Embedding(V, DIM, optimizer=make())


@pytest.mark.parametrize("kind", ["global_clipnorm", "Adafactor", "a class of the user's"])
def test_the_rest_of_the_model_keeps_such_an_optimizer_where_the_layer_has_its_own(kind):
    layer = hotrow.keras.Embedding(V, DIM, optimizer=hotrow.SGD(0.05), weights=[W])
    model = net(layer, hotrow.keras.Model, REFUSED_OPTIMIZERS[kind][0]())
    dense = model.get_layer("out").get_weights()[0]
    model.fit(EVERY[:8], Y[:8], batch_size=1, verbose=0)
    assert layer.table.steps == 8
    assert (model.get_layer("out").get_weights()[0] != dense).any()


def a_function(x):
    return x


REFUSED_ARGUMENTS = {
    "MaxNorm over ids": ({"embeddings_constraint": C.MaxNorm(1.0)}, r"MaxNorm\(axis=0\).*MaxNorm\(…, axis=1\)"),
    "UnitNorm over ids": ({"embeddings_constraint": "UnitNorm"}, r"UnitNorm\(axis=0\).*axis=1"),
    "OrthogonalRegularizer": (
        {"embeddings_regularizer": R.OrthogonalRegularizer()},
        "OrthogonalRegularizer can't be worked out for the rows of a batch",
    ),
    "a regularizer function": ({"embeddings_regularizer": a_function}, "=a_function can't be worked out"),
    "a constraint function": ({"embeddings_constraint": a_function}, "=a_function can't be held to"),
    "an initializer function": ({"embeddings_initializer": a_function}, "=a_function needs the whole matrix"),
    "orthogonal": ({"embeddings_initializer": "orthogonal"}, "=Orthogonal needs the whole matrix"),
    "identity": ({"embeddings_initializer": "identity"}, "=Identity needs the whole matrix"),
    "a matrix constant": ({"embeddings_initializer": keras.initializers.Constant(W)}, "=Constant needs the whole"),
    "lora_rank": ({"lora_rank": 4}, "no lora_rank=: rows of a table are trained as they are"),
    "lora_alpha": ({"lora_alpha": 4}, "no lora_alpha="),
    "quantization_config": ({"quantization_config": {"a": 1}}, "no quantization_config=: rows of a table are float32"),
    "a schedule": (
        {"optimizer": OPT.SGD(OPT.schedules.CosineDecay(0.1, 9))},
        "has a learning rate, not a schedule.*hotrow.keras.Model",
    ),
    "a callable rate": ({"optimizer": OPT.SGD(lambda: 0.1)}, "has a learning rate, not a schedule"),
    "accumulation": (
        {"optimizer": OPT.SGD(0.1, gradient_accumulation_steps=4)},
        "gradient_accumulation_steps=4; leave it out",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("own", "text"), REFUSED_ARGUMENTS.values(), ids=REFUSED_ARGUMENTS.keys())
def test_an_argument_that_a_table_can_not_keep_is_refused_with_the_reason(own, text):
    with pytest.raises(ArgumentError, match=text):
        hotrow.keras.Embedding(V, DIM, **own)


@pytest.mark.parametrize("own", [{"lora_rank": None}, {"quantization_config": None}])
def test_what_is_left_at_none_is_nothing_to_refuse(own):
    hotrow.keras.Embedding(V, DIM, **own)


VARIANCE = ["he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "lecun_uniform"]


@pytest.mark.parametrize("name", VARIANCE)
def test_an_initializer_of_the_number_of_ids_needs_it_and_draws_as_keras(name):
    with pytest.raises(ArgumentError, match="depends on the number of ids, and there is no bound"):
        hotrow.keras.Embedding(None, DIM, embeddings_initializer=name)
    ours = hotrow.keras.Embedding(2000, 16, embeddings_initializer=name).embeddings
    theirs = np.asarray(keras.ops.convert_to_numpy(keras.initializers.get(name)((2000, 16))))
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02)
    np.testing.assert_allclose(np.abs(ours).max(), np.abs(theirs).max(), rtol=0.1 if "uniform" in name else 0.2)
    assert abs(ours.mean()) < 0.02 * ours.std()


SIMPLE = {
    "uniform": "uniform",
    "normal": "normal",
    "zeros": "zeros",
    "ones": "ones",
    "truncated": keras.initializers.TruncatedNormal(0.5, 0.2),
    "moved": keras.initializers.RandomUniform(0.1, 0.4),
    "constant": keras.initializers.Constant(0.25),
}


@pytest.mark.parametrize("given", SIMPLE.values(), ids=SIMPLE.keys())
def test_a_common_initializer_draws_as_keras(given):
    ours = hotrow.keras.Embedding(None, 16, embeddings_initializer=given).table.lookup(range(2000))
    theirs = np.asarray(keras.ops.convert_to_numpy(keras.initializers.get(given)((2000, 16))))
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=0.02 * max(theirs.std(), 1e-6) + 1e-6)
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02, atol=1e-6)
    np.testing.assert_allclose([ours.min(), ours.max()], [theirs.min(), theirs.max()], rtol=0.3, atol=1e-2)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX can call the host from compiled code")
def test_jit_compile_is_refused_or_turned_off_and_said():
    with pytest.raises(ArgumentError, match=r"jit_compile=True: code compiled by .* can't call the table"):
        net(hotrow.keras.Embedding(V, DIM), hotrow.keras.Model, "sgd", jit_compile=True)
    layer = hotrow.keras.Embedding(V, DIM, optimizer=hotrow.SGD(0.1))
    with pytest.warns(UserWarning, match="Model doesn't support `jit_compile=True`"):
        plain = net(layer, keras.Model, "sgd", jit_compile=True)
    plain.fit(EVERY[:4], Y[:4], batch_size=1, verbose=0)
    assert layer.table.steps == 4


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
@pytest.mark.parametrize("jit", [True, False])
def test_jit_compile_on_jax_is_as_one_likes(jit):
    assert_alike(*both(OPTIMIZERS["Adam"], EVERY[:20], Y[:20], jit_compile=jit))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
def test_compiling_the_layer_with_xla_fails_rather_than_goes_wrong():
    import tensorflow as tf

    layer = hotrow.keras.Embedding(V, DIM, optimizer=hotrow.SGD(0.1), weights=[W])
    ids = tf.constant([[1, 2]])
    layer(ids)
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError), match="PyFunc"):
        tf.function(layer, jit_compile=True)(ids)


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX")
def test_a_distribution_of_keras_is_refused():
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    try:
        layer = hotrow.keras.Embedding(V, DIM)
        with pytest.raises(ArgumentError, match="can't serve several replicas"):
            layer.build((None, 2))
    finally:
        keras.distribution.set_distribution(None)


MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, hotrow
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    try:
        hotrow.keras.Sequential([keras.Input((3,)), hotrow.keras.Embedding(None, 4)])
    except hotrow.errors.ArgumentError as error:
        print(error)
"""


@pytest.mark.long  # a process of its own, for TensorFlow has its devices from the start
@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
def test_a_mirrored_strategy_is_refused():
    ran = subprocess.run([sys.executable, "-c", MIRRORED], capture_output=True, text=True, timeout=240, check=False)
    assert "can't serve several replicas" in ran.stdout, ran.stderr


def test_rematerialisation_is_refused():
    with keras.RematScope(mode="full"):
        layer = hotrow.keras.Embedding(V, DIM)
    with pytest.raises(ArgumentError, match="can't be rematerialised"):
        layer.build((None, 2))


def test_a_plain_model_without_an_optimizer_for_the_layer_shows_the_line():
    layer = hotrow.keras.Embedding(V, DIM, name="users")
    model = net(layer, keras.Model, "sgd")
    model.predict(EVERY[:2], verbose=0)
    with pytest.raises(Exception, match=r"layer 'users' doesn't know.*optimizer=hotrow.Adam\(1e-3\)"):
        model.fit(EVERY[:4], Y[:4], verbose=0)
    assert layer.table.steps == 0
