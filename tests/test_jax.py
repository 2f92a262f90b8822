"""hotrow.jax: the functional way, on the host and beside JAX's own transformations."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import conformance
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa
import pytest
from conformance import BAD, DIM, OPTIMIZERS, POOLS
from hypothesis import given, settings
from hypothesis import strategies as st

import hotrow


class InJax:
    """A loss whose derivative by the vectors is exactly the gradients that are asked for."""

    def __init__(self, optimizer=None, kind=None, table=None):
        how = {"optimizer": optimizer or hotrow.SGD(0.1), "seed": 5, "ids": kind}
        self.emb = hotrow.jax.Embedding(None, DIM, **how if table is None else {"table": table})
        self.table = self.emb.table
        self.gradients_of = jax.jit(jax.grad(lambda vectors, gradients: jnp.sum(vectors * gradients)))

    def lookup(self, ids):
        return np.asarray(self.emb.lookup(ids))

    def step(self, ids, gradients):
        batch = self.emb.find(ids)
        self.emb.update(batch, self.gradients_of(self.emb(batch), gradients))


class InsideJit(InJax):
    """The same, with lookups inside of jit, which know the ids as the function's own."""

    def lookup(self, ids):
        return np.asarray(jax.jit(lambda: self.emb.lookup(ids))())


def kind_of(pool):
    return "uint64" if pool == "unsigned" else None


# --- what every way into a table must do alike ------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_the_trained_table_is_the_same_to_the_bit(optimizer):
    conformance.check_trained(InJax(optimizer), "small")


@pytest.mark.parametrize("way", [InJax, InsideJit])
@pytest.mark.parametrize("kind", POOLS)
def test_the_trained_table_is_the_same_for_ids_of_every_kind(kind, way):
    conformance.check_trained(way(hotrow.Adam(0.01), kind_of(kind)), kind)


@pytest.mark.parametrize("way", [InJax, InsideJit])
def test_unknown_ids_have_their_first_value(way):
    conformance.check_unknown(way())


@pytest.mark.parametrize("way", [InJax, InsideJit])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_can_not_be_ids_is_refused_alike(bad, way):
    conformance.check_refused(way(), bad)


# --- find -------------------------------------------------------------------------------------------------------------


def test_find_gives_new_ids_their_row_and_for_inference_none():
    emb = hotrow.jax.Embedding(None, 2)
    emb.find([1, 2], grow=False)
    assert len(emb.table) == 0
    emb.find([1, 2, 1])
    assert emb.table.ids().tolist() == [1, 2]


@pytest.mark.parametrize(
    "ids",
    [
        [[3, 5], [5, 7]],
        np.array([[3, 5], [5, 7]], np.uint8),
        np.array([[3, 5], [5, 7]], np.uint64),
        jnp.array([[3, 5], [5, 7]]),
        jnp.array([[3, 5], [5, 7]], jnp.uint32),
        jnp.array([[3, 5], [5, 7]], jnp.float32),
    ],
    ids=["lists", "uint8", "uint64", "jax int32", "jax uint32", "jax float32"],
)
def test_ids_may_be_of_any_kind_of_array(ids):
    emb = hotrow.jax.Embedding(None, 2)
    vectors = emb(emb.find(ids))
    assert vectors.shape == (2, 2, 2)
    assert vectors.dtype == jnp.float32
    assert isinstance(vectors, jax.Array)
    np.testing.assert_array_equal(vectors, emb.table.lookup([[3, 5], [5, 7]]))


def test_ids_of_64_bits_and_strings_come_as_they_are():
    emb, words = hotrow.jax.Embedding(None, 2), hotrow.jax.Embedding(None, 2)
    emb.find(np.array([2**40 + 5, 5]))
    assert emb.table.ids().tolist() == [2**40 + 5, 5]
    words.find(pa.array(["lantern", "cup"]))
    assert words.table.ids().to_pylist() == ["lantern", "cup"]


def test_jax_itself_has_64_bits_with_x64():
    with jax.enable_x64(True):
        emb = hotrow.jax.Embedding(None, 2)
        emb.find(jnp.array([2**40 + 5]))
    assert emb.table.ids().tolist() == [2**40 + 5]


def test_an_id_beyond_the_bound_is_refused_before_anything_changes():
    emb = hotrow.jax.Embedding(10, 2)
    for ids, said in ([[3, 10]], "got 10 at position (0, 1)"), ([3, -1], "got -1 at position 1"), ([2**63], "got 9223"):
        with pytest.raises(hotrow.IdError) as caught:
            emb.find(ids)
        assert said in str(caught.value)
        assert "expected ids" in str(caught.value) or "from -2**63" in str(caught.value)
        with pytest.raises(hotrow.IdError):
            emb.lookup(ids)
    with pytest.raises(hotrow.KindError, match="expected integers"):
        emb.find(["lantern"])
    assert len(emb.table) == 0
    emb.find([0, 9])
    assert len(emb.table) == 2


def test_a_batch_is_found_again_as_it_is():
    emb = hotrow.jax.Embedding(10, 2)
    batch = emb.find([1, 2])
    assert emb.find(batch) is batch


# --- vectors and gradients --------------------------------------------------------------------------------------------


def dense_and_sparse(optax_optimizer, optimizer, batches, rows=6):
    """The same training with a matrix and optax, and with hotrow: float32 (rows, DIM) each."""
    emb = hotrow.jax.Embedding(rows, DIM, optimizer=optimizer, seed=5)
    matrix = jnp.asarray(emb.table.lookup(np.arange(rows)))
    state = optax_optimizer.init(matrix)

    def loss(vectors, targets):
        return jnp.mean((jnp.tanh(vectors) - targets) ** 2)

    for ids, targets in batches:
        gradient = jax.grad(lambda matrix, ids=ids, targets=targets: loss(jnp.take(matrix, ids, axis=0), targets))(
            matrix
        )
        change, state = optax_optimizer.update(gradient, state, matrix)
        matrix = optax.apply_updates(matrix, change)
        batch = emb.find(ids)
        emb.update(batch, jax.grad(loss)(emb(batch), targets))
    return matrix, emb.table.lookup(np.arange(rows))


def targets_for(ids):
    return (np.arange(ids.size * DIM).reshape(*ids.shape, DIM) % 7 - 3).astype(np.float32)


@settings(max_examples=20)  # JAX compiles anew for each shape
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=4))
def test_sgd_on_a_table_is_sgd_on_a_matrix(batches):
    given_ = [(np.array(ids), targets_for(np.array(ids))) for ids in batches]
    dense, sparse = dense_and_sparse(optax.sgd(0.1), hotrow.SGD(0.1), given_)
    np.testing.assert_allclose(dense, sparse, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (optax.adam(0.05), hotrow.Adam(0.05)),
        (optax.adamw(0.05, weight_decay=0.1), hotrow.AdamW(0.05, weight_decay=0.1)),
        (optax.lion(0.05, b2=0.99, weight_decay=0.0), hotrow.Lion(0.05, beta_2=0.99)),
        (optax.sgd(0.05, momentum=0.9), hotrow.SGD(0.05, momentum=0.9)),
    ],
    ids=["adam", "adamw", "lion", "momentum"],
)
def test_where_every_batch_has_every_row_optax_ends_in_the_same_place(theirs, ours):
    rng = np.random.default_rng(1)
    ids = [np.concatenate([rng.permutation(6), rng.integers(0, 6, 6)]) for _ in range(8)]
    dense, sparse = dense_and_sparse(theirs, ours, [(i, targets_for(i)) for i in ids])
    np.testing.assert_allclose(dense, sparse, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_gradients_of_half_precision_are_taken_as_float32(dtype):
    tables = []
    for convert in (lambda g: g.astype(dtype), lambda g: np.asarray(g.astype(dtype).astype(jnp.float32))):
        emb = hotrow.jax.Embedding(None, DIM)
        emb.update(emb.find([1, 2, 1]), convert(jnp.linspace(-1, 1, 3 * DIM).reshape(3, DIM)))
        tables.append(emb.table.vectors())
    np.testing.assert_array_equal(*tables)


def test_what_is_not_finite_goes_where_the_gradient_goes():
    emb = hotrow.jax.Embedding(None, 2, optimizer=hotrow.SGD(1.0))
    emb.update(emb.find([1, 2]), jnp.array([[jnp.nan, 0.0], [0.0, 0.0]]))
    vectors = emb.table.lookup([1, 2])
    assert np.isnan(vectors).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(
    "rate", [0.5, np.float32(0.5), jnp.float32(0.5), optax.constant_schedule(0.5)(3), jnp.array(0.5)]
)
def test_the_learning_rate_of_a_step_is_a_number(rate):
    emb = hotrow.jax.Embedding(None, 1, optimizer=hotrow.SGD(9.0), initializer=hotrow.Zeros())
    emb.update(emb.find([1]), jnp.ones((1, 1)), rate)
    assert emb.table.lookup([1]).tolist() == [[-0.5]]


def test_a_schedule_of_optax_goes_on_with_the_steps_of_the_table():
    emb = hotrow.jax.Embedding(None, 1, optimizer=hotrow.SGD(), initializer=hotrow.Zeros())
    schedule = optax.piecewise_constant_schedule(1.0, {2: 0.5})
    batch = emb.find([1])
    for _ in range(4):
        emb.update(batch, jnp.ones((1, 1)), learning_rate=schedule(emb.table.steps))
    assert emb.table.lookup([1]).tolist() == [[-sum(float(schedule(i)) for i in range(4))]]


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (optax.constant_schedule(0.5), "learning_rate=schedule(emb.table.steps)"),
        ([0.1, 0.2], "must be one number"),
        ("fast", "must be one number"),
        (jnp.nan, "must be finite"),
        (-1.0, "not negative"),
    ],
    ids=["a schedule", "two", "a word", "NaN", "negative"],
)
def test_what_is_no_learning_rate_is_refused_and_nothing_changes(rate, said):
    emb = hotrow.jax.Embedding(None, 1)
    batch = emb.find([1])
    before = emb.table.vectors()
    with pytest.raises(hotrow.ArgumentError) as caught:
        emb.update(batch, jnp.ones((1, 1)), rate)
    assert said in str(caught.value)
    np.testing.assert_array_equal(emb.table.vectors(), before)
    assert emb.table.steps == 0


@pytest.mark.parametrize("gradients", [jnp.ones((3, DIM)), jnp.ones((2, DIM), int), None, {"vectors": 1}, "no"])
def test_what_are_no_gradients_of_these_vectors_is_refused(gradients):
    emb = hotrow.jax.Embedding(None, DIM)
    with pytest.raises(hotrow.ArgumentError, match=r"gradients must be floating, of shape \(2, 4\)"):
        emb.update(emb.find([1, 2]), gradients)
    assert emb.table.steps == 0


def test_a_step_on_ids_without_a_row_changes_nothing():
    emb = hotrow.jax.Embedding(None, 2)
    emb.find([1])
    before = emb.table.vectors()
    with pytest.raises(hotrow.UnknownIdError, match="id 2 "):
        emb.update(emb.find([1, 2], grow=False), jnp.ones((2, 2)))
    np.testing.assert_array_equal(emb.table.vectors(), before)


def test_only_a_batch_of_this_table_gives_vectors_and_takes_gradients():
    emb, other = hotrow.jax.Embedding(None, 2), hotrow.jax.Embedding(None, 2)
    for call in (lambda: emb([1, 2]), lambda: emb.update([1, 2], jnp.ones((2, 2)))):
        with pytest.raises(hotrow.ArgumentError, match="expected a Batch"):
            call()
    with pytest.raises(hotrow.ArgumentError, match=r"emb\(batch\)"):
        emb.lookup(emb.find([1]))
    for call in (lambda: emb(other.find([1])), lambda: emb.update(other.find([1]), jnp.ones((1, 2)))):
        with pytest.raises(hotrow.ArgumentError, match="another table"):
            call()


def test_vectors_may_be_donated():
    emb = hotrow.jax.Embedding(None, 16)
    batch = emb.find(np.arange(64))
    double = jax.jit(lambda vectors: 2 * vectors, donate_argnums=0)
    results = [double(emb(batch)) for _ in range(5)]
    for result in results:
        np.testing.assert_array_equal(result, 2 * emb.table.lookup(batch))


def test_vectors_do_not_change_when_the_table_does():
    emb = hotrow.jax.Embedding(None, 16)
    batch = emb.find(np.arange(64))
    vectors = emb(batch)
    before = np.array(vectors)
    emb.update(batch, jnp.ones((64, 16)))
    np.testing.assert_array_equal(vectors, before)
    assert (np.asarray(emb(batch)) != before).all()


# --- JAX's transformations over the vectors ---------------------------------------------------------------------------


def error_of_one(vector, target):
    return jnp.sum((jnp.sin(vector) - target) ** 2)


def test_per_example_gradients_by_vmap_are_those_of_the_sum_and_one_step():
    tables = []
    for gradients_of in (jax.vmap(jax.grad(error_of_one)), jax.grad(lambda v, t: jax.vmap(error_of_one)(v, t).sum())):
        emb = hotrow.jax.Embedding(None, DIM, optimizer=hotrow.SGD(0.1))
        ids = np.array([2**40, 3, 2**40, 5])
        batch = emb.find(ids)
        emb.update(batch, jax.jit(gradients_of)(emb(batch), jnp.ones((4, DIM))))
        assert emb.table.steps == 1
        assert len(emb.table) == 3
        tables.append(emb.table.lookup(ids))
    np.testing.assert_allclose(*tables, rtol=1e-6)


def test_a_scan_over_steps_of_a_sequence_gives_gradients_of_each_vector():
    emb = hotrow.jax.Embedding(None, DIM)
    vectors = emb(emb.find([["a", "b", "a"], ["c", "a", "d"]]))

    def by_scan(vectors):
        state, _ = jax.lax.scan(lambda h, v: (jnp.tanh(h + v), None), jnp.zeros((2, DIM)), jnp.swapaxes(vectors, 0, 1))
        return state.sum()

    def by_loop(vectors):
        h = jnp.zeros((2, DIM))
        for t in range(3):
            h = jnp.tanh(h + vectors[:, t])
        return h.sum()

    np.testing.assert_allclose(jax.grad(by_scan)(vectors), jax.grad(by_loop)(vectors), rtol=1e-5)


def test_value_and_grad_over_vectors_and_dense_weights_at_once():
    emb = hotrow.jax.Embedding(None, DIM, optimizer=hotrow.Adagrad(0.5))
    weights, ids, y = jnp.ones(DIM), [["a", "b"], ["c", "a"]], jnp.array([1.0, -1.0])
    step = jax.jit(jax.value_and_grad(lambda w, v: jnp.mean((v.mean(1) @ w - y) ** 2), argnums=(0, 1)))
    losses = []
    for _ in range(30):
        batch = emb.find(ids)
        loss, (dense, gradients) = step(weights, emb(batch))
        weights -= 0.1 * dense
        emb.update(batch, gradients)
        losses.append(float(loss))
    assert losses[-1] < 0.01 * losses[0]


def test_the_distinct_vectors_alone_give_the_same_step():
    tables = []
    for distinct_alone in (False, True):
        emb = hotrow.jax.Embedding(None, DIM, optimizer=hotrow.Adam(0.1))
        for ids, gradients in conformance.batches("strings"):
            batch = emb.find(ids)
            if distinct_alone:
                once, inverse = batch.unrepeated(), batch.inverse.reshape(batch.shape)
                emb.update(once, jax.grad(lambda v, i=inverse, g=gradients: jnp.sum(v[i] * g))(emb(once)))
            else:
                emb.update(batch, jax.grad(lambda v, g=gradients: jnp.sum(v * g))(emb(batch)))
        tables.append(emb.table.vectors())
    np.testing.assert_allclose(*tables, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "transformed",
    [
        lambda emb: jax.jit(lambda ids: emb(emb.find(ids)))(jnp.arange(3)),
        lambda emb: jax.vmap(lambda i: emb(emb.find(i)))(jnp.arange(3)),
        lambda emb: jax.grad(lambda ids: emb(emb.find(ids)).sum())(jnp.arange(3.0)),
        lambda emb: jax.lax.scan(lambda s, i: (s, emb.find(i)), 0, jnp.arange(3)),
        lambda emb: jax.jit(lambda a, b: emb.find([a, [b]]))(1, 2),
        lambda emb: jax.jit(lambda ends: emb.find([1, 2], offsets=ends))(jnp.array([0, 2])),
        lambda emb: jax.jit(lambda: emb.find([1, 2]).rows)(),
        lambda emb: jax.jit(partial(emb.update, emb.table.find([1])))(jnp.ones((1, 2))),
        lambda emb: jax.jit(partial(emb.update, emb.table.find([1]), np.ones((1, 2), np.float32)))(),
        lambda emb: jax.jit(partial(emb, emb.table.find([1])))(),
    ],
    ids=["jit", "vmap", "grad", "scan", "list", "offsets", "known ids", "update", "known gradients", "vectors"],
)
def test_what_belongs_on_the_host_says_so_inside_of_a_traced_function(transformed):
    emb = hotrow.jax.Embedding(None, 2)
    with pytest.raises(hotrow.ArgumentError) as caught:
        transformed(emb)
    assert "expected the call outside of the function that JAX traces" in str(caught.value)
    assert "emb.update(batch, gradients)" in str(caught.value)
    assert len(emb.table) == 0
    assert emb.table.steps == 0


def test_an_embedding_is_no_pytree():
    emb = hotrow.jax.Embedding(None, 2)
    assert jax.tree.leaves(emb) == [emb]
    with pytest.raises(TypeError, match="Embedding"):
        jax.jit(lambda emb: 0)(emb)


# --- bags and padding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["sum", "mean", "sqrtn", "max"])
def test_bags_are_those_of_the_table(pooling):
    ids, offsets = ["a", "b", "a", "c"], jnp.array([0, 2, 2, 4])
    weights = None if pooling == "max" else jnp.array([1.0, 2.0, 3.0, 4.0])
    how = {"offsets": offsets, "weights": weights, "pooling": pooling}
    emb, table = hotrow.jax.Embedding(None, DIM, seed=5), hotrow.Table(DIM, seed=5)
    batch, expected = emb.find(ids, **how), table.find(ids, grow=True, **how)
    vectors = emb(batch)
    assert vectors.shape == (3, DIM)
    np.testing.assert_array_equal(vectors, table.lookup(expected))
    gradients = jax.grad(lambda v: jnp.sum(v**2 + v))(vectors)
    emb.update(batch, gradients)
    table.update(expected, np.asarray(gradients))
    np.testing.assert_array_equal(emb.table.lookup(ids), table.lookup(ids))


def test_padding_is_zeros_and_gets_no_row_and_no_gradient():
    emb = hotrow.jax.Embedding(None, 2, mask_id="")
    batch = emb.find([["a", ""], ["b", "a"]])
    vectors = emb(batch)
    assert vectors[0, 1].tolist() == [0.0, 0.0]
    emb.update(batch, jnp.ones((2, 2, 2)))
    assert emb.table.ids().to_pylist() == ["a", "b"]
    assert emb.lookup(["", "a"])[0].tolist() == [0.0, 0.0]
    assert np.asarray(emb(emb.find(["a", "b"], mask="b"))).all(axis=1).tolist() == [True, False]


def test_padding_may_lie_beyond_the_bound():
    emb = hotrow.jax.Embedding(3, 2, mask_id=-1)
    assert emb(emb.find([2, -1]))[1].tolist() == [0.0, 0.0]
    assert jax.jit(emb.lookup)(jnp.array([2, -1]))[1].tolist() == [0.0, 0.0]
    with pytest.raises(hotrow.IdError, match="got -2 at position 1"):
        emb.find([2, -2])


# --- what it is made of -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named", "said"),
    [
        ((0, 2), {}, "input_dim must be"),
        ((True, 2), {}, "input_dim must be"),
        (("10", 2), {}, "input_dim must be"),
        ((None, 0), {}, "dim must be"),
        ((None, 2), {"ids": "text"}, "ids must be one of"),
        ((None, 2), {"optimizer": "adam"}, "hotrow.Adam"),
        ((None, 2), {"optimizer": optax.adam(1e-3)}, "hotrow.Adam"),
        ((None, 2), {"table": hotrow.Table(3)}, "vectors of 2 floats"),
        ((None, 2), {"table": {}}, "must be a hotrow.Table"),
        ((None, 2), {"table": hotrow.Table(2), "seed": 1}, "brings its optimizer"),
    ],
)
def test_arguments_that_can_not_be_right_are_refused(arguments, named, said):
    with pytest.raises(hotrow.ArgumentError) as caught:
        hotrow.jax.Embedding(*arguments, **named)
    assert said in str(caught.value)


def test_a_mask_that_is_no_id_of_this_table_is_refused():
    with pytest.raises(hotrow.KindError):
        hotrow.jax.Embedding(10, 2, mask_id="")
    with pytest.raises(hotrow.IdError):
        hotrow.jax.Embedding(None, 2, mask_id=0.5)


def test_two_embeddings_may_share_a_table():
    table = hotrow.Table(2, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    left, right = hotrow.jax.Embedding(None, 2, table=table), hotrow.jax.Embedding(100, 2, table=table)
    left.update(left.find([7]), jnp.ones((1, 2)))
    assert right.lookup([7]).tolist() == [[-1.0, -1.0]]


def test_a_view_can_be_read_and_not_trained(tmp_path):
    trained = hotrow.jax.Embedding(None, 2)
    trained.find([3, 5])
    trained.table.save(tmp_path / "table")
    emb = hotrow.jax.Embedding(100, 2, table=hotrow.view(tmp_path / "table"))
    np.testing.assert_array_equal(jax.jit(emb.lookup)(jnp.array([5, 9])), trained.lookup([5, 9]))
    batch = emb.find([5], grow=False)
    for call in (
        lambda: emb.find([5]),
        lambda: emb.update(batch, jnp.ones((1, 2))),
        emb.state_dict,
        lambda: emb.load_state_dict(trained.state_dict()),
    ):
        with pytest.raises(hotrow.ArgumentError, match="expected"):
            call()


def test_without_jax_the_error_says_how_to_get_it():
    code = (
        "import sys, hotrow\n"
        "sys.modules['jax'] = None\n"
        "try:\n    hotrow.jax\n"
        "except hotrow.MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert 'pip install "hotrow[jax]"' in done.stdout
