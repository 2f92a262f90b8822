"""hotrow.jax.Embedding.lookup inside of JAX's compiled functions; and the table as named arrays."""

from __future__ import annotations

import threading

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from conformance import DIM, OPTIMIZERS
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

import hotrow


class Counting(hotrow.Table):
    """A table that counts how often it is asked for vectors."""

    asked = 0

    def lookup(self, ids, **how):
        self.asked += 1
        return super().lookup(ids, **how)


def small(**how):
    """Ten ids, of which 0 to 4 have a row that isn't their first value."""
    emb = hotrow.jax.Embedding(10, DIM, optimizer=hotrow.SGD(1.0), **how)
    emb.update(emb.find(np.arange(5)), jnp.ones((5, DIM)))
    return emb


WAYS = {
    "eager": lambda emb, ids: emb.lookup(ids),
    "jit": lambda emb, ids: jax.jit(emb.lookup)(ids),
    "vmap": lambda emb, ids: jax.vmap(emb.lookup)(ids),
    "vmap twice in jit": lambda emb, ids: jax.jit(jax.vmap(jax.vmap(emb.lookup)))(ids),
    "vmap over the other axis": lambda emb, ids: jax.vmap(emb.lookup, in_axes=1, out_axes=1)(ids),
    "scan": lambda emb, ids: jax.lax.scan(lambda s, i: (s, emb.lookup(i)), 0, ids)[1],
    "map": lambda emb, ids: jax.lax.map(emb.lookup, ids),
    "vmap in scan": lambda emb, ids: jax.lax.scan(lambda s, i: (s, jax.vmap(emb.lookup)(i)), 0, ids)[1],
    "cond": lambda emb, ids: jax.jit(lambda i: jax.lax.cond(i.sum() > 0, emb.lookup, lambda i: emb.lookup(i) * 0, i))(
        ids
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint32, jnp.int8, jnp.uint16])
def test_a_lookup_is_the_same_in_every_transformation(way, dtype):
    emb = small()
    ids = np.array([[1, 9, 1], [4, 0, 7]])
    vectors = way(emb, jnp.asarray(ids, dtype))
    assert vectors.dtype == jnp.float32
    np.testing.assert_array_equal(vectors, emb.table.lookup(ids))
    assert len(emb.table) == 5


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_with_x64_ids_of_64_bits_are_looked_up_inside_of_jit(dtype):
    top = {"int64": -(2**40) - 5, "uint64": 2**63 + 5}[dtype]
    emb = hotrow.jax.Embedding(None, DIM, ids=dtype)
    ids = np.array([[5, top], [2**40 + 5, 7]] if dtype == "int64" else [[5, top], [2**63 + 6, 7]], dtype)
    emb.find(ids)
    with jax.enable_x64(True):
        for way in WAYS.values():
            np.testing.assert_array_equal(way(emb, jnp.asarray(ids)), emb.table.lookup(ids))


def test_no_ids_give_no_vectors():
    emb = small()
    assert jax.jit(emb.lookup)(jnp.zeros((2, 0), int)).shape == (2, 0, DIM)
    assert jax.vmap(emb.lookup)(jnp.zeros((0, 3), int)).shape == (0, 3, DIM)


@given(st.lists(st.integers(0, 9), max_size=6))
def test_what_is_compiled_once_finds_any_ids(ids):
    emb = small()
    padded = np.array(ids + [0] * (6 - len(ids)))
    np.testing.assert_array_equal(jax.jit(emb.lookup)(padded), emb.table.lookup(padded))


@pytest.mark.parametrize("ids", [["a", "c"], [["a"], ["c"]], "a", np.array([2**40 + 5, 7]), 2**63 + 5])
def test_ids_that_the_function_itself_holds_are_looked_up_as_they_are(ids):
    emb = hotrow.jax.Embedding(None, DIM)
    compiled = jax.jit(lambda scale: scale * emb.lookup(ids))
    np.testing.assert_array_equal(compiled(1.0), emb.lookup(ids))
    batch = emb.find(ids)
    emb.update(batch, jnp.ones((*batch.shape, DIM)))
    np.testing.assert_array_equal(compiled(1.0), emb.table.lookup(ids))


def test_ids_that_the_function_holds_do_not_change_with_their_array():
    emb, ids = small(), np.array([1, 2])
    compiled = jax.jit(lambda: emb.lookup(ids))
    compiled()
    ids[:] = 3
    np.testing.assert_array_equal(compiled(), emb.table.lookup([1, 2]))


def test_the_table_is_read_when_the_function_runs():
    emb = small()
    compiled = jax.jit(emb.lookup)
    for row in (1, 8):  # one that has a row, and one that gets it
        before = np.asarray(compiled(jnp.array([row])))
        emb.update(emb.find([row]), jnp.ones((1, DIM)))
        np.testing.assert_allclose(compiled(jnp.array([row])), before - 1)


def test_the_table_that_was_loaded_is_read_by_what_was_compiled_before():
    emb = small()
    saved = emb.state_dict()
    compiled = jax.jit(emb.lookup)
    before = np.asarray(compiled(jnp.arange(10)))
    emb.update(emb.find(np.arange(10)), jnp.ones((10, DIM)))
    emb.load_state_dict(saved)
    np.testing.assert_array_equal(compiled(jnp.arange(10)), before)


def test_unknown_ids_have_what_was_asked_for():
    emb = small()
    ids = jnp.array([1, 7])
    assert jax.jit(lambda i: emb.lookup(i, unknown="zero"))(ids)[1].tolist() == [0.0] * DIM
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"id 7 \(position 1\) has no row"):
        jax.block_until_ready(jax.jit(lambda i: emb.lookup(i, unknown="error"))(ids))


def test_a_whole_vmap_is_one_call_of_the_host():
    table = Counting(DIM)
    emb = hotrow.jax.Embedding(1000, DIM, table=table)

    def loss(weights, ids):
        return jnp.sum(weights * emb.lookup(ids))

    jax.block_until_ready(jax.vmap(jax.grad(loss), (None, 0))(jnp.ones(DIM), jnp.arange(60).reshape(20, 3)))
    assert table.asked == 1


# --- gradients --------------------------------------------------------------------------------------------------------

GRADIENTS = {
    "grad": lambda f, w: jax.grad(f)(w),
    "grad of jit": lambda f, w: jax.grad(jax.jit(f))(w),
    "jit of grad": lambda f, w: jax.jit(jax.grad(f))(w),
    "remat": lambda f, w: jax.jit(jax.grad(jax.checkpoint(f)))(w),
    "jvp": lambda f, w: jax.jacfwd(f)(w),
    "hessian": lambda f, w: jax.hessian(f)(w),
    "vmap": lambda f, w: jax.vmap(jax.grad(f))(jnp.stack([w, 2 * w])),
}


@pytest.mark.parametrize("way", GRADIENTS.values(), ids=GRADIENTS.keys())
def test_to_a_gradient_the_vectors_are_constants(way):
    emb, ids = small(), jnp.array([1, 2, 8])
    known = jnp.asarray(emb.table.lookup(np.asarray(ids)))
    before = emb.table.vectors()
    weights = jnp.linspace(-1, 1, DIM)
    inside = way(lambda w: jnp.sum(jnp.tanh(emb.lookup(ids) * w)), weights)
    np.testing.assert_allclose(inside, way(lambda w: jnp.sum(jnp.tanh(known * w)), weights), rtol=1e-6)
    np.testing.assert_array_equal(emb.table.vectors(), before)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [way for name, way in WAYS.items() if name != "eager"])
def test_an_id_beyond_the_bound_is_an_error_that_has_our_text(way):
    emb = small()
    errors = hotrow.IdError, jax.errors.JaxRuntimeError  # our own where nothing is compiled
    with pytest.raises(errors, match="expected ids from 0 to 9, the input_dim of this Embedding"):
        jax.block_until_ready(way(emb, jnp.array([[1, 2, 10]])))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint32])
def test_without_x64_a_table_without_bound_takes_no_ids_that_jax_may_have_cut(dtype):
    emb = hotrow.jax.Embedding(None, DIM)
    with pytest.raises(hotrow.KindError) as caught:
        jax.jit(emb.lookup)(jnp.array([1, 2], dtype))
    assert "cuts 64-bit integers to 32 bits" in str(caught.value)
    assert "hotrow.jax.Embedding(2**31, 4, table=emb.table)" in str(caught.value)
    bounded = hotrow.jax.Embedding(2**31, 4, table=emb.table)
    np.testing.assert_array_equal(jax.jit(bounded.lookup)(jnp.array([1, 2], dtype)), emb.lookup([1, 2]))


@pytest.mark.parametrize(
    "bad", [jnp.array([1.0]), jnp.array([True]), jnp.array([1 + 1j]), jnp.array([1], jnp.bfloat16)]
)
def test_ids_that_are_no_integers_are_refused_where_they_can_not_be_seen(bad):
    with pytest.raises(hotrow.KindError, match="expected integers"):
        jax.jit(small().lookup)(bad)


def test_a_list_of_traced_values_is_refused_with_the_right_call():
    emb = small()
    with pytest.raises(hotrow.ArgumentError, match=r"jnp.stack\(ids\)"):
        jax.jit(lambda a, b: emb.lookup([a, b]))(1, 2)


# --- beside updates ---------------------------------------------------------------------------------------------------


def test_a_result_that_was_waited_for_has_nothing_of_a_later_update():
    emb, ids = small(), jnp.arange(10)
    compiled = jax.jit(emb.lookup)
    for _ in range(20):
        expected = emb.table.lookup(np.arange(10))
        result = jax.block_until_ready(compiled(ids))
        emb.update(emb.find(np.arange(10)), jnp.ones((10, DIM)))
        np.testing.assert_array_equal(result, expected)


def test_a_lookup_beside_updates_sees_all_of_an_update_or_nothing():
    emb = hotrow.jax.Embedding(200, DIM, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    batch = emb.find(np.arange(200))
    compiled, stop, seen = jax.jit(emb.lookup), threading.Event(), []

    def look():
        while not stop.is_set():
            seen.append(np.unique(compiled(jnp.arange(200))).tolist())

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    running = []
    for _ in range(100):
        running.append(compiled(jnp.arange(200)))  # not waited for
        emb.update(batch, jnp.ones((200, DIM)))
    stop.set()
    for reader in readers:
        reader.join()
    seen += [np.unique(vectors).tolist() for vectors in running]
    assert all(len(values) == 1 for values in seen)
    assert all(-100 <= values[0] <= 0 for values in seen)
    ours = [values[0] for values in seen[-100:]]
    assert all(value <= -i for i, value in enumerate(ours))  # never from before it was asked


# --- as arrays --------------------------------------------------------------------------------------------------------


def trained(optimizer, kind, n, emb=None, skip=0):
    emb = emb or hotrow.jax.Embedding(None, DIM, optimizer=optimizer, seed=5)
    for ids, gradients in conformance.batches(kind)[skip : skip + n]:
        emb.update(emb.find(ids), gradients)
    return emb


def assert_same(left, right):
    left, right = left.state_dict(), right.state_dict()
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name])


@pytest.mark.parametrize("kind", ["64 bits", "strings"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_training_goes_on_from_arrays_to_the_same_bits(optimizer, kind, tmp_path):
    straight = trained(optimizer, kind, 10)
    np.savez(tmp_path / "table.npz", **trained(optimizer, kind, 5).state_dict())
    resumed = hotrow.jax.Embedding(None, DIM)
    with np.load(tmp_path / "table.npz", allow_pickle=False) as arrays:
        resumed.load_state_dict(arrays)
    trained(optimizer, kind, 5, resumed, skip=5)
    assert_same(straight, resumed)


@pytest.mark.parametrize("kind", ["64 bits", "unsigned", "strings"])
def test_an_orbax_checkpoint_holds_table_and_parameters(kind, tmp_path):
    emb = trained(hotrow.Adam(0.1), kind, 3)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step 3", {"table": emb.state_dict(), "dense": jnp.ones(3)})
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "step 3")
    other = hotrow.jax.Embedding(None, DIM)
    other.load_state_dict(restored["table"])
    assert_same(emb, other)


def test_an_empty_table_and_one_with_forgotten_ids_come_back():
    for emb in (hotrow.jax.Embedding(None, DIM, ids="string"), trained(hotrow.SGD(), "strings", 3)):
        if len(emb.table):
            emb.table.forget(emb.table.ids().to_pylist()[:2])
        other = hotrow.jax.Embedding(None, DIM)
        other.load_state_dict(emb.state_dict())
        assert_same(emb, other)


def test_the_arrays_are_of_one_moment_and_stay_it():
    emb = small()
    arrays = emb.state_dict()
    before = arrays["weights"].copy()
    emb.update(emb.find(np.arange(5)), jnp.ones((5, DIM)))
    np.testing.assert_array_equal(arrays["weights"], before)


def test_a_batch_found_before_a_load_knows_its_ids_no_more():
    emb = small()
    batch = emb.find([1])
    emb.load_state_dict(emb.state_dict())
    before = emb.table.vectors()
    emb.update(batch, jnp.ones((1, DIM)))
    np.testing.assert_array_equal(emb.table.vectors(), before)


@pytest.mark.parametrize(
    ("emb", "said"),
    [
        (hotrow.jax.Embedding(None, DIM + 1), "expected hotrow.jax.Embedding(None, 4)"),
        (hotrow.jax.Embedding(None, DIM, ids="string"), "for string ids"),
        (hotrow.jax.Embedding(4, DIM), "got 4 at position 4"),
    ],
)
def test_arrays_of_another_embedding_are_refused(emb, said):
    with pytest.raises(hotrow.HotrowError) as caught:
        emb.load_state_dict(small().state_dict())
    assert said in str(caught.value)
    assert len(emb.table) == 0


ARRAYS = trained(hotrow.Adam(0.1), "strings", 4).state_dict()


def damaged(draw_of, name, arrays):
    """One array of them changed in one way."""
    array = arrays[name]
    i = draw_of(st.integers(0, max(0, array.size - 1)))
    ways = {
        "gone": lambda: None,
        "shorter": lambda: array[:-1],
        "longer": lambda: np.concatenate([array, array[-1:]]),
        "other dtype": lambda: array.astype(np.float64),
        "object": lambda: array.astype(object),
        "jax": lambda: jnp.asarray(array),
        "flat": lambda: array.reshape(-1, 1),
        "a list": array.tolist,
        "a byte": lambda: flipped(array, i),
    }
    return ways[draw_of(st.sampled_from(sorted(ways)))]()


def flipped(array, i):
    copy = array.copy()
    copy.view(np.uint8).reshape(-1)[i] ^= 255
    return copy


@given(st.data())
def test_damaged_arrays_are_refused_or_make_a_table_that_works(data):
    name = data.draw(st.sampled_from(sorted(ARRAYS)))
    changed = damaged(data.draw, name, ARRAYS)
    arrays = {k: v for k, v in ARRAYS.items() if k != name} | ({} if changed is None else {name: changed})
    emb = hotrow.jax.Embedding(None, DIM)
    try:
        emb.load_state_dict(arrays)
    except (hotrow.CorruptError, hotrow.ArgumentError):
        assert len(emb.table) == 0
        assert emb.table.kind is None
    else:
        ids = emb.table.ids()
        emb.update(emb.find(ids), np.ones((len(ids), DIM), np.float32))
        assert len(emb.table) == len(ids)


@pytest.mark.parametrize("given_", [None, [1, 2], {}, {"config": None}, {"keys": np.zeros(3)}, ARRAYS | {"more": 1}])
def test_what_are_no_such_arrays_is_refused(given_):
    with pytest.raises((hotrow.CorruptError, hotrow.ArgumentError), match="expected"):
        hotrow.jax.Embedding(None, DIM).load_state_dict(given_)


def test_a_file_with_pickled_objects_in_it_is_corrupt(tmp_path):
    np.savez(tmp_path / "table.npz", **(ARRAYS | {"keys": np.array([{}], object)}))
    with np.load(tmp_path / "table.npz") as arrays, pytest.raises(hotrow.CorruptError):
        hotrow.jax.Embedding(None, DIM).load_state_dict(arrays)


def test_a_flax_module_may_hold_an_embedding_to_look_up_in():
    class Net(nnx.Module):
        def __init__(self, emb, rngs):
            self.emb, self.out = emb, nnx.Linear(DIM, 1, rngs=rngs)

        def __call__(self, ids):
            return self.out(self.emb.lookup(ids))

    emb, ids = small(), jnp.array([1, 8])
    net = Net(emb, nnx.Rngs(0))
    compiled = nnx.jit(lambda net, ids: net(ids))
    for _ in range(2):
        np.testing.assert_allclose(compiled(net, ids), net.out(emb.lookup(ids)), rtol=1e-6)
        emb.update(emb.find([1, 8]), jnp.ones((2, DIM)))
    gradients = nnx.grad(lambda net: net(ids).sum())(net)
    np.testing.assert_allclose(gradients["out"]["kernel"][...][:, 0], emb.lookup(ids).sum(0), rtol=1e-6)
    assert nnx.merge(*nnx.split(net)).emb is emb
