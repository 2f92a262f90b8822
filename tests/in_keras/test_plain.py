"""The layer in a keras.Model that isn't hotrow's: ids as the backend has them, and loud where it can't have them."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import hotrow
from hotrow.errors import ArgumentError, KindError

DIM = 3


def embedding(bound=None, **how):
    return hotrow.keras.Embedding(bound, DIM, optimizer=hotrow.SGD(0.5), seed=1, **how)


def plain(layer, dtype=None, length=2, *, subclassed=False):
    """Keras's own model around a layer."""
    if subclassed:

        class Plain(keras.Model):
            def __init__(self):
                super().__init__()
                self.layer = layer

            def call(self, x):
                return self.layer(x)

        model = Plain()
    else:
        ids = keras.Input((length,), dtype=dtype)
        model = keras.Model(ids, layer(ids))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    return model


def array(tensor):
    return ops.convert_to_numpy(tensor)


def refused(make, ids, match):
    """Each way into a model refuses these ids, and changes nothing of its table.

    make() gives a trained model, a new one each time: on JAX a step that fails leaves Keras's own without weights.
    """
    model = make()
    for name in ("predict", "__call__", "train_on_batch", "fit"):
        table = next(layer.table for layer in model._flatten_layers() if isinstance(layer, hotrow.keras.Embedding))
        before, steps = table.vectors(), table.steps
        targets = (np.ones((len(ids), 2, DIM)),) if name in {"fit", "train_on_batch"} else ()
        with pytest.raises(Exception, match=match):
            ops.convert_to_numpy(getattr(model, name)(ids, *targets))
        np.testing.assert_array_equal(table.state().weights, before)
        assert table._steps == steps
        if keras.backend.backend() == "jax":
            model = make()


def trained(bound=None, dtype=None, first=(1, 2), **how):
    """A model that has had one step."""

    def make():
        model = plain(embedding(bound), dtype)
        model.compile("sgd", "mse", **how)
        model.fit(np.array([first]), np.ones((1, 2, DIM)), verbose=0)
        return model

    return make


# --- what the backends hold exactly ----------------------------------------------------------------------------------


def bound_for(backend, subject=None):
    return 2**31 - 1 if backend == "jax" else None  # JAX needs to know that nothing was cut


@pytest.mark.parametrize("subclassed", [False, True])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
def test_integer_tensors_are_ids(dtype, subclassed, backend):
    if backend == "jax" and dtype == "int64":
        pytest.skip("JAX has no int64 here")
    layer = embedding(bound_for(backend))
    model = plain(layer, dtype, subclassed=subclassed)
    top = 2**31 - 2 if backend == "jax" or dtype == "int32" else 2**32 - 1 if dtype == "uint32" else 2**62 + 1
    ids = np.array([[top, 5], [0, 5]], dtype)
    np.testing.assert_array_equal(model.predict(ids, verbose=0), layer.table.lookup(ids))
    assert len(layer.table) == 0
    model.fit(ids, np.ones((2, 2, DIM)), verbose=0)
    assert sorted(layer.table.ids().tolist()) == [0, 5, top]
    assert layer.table.steps == 1


def test_string_tensors_are_ids_in_tensorflow(backend):
    if backend != "tensorflow":
        pytest.skip("only TensorFlow has strings")
    import tensorflow as tf

    layer = embedding()
    model = plain(layer, "string")
    ids = tf.constant([["lantern", "cup"], ["漢字", ""]])
    model.fit(ids, np.ones((2, 2, DIM)), verbose=0)
    assert sorted(layer.table.ids().to_pylist()) == ["", "cup", "lantern", "漢字"]
    np.testing.assert_array_equal(model.predict(ids, verbose=0), layer.table.lookup([["lantern", "cup"], ["漢字", ""]]))


def test_a_float32_input_holds_ids_below_two_to_the_24th_and_no_others(backend):
    layer = embedding(bound_for(backend))
    model = plain(layer)
    assert model.inputs[0].dtype == "float32"
    ids = np.array([[2**24 - 1, 0], [7, 2**24 - 1]])
    model.fit(ids, np.ones((2, 2, DIM)), verbose=0)
    assert sorted(layer.table.ids().tolist()) == [0, 7, 2**24 - 1]
    make = trained(bound_for(backend))
    refused(make, np.array([[1, 2**24]]), r"2\*\*24.*; hotrow\.keras\.Model takes ids as they are")
    refused(make, np.array([[1, 2**24 + 1]]), r"hotrow\.keras\.Model")


def test_floats_that_are_no_ids_are_refused(backend):
    for bad, text in (([[1.5, 2]], "1.5"), ([[float("nan"), 2]], "nan"), ([[float("inf"), 2]], "inf")):
        refused(trained(bound_for(backend)), np.array(bad, np.float32), text)


def test_booleans_are_refused(backend):
    refused(lambda: plain(embedding(bound_for(backend)), "bool"), np.array([[True, False]]), "bool|True")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_ids_are_not_rounded_by_a_policy_of_half_precision(policy, backend):
    keras.config.set_dtype_policy(policy)
    layer = embedding(bound_for(backend))
    model = plain(layer)
    ids = np.array([[2049, 2**20 + 1], [257, 4097]])
    model.fit(ids, np.ones((2, 2, DIM)), verbose=0)
    assert sorted(layer.table.ids().tolist()) == [257, 2049, 4097, 2**20 + 1]
    assert layer(ops.convert_to_tensor(ids.astype(np.int32))).dtype is not None
    model = plain(embedding(bound_for(backend)), subclassed=True)  # here Keras rounds floats before any layer
    model(ids.astype(np.int32))
    if policy == "mixed_float16":
        model(np.array([[17, 2047]], np.float32))
    with pytest.raises(Exception, match=r"hotrow\.keras\.Model"):
        array(model(np.array([[2049.0, 1]], np.float32)))


def test_hotrow_models_take_any_id_under_a_policy_of_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    for make in (
        lambda layer: hotrow.keras.Model(i := keras.Input((2,)), layer(i)),
        lambda layer: hotrow.keras.Sequential([layer]),
        lambda layer: hotrow.keras.Sequential([keras.Input((2,)), layer]),
    ):
        layer = hotrow.keras.Embedding(None, DIM)
        model = make(layer)
        model.compile("sgd", "mse")
        model.fit([[2**40 + 1, 2049]], np.ones((1, 2, DIM)), verbose=0)
        assert sorted(layer.table.ids().tolist()) == [2049, 2**40 + 1]


def test_without_a_bound_jax_refuses_at_the_first_call_because_ids_may_be_cut(backend):
    if backend != "jax":
        pytest.skip("the others have 64 bits")
    layer = embedding()
    refused(
        lambda: plain(embedding(), "int32"),
        np.array([[1, 2]]),
        r"cuts 64-bit integers to 32 bits.*hotrow\.keras\.Model",
    )
    with pytest.raises(KindError, match="2\\*\\*32 \\+ 5 arrives as 5"):
        layer(np.array([2**32 + 5]))
    assert len(layer.table) == 0


# --- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", None])
@pytest.mark.parametrize("how", [{}, {"run_eagerly": True}], ids=["compiled", "eagerly"])
def test_ids_outside_of_input_dim_are_errors_that_name_them(how, dtype):
    for bad in (10, -1, 10_000):
        make = trained(10, dtype, (1, 9), **how)
        refused(make, np.array([[0, bad]]), f"got {bad}; expected ids from 0 to 9, the input_dim of layer")


def test_ids_outside_of_input_dim_are_errors_in_functions_of_the_framework(backend):
    layer = embedding(10)
    ids = np.array([3, 12], np.int32)
    layer(ids[:1])
    text = "got 12; expected ids from 0 to 9"
    if backend == "tensorflow":
        import tensorflow as tf

        with pytest.raises(tf.errors.OpError, match=text):
            tf.function(layer)(tf.constant(ids))
    elif backend == "jax":
        import jax

        compiled = jax.jit(lambda x: layer(x) + 0)
        with pytest.raises(jax.errors.JaxRuntimeError, match=text):
            jax.block_until_ready(compiled(ids))
    with pytest.raises(Exception, match=text):
        array(layer(ids))
    assert len(layer.table) == 0


def test_negative_ids_are_ids_without_a_bound(backend):
    if backend == "jax":
        pytest.skip("not without a bound")
    layer = embedding()
    model = plain(layer, "int64")
    model.fit(np.array([[-5, -(2**62)]]), np.ones((1, 2, DIM)), verbose=0)
    assert sorted(layer.table.ids().tolist()) == [-(2**62), -5]


def test_with_a_bound_there_is_a_matrix():
    layer = embedding(5)
    first = layer.embeddings
    assert first.shape == (5, DIM)
    np.testing.assert_array_equal(first, layer.table.lookup(range(5)))
    model = plain(layer, "int32")
    model.fit(np.array([[1, 3]]), np.ones((1, 2, DIM)), verbose=0)
    moved = (layer.embeddings != first).any(1)
    assert moved.tolist() == [False, True, False, True, False]
    assert len(layer.table) == 2
    with pytest.raises(ArgumentError, match=r"no bound; use layer\.table\.lookup"):
        _ = embedding().embeddings


@pytest.mark.parametrize("bad", [0, -3, 2.5, True, "10"])
def test_an_input_dim_that_is_none_is_refused(bad):
    with pytest.raises(ArgumentError, match="input_dim must be a whole number from 1 on, or None for ids without"):
        hotrow.keras.Embedding(bad, 3)


# --- training --------------------------------------------------------------------------------------------------------


def test_without_an_optimizer_the_first_training_call_is_an_error_that_shows_the_line():
    layer = hotrow.keras.Embedding(10, DIM)
    model = plain(layer, "int32")
    model.predict(np.array([[1, 2]]), verbose=0)
    with pytest.raises(ArgumentError, match=r"hotrow\.keras\.Embedding\(None, 32, optimizer=hotrow\.Adam\(1e-3\)\)"):
        model.fit(np.array([[1, 2]]), np.ones((1, 2, DIM)), verbose=0)
    assert len(layer.table) == 0


def test_only_training_makes_rows_in_a_plain_model_too():
    layer = embedding(100)
    model = plain(layer, "int32")
    ids, y = np.array([[1, 2], [3, 1]]), np.ones((2, 2, DIM))
    model.predict(ids, verbose=0)
    model.evaluate(ids, y, verbose=0)
    array(model(ids))
    assert len(layer.table) == 0
    model.fit(ids, y, validation_data=(ids + 50, y), verbose=0)
    assert sorted(layer.table.ids().tolist()) == [1, 2, 3]


# --- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("above", ["pooling", "lstm"])
def test_a_mask_reaches_the_layers_above(above):
    keras.utils.set_random_seed(0)
    layer = embedding(10, mask_zero=True)
    reader = layers.GlobalAveragePooling1D() if above == "pooling" else layers.LSTM(4)
    ids = keras.Input((4,), dtype="int32")
    model = keras.Model(ids, reader(layer(ids)))
    short = keras.Input((2,), dtype="int32")
    alone = keras.Model(short, reader(embedding(10, table=layer.table)(short)))
    padded = np.array([[3, 5, 0, 0]])
    np.testing.assert_allclose(
        model.predict(padded, verbose=0), alone.predict(np.array([[3, 5]]), verbose=0), rtol=1e-5
    )
    model.compile("sgd", "mse")
    model.fit(padded, np.ones((1, model.output_shape[-1])), verbose=0)
    assert layer.table.ids().tolist() == [3, 5]
    assert layer.table.steps == 1


def test_a_string_may_stand_for_padding_in_tensorflow(backend):
    if backend != "tensorflow":
        pytest.skip("only TensorFlow has strings")
    import tensorflow as tf

    layer = embedding(mask_id="")
    ids = keras.Input((2,), dtype="string")
    model = keras.Model(ids, layers.GlobalAveragePooling1D()(layer(ids)))
    model.compile("sgd", "mse")
    x = tf.constant([["cup", ""], ["mug", "cup"]])
    np.testing.assert_allclose(model.predict(x, verbose=0)[0], layer.table.lookup("cup"), rtol=1e-6)
    model.fit(x, np.ones((2, DIM)), verbose=0)
    assert sorted(layer.table.ids().to_pylist()) == ["cup", "mug"]
    assert array(layer.compute_mask(x)).tolist() == [[True, False], [True, True]]


# --- what must be there ----------------------------------------------------------------------------------------------


def run(code, **env):
    """What a new process of Python says."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **env}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False, timeout=120
    )


@pytest.mark.enough("torch")
def test_hotrow_loads_keras_only_when_it_is_asked_for():
    code = "import hotrow, sys; assert 'keras' not in sys.modules; hotrow.keras; assert 'keras' in sys.modules"
    assert run(code).returncode == 0


@pytest.mark.parametrize("gone", ["keras", "backend"])
def test_without_keras_or_its_backend_the_error_says_what_to_install(gone, backend):
    name = "keras" if gone == "keras" else backend
    code = f"""
import sys, importlib.util, importlib.abc
class Gone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == {name!r} else find(name, *a)
sys.meta_path.insert(0, Gone())
import hotrow
try:
    hotrow.keras
except hotrow.errors.MissingExtraError as error:
    assert isinstance(error, ImportError)
    print(error)
"""
    out = run(code)
    for extra in ("tensorflow", "jax", "torch"):
        assert f'"hotrow[{extra}]"' in out.stdout, out.stderr


@pytest.mark.enough("torch")
def test_another_backend_is_refused_and_the_three_are_named():
    code = """
import hotrow
try:
    hotrow.keras
except hotrow.errors.MissingExtraError as error:
    print(error)
"""
    out = run(code, KERAS_BACKEND="numpy")
    assert "hotrow.keras trains on tensorflow, jax, torch; Keras runs on 'numpy'. Set KERAS_BACKEND" in out.stdout, out
