"""Which inputs are ids, in models of every shape: functional, subclassed, Sequential, nested in each other."""

from __future__ import annotations

import gc
import weakref
from typing import ClassVar

import keras
import nets
import numpy as np
import pytest
from keras import layers, ops
from nets import DIM, KINDS

import hotrow
from hotrow.errors import ArgumentError, KindError

E = hotrow.keras.Embedding
BIG = 2**40
LABELS = [0, 1, 0, 1, 1, 0, 0, 1]
TEXT = [f"user {i}" for i in range(8)]


def array(tensor):
    return ops.convert_to_numpy(tensor)


def step(model, x, y=None, **how):
    """Compile and train one step; returns the model."""
    out = array(model(x))
    model.compile("sgd", "mse", **how)
    model.fit(x, np.ones_like(out) if y is None else y, verbose=0)
    return model


# --- functional ------------------------------------------------------------------------------------------------------


def test_an_input_that_only_hotrow_layers_read_becomes_int32():
    ids, price = keras.Input((None,)), keras.Input((1,))
    assert ids.dtype == "float32"
    model = hotrow.keras.Model([ids, price], [E(None, DIM)(ids), layers.Dense(1)(price)])
    assert [tensor.dtype for tensor in model.inputs] == ["int32", "float32"]
    sequential = hotrow.keras.Sequential([keras.Input((2,)), E(None, DIM)])
    assert sequential.inputs[0].dtype == "int32"


@pytest.mark.parametrize("make", [hotrow.keras.Model, hotrow.keras.Sequential])
def test_an_input_of_ids_may_have_any_dtype_of_its_own(make):
    for dtype in ("int8", "int64", "uint8", "float16", "string"):
        ids = keras.Input((2,), dtype=dtype)
        model = make(ids, E(None, DIM)(ids)) if make is hotrow.keras.Model else make([ids, E(None, DIM)])
        step(model, [[BIG, 7]])
        table = model.layers[-1].table
        assert table.ids().tolist() == [BIG, 7]


def test_an_input_read_as_ids_and_as_numbers_is_refused_and_both_are_named():
    ids = keras.Input((4,), name="both")
    layer, dense = E(None, DIM, name="words"), layers.Dense(1, name="heights")
    outputs = [layer(ids), dense(ids)]
    with pytest.raises(ArgumentError, match=r"input 'both' is read by the hotrow layer 'words', .* and by 'heights'"):
        hotrow.keras.Model(ids, outputs)
    for spoil in (lambda x: x + 1, lambda x: ops.cast(x, "int8"), lambda x: ops.take(np.arange(9), x), ops.floor):
        ids = keras.Input((4,), name="both", dtype="int32")
        with pytest.raises(ArgumentError, match="input 'both' is read by the hotrow layer"):
            hotrow.keras.Model(ids, [layer(ids), spoil(ids)])


def test_several_tables_read_one_input():
    ids = keras.Input((2,))
    model = hotrow.keras.Model(ids, layers.Concatenate()([E(None, DIM)(ids), E(None, 5)(ids)]))
    step(model, [["a", "b"], ["b", "c"]])
    tables = [layer.table for layer in model.layers if isinstance(layer, E)]
    assert [table.ids().to_pylist() for table in tables] == [["a", "b", "c"]] * 2


MOVES = {
    "columns": lambda x: x[:, 1],
    "reshaped": layers.Reshape((2, 2)),
    "flattened": lambda x: layers.Flatten()(layers.Reshape((2, 2))(x)),
    "ops": lambda x: ops.flip(ops.swapaxes(ops.reshape(x, (-1, 2, 2)), 1, 2), 1),
    "concatenated": lambda x: layers.Concatenate()([x[:, :2], x[:, 3:], x]),
    "taken": lambda x: ops.take(x, np.array([3, 0]), axis=1),
    "split": lambda x: ops.split(x, 2, axis=1)[1],
    "stacked": lambda x: ops.stack([x, x], axis=1),
    "repeated": layers.RepeatVector(3),
    "cast": lambda x: ops.cast(x, "int64"),
    "expanded": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
}


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")  # JAX has no int64
@pytest.mark.parametrize("name", MOVES)
def test_ids_may_be_cut_and_moved_on_their_way(name):
    ids = keras.Input((4,))
    layer = E(None, DIM)
    model = hotrow.keras.Model(ids, layer(MOVES[name](ids)))
    numbers = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    texts = [[f"id {i}" for i in row] for row in numbers.tolist()]
    there = array(MOVES[name](ops.convert_to_tensor(numbers.astype(np.int32))))
    model.compile("sgd", "mse")
    model.fit(texts, np.ones((*there.shape, DIM)), verbose=0)
    assert sorted(layer.table.ids().to_pylist()) == sorted({f"id {i}" for i in there.reshape(-1).tolist()})
    expected = layer.table.lookup([f"id {i}" for i in there.reshape(-1).tolist()]).reshape(*there.shape, DIM)
    np.testing.assert_array_equal(model.predict(texts, verbose=0), expected)


def test_an_id_of_two_inputs_that_come_together_is_one_id():
    def trained(joined):
        keras.utils.set_random_seed(0)
        layer = E(None, DIM, seed=1)
        inputs = [keras.Input((2,)), keras.Input((2,))] if joined else keras.Input((4,))
        model = hotrow.keras.Model(inputs, layer(layers.Concatenate()(inputs) if joined else inputs))
        model.compile("adam", "mse")
        x = [["a", "b"], ["c", "a"]], [["b", "b"], ["a", "d"]]
        x = list(x) if joined else np.concatenate([np.array(part, object) for part in x], axis=1)
        model.fit(x, np.ones((2, 4, DIM)), epochs=3, verbose=0)
        return layer.table

    joined, apart = trained(True), trained(False)
    assert len(joined) == 4
    np.testing.assert_array_equal(joined.lookup(list("abcd")), apart.lookup(list("abcd")))


def test_outputs_may_be_of_intermediate_tensors():
    ids = keras.Input((2,))
    layer = E(None, DIM)
    vectors = layer(ids)
    whole = hotrow.keras.Model(ids, layers.Dense(1)(vectors))
    step(whole, [["a", "b"]])
    part = hotrow.keras.Model(whole.inputs, vectors)
    np.testing.assert_array_equal(part.predict([["b", "a"]], verbose=0), layer.table.lookup([["b", "a"]]))


# --- nested ----------------------------------------------------------------------------------------------------------


def tower(make, name):
    ids = keras.Input((1,))
    if make in {keras.Sequential, hotrow.keras.Sequential}:
        return make([ids, E(None, DIM, seed=1), layers.Flatten(), layers.Dense(2)], name=name)
    return make(ids, layers.Dense(2)(layers.Flatten()(E(None, DIM, seed=1)(ids))), name=name)


@pytest.mark.parametrize("make", [keras.Model, keras.Sequential, hotrow.keras.Model, hotrow.keras.Sequential])
def test_two_towers_of_nested_models_train(make):
    user, item = keras.Input((1,), name="user"), keras.Input((1,), name="item")
    towers = tower(make, "users"), tower(make, "items")
    score = layers.Dot(1)([towers[0](user), towers[1](item)])
    model = hotrow.keras.Model({"user": user, "item": item}, score)
    columns = {"user": ["ann", "bob", "ann"], "item": [BIG, BIG + 1, -BIG]}
    model.compile("adam", "mse")
    before = [a.copy() for a in towers[0].get_weights()[1:]]
    model.fit(columns, [1.0, 0.0, 1.0], epochs=2, verbose=0)
    tables = [next(layer.table for layer in t.layers if isinstance(layer, E)) for t in towers]
    assert tables[0].ids().to_pylist() == ["ann", "bob"]
    assert sorted(tables[1].ids().tolist()) == [-BIG, BIG, BIG + 1]
    assert [table.steps for table in tables] == [2, 2]
    assert any((a != b).any() for a, b in zip(before, towers[0].get_weights()[1:], strict=True))
    again = hotrow.keras.Model({"user": user, "item": item}, score)  # a second one around the same towers
    np.testing.assert_array_equal(again.predict(columns, verbose=0), model.predict(columns, verbose=0))
    if make in {hotrow.keras.Model, hotrow.keras.Sequential}:
        np.testing.assert_allclose(
            np.sum(towers[0].predict(["bob"], verbose=0) * towers[1].predict([BIG + 1], verbose=0)),
            model.predict({"user": ["bob"], "item": [BIG + 1]}, verbose=0)[0, 0],
            rtol=1e-5,
        )


def test_a_plain_model_is_as_it_was_after_it_was_nested():
    inner = tower(keras.Sequential, "inner")
    inner.layers[0].follow(keras.optimizers.SGD())
    bad = np.array([[2.0**24]], np.float32)
    ids = keras.Input((1,))
    outer = hotrow.keras.Model(ids, inner(ids))
    step(outer, [[BIG]])
    assert inner.inputs[0].dtype == "float32"
    with pytest.raises(Exception, match=r"hotrow\.keras\.Model"):
        array(inner(bad))


@pytest.mark.parametrize("kind", KINDS)
def test_a_hotrow_model_in_a_plain_one_takes_tensors(kind, backend):
    inner, table = nets.vectors(kind, length=2, optimizer=hotrow.SGD(0.1))
    small = [[1, 2], [3, 1]]
    table.set([1, 2, 3], np.arange(9.0).reshape(3, DIM))
    ids = keras.Input((2,), dtype="int32")
    if backend == "jax":
        if kind == "subclassed":
            inner(small)
        with pytest.raises(KindError, match="cuts 64-bit integers to 32"):
            keras.Model(ids, inner(ids))(np.array(small, np.int32))
        return
    if kind == "subclassed":
        inner(small)  # so that it is known what its input is
    outer = keras.Model(ids, inner(ids))
    np.testing.assert_array_equal(outer.predict(np.array(small), verbose=0), table.lookup(small))
    outer.compile("sgd", "mse")
    outer.fit(np.array(small), np.zeros((2, 2, DIM)), verbose=0)
    assert table.steps == 1


# --- subclassed ------------------------------------------------------------------------------------------------------


class Priced(hotrow.keras.Model):
    """Users by id, ages and prices as numbers, both of them whole; `mix` is what else becomes of the columns."""

    def __init__(self, mix=None, **how):
        super().__init__()
        self.users, self.mix = E(None, DIM, seed=1, **how), mix
        self.dense = layers.Dense(1)
        self.seen = []

    def call(self, x, training=False):
        vectors = ops.reshape(self.users(x["user"]), (-1, DIM))
        age = ops.cast(ops.reshape(x["age"], (-1, 1)), "float32")
        self.seen.append(x["age"])
        out = self.dense(ops.concatenate([vectors, age / 100], axis=1))
        return out if self.mix is None else self.mix(self, out, x)


AGES = {"user": np.array([5, BIG, 5, -1]), "age": np.array([30, 40, 50, 60])}


@pytest.mark.parametrize("users", [[5, BIG, 5, -1], [5, 6, 5, 7], ["a", "b", "a", "c"], [2**63, 1, 2**63, 0]], ids=str)
def test_codes_never_come_to_the_numbers_of_a_subclassed_model(users):
    for typed in (False, True):
        model = Priced()
        x = {"user": users, "age": [30, 40, 50, 60]}
        if typed:
            x = {"user": np.array(users, np.uint64 if users[0] == 2**63 else None), "age": np.array(x["age"])}
        out = array(model(x))
        np.testing.assert_array_equal(array(model.seen[-1]), [30, 40, 50, 60])
        model.compile("sgd", "mse")
        np.testing.assert_allclose(model.predict(x, verbose=0), out, rtol=1e-5)
        model.fit(x, [1.0, 2, 3, 4], verbose=0)
        assert sorted(map(str, model.users.table.ids().tolist())) == sorted(set(map(str, users)))
        assert model.users.table.steps == 1


USES = {
    "added": lambda model, out, x: out + ops.cast(ops.reshape(x["user"], (-1, 1)), "float32") * 1e-6,
    "sigmoid": lambda model, out, x: ops.sigmoid(ops.cast(ops.reshape(x["user"], (-1, 1)), "float32")),
    "relu": lambda model, out, x: out + ops.relu(ops.cast(ops.reshape(x["user"], (-1, 1)), "float32")),
    "minus relu": lambda model, out, x: out + ops.relu(-ops.cast(ops.reshape(x["user"], (-1, 1)), "float32")),
    "a mask": lambda model, out, x: out * ops.cast(ops.reshape(x["user"], (-1, 1)) != 0, "float32"),
    "masked vectors": lambda model, out, x: ops.concatenate(
        [out, model.users(x["user"]) * ops.cast(ops.reshape(x["user"], (-1, 1)) != 0, "float32")], axis=1
    ),
    "a condition": lambda model, out, x: ops.where(ops.reshape(x["user"], (-1, 1)) > 0, out, -out - 1),
    "squared": lambda model, out, x: out + ops.square(ops.cast(ops.reshape(x["user"], (-1, 1)), "float32")),
    "one of few": lambda model, out, x: out + ops.sum(ops.one_hot(ops.reshape(x["user"], (-1,)), 3), -1, keepdims=True),
}


@pytest.mark.parametrize("name", USES)
def test_a_column_that_is_looked_up_and_calculated_with_is_refused_by_name(name):
    with pytest.raises(ArgumentError, match="input 'user' comes to a hotrow layer, as ids, and is calculated with"):
        Priced(USES[name])(AGES)
    model = Priced(USES[name])
    model.compile("sgd", "mse")
    with pytest.raises(ArgumentError, match="input 'user'"):
        model.fit(AGES, np.ones(4))
    assert len(model.users.table) == 0


def test_a_loss_that_a_column_is_added_to_is_a_use_too():
    def mix(model, out, x):
        model.add_loss(ops.mean(ops.cast(x["user"], "float32")))
        return out

    with pytest.raises(ArgumentError, match="input 'user'"):
        Priced(mix)(AGES)


def test_numbers_that_must_be_small_are_still_numbers():
    class WithDays(hotrow.keras.Model):
        def __init__(self):
            super().__init__()
            self.users, self.days = E(None, DIM), layers.Embedding(7, DIM)

        def call(self, x):
            return self.users(x["user"]) + self.days(x["day"])

    model = WithDays()
    x = {"user": [BIG, 1, 2], "day": [6, 0, 6]}
    expected = model.users.table.lookup(x["user"]) + array(model(x)) - model.users.table.lookup(x["user"])
    step(model, x)
    assert sorted(model.users.table.ids().tolist()) == [1, 2, BIG]
    assert np.isfinite(expected).all()


def test_other_columns_may_be_floats_bools_and_of_any_width():
    class Wide(hotrow.keras.Model):
        def __init__(self):
            super().__init__()
            self.users, self.dense = E(None, DIM), layers.Dense(1)

        def call(self, x):
            numbers = [ops.cast(ops.reshape(x[name], (-1, 1)), "float32") for name in ("flag", "float", "small")]
            return self.dense(ops.concatenate([self.users(x["user"]), *numbers, x["matrix"]], axis=1))

    x = {
        "user": ["a", "b", "a"],
        "flag": np.array([True, False, True]),
        "float": [0.5, 1.5, 2.5],
        "small": np.array([1, 2, 3], np.uint8),
        "matrix": np.ones((3, 2), np.float32),
    }
    model = step(Wide(), x)
    assert model.users.table.ids().to_pylist() == ["a", "b"]


class Rated(hotrow.keras.Model):
    """As Keras's example of collaborative filtering has it: two columns of one array, two tables each."""

    def __init__(self):
        super().__init__()
        self.user, self.item = E(None, DIM), E(None, DIM)
        self.user_bias, self.item_bias = E(None, 1), E(None, 1)

    def call(self, inputs):
        user, item = self.user(inputs[:, 0]), self.item(inputs[:, 1])
        dot = ops.sum(user * item, axis=1, keepdims=True)
        return ops.sigmoid(dot + self.user_bias(inputs[:, 0]) + self.item_bias(inputs[:, 1]))


def test_columns_of_one_array_go_to_their_tables():
    model = Rated()
    model.compile("adam", "binary_crossentropy")
    x = np.array([[BIG, 7], [1, 8], [BIG, 9], [2, 7]])
    model.fit(x, np.array([1.0, 0, 1, 0]), batch_size=2, epochs=2, validation_split=0.25, verbose=0)
    assert sorted(model.user.table.ids().tolist()) == [1, BIG]
    assert sorted(model.item_bias.table.ids().tolist()) == [7, 8, 9]
    assert model.predict(x, verbose=0).shape == (4, 1)


def test_positions_that_a_model_counts_itself_are_ids_of_a_layer_with_input_dim():
    class Positions(hotrow.keras.Model):
        def __init__(self):
            super().__init__()
            self.words, self.places = E(None, DIM, seed=1), E(10, DIM, seed=2)

        def call(self, x):
            return self.words(x) + self.places(ops.arange(ops.shape(x)[-1], dtype="int32"))

    model = Positions()
    texts = [["a", "b", "c"], ["c", "a", "b"]]
    np.testing.assert_allclose(
        array(model(texts)), model.words.table.lookup(texts) + model.places.table.lookup([0, 1, 2]), rtol=1e-6
    )
    step(model, texts)
    assert model.places.table.ids().tolist() == [0, 1, 2]
    assert model.places.table.steps == 1


def test_a_model_that_draws_numbers_also_when_it_predicts_is_tried_out():
    class Noisy(hotrow.keras.Model):
        def __init__(self):
            super().__init__()
            self.words, self.seed = E(None, DIM), keras.random.SeedGenerator(3)

        def call(self, x):
            vectors = self.words(x)
            return vectors + keras.random.normal(ops.shape(vectors), seed=self.seed)

    model = Noisy()
    before = array(model.seed.state)
    model.compile("sgd", "mse")
    model._columns.encode([[1, 2]])
    np.testing.assert_array_equal(array(model.seed.state), before)
    model.fit([[1, 2]], np.ones((1, 2, DIM)), verbose=0)
    assert model.words.table.ids().tolist() == [1, 2]


def test_a_trial_leaves_statistics_and_tables_as_they_were():
    class Counting(hotrow.keras.Model):
        def __init__(self):
            super().__init__()
            self.words, self.norm = E(None, DIM), layers.BatchNormalization()
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x, training=False):
            self.calls.assign(self.calls + 1)
            return self.norm(self.words(x), training=training)

    model = Counting()
    array(model([[1, 2]]))
    assert array(model.calls) <= 2  # this call, and the one that built it
    assert len(model.words.table) == 0


def test_a_layer_of_ones_own_may_hold_tables():
    class Pair(layers.Layer):
        def __init__(self):
            super().__init__()
            self.one, self.other = E(None, DIM), E(None, DIM)

        def call(self, x):
            return self.one(x[:, 0]) + self.other(x[:, 1])

    ids, price = keras.Input((2,)), keras.Input((1,))
    pair = Pair()
    model = hotrow.keras.Model([ids, price], layers.Dense(1)(layers.Concatenate()([pair(ids), price])))
    x = [np.array([[BIG, 1], [2, 3], [BIG, 3]]), np.array([1.0, 2, 3])]
    step(model, x)
    assert model.inputs[0].dtype == "int32"
    assert model.inputs[1].dtype == "float32"
    assert sorted(pair.one.table.ids().tolist()) == [2, BIG]
    assert sorted(pair.other.table.ids().tolist()) == [1, 3]


def test_what_a_layer_of_ones_own_takes_for_numbers_stays_float32():
    class Both(layers.Layer):
        def __init__(self):
            super().__init__()
            self.words = E(None, DIM, seed=1)

        def call(self, inputs):
            return self.words(inputs[0]) * inputs[1]

    ids, price = keras.Input((1,)), keras.Input((1,))
    both = Both()
    model = hotrow.keras.Model([ids, price], layers.Flatten()(both([ids, price])))
    out = array(model([np.array([["a"]]), np.array([[0.5]])]))
    np.testing.assert_allclose(out, 0.5 * both.words.table.lookup(["a"]), rtol=1e-6)
    assert [tensor.dtype for tensor in model.inputs] == ["int32", "float32"]


def test_a_bound_is_that_of_the_columns_that_come_to_its_layer():
    ids = keras.Input((2,))
    few, many = E(10, DIM), E(1000, DIM)
    model = hotrow.keras.Model(ids, few(ids[:, 0]) + many(ids[:, 1]))
    step(model, [[9, 999], [0, 10]])
    assert sorted(few.table.ids().tolist()) == [0, 9]
    assert sorted(many.table.ids().tolist()) == [10, 999]
    with pytest.raises(Exception, match="got 10; expected ids from 0 to 9"):
        array(model([[10, 10]]))


def test_a_layer_of_ones_own_that_calculates_with_its_ids_is_refused():
    class Odd(layers.Layer):
        def __init__(self):
            super().__init__()
            self.words = E(None, DIM)

        def call(self, x):
            return self.words(x) + ops.expand_dims(ops.cast(x, "float32"), -1)

    ids = keras.Input((2,), name="strange")
    model = hotrow.keras.Model(ids, Odd()(ids))
    with pytest.raises(ArgumentError, match="the input comes to a hotrow layer, as ids, and is calculated with"):
        model([[1, 2]])


def test_a_layer_made_only_in_build_is_found():
    class Late(hotrow.keras.Model):
        def build(self, shape):
            self.words = E(None, DIM)
            self.built = True

        def call(self, x):
            return self.words(x)

    for as_stream in (False, True):
        model = Late()
        model.compile("sgd", "mse")
        x, y = np.array([["a", "b"]], object), np.ones((1, 2, DIM))
        model.fit(iter_of(x, y) if as_stream else x, None if as_stream else y, steps_per_epoch=1, verbose=0)
        assert model.words.table.steps == 1


def iter_of(x, y):
    yield x, y


def test_floats_for_the_ids_of_a_subclassed_model_are_an_error_that_says_what_to_do():
    model, _ = nets.vectors("subclassed", length=2)
    with pytest.raises(Exception, match=r"give np\.asarray\(ids, 'int64'\)"):
        array(model(np.ones((2, 2), np.float32)))


# --- classes ---------------------------------------------------------------------------------------------------------


class Handing(hotrow.keras.Model):
    """A subclass that hands its graph up."""

    def __init__(self, dim, **how):
        ids = keras.Input((None,))
        self.dim = dim
        super().__init__(inputs=ids, outputs=layers.Dense(2, "softmax")(E(None, dim)(ids)), **how)

    def twice(self):
        return 2 * self.dim


class Own(hotrow.keras.Model):
    """A subclass that is given its graph, and has a step of its own."""

    stepped: ClassVar = []

    def train_step(self, *args, **kwargs):
        self.stepped.append(1)
        return super().train_step(*args, **kwargs)


class Parts(hotrow.keras.Model):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


def build(kind):
    keras.utils.set_random_seed(0)
    parts = [E(None, 10), layers.Dense(30, "relu"), layers.Dense(2, "softmax")]
    if kind == "subclassed":
        return Parts(parts)
    if kind == "sequential":
        return hotrow.keras.Sequential(parts)
    if kind == "handing":
        return Handing(10)
    ids = keras.Input((None,))
    return {"functional": hotrow.keras.Model, "own": Own}[kind](ids, parts[2](parts[1](parts[0](ids))))


@pytest.mark.compiled
def test_all_kinds_of_models_in_one_process_in_any_order():
    classes = [hotrow.keras.Model, hotrow.keras.Sequential, Handing, Own, Parts, type(build("functional"))]
    bases = [kind.__bases__ for kind in classes]
    for kind in ("functional", "subclassed", "sequential", "handing", "own", "functional"):
        model = build(kind)
        model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(TEXT * 2, LABELS * 2, batch_size=4, epochs=12, verbose=0).history
        assert history["accuracy"][-1] == 1.0, kind
        assert len(model.layers[0 if kind == "sequential" else 1 if kind != "subclassed" else 0].table) == 8
        assert isinstance(model, keras.Model)
        assert isinstance(model, (hotrow.keras.Model, hotrow.keras.Sequential))
    assert [kind.__bases__ for kind in classes] == bases
    assert Own.stepped


def test_a_subclass_that_hands_its_graph_up_is_still_its_class():
    model, other = Handing(4, name="mine"), Handing(5)
    assert isinstance(model, Handing)
    assert isinstance(model, keras.Model)
    assert type(model) is type(other)
    assert type(model).__name__ == "Handing"
    assert (model.name, model.twice(), other.twice()) == ("mine", 8, 10)
    assert model.inputs[0].dtype == "int32"


def test_a_train_step_of_ones_own_calls_the_model_on_what_it_gets(backend):
    class Stepping(hotrow.keras.Sequential):
        if backend == "tensorflow":

            def train_step(self, data):
                import tensorflow as tf

                x, y = data
                with tf.GradientTape() as tape:
                    loss = self.compute_loss(x, y, self(x, training=True))
                variables = self.trainable_variables
                self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
                return {"mine": loss}

        elif backend == "torch":

            def train_step(self, data):
                x, y = data
                self.zero_grad()
                loss = self.compute_loss(x, y, self(x, training=True))
                loss.backward()
                variables = self.trainable_variables
                self.optimizer.apply([v.value.grad for v in variables], variables)
                return {"mine": loss}

    if backend == "jax":
        pytest.skip("a step in JAX goes by stateless_call")
    model = Stepping([keras.Input((1,)), E(None, DIM), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    losses = model.fit(["a", "b", "a"], [1.0, 2, 3], batch_size=3, epochs=3, verbose=0).history["mine"]
    assert losses[0] > losses[-1]
    assert model.layers[0].table.steps == 3


def test_models_and_their_tables_are_freed():
    tables = weakref.WeakSet()
    for kind in KINDS:
        model, table = nets.vectors(kind, length=2)
        tables.add(table)
        step(model, [["a", "b"]])
        model.predict([["a", "b"]], verbose=0)
        del model, table
    keras.backend.clear_session()
    gc.collect()
    assert len(tables) == 0


# --- masks -----------------------------------------------------------------------------------------------------------


def reading(kind, mask, above):
    """A model of 4 ids, of which `mask` is padding."""
    return {
        "sequential": lambda e: hotrow.keras.Sequential([keras.Input((4,)), e, above]),
        "functional": lambda e: hotrow.keras.Model(i := keras.Input((4,)), above(e(i))),
        "subclassed": lambda e: Parts([e, above]),
    }[kind](E(None, DIM, seed=1, **({"mask_zero": True} if mask == 0 else {"mask_id": mask})))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mask", "ids"), [(0, [3, 5, 0, 0]), ("", ["a", "b", "", ""]), (-7, [BIG, 0, -7, -7])])
def test_padding_is_masked_and_never_trained(kind, mask, ids):
    model = reading(kind, mask, layers.GlobalAveragePooling1D())
    layer = model.layers[0 if kind != "functional" else 1]
    short = np.array([ids, [*ids[:1], *[mask] * 3]], object if isinstance(mask, str) else np.int64)
    vectors = layer.table.lookup(ids[:2])
    expected = [vectors.mean(0), vectors[0]]
    np.testing.assert_allclose(array(model(short)), expected, rtol=1e-5)
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.predict(short, verbose=0), expected, rtol=1e-5)
    model.fit(short, np.ones((2, DIM)), epochs=2, verbose=0)
    assert layer.table.ids().tolist() == ids[:2]
    assert layer.table.steps == 2
    assert not np.allclose(layer.table.lookup(ids[:2]), vectors)


def test_a_recurrent_layer_sees_the_mask():
    lstm = layers.LSTM(4)
    model = reading("functional", 0, lstm)
    padded, alone = np.array([[3, 5, 0, 0]]), np.array([[3, 5]])
    short = hotrow.keras.Model(i := keras.Input((2,)), lstm(E(None, DIM, table=model.layers[1].table)(i)))
    np.testing.assert_allclose(model.predict(padded, verbose=0), short.predict(alone, verbose=0), rtol=1e-5)
    model.compile("sgd", "mse")
    model.fit(padded, np.ones((1, 4)), verbose=0)
    assert model.layers[1].table.ids().tolist() == [3, 5]


def test_padding_has_zeros_for_a_vector():
    model = reading("functional", 0, layers.Activation("linear"))
    model.compile("sgd", "mse")
    out = model.predict([[3, 0, 5, 0]], verbose=0)
    assert (out[0, [1, 3]] == 0).all()
    assert (out[0, [0, 2]] != 0).any()


def test_layers_on_one_table_may_disagree_about_padding():
    ids = keras.Input((2,))
    padded = E(None, DIM, mask_zero=True)
    plain = E(None, DIM, table=padded.table)
    model = hotrow.keras.Model(ids, [padded(ids), plain(ids)])
    model.compile(loss=["mse", "mse"], optimizer="sgd")
    padded.follow(model.optimizer, unless_told=True)
    model.fit([[0, 1]], [np.ones((1, 2, DIM))] * 2, verbose=0)
    for _ in range(2):
        first, second = model.predict([[0, 1]], verbose=0)
        assert (first[0, 0] == 0).all()
        assert (second[0, 0] != 0).any()
        np.testing.assert_array_equal(first[0, 1], second[0, 1])


def test_compute_mask_says_which_ids_are_not_padding(backend):
    layer = E(10, DIM, mask_zero=True)
    mask = layer.compute_mask(ops.convert_to_tensor(np.array([[0, 3], [2, 0]], np.int32)))
    assert array(mask).tolist() == [[False, True], [True, False]]
    assert E(10, DIM).compute_mask(ops.convert_to_tensor(np.array([[0]], np.int32))) is None


# --- summary ---------------------------------------------------------------------------------------------------------


@pytest.mark.enough("torch")
@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_shows_rows_and_memory(kind):
    model, table = nets.vectors(kind, length=2)
    step(model, [["a", "b"], ["c", "a"]])
    lines = []
    model.summary(print_fn=lambda text, **_: lines.append(text))
    text = "\n".join(lines)
    assert f"3 rows × {DIM}" in text
    assert "KB with SGD's slots and index, 1 steps" in text or "B with SGD's slots and index, 1 steps" in text
    assert next(layer.name for layer in model._flatten_layers() if isinstance(layer, E)) in text
    table.find([f"more {i}" for i in range(2000)], grow=True)
    lines.clear()
    model.summary(print_fn=lambda text, **_: lines.append(text))
    assert "2,003 rows" in "\n".join(lines)


def test_a_graph_without_its_tables_is_not_exported(tmp_path):
    model, _ = nets.vectors("functional")
    with pytest.raises(ArgumentError, match="a graph that is exported has no tables"):
        model.export(tmp_path / "graph")
    assert not list(tmp_path.iterdir())
