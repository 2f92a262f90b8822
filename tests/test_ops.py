"""An embedding by hand is the same rows, or the same refusal, in NumPy, TensorFlow, torch and JAX."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shapes

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what TensorFlow says of the processor, before it is asked not to

import jax
import keras
import tensorflow as tf
import torch
from jax import numpy as jnp

import hotrow
from hotrow import embedding_lookup, one_hot
from hotrow.errors import ArgumentError, HotrowError, IdError, KindError

MAKE = {"NumPy": np.asarray, "TensorFlow": tf.constant, "torch": torch.tensor, "JAX": jnp.asarray}
TYPES = {"NumPy": np.ndarray, "TensorFlow": tf.Tensor, "torch": torch.Tensor, "JAX": jax.Array}
FRAMEWORKS = [name for name in MAKE if name != "NumPy"]
DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]

PAGE = [[0.21, 0.41, 0.51, 0.11], [0.22, 0.42, 0.52, 0.12], [0.23, 0.43, 0.53, 0.13], [0.24, 0.44, 0.54, 0.14]]
PARAMS = np.arange(12, dtype=np.float32).reshape(4, 3)
RANGE = "expected ids from 0 to 3, the rows of params"
TABLE = re.escape("hotrow.Table(3).lookup(ids, grow=True)")

every_kind = pytest.mark.parametrize("kind", MAKE)
every_framework = pytest.mark.parametrize("kind", FRAMEWORKS)


def keep_for_jax(ids):
    """These ids, if JAX has their dtype; jax_enable_x64 is off, so 64 bits would be cut to 32."""
    return np.asarray(ids, np.int32) if np.asarray(ids).dtype.itemsize == 8 else np.asarray(ids)


def same(got, kind, want):
    """That this is an array of that kind, with the dtype, shape and values of `want`."""
    assert isinstance(got, TYPES[kind])
    got = np.asarray(got)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert np.array_equal(got, want)


def outcome(call):
    """The values that it gives, or the class and the text of its refusal."""
    try:
        return np.asarray(call()).tolist()
    except HotrowError as error:
        return type(error), str(error)


# --- the same rows ---------------------------------------------------------------------------------------------------


@every_kind
def test_the_page_gets_its_rows_and_the_one_hot_product_is_equal_to_the_bit(kind):
    params, ids = MAKE[kind](np.array(PAGE, np.float32)), MAKE[kind](np.array([2, 3, 1, 0], np.int32))
    rows = embedding_lookup(params, ids)
    same(rows, kind, np.array([PAGE[2], PAGE[3], PAGE[1], PAGE[0]], np.float32))
    hot = one_hot(ids, 4)
    same(hot, kind, np.eye(4, dtype=np.float32)[[2, 3, 1, 0]])
    assert np.array_equal(np.asarray(hot @ params), np.asarray(rows))


def test_lists_are_float32_and_give_numpy():
    same(embedding_lookup(PAGE, [2, 3, 1, 0]), "NumPy", np.array(PAGE, np.float32)[[2, 3, 1, 0]])
    same(embedding_lookup([[1, 2], [3, 4]], 1), "NumPy", np.array([3, 4], np.float32))
    same(one_hot(1, 3), "NumPy", np.array([0, 1, 0], np.float32))


@given(
    st.data(), st.integers(1, 300), st.integers(0, 5), shapes(), st.sampled_from(DTYPES), st.sampled_from(list(MAKE))
)
def test_any_shape_and_dtype_gives_the_rows_of_numpy(data, rows, dim, shape, dtype, kind):
    most = min(rows - 1, int(np.iinfo(dtype).max))
    flat = data.draw(st.lists(st.integers(0, most), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    ids = np.array(flat, dtype).reshape(shape)
    params = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)
    own = MAKE[kind](keep_for_jax(ids) if kind == "JAX" else ids)
    for given_params, given_ids in [(MAKE[kind](params), own), (MAKE[kind](params), ids), (params, own)]:
        same(embedding_lookup(given_params, given_ids), kind, params[ids])
    same(one_hot(own, rows), kind, np.eye(rows, dtype=np.float32)[ids])


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_integer_dtype_works_while_tracing_and_more_rows_than_it_counts_do(dtype):
    params = np.arange(2000, dtype=np.float32).reshape(1000, 2)
    ids = np.array([[1, 127], [0, 3]], dtype)
    same(tf.function(embedding_lookup)(tf.constant(params), tf.constant(ids)), "TensorFlow", params[ids])
    same(tf.function(one_hot)(tf.constant(ids), 1000), "TensorFlow", np.eye(1000, dtype=np.float32)[ids])
    ids = keep_for_jax(ids)
    same(jax.jit(embedding_lookup)(params, ids), "JAX", params[ids])
    same(jax.jit(one_hot, static_argnums=1)(ids, 1000), "JAX", np.eye(1000, dtype=np.float32)[ids])


@every_kind
def test_ids_may_be_python_integers_ranges_whole_floats_or_another_library_s(kind):
    params = MAKE[kind](PARAMS)
    same(embedding_lookup(params, 2), kind, PARAMS[2])
    same(embedding_lookup(params, np.uint8(2)), kind, PARAMS[2])
    same(embedding_lookup(params, range(3)), kind, PARAMS[:3])
    same(embedding_lookup(params, ((1, 2), (3, 0))), kind, PARAMS[[[1, 2], [3, 0]]])
    same(embedding_lookup(params, [1.0, 2.0]), kind, PARAMS[1:3])
    same(embedding_lookup(params, MAKE[kind](np.array([1.0, 2.0], np.float32))), kind, PARAMS[1:3])
    same(embedding_lookup(params, np.array([1, 2], ">i4")[::-1]), kind, PARAMS[[2, 1]])


@every_kind
def test_no_ids_give_no_rows_even_of_an_empty_matrix(kind):
    for rows in (4, 0):
        params = MAKE[kind](PARAMS[:rows])
        same(embedding_lookup(params, []), kind, PARAMS[:0])
        same(embedding_lookup(params, MAKE[kind](np.zeros((2, 0), np.int32))), kind, np.zeros((2, 0, 3), np.float32))
    same(one_hot(MAKE[kind](np.zeros(0, np.int32)), 0), kind, np.zeros((0, 0), np.float32))


@every_kind
@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_rows_keep_the_dtype_of_the_params(kind, dtype):
    if (kind, dtype) != ("JAX", "float64"):
        params = PARAMS.astype(dtype)
        same(embedding_lookup(MAKE[kind](params), [2, 0]), kind, params[[2, 0]])


@every_framework
def test_numpy_params_of_any_layout_take_a_framework_s_ids(kind):
    ids = MAKE[kind](np.array([3, 1], np.int32))
    for params in (PARAMS, PARAMS.astype(">f4"), np.asfortranarray(PARAMS), PARAMS[::-1][::-1], PARAMS.tolist()):
        same(embedding_lookup(params, ids), kind, PARAMS[[3, 1]])


def test_rows_are_a_copy_of_the_params():
    params = PARAMS.copy()
    for ids in (1, [1], np.array(1)):
        embedding_lookup(params, ids)[...] = -1
    assert np.array_equal(params, PARAMS)


def test_variables_and_parameters_are_params_too():
    same(embedding_lookup(tf.Variable(PARAMS), [2]), "TensorFlow", PARAMS[[2]])
    same(embedding_lookup(tf.Variable(PARAMS, shape=tf.TensorShape(None)), [2]), "TensorFlow", PARAMS[[2]])
    same(embedding_lookup(PARAMS, tf.Variable([2])), "TensorFlow", PARAMS[[2]])
    same(embedding_lookup(torch.nn.Parameter(torch.tensor(PARAMS)), [2]).detach(), "torch", PARAMS[[2]])
    backend = {"tensorflow": "TensorFlow", "torch": "torch", "jax": "JAX"}[keras.backend.backend()]
    rows = embedding_lookup(keras.Variable(PARAMS), [2])
    assert isinstance(rows, TYPES[backend])
    assert np.array_equal(keras.ops.convert_to_numpy(rows), PARAMS[[2]])


# --- the same gradients ----------------------------------------------------------------------------------------------


def gradient_of(kind, params, ids, weights):
    """d/dparams of sum(weights · params[ids]²), dense, by the framework."""
    if kind == "TensorFlow":
        variable = tf.Variable(params)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(weights * embedding_lookup(variable, tf.constant(ids)) ** 2)
        return tf.convert_to_tensor(tape.gradient(loss, variable))
    if kind == "torch":
        leaf = torch.tensor(params, requires_grad=True)
        (torch.tensor(weights) * embedding_lookup(leaf, torch.tensor(ids)) ** 2).sum().backward()
        return leaf.grad
    return jax.grad(lambda p: (weights * embedding_lookup(p, jnp.asarray(ids)) ** 2).sum())(params)


@every_framework
@settings(max_examples=20)  # JAX compiles anew for each shape
@given(st.data(), shapes(max_dims=2))
def test_the_gradient_is_the_sum_at_each_row(kind, data, shape):
    flat = data.draw(st.lists(st.integers(0, 5), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    ids = np.array(flat, np.int32).reshape(shape)
    random = np.random.default_rng(1)
    params = random.normal(size=(6, 3)).astype(np.float32)
    weights = random.normal(size=(*shape, 3)).astype(np.float32)
    want = np.zeros_like(params)
    np.add.at(want, ids, 2 * weights * params[ids])
    np.testing.assert_allclose(np.asarray(gradient_of(kind, params, ids, weights)), want, rtol=1e-4, atol=1e-6)


def test_tensorflow_s_gradient_holds_only_the_rows_of_the_batch():
    variable = tf.Variable(PARAMS)
    step = tf.function(lambda ids: tf.reduce_sum(embedding_lookup(variable, ids)))
    with tf.GradientTape() as tape:
        loss = step(tf.constant([1, 1, 3]))
    gradient = tape.gradient(loss, variable)
    assert isinstance(gradient, tf.IndexedSlices)
    assert gradient.indices.numpy().tolist() == [1, 1, 3]


def test_jax_differentiates_maps_and_compiles_in_any_order():
    ids = jnp.array([[1, 1], [3, 0]])

    def loss(params, ids):
        return (embedding_lookup(params, ids) ** 2).sum()

    want = np.zeros_like(PARAMS)
    np.add.at(want, np.asarray(ids), 2 * PARAMS[np.asarray(ids)])
    for gradient in (jax.jit(jax.grad(loss)), jax.grad(jax.jit(loss)), jax.grad(jax.checkpoint(loss))):
        assert np.array_equal(gradient(PARAMS, ids), want)
    each = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(PARAMS, ids)
    assert np.array_equal(each.sum(0), want)
    for mapped in (jax.vmap(embedding_lookup, (None, 0)), jax.vmap(jax.vmap(embedding_lookup, (None, 0)), (None, 0))):
        assert np.array_equal(mapped(PARAMS, ids), PARAMS[np.asarray(ids)])
    assert np.array_equal(jax.vmap(embedding_lookup, (0, None))(jnp.stack([PARAMS, -PARAMS]), 2)[1], -PARAMS[2])
    total, _ = jax.lax.scan(lambda s, i: (s + embedding_lookup(PARAMS, i), None), jnp.zeros(3), ids[0])
    assert np.array_equal(total, 2 * PARAMS[1])
    chosen = jax.jit(jax.grad(lambda params: loss(params, jnp.argmax(params, 0))))(PARAMS)
    assert np.array_equal(chosen[3], 6 * PARAMS[3])


def test_tensorflow_maps_and_takes_it_into_datasets_and_saved_models(tmp_path):
    ids, params = tf.constant([[1, 2], [3, 0]]), tf.constant(PARAMS)
    same(tf.vectorized_map(lambda i: embedding_lookup(params, i), ids), "TensorFlow", PARAMS[ids.numpy()])
    mapped = tf.map_fn(lambda i: embedding_lookup(params, i), ids, fn_output_signature=tf.float32)
    same(mapped, "TensorFlow", PARAMS[ids.numpy()])
    dataset = tf.data.Dataset.from_tensor_slices(ids).map(lambda i: embedding_lookup(PARAMS, i))
    same(next(iter(dataset)), "TensorFlow", PARAMS[[1, 2]])

    module = tf.Module()
    module.params = tf.Variable(PARAMS)
    spec = tf.TensorSpec([None], tf.int64)
    module.lookup = tf.function(lambda ids: embedding_lookup(module.params, ids), input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path))
    code = f"""
import tensorflow as tf
module = tf.saved_model.load({str(tmp_path)!r})
print(module.lookup(tf.constant([2], tf.int64)).numpy().tolist())
try:
    module.lookup(tf.constant([7], tf.int64))
except tf.errors.InvalidArgumentError as error:
    print(error.message)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert str(PARAMS[[2]].tolist()) in said  # where there is no hotrow
    assert f"got 7 at position 0; {RANGE}" in said


# --- the same refusals -----------------------------------------------------------------------------------------------

OUTSIDE = [
    (4, "got 4; "),
    ([0, -1], "got -1 at position 1; "),
    ([[0, 1], [7, 9]], r"got 7 at position \(1, 0\); "),
    ([2**40], "got 1099511627776 at position 0; "),
    ([2**32 + 1], "got 4294967297 at position 0; "),
    ([0, 2**64 - 1], "got 18446744073709551615 at position 1; "),
    ([5.0], "got 5 at position 0; "),
]


@every_kind
@pytest.mark.parametrize(("ids", "message"), OUTSIDE)
def test_an_id_out_of_range_is_refused_with_its_place_the_range_and_the_table_that_takes_it(kind, ids, message):
    with pytest.raises(IdError, match=f"^{message}{RANGE}.*{TABLE}$"):
        embedding_lookup(MAKE[kind](PARAMS), ids)
    with pytest.raises(IdError, match=f"^{message}expected ids from 0 to 3, the columns of a depth of 4"):
        one_hot(ids, 4)
    array = np.array(ids, np.uint64 if np.max(ids) >= 2**63 else None)
    if kind != "JAX" or array.max() < 2**31:  # JAX itself has made another id of it by then
        own = MAKE[kind](keep_for_jax(array) if kind == "JAX" else array)
        for params in (PARAMS, PARAMS.tolist(), MAKE[kind](PARAMS)):
            with pytest.raises(IdError, match=f"^{message}{RANGE}"):
                embedding_lookup(params, own)
        with pytest.raises(IdError, match=f"^{message}expected ids from 0 to 3"):
            one_hot(own, 4)


@every_kind
def test_an_empty_matrix_has_no_row_for_any_id(kind):
    with pytest.raises(IdError, match="got 0 at position 0; expected no ids at all, for the rows of params are none"):
        embedding_lookup(MAKE[kind](PARAMS[:0]), [0])
    with pytest.raises(IdError, match="got 0; expected no ids at all, for the columns of a depth of 0 are none"):
        one_hot(0, 0)


NO_IDS = [True, [True], [1, None], float("nan"), [0.5], [2.0**60], [1, 2.0], "cup", [b"cup"], [1, "cup"], [[1], [2, 3]]]
NO_IDS += [2**64, {1, 2}, object()]


@every_kind
@pytest.mark.parametrize("ids", NO_IDS, ids=lambda ids: repr(ids).partition(" at ")[0])
def test_what_is_no_id_is_refused_alike_whatever_the_params_are(kind, ids):
    want = outcome(lambda: embedding_lookup(PARAMS, ids))
    assert issubclass(want[0], HotrowError)
    assert outcome(lambda: embedding_lookup(MAKE[kind](PARAMS), ids)) == want
    with pytest.raises(want[0]):
        one_hot(ids, 4)


@every_kind
def test_a_tensor_of_bools_fractions_or_too_large_floats_is_refused(kind):
    for ids, error, message in (
        (np.array([True]), KindError, "got True at position 0, of type bool"),
        (np.array([0.5], np.float32), IdError, "not a whole number"),
        (np.array([2.0**24], np.float32), IdError, "float32 .exact below"),
        (np.array([np.nan], np.float32), IdError, "an id is missing"),
    ):
        for call in (lambda own: embedding_lookup(PARAMS, own), lambda own: one_hot(own, 4)):
            with pytest.raises(error, match=message):
                call(MAKE[kind](ids))


def test_strings_are_shown_the_table_that_takes_them():
    for ids in (["cup", "hat"], tf.constant(["cup", "hat"])):
        with pytest.raises(KindError, match=f"^got 'cup' at position 0; expected integers from 0 to 3.*{TABLE}$"):
            embedding_lookup(PARAMS, ids)


def test_ids_of_which_nothing_can_be_seen_are_refused():
    for ids in (torch.zeros(2, dtype=torch.int64, device="meta"), keras.Input((2,)), torch.ones(1).bfloat16()):
        with pytest.raises(KindError, match="NumPy can't read this"):
            embedding_lookup(PARAMS, ids)
    with pytest.raises(KindError, match="NumPy can't read this Tensor"):
        torch.func.vmap(lambda i: embedding_lookup(torch.tensor(PARAMS), i))(torch.tensor([1, 2]))


@pytest.mark.parametrize("first", FRAMEWORKS)
@pytest.mark.parametrize("second", FRAMEWORKS)
def test_two_frameworks_are_not_mixed(first, second):
    params, ids = MAKE[first](PARAMS), MAKE[second](np.array([1], np.int32))
    if first == second:
        same(embedding_lookup(params, ids), first, PARAMS[[1]])
        return
    names = f"got params of {first.lower()} and ids of {second.lower()}"
    with pytest.raises(KindError, match=names + r".*hotrow\.embedding_lookup\(params, np\.asarray\(ids\)\)"):
        embedding_lookup(params, ids)
    same(embedding_lookup(params, np.asarray(ids)), first, PARAMS[[1]])


@every_kind
def test_params_that_are_no_matrix_are_refused(kind):
    for shape in ((), (4,), (2, 2, 3)):
        with pytest.raises(ArgumentError, match=re.escape(f"got params of shape {shape}; expected a matrix (V, D)")):
            embedding_lookup(MAKE[kind](np.zeros(shape, np.float32)), [1])


@pytest.mark.parametrize("params", [[["a"]], [["1.5"]], np.array([[None]]), np.array([["2020"]], "M8[s]")])
def test_params_that_are_no_numbers_are_refused(params):
    with pytest.raises(ArgumentError, match="expected a matrix of numbers"):
        embedding_lookup(params, [0])


def test_ragged_params_are_refused():
    with pytest.raises(ArgumentError, match=r"got params of type list that are no matrix .*\[\[0.1, 0.2\]"):
        embedding_lookup([[1.0, 2.0], [3.0]], [0])


@every_framework
def test_a_list_of_tensors_is_refused_for_it_would_lose_their_gradients(kind):
    with pytest.raises(ArgumentError, match=rf"a list that holds a tensor of {kind.lower()}; .*torch\.stack\(params\)"):
        embedding_lookup([[0.0, 0.0, 0.0], MAKE[kind](PARAMS[0])], [1])


@every_framework
def test_params_of_a_dtype_that_the_framework_lacks_are_refused(kind):
    with pytest.raises(ArgumentError, match=f"got params of dtype .*which {kind.lower()} doesn't have"):
        embedding_lookup(PARAMS.astype(np.longdouble), MAKE[kind](np.array([1], np.int32)))


@pytest.mark.parametrize("depth", [-1, 2.0, True, None, "4", np.bool_(True)])
def test_a_depth_that_is_no_whole_number_is_refused(depth):
    with pytest.raises(ArgumentError, match=r"got a depth of .*hotrow\.one_hot\(ids, len\(params\)\)"):
        one_hot([0], depth)


def test_a_depth_may_be_numpy_s():
    same(one_hot([0], np.int64(2)), "NumPy", np.array([[1, 0]], np.float32))


# --- while TensorFlow draws a graph ----------------------------------------------------------------------------------

INT32 = tf.TensorSpec(None, tf.int32)
SIGNATURES = {
    "known shapes": [tf.TensorSpec([4, 3]), tf.TensorSpec([2, 2], tf.int32)],
    "some sides": [tf.TensorSpec([None, 3]), tf.TensorSpec([None, 2], tf.int32)],
    "no shapes": [tf.TensorSpec(None), INT32],
}


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
def test_a_graph_gives_the_rows_and_its_own_error_with_our_text(signature):
    lookup = tf.function(embedding_lookup, input_signature=signature)
    same(lookup(PARAMS, tf.constant([[1, 2], [3, 0]])), "TensorFlow", PARAMS[[[1, 2], [3, 0]]])
    place = r"2 of all" if signature[1] is INT32 else r"\(1, 0\)"
    for bad in (7, -1, 4, 2**31 - 1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"got {bad} at position {place}; {RANGE}.*hotrow.Tab"):
            lookup(PARAMS, tf.constant([[1, 2], [bad, 9]]))


def test_a_graph_shows_the_place_of_one_id_and_of_many():
    lookup = tf.function(lambda ids: embedding_lookup(PARAMS, ids))
    for ids, message in (
        (9, "got 9; "),
        ([0, 9], "got 9 at position 1; "),
        ([[[9]]], r"got 9 at position \(0, 0, 0\)"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            lookup(tf.constant(ids))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_graph_checks_ids_of_any_integer_dtype(dtype):
    lookup = tf.function(lambda ids: embedding_lookup(PARAMS, ids))
    most = np.iinfo(dtype).max
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"got {most} at position 1"):
        lookup(tf.constant(np.array([0, most], dtype)))


def test_a_graph_checks_one_hot_and_variables_and_loops_and_layers():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"got 4 at position 0.*the columns of a depth of 4"):
        tf.function(lambda ids: one_hot(ids, 4))(tf.constant([4]))
    ids = tf.Variable([1])
    lookup = tf.function(lambda: embedding_lookup(PARAMS, ids))
    same(lookup(), "TensorFlow", PARAMS[[1]])
    ids.assign([5])
    with pytest.raises(tf.errors.InvalidArgumentError, match="got 5 at position 0"):
        lookup()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"got \[9\] at position \[1\]"):
        tf.vectorized_map(lambda i: embedding_lookup(tf.constant(PARAMS), i), tf.constant([[1, 2], [3, 9]]))


def test_a_graph_without_rows_or_of_three_dimensions_fails_when_it_runs():
    lookup = tf.function(embedding_lookup, input_signature=[tf.TensorSpec(None), INT32])
    assert lookup(PARAMS[:0], tf.constant([], tf.int32)).shape == (0, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="got 0 at position 0 of all"):
        lookup(PARAMS[:0], tf.constant([0]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Shape of tensor .*not compatible"):
        lookup(PARAMS[None], tf.constant([0]))


def test_ids_that_python_sees_are_refused_while_the_graph_is_drawn():
    params = tf.constant(PARAMS)

    @tf.function
    def with_a_list():
        return embedding_lookup(params, [1, 9])

    @tf.function
    def with_floats(ids):
        return embedding_lookup(params, ids)

    with pytest.raises(Exception, match=f"IdError: got 9 at position 1; {RANGE}"):  # AutoGraph's StagingError
        with_a_list()
    with pytest.raises(Exception, match=r"KindError: got ids of dtype float32 inside a tf\.function.*tf\.cast"):
        with_floats(tf.constant([1.0]))


REFUSES = "hotrow_checks_every_id__XLA_would_drop_the_check__pass_jit_compile_False"


def test_xla_does_not_compile_what_it_could_not_check_and_says_what_to_do():
    params = tf.Variable(PARAMS)
    inner = tf.function(lambda ids: embedding_lookup(params, ids))
    for function in (
        lambda ids: embedding_lookup(params, ids),
        lambda ids: 2 * inner(ids),
        lambda ids: one_hot(ids, 4),
        lambda ids: tf.map_fn(lambda i: embedding_lookup(params, i), ids, fn_output_signature=tf.float32),
    ):
        for ids in ([1, 2], [1, 7]):
            with pytest.raises(tf.errors.InvalidArgumentError, match=REFUSES):
                tf.function(function, jit_compile=True)(tf.constant(ids))
            if ids == [1, 2]:
                tf.function(function, jit_compile=False)(tf.constant(ids))


def test_xla_compiles_ids_that_were_checked_before():
    lookup = tf.function(lambda params: embedding_lookup(params, [1, 3]), jit_compile=True)
    same(lookup(tf.constant(PARAMS)), "TensorFlow", PARAMS[[1, 3]])


@pytest.mark.long
def test_xla_s_own_clusters_keep_the_check():
    code = f"""
import numpy as np, tensorflow as tf, hotrow
lookup = tf.function(lambda ids: 2 * hotrow.embedding_lookup(np.array({PAGE}, np.float32), ids))
for ids in ([1, 2], [1, 7]):
    try:
        print(lookup(tf.constant(ids)).shape)
    except tf.errors.InvalidArgumentError as error:
        print(error.message)
"""
    flags = {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"}
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **flags}
    ).stdout
    assert "(2, 4)" in said
    assert "got 7 at position 1; expected ids from 0 to 3" in said


# --- while JAX traces ------------------------------------------------------------------------------------------------

JAX_ERRORS = (jax.errors.JaxRuntimeError, ValueError)  # where it is called, or where the result is waited for


def refused_by_jax(call, message):
    with pytest.raises(JAX_ERRORS, match=message):
        np.asarray(call())


def test_jit_raises_jax_s_own_error_with_our_text():
    lookup = jax.jit(embedding_lookup)
    for bad in (7, -1, 4, 2**31 - 1):
        refused_by_jax(lambda bad=bad: lookup(PARAMS, np.array([[1, 2], [bad, 9]])), f"got {bad} at .*1, 0.; {RANGE}")
    refused_by_jax(lambda: lookup(PARAMS, 9), f"got 9; {RANGE}.*{TABLE}")
    hot = jax.jit(lambda ids: one_hot(ids, 4))
    refused_by_jax(lambda: hot(jnp.array([0, 4])), "got 4 at position 1.*the columns of a depth of 4")
    same(lookup(PARAMS, np.array([1, 2])), "JAX", PARAMS[1:3])  # it goes on after that


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_jit_checks_ids_of_any_integer_dtype(dtype):
    most = np.iinfo(dtype).max
    ids = np.array([0, most], dtype)
    refused_by_jax(lambda: jax.jit(embedding_lookup)(PARAMS, ids), f"got {most} at position 1")
    if np.iinfo(dtype).min < 0:
        ids = np.array([0, 0, -1], dtype)
        refused_by_jax(lambda: jax.jit(embedding_lookup)(np.zeros((1000, 2)), ids), "got -1 at position 2")


def test_jit_checks_64_bit_ids_where_jax_has_them():
    with jax.enable_x64(True):
        lookup = jax.jit(embedding_lookup)
        same(lookup(PARAMS, np.array([3, 1])), "JAX", PARAMS[[3, 1]])
        refused_by_jax(lambda: lookup(PARAMS, np.array([2**32 + 1])), "got 4294967297 at position 0")
        refused_by_jax(lambda: lookup(PARAMS, np.array([2**64 - 1], np.uint64)), "got 18446744073709551615")


def test_vmap_grad_and_scan_check_too_and_the_place_is_within_one_example():
    ids = jnp.array([[1, 2], [3, 9]])

    def loss(params, ids):
        return embedding_lookup(params, ids).sum()  # its gradient doesn't depend on the rows

    refused = f"got 9 at position 1; {RANGE}"
    mapped = jax.vmap(embedding_lookup, (None, 0))
    refused_by_jax(lambda: mapped(PARAMS, ids), refused)
    refused_by_jax(lambda: jax.jit(mapped)(PARAMS, ids), refused)
    refused_by_jax(lambda: jax.vmap(mapped, (None, 0))(PARAMS, ids), f"got 9; {RANGE}")
    refused_by_jax(lambda: jax.jit(jax.grad(loss))(PARAMS, ids[1]), refused)
    refused_by_jax(lambda: jax.grad(jax.jit(loss))(PARAMS, ids[1]), refused)
    refused_by_jax(lambda: jax.vmap(jax.grad(loss), (None, 0))(PARAMS, ids), refused)
    refused_by_jax(
        lambda: jax.lax.scan(lambda s, i: (s + loss(PARAMS, i), None), 0.0, ids)[0],
        refused,
    )
    with pytest.raises(IdError, match=r"got 9 at position \(1, 1\)"):  # these ids have values
        jax.grad(loss)(PARAMS, ids)


def test_a_large_batch_is_checked_in_jit_without_waiting_for_ever():
    ids = np.zeros(3_000_000, np.int32)
    lookup = jax.jit(lambda ids: embedding_lookup(PARAMS, ids).sum())
    assert float(lookup(ids)) == 3 * len(ids)
    ids[-1] = 4
    refused_by_jax(lambda: lookup(ids), "got 4 at position 2999999")


def test_jit_refuses_while_tracing_what_no_value_could_mend():
    with pytest.raises(KindError, match=r"got ids of dtype float32 inside jit.*ids\.astype\(int\)"):
        jax.jit(embedding_lookup)(PARAMS, jnp.ones(2))
    with pytest.raises(IdError, match="expected no ids at all, for the rows of params are none"):
        jax.jit(embedding_lookup)(PARAMS[:0], jnp.ones(2, int))
    assert jax.jit(embedding_lookup)(PARAMS[:0], jnp.ones(0, int)).shape == (0, 3)
    with pytest.raises(KindError, match="got params of torch and ids of jax"):
        jax.jit(lambda ids: embedding_lookup(torch.tensor(PARAMS), ids))(jnp.ones(2, int))


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_lists_and_numpy_import_no_framework_and_one_framework_no_other():
    code = """
import sys
import numpy as np, hotrow
hotrow.embedding_lookup([[1.0, 2.0]], [0]), hotrow.one_hot(np.array([0]), 2)
assert not {"tensorflow", "torch", "jax", "keras"} & set(sys.modules)
import torch
hotrow.embedding_lookup(torch.ones(2, 3), [0])
assert not {"tensorflow", "jax", "keras"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_autograph_leaves_it_as_it_is():
    for function in (embedding_lookup, one_hot):
        assert tf.autograph.experimental.do_not_convert(function).autograph_info__ == function.autograph_info__
        assert hotrow.ops.__name__ in function.__module__
