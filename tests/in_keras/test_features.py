"""`hotrow.keras.Features`: many columns at once are, to the bit, what each would be by itself."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from keras import layers

import hotrow
from hotrow.bridges.crossing import Crossing
from hotrow.errors import ArgumentError, IdError, KindError
from hotrow.keras import Bag, Features, Id, Number, Sequence
from hotrow.keras.slicing import Codes

RNG = np.random.default_rng(11)
N = 12
USERS = np.array([f"user {i % 5}" for i in range(N)], object)
ITEMS = RNG.integers(2**63, 2**64 - 1, 6, dtype=np.uint64)[RNG.integers(0, 6, N)]
TAGS = [[f"tag {t}" for t in RNG.integers(0, 7, k)] for k in RNG.integers(0, 5, N)]
WEIGHTS = [RNG.normal(size=len(bag)).astype(np.float32).tolist() for bag in TAGS]
AGES = RNG.normal(size=N).astype(np.float32)


class DotLoss(keras.losses.Loss):
    """Σ gradients · vectors: its derivative by the vectors is the gradients, exactly."""

    def __init__(self):
        super().__init__(reduction="sum")

    def call(self, y_true, y_pred):
        return keras.ops.sum(y_true * y_pred, axis=-1)


def numpy(x):
    return np.asarray(keras.ops.convert_to_numpy(x))


def vectors(features, optimizer="sgd", **compiled):
    """A model whose outputs are those of the layer, and whose loss has whatever gradients are asked for."""
    inputs = features.inputs()
    model = hotrow.keras.Model(inputs, features(inputs))
    model.compile(optimizer, DotLoss(), **compiled)
    return model


def flat(bags):
    return [id for bag in bags for id in bag], np.cumsum([0, *map(len, bags)])


def step(model, columns, gradients):
    model.train_on_batch(columns, gradients)


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
@pytest.mark.parametrize("mode", ["concat", "dict"])
def test_columns_of_ids_are_trained_as_tables_of_their_own(mode, compiled):
    features = Features(
        {"user": Id(4), "item": Id(3), "age": Number()}, output_mode=mode, optimizer=hotrow.Adam(0.01), seed=3
    )
    model = vectors(features, **compiled)
    user = hotrow.Table(4, optimizer=hotrow.Adam(0.01), seed=3)
    item = hotrow.Table(3, optimizer=hotrow.Adam(0.01), seed=4)
    for i in range(5):
        pick = RNG.integers(0, N, 8)
        columns = {"user": USERS[pick], "item": ITEMS[pick], "age": AGES[pick]}
        g = {name: RNG.normal(size=(8, w)).astype(np.float32) for name, w in [("user", 4), ("item", 3), ("age", 1)]}
        out = model.predict_on_batch(columns)
        if mode == "concat":
            out = dict(zip(g, np.split(numpy(out), [4, 7], axis=1), strict=True))
        np.testing.assert_array_equal(out["user"], user.lookup(USERS[pick]))
        np.testing.assert_array_equal(out["item"], item.lookup(ITEMS[pick]))
        np.testing.assert_array_equal(out["age"][:, 0], AGES[pick])
        step(model, columns, np.concatenate(list(g.values()), 1) if mode == "concat" else g)
        user.update(user.find(USERS[pick], grow=True), g["user"])
        item.update(item.find(ITEMS[pick], grow=True), g["item"])
        assert features.tables["user"].steps == i + 1
    np.testing.assert_array_equal(features.tables["user"].lookup(user.ids()), user.vectors())
    np.testing.assert_array_equal(features.tables["item"].lookup(item.ids()), item.vectors())


def test_numbers_of_several_in_one_column_and_ids_in_any_order_of_columns():
    features = Features({"where": Number(2), "user": Id(3)}, output_mode="concat", optimizer=hotrow.SGD(0.1))
    model = vectors(features)
    where = RNG.normal(size=(N, 2)).astype(np.float32)
    out = model.predict_on_batch({"user": USERS, "where": where})
    assert model.output_shape == (None, 5)
    np.testing.assert_array_equal(out[:, 3:], where)
    np.testing.assert_array_equal(out[:, :3], features.tables["user"].lookup(USERS))


def test_looking_gives_no_id_a_row():
    features = Features({"user": Id(4), "tags": Bag(4)}, optimizer=hotrow.SGD(0.1))
    model = vectors(features)
    model.predict_on_batch({"user": USERS, "tags": TAGS})
    assert len(features.tables["user"]) == len(features.tables["tags"]) == 0


def test_the_optimizer_of_the_model_trains_all_tables():
    def trained(make):
        keras.utils.set_random_seed(1)
        a, b = make()
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        model = a
        model.compile(keras.optimizers.Adam(schedule, clipvalue=0.02), "mse")
        model.fit({"user": USERS, "item": ITEMS}, np.arange(N) / N, batch_size=4, epochs=3, verbose=0, shuffle=False)
        return [table.lookup(ids) for table, ids in zip(b, (USERS, ITEMS), strict=True)]

    def together():
        features = Features({"user": Id(4), "item": Id(4)}, output_mode="concat", seed=3)
        inputs = features.inputs()
        out = layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(seed=1))(features(inputs))
        return hotrow.keras.Model(inputs, out), features.tables.values()

    def apart():
        inputs = {name: keras.Input((), dtype="int32", name=name) for name in ("user", "item")}
        own = [hotrow.keras.Embedding(None, 4, seed=3), hotrow.keras.Embedding(None, 4, seed=4)]
        x = layers.Concatenate()([layer(i) for layer, i in zip(own, inputs.values(), strict=True)])
        out = layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(seed=1))(x)
        return hotrow.keras.Model(inputs, out), [layer.table for layer in own]

    for a, b in zip(trained(together), trained(apart), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_an_id_that_stands_for_nothing_is_zeros_and_never_trained():
    features = Features({"user": Id(3, mask_id="user 0")}, output_mode="concat", optimizer=hotrow.SGD(1.0))
    model = vectors(features)
    step(model, {"user": USERS}, np.ones((N, 3), np.float32))
    assert "user 0" not in features.tables["user"]
    assert not model.predict_on_batch({"user": ["user 0"]}).any()


# --- bags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "sum", "sqrtn", "max"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("mode", ["concat", pytest.param("dict", marks=pytest.mark.enough("torch"))])
def test_bags_are_pooled_and_trained_as_the_tables_own(pooling, weighted, mode):
    if weighted and pooling == "max":
        pytest.skip("max takes no weights")
    how = {"weights": "w"} if weighted else {}
    features = Features({"tags": Bag(4, pooling, **how)}, output_mode=mode, optimizer=hotrow.Adagrad(0.1), seed=3)
    model = vectors(features)
    table = hotrow.Table(4, optimizer=hotrow.Adagrad(0.1), seed=3)
    for _ in range(4):
        pick = RNG.integers(0, N, 9)
        bags, weights = [TAGS[i] for i in pick], [WEIGHTS[i] for i in pick]
        ids, offsets = flat(bags)
        rest = {"offsets": offsets, "pooling": pooling, **({"weights": flat(weights)[0]} if weighted else {})}
        gradients = RNG.normal(size=(9, 4)).astype(np.float32)
        columns = {"tags": bags, "w": weights}
        out = model.predict_on_batch(columns)
        np.testing.assert_array_equal(out if mode == "concat" else out["tags"], table.lookup(ids, **rest))
        step(model, columns, gradients if mode == "concat" else {"tags": gradients})
        table.update(table.find(ids, grow=True, **rest), gradients)
    np.testing.assert_array_equal(features.tables["tags"].lookup(table.ids()), table.vectors())


def ragged_forms():
    ids, offsets = flat(TAGS)
    return {
        "lists": TAGS,
        "tuples": tuple(map(tuple, TAGS)),
        "arrays": [np.array(bag, object) for bag in TAGS],
        "an array of lists": np.array([*TAGS, None], object)[:-1],
        "Arrow": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(ids)),
        "large Arrow": pa.array(TAGS, pa.large_list(pa.string())),
        "Arrow in chunks": pa.chunked_array([pa.array(TAGS[:5]), pa.array(TAGS[5:])]),
        "a slice of Arrow": pa.array([["x"], *TAGS])[1:],
        "pandas": pd.Series(TAGS),
        "pandas of Arrow": pd.Series(TAGS, dtype=pd.ArrowDtype(pa.list_(pa.string()))),
        "polars": pl.Series(TAGS),
    }


@pytest.mark.enough("torch")
@pytest.mark.parametrize("bags", ragged_forms().values(), ids=ragged_forms().keys())
def test_bags_come_in_many_forms(bags):
    features = Features({"tags": Bag(4)}, output_mode="concat", optimizer=hotrow.SGD(0.1))
    model = vectors(features)
    ids, offsets = flat(TAGS)
    expected = features.tables["tags"].lookup(ids, offsets=offsets, pooling="mean")
    np.testing.assert_array_equal(model.predict({"tags": bags}, verbose=0), expected)
    np.testing.assert_array_equal(numpy(features({"tags": bags})), expected)


def test_a_padded_matrix_is_bags_without_the_padding():
    features = Features({"ids": Bag(4, "sum", mask_id=0)}, output_mode="concat", optimizer=hotrow.SGD(1.0))
    model = vectors(features)
    padded = np.array([[5, 6, 0], [0, 0, 0], [7, 0, 5]])
    table = features.tables["ids"]
    step(model, {"ids": padded}, np.ones((3, 4), np.float32))
    expected = table.lookup([5, 6, 7, 5], offsets=[0, 2, 2, 4], pooling="sum")
    np.testing.assert_array_equal(model.predict_on_batch({"ids": padded}), expected)
    assert 0 not in table
    assert len(table) == 3


def test_weights_of_left_out_ids_are_left_out_too():
    features = Features({"ids": Bag(4, "sum", mask_id=0, weights="w")}, output_mode="concat", optimizer=hotrow.SGD(1.0))
    model = vectors(features)
    out = model.predict_on_batch({"ids": [[5, 0, 6]], "w": [[2.0, 9.0, 3.0]]})
    five, six = features.tables["ids"].lookup([5, 6])
    np.testing.assert_allclose(out[0], 2 * five + 3 * six, rtol=1e-6)


# --- sequences -------------------------------------------------------------------------------------------------------


def test_sequences_keep_the_last_ids_and_mask_the_rest():
    features = Features({"tags": Sequence(4, length=3)}, optimizer=hotrow.SGD(0.1), seed=3)
    model = vectors(features)
    out = model.predict_on_batch({"tags": TAGS})["tags"]
    assert out.shape == (N, 3, 4)
    for bag, given in zip(TAGS, out, strict=True):
        kept = bag[-3:]
        np.testing.assert_array_equal(given[: len(kept)], features.tables["tags"].lookup(np.array(kept, object)))
        assert not given[len(kept) :].any()


def test_sequences_are_trained_as_a_table_of_their_ids():
    features = Features({"tags": Sequence(4, length=3)}, optimizer=hotrow.Adam(0.01), seed=3)
    model = vectors(features)
    table = hotrow.Table(4, optimizer=hotrow.Adam(0.01), seed=3)
    for _ in range(3):
        gradients = RNG.normal(size=(N, 3, 4)).astype(np.float32)
        step(model, {"tags": TAGS}, {"tags": gradients})
        kept = [bag[-3:] for bag in TAGS]
        table.update(
            table.find(flat(kept)[0], grow=True),
            np.concatenate([g[: len(bag)] for g, bag in zip(gradients, kept, strict=True)]),
        )
    np.testing.assert_array_equal(features.tables["tags"].lookup(table.ids()), table.vectors())


def test_the_mask_reaches_layers_that_heed_it():
    keras.utils.set_random_seed(1)
    features = Features({"tags": Sequence(4, length=6)}, optimizer=hotrow.SGD(0.1))
    short = Features({"tags": Sequence(4, length=5, table=features.tables["tags"])})
    lstm = layers.LSTM(3)
    models = []
    for layer in (features, short):
        inputs = layer.inputs()
        models.append(hotrow.keras.Model(inputs, lstm(layer(inputs)["tags"])))
    full = [["a", "b", "c", "d", "e"], ["a", "b"]]
    np.testing.assert_allclose(*(m.predict_on_batch({"tags": full}) for m in models), atol=1e-6)
    without = numpy(lstm(numpy(features({"tags": [["a", "b"]]})["tags"])))  # the mask is lost as a plain array
    assert np.abs(without - models[0].predict_on_batch({"tags": [["a", "b"]]})).max() > 1e-4


# --- shared tables ---------------------------------------------------------------------------------------------------


def test_features_that_share_a_table_make_one_step_of_it():
    features = Features(
        {"item": Id(4, table="i"), "history": Bag(4, "sum", table="i"), "last": Sequence(4, length=2, table="i")},
        optimizer=hotrow.Adam(0.01),
        seed=3,
    )  # fmt: skip
    model = vectors(features)
    assert list(features.tables) == ["i"]
    table = hotrow.Table(4, optimizer=hotrow.Adam(0.01), seed=3)
    for i in range(4):
        g = RNG.normal(size=(N, 4, 4)).astype(np.float32)
        step(
            model,
            {"item": USERS, "history": TAGS, "last": TAGS},
            {"item": g[:, 0], "history": g[:, 1], "last": g[:, 2:]},
        )
        lengths = list(map(len, TAGS))
        last = [bag[-2:] for bag in TAGS]
        ids = [*USERS, *flat(TAGS)[0], *flat(last)[0]]
        own = [g[:, 0], np.repeat(g[:, 1], lengths, 0), *(r[: len(b)] for r, b in zip(g[:, 2:], last, strict=True))]
        table.update(table.find(ids, grow=True), np.concatenate(own))
        assert features.tables["i"].steps == i + 1
    np.testing.assert_allclose(features.tables["i"].lookup(table.ids()), table.vectors(), atol=1e-6)


def test_a_table_is_shared_with_another_layer():
    items = Features({"item": Id(4)}, output_mode="concat")
    users = Features({"bought": Bag(4, table=items.tables["item"])}, output_mode="concat")
    i, u = items.inputs(), users.inputs()
    model = hotrow.keras.Model({**i, **u}, layers.Dot(1)([items(i), users(u)]))
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit({"item": USERS, "bought": TAGS}, np.ones(N), epochs=2, batch_size=N, verbose=0)
    assert users.tables["bought"] is items.tables["item"]
    assert items.tables["item"].steps == 2


@pytest.mark.enough("torch")
def test_the_trained_tables_are_the_same_for_any_number_of_threads():
    trained = []
    for n in (1, 2, 3):
        try:
            hotrow.set_threads(n)
            features = Features(
                {"user": Id(4), "item": Id(4), "tags": Bag(4), "more": Bag(4, "max", table="tags")},
                output_mode="concat",
                optimizer=hotrow.Adam(0.01),
                seed=3,
            )
            model = vectors(features)
            rng = np.random.default_rng(1)
            for _ in range(3):
                g = rng.normal(size=(N, 16)).astype(np.float32)
                step(model, {"user": USERS, "item": ITEMS, "tags": TAGS, "more": TAGS}, g)
            ids = sorted(set(USERS)), np.unique(ITEMS), sorted(set(flat(TAGS)[0]))
            tables = zip(features.tables.values(), ids, strict=True)
            trained.append(np.concatenate([table.lookup(each) for table, each in tables]))
        finally:
            hotrow.set_threads(None)
    for other in trained[1:]:
        np.testing.assert_array_equal(other, trained[0])


def counting(calls, name, real):
    def counted(self, *args, **kwargs):
        calls.append((name, len(self.ways)))
        return real(self, *args, **kwargs)

    return counted


def test_all_columns_cross_in_one_call_in_each_direction(monkeypatch):
    calls = []
    for name in ("pull", "push"):
        monkeypatch.setattr(Crossing, name, counting(calls, name, getattr(Crossing, name)))
    features = Features({f"c{i}": Id(2) for i in range(5)} | {"tags": Bag(2), "s": Sequence(2, length=2)}, seed=1)
    inputs = features.inputs()
    out = features(inputs)
    model = hotrow.keras.Model(inputs, layers.Concatenate()([*list(out.values())[:-1], layers.LSTM(4)(out["s"])]))
    model.compile("sgd", "mse")
    columns = {f"c{i}": USERS for i in range(5)} | {"tags": TAGS, "s": TAGS}
    model.train_on_batch(columns, np.zeros((N, 16), np.float32))
    calls.clear()
    model.train_on_batch(columns, np.zeros((N, 16), np.float32))
    assert calls == [("pull", 7), ("push", 7)]


# --- data ------------------------------------------------------------------------------------------------------------


def clicks():
    """A model with a column of each kind, compiled."""
    keras.utils.set_random_seed(2)
    tags, seen = Bag(4, "mean", weights="w"), Sequence(4, length=3, table="tags")
    features = Features({"user": Id(4), "tags": tags, "seen": seen, "age": Number()})
    inputs = features.inputs()
    out = features(inputs)
    x = layers.Concatenate()([out["user"], out["tags"], layers.LSTM(3)(out["seen"]), out["age"]])
    model = hotrow.keras.Model(inputs, layers.Dense(1, "sigmoid")(x))
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
    return model, features


COLUMNS = {"user": USERS, "tags": TAGS, "w": WEIGHTS, "seen": TAGS, "age": AGES}
LABELS = (np.arange(N) % 2).astype(np.float32)


def frames():
    return {
        "a dict": COLUMNS,
        "pandas": pd.DataFrame(COLUMNS),
        "polars": pl.DataFrame({name: list(column) for name, column in COLUMNS.items()}),
        "Arrow": pa.table({name: list(column) for name, column in COLUMNS.items()}),
    }


@pytest.mark.enough("torch")
@pytest.mark.parametrize("frame", frames().values(), ids=frames().keys())
def test_columns_come_in_any_table(frame):
    model, features = clicks()
    model.fit(frame, LABELS, batch_size=5, epochs=2, verbose=0, shuffle=False)
    other, _ = clicks()
    other.fit(COLUMNS, LABELS, batch_size=5, epochs=2, verbose=0, shuffle=False)
    np.testing.assert_allclose(model.predict(frame, verbose=0), other.predict(COLUMNS, verbose=0), atol=1e-6)
    assert features.tables["user"].steps == 6


def test_validation_weights_and_shuffling_stay_kerass():
    model, features = clicks()
    history = model.fit(
        COLUMNS, LABELS, sample_weight=np.ones(N), validation_split=0.25, batch_size=4, epochs=2, verbose=0
    ).history
    assert len(history["val_loss"]) == 2
    assert features.tables["user"].steps == 6
    model.fit(COLUMNS, LABELS, validation_data=(COLUMNS, LABELS), class_weight={0: 1.0, 1: 2.0}, verbose=0)
    assert set(model.evaluate(COLUMNS, LABELS, verbose=0, return_dict=True)) == {"loss"}


def part(low, high):
    return {name: column[low:high] for name, column in COLUMNS.items()}


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return part(4 * i, 4 * i + 4), LABELS[4 * i : 4 * i + 4]


def generator():
    while True:
        for i in range(3):
            yield part(4 * i, 4 * i + 4), LABELS[4 * i : 4 * i + 4]


@pytest.mark.parametrize("stream", [Batches, generator])
def test_streams_of_columns_train_as_data_in_memory(stream):
    model, _ = clicks()
    data = stream()
    model.fit(data, steps_per_epoch=3, epochs=2, verbose=0, **({"shuffle": False} if stream is Batches else {}))
    other, _ = clicks()
    other.fit(COLUMNS, LABELS, batch_size=4, epochs=2, verbose=0, shuffle=False)
    np.testing.assert_allclose(model.predict(COLUMNS, verbose=0), other.predict(COLUMNS, verbose=0), atol=1e-6)


def test_subclassed_models_take_columns_by_the_features_names():
    class Clicks(hotrow.keras.Model):
        def __init__(self):
            super().__init__()
            self.features = Features(
                {"user": Id(4), "tags": Bag(4, weights="w"), "age": Number()}, output_mode="concat"
            )
            self.dense = layers.Dense(1, "sigmoid")

        def call(self, x):
            return self.dense(self.features(x))

    model = Clicks()
    model.compile("adam", "binary_crossentropy")
    columns = {name: COLUMNS[name] for name in ("user", "tags", "w", "age")}
    model.fit(columns, LABELS[:, None], epochs=2, batch_size=4, verbose=0)
    assert model.features.tables["tags"].steps == 6
    assert model.predict({**columns, "tags": [np.array(bag, object) for bag in TAGS]}, verbose=0).shape == (N, 1)
    assert numpy(model(columns)).shape == (N, 1)


def test_a_feature_may_get_a_part_of_an_input():
    pairs = np.stack([np.arange(N), np.arange(N) % 3], 1) + 2**40
    features = Features({"a": Id(3), "b": Id(3)}, output_mode="concat", optimizer=hotrow.SGD(0.1))
    both = keras.Input((2,))
    model = hotrow.keras.Model(both, features({"a": both[:, 0], "b": both[:, 1]}))
    out = model.predict_on_batch(pairs)
    np.testing.assert_array_equal(out[:, :3], features.tables["a"].lookup(pairs[:, 0]))
    np.testing.assert_array_equal(out[:, 3:], features.tables["b"].lookup(pairs[:, 1]))


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_saved_model_holds_all_tables_and_goes_on_with_them(tmp_path):
    model, features = clicks()
    model.fit(COLUMNS, LABELS, batch_size=4, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "m.keras")
    twin = keras.saving.load_model(tmp_path / "m.keras")
    for each in (model, twin):
        each.fit(COLUMNS, LABELS, batch_size=4, epochs=2, verbose=0, shuffle=False)
    np.testing.assert_allclose(model.predict(COLUMNS, verbose=0), twin.predict(COLUMNS, verbose=0), atol=1e-6)
    other = next(layer for layer in twin.layers if isinstance(layer, Features))
    assert list(other.tables) == list(features.tables)
    for name, table in features.tables.items():
        assert other.tables[name].steps == table.steps == 12


def test_weights_that_are_restored_bring_the_tables_back():
    model, features = clicks()
    model.fit(COLUMNS, LABELS, verbose=0)
    weights, before = model.get_weights(), model.predict(COLUMNS, verbose=0)
    model.fit(COLUMNS, LABELS, epochs=3, verbose=0)
    assert np.abs(model.predict(COLUMNS, verbose=0) - before).max() > 1e-4
    model.set_weights(weights)
    np.testing.assert_array_equal(model.predict(COLUMNS, verbose=0), before)
    assert features.tables["user"].steps == 1


def test_a_layer_made_from_a_config_is_like_it():
    of_table = {"embeddings_initializer": hotrow.Zeros(), "embeddings_regularizer": keras.regularizers.L2(1e-3)}
    layer = Features(
        {
            "a/b": Id(4, **of_table, mask_id=3, ids="int64"),
            "tags": Bag(4, "sqrtn", table="a/b", weights="w"),
            "s": Sequence(3, length=2),
            "n": Number(2),
        },
        optimizer=hotrow.Adagrad(0.1),
        seed=5,
    )  # fmt: skip
    twin = Features.from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    assert twin.tables["a/b"].optimizer == hotrow.Adagrad(0.1)
    assert twin.tables["s"].seed == layer.tables["s"].seed == 6
    assert twin.features["a/b"].mask_id == 3


def test_a_model_of_features_is_cloned_with_tables_of_its_own():
    model, features = clicks()
    model.fit(COLUMNS, LABELS, verbose=0)
    twin = keras.models.clone_model(model)
    twin.compile("adam", "binary_crossentropy")
    twin.fit(COLUMNS, LABELS, verbose=0)
    other = next(layer for layer in twin.layers if isinstance(layer, Features))
    assert other.tables["tags"] is not features.tables["tags"]
    assert other.tables["tags"].steps == 1


# --- what is refused -------------------------------------------------------------------------------------------------

WRONG = {
    "no dict": (lambda: Features([Id(3)]), "features must be a dict"),
    "nothing": (lambda: Features({}), "features must be a dict"),
    "a number for a feature": (lambda: Features({"user": 16}), "must be hotrow.keras.Id"),
    "a mode": (lambda: Features({"user": Id(3)}, output_mode="stack"), "output_mode must be"),
    "a sequence among vectors": (lambda: Features({"s": Sequence(3, length=2)}, output_mode="concat"), "'s' is a seq"),
    "two dims in a table": (lambda: Features({"a": Id(3, table="t"), "b": Id(4, table="t")}), "one dim for all"),
    "a table that is none": (lambda: Features({"a": Id(3, table=5)}), "must be a name or a hotrow.Table"),
    "two initializers": (
        lambda: Features({n: Id(3, table="t", embeddings_initializer="zeros") for n in "ab"}),
        "more than once",
    ),
    "a dim": (lambda: Id(0), "dim must be"),
    "a length": (lambda: Sequence(3, length=0), "length must be"),
    "a width": (lambda: Number(0), "width must be"),
    "a pooling": (lambda: Bag(3, "median"), "pooling must be one of"),
    "weights of a maximum": (lambda: Bag(3, "max", weights="w"), "takes no weights"),
}


@pytest.mark.enough("torch")
@pytest.mark.parametrize(("make", "text"), WRONG.values(), ids=WRONG.keys())
def test_features_that_can_not_be_right_are_refused(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


BAD = {
    "a null bag": ({"tags": [["a"], None]}, ArgumentError, "bag at position 1 is null"),
    "a null bag of Arrow": ({"tags": pa.array([["a"], None])}, ArgumentError, "bag at position 1 is null"),
    "a string for a bag": ({"tags": ["a", "b"]}, KindError, "'a' at position 0 for a bag"),
    "a number for a bag": ({"tags": [1, 2]}, KindError, "1 at position 0 for a bag"),
    "an array of too many axes": ({"tags": np.zeros((2, 2, 2), int)}, KindError, r"shape \(2, 2, 2\)"),
    "a null id": ({"tags": [["a"], [None]]}, IdError, "an id is missing"),
    "mixed ids": ({"tags": [["a"], [1]]}, KindError, "mixed"),
    "too few weights": ({"tags": [["a", "b"]], "w": [[1.0]]}, ArgumentError, "of the same lengths: first in bag 0"),
    "weights that aren't finite": ({"tags": [["a"]], "w": [[np.nan]]}, ArgumentError, "weights must be finite"),
    "no weights": ({"tags": [["a"]], "w": None}, ArgumentError, "expected a column 'w'"),
    "no column": ({"w": [[1.0]]}, ArgumentError, "'tags'"),
}


@pytest.mark.enough("torch")
@pytest.mark.parametrize(("columns", "error", "text"), BAD.values(), ids=BAD.keys())
def test_columns_that_can_not_be_right_are_refused_and_change_nothing(columns, error, text):
    features = Features({"tags": Bag(3, "sum", weights="w"), "user": Id(3)}, output_mode="concat")
    model = vectors(features)
    n = len(columns.get("tags", [0]))
    lengths = [len(bag) if isinstance(bag, list) else 0 for bag in columns.get("tags", [[]])]
    columns = {"user": ["u"] * n, "w": [[1.0] * k for k in lengths], **columns}
    if columns["w"] is None:
        del columns["w"]
    with pytest.raises(error, match=text):
        model.fit(columns, np.zeros((len(columns["user"]), 6)), verbose=0)
    assert len(features.tables["tags"]) == len(features.tables["user"]) == 0
    with pytest.raises(error, match=text):
        features(columns)


def test_strings_for_a_table_of_integers_are_refused_before_anything_changes():
    features = Features({"user": Id(3), "tags": Bag(3)}, output_mode="concat")
    model = vectors(features)
    g = np.ones((1, 6), np.float32)
    step(model, {"user": [1], "tags": [["a"]]}, g)
    for columns in ({"user": ["a"], "tags": [["a"]]}, {"user": [1], "tags": [[1]]}):
        with pytest.raises(KindError):
            step(model, columns, g)
    assert [table.steps for table in features.tables.values()] == [1, 1]


def test_a_bag_that_was_cut_is_refused():
    features = Features({"tags": Bag(3)})
    both = keras.Input((2,), dtype="int32")
    with pytest.raises(ArgumentError, match="takes a bag for each example, and what it is given was cut"):
        hotrow.keras.Model(both, features({"tags": both[:, 0]}))


def test_one_input_for_a_bag_and_an_id_is_refused():
    features = Features({"tags": Bag(3), "first": Id(3)})
    column = keras.Input((), dtype="int32")
    model = hotrow.keras.Model(column, features({"tags": column, "first": column}))
    with pytest.raises(ArgumentError, match="in different forms"):
        model.predict([["a"]], verbose=0)


def test_a_column_that_is_an_id_and_a_number_is_refused():
    features = Features({"age": Id(3), "number": Number()})
    column = keras.Input((), dtype="int32")
    with pytest.raises(ArgumentError, match=r"as ids, and by .*'number'.*, as numbers"):
        hotrow.keras.Model(column, features({"age": column, "number": column}))


def test_keras_own_model_is_told_to_take_ours():
    features = Features({"user": Id(3)}, optimizer=hotrow.SGD(0.1))
    inputs = features.inputs()
    model = keras.Model(inputs, features(inputs))
    with pytest.raises(Exception, match="takes ids as a hotrow model encodes them"):
        model.predict({"user": np.array([1, 2])}, verbose=0)


# --- ways to train ---------------------------------------------------------------------------------------------------


def trained_twins(make_optimizer, epochs=2, policy=None, **feature):
    """The vectors of two columns, trained in one Features layer, and in an Embedding layer each."""
    out = []
    for together in (True, False):
        keras.utils.set_random_seed(1)
        if together:
            features = Features({"user": Id(4, **feature), "item": Id(4, **feature)}, seed=3, dtype=policy)
            inputs = features.inputs()
            vectors, tables = features(inputs), features.tables
        else:
            inputs = {name: keras.Input((), dtype="int32", name=name) for name in ("user", "item")}
            own = {
                n: hotrow.keras.Embedding(None, 4, seed=3 + i, dtype=policy, **feature) for i, n in enumerate(inputs)
            }
            vectors, tables = {n: own[n](inputs[n]) for n in own}, {n: own[n].table for n in own}
        x = layers.Concatenate()([vectors["user"], vectors["item"]])
        dense = layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(seed=1), dtype=policy)
        model = hotrow.keras.Model(inputs, layers.Activation("linear", dtype="float32")(dense(x)))
        model.compile(make_optimizer(), "mse")
        history = model.fit(
            {"user": USERS, "item": ITEMS}, np.arange(N) / N, batch_size=3, epochs=epochs, verbose=0, shuffle=False
        ).history
        out.append((history["loss"], tables["user"].lookup(USERS), tables["item"].lookup(ITEMS), tables["user"].steps))
    return out


@pytest.mark.parametrize(
    ("optimizer", "how"),
    [
        (lambda: keras.optimizers.Adam(0.05, gradient_accumulation_steps=2), {}),
        (lambda: keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.1), {}),
        (lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1), {}),
        (lambda: keras.optimizers.Adam(0.05), {"embeddings_regularizer": keras.regularizers.L2(0.1)}),
        (lambda: keras.optimizers.SGD(0.5), {"embeddings_constraint": keras.constraints.MaxNorm(0.05, axis=1)}),
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**10),
            {"policy": "mixed_float16"},
        ),
    ],
    ids=["accumulated", "clipped", "decayed", "regularised", "constrained", "in float16"],
)
def test_a_step_is_the_same_as_with_a_layer_for_each_column(optimizer, how):
    together, apart = trained_twins(optimizer, **how)
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3 if "policy" in how else 1e-6)
    assert together[3] == (4 if optimizer().gradient_accumulation_steps else 8)


def test_a_layer_that_is_not_trainable_leaves_its_tables_alone():
    model, features = clicks()
    features.trainable = False
    model.compile("sgd", "mse")
    model.fit(COLUMNS, LABELS, verbose=0)
    assert {name: (len(table), table.steps) for name, table in features.tables.items()} == {
        "user": (0, 0),
        "tags": (0, 0),
    }


def test_the_best_weights_come_back_with_their_tables():
    model, features = clicks()
    stop = keras.callbacks.EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True)
    model.fit(COLUMNS, LABELS, epochs=5, batch_size=N, callbacks=[stop], verbose=0)
    assert features.tables["user"].steps == features.tables["tags"].steps == stop.best_epoch + 1


def test_examples_are_picked_from_columns_of_codes_by_lists_slices_and_arrays():
    codes = np.arange(10, dtype=np.int32).view(Codes)
    places = [3, 1, 3]
    for _ in range(2):  # the list is made an array once
        assert codes[places].tolist() == places
        assert (2 * codes)[places].tolist() == [6, 2, 6]
    assert codes[[0, 9]].tolist() == [0, 9]
    assert codes[2:4].tolist() == [2, 3]
    assert codes[np.array([4, 4])].tolist() == [4, 4]
    assert type(codes[places]) is np.ndarray


def test_features_within_a_layer_of_ones_own_are_read_by_their_names():
    class Tower(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.features = Features({"user": Id(4), "tags": Bag(4), "age": Number()}, output_mode="concat")
            self.out = keras.layers.Dense(1)

        def call(self, columns):
            return self.out(self.features(columns))

    tower = Tower()
    inputs = tower.features.inputs()
    model = hotrow.keras.Model(inputs, tower(inputs))
    model.compile("adam", "mse")
    model.fit({"user": ["ann", "bob"], "tags": [["red"], []], "age": [1.0, 2.0]}, [1.0, 0.0], verbose=0)
    assert {name: (len(t), t.steps) for name, t in tower.features.tables.items()} == {"user": (2, 1), "tags": (1, 1)}


@pytest.mark.enough("tensorflow", "torch")
@pytest.mark.filterwarnings("ignore:When providing:UserWarning")  # Keras's, for its names may have no slash
@pytest.mark.parametrize("name", ["a.b", "a/b", "user id", "🏮", "name", "type", "_x", "1"])
def test_a_column_may_have_any_name(name, tmp_path):
    features = Features({name: Id(4), "tags": Bag(4, weights="times")}, output_mode="concat")
    inputs = features.inputs()
    model = hotrow.keras.Model(inputs, keras.layers.Dense(1)(features(inputs)))
    model.compile("adam", "mse")
    columns = {name: [1, 2], "tags": [[1], []], "times": [[2.0], []]}
    model.fit(columns, [1.0, 2.0], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(columns, verbose=0), model.predict(columns, verbose=0))


def test_weights_that_are_no_lists_are_refused_as_weights():
    features = Features({"w": Number(), "tags": Bag(4, weights="w")}, output_mode="concat")
    with pytest.raises(hotrow.errors.KindError, match="weights must be one number for each id of each bag"):
        features({"w": [1.0, 2.0], "tags": [[1], [2]]})


def test_bags_come_as_a_nested_tensor():
    torch = pytest.importorskip("torch")
    features = Features({"tags": Bag(4, "sum")}, output_mode="concat", seed=0)
    lists = [[1, 2], [], [2**40]]
    nested = torch.nested.nested_tensor([torch.tensor(bag, dtype=torch.int64) for bag in lists], layout=torch.jagged)
    ours, theirs = (keras.ops.convert_to_numpy(features({"tags": bags})) for bags in (nested, lists))
    np.testing.assert_array_equal(ours, theirs)
    assert not ours[1].any()
    assert ours[2].any()


def test_a_table_that_a_layer_has_left_is_let_go():
    features = Features({"user": Id(4)}, output_mode="concat")
    features({"user": [1, 2]})
    left, shared = weakref.ref(features.tables["user"]), hotrow.keras.Embedding(None, 4)
    features._embeddings["user"].use(shared.table)
    features({"user": [1, 2]})
    gc.collect()
    assert left() is None
    assert features.tables["user"] is shared.table


def test_a_subclassed_model_takes_a_frame_with_more_than_it_reads():
    class Users(hotrow.keras.Model):
        def __init__(self):
            super().__init__()
            self.features = Features({"user": Id(4)}, output_mode="concat", optimizer=hotrow.SGD(0.1))

        def call(self, x):
            return self.features(x)

    frame = pd.DataFrame({"user": USERS, "when": pd.date_range("2026-01-01", periods=N), "name": ["x"] * N})
    model = Users()
    np.testing.assert_array_equal(model.predict(frame, verbose=0), model.features.tables["user"].lookup(USERS))
