"""Whatever ids come in, they are the ids that they are: lists, arrays, columns, frames, tensors, streams."""

from __future__ import annotations

import keras
import nets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from keras import layers
from nets import DIM, KINDS, NAMES, classifier, named

import hotrow
from hotrow.errors import ArgumentError, IdError, KindError


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


each_kind = pytest.mark.parametrize("kind", KINDS)

SMALL = [[1, 2], [3, 1], [2, 2]]
BIG = [[2**40, -5], [7, 2**63 - 1], [-(2**63), 2**32 + 7]]
UNSIGNED = [[2**63, 5], [2**64 - 1, 0], [5, 2**32 + 5]]
TEXT = [["lantern", "cup"], ["mug", ""], ["cup", "漢字"]]
IDS = {"small": SMALL, "64 bits": BIG, "unsigned": UNSIGNED, "strings": TEXT}
DTYPES = {"small": np.int32, "64 bits": np.int64, "unsigned": np.uint64, "strings": "U10"}


def forms_of(name, ids):
    """The ids in each form that holds them two to a sample."""
    typed = np.array(ids, DTYPES[name])
    forms = {
        "lists": ids,
        "tuples": tuple(map(tuple, ids)),
        "typed": typed,
        "objects": np.array(ids, object),
        "list of arrays": list(typed) if name != "strings" else ids,
    }
    if name == "strings":
        forms["bytes"] = [[text.encode() for text in row] for row in ids]
    if name == "small":  # of a functional model: in any other, floats are numbers
        forms |= {"int64": typed.astype(np.int64), "uint64": typed.astype(np.uint64), "float64": typed.astype(float)}
    return forms


some = [("functional", name) for name in IDS] + [(kind, name) for kind in KINDS[1:] for name in ("unsigned", "strings")]


@pytest.mark.enough("torch")
@pytest.mark.parametrize(("kind", "name"), some)
def test_ids_of_every_kind_and_form_are_themselves(kind, name):
    ids = IDS[name]
    model, table = nets.vectors(kind, length=2)
    table.set(ids, np.arange(18, dtype=np.float32).reshape(3, 2, DIM))
    expected = table.lookup(ids)
    forms = forms_of(name, ids)
    for form in forms.values():
        if kind == "subclassed" and (isinstance(form, list) and isinstance(form[0], np.ndarray)):
            continue  # several inputs, there
        np.testing.assert_array_equal(model.predict(form, verbose=0), expected)
        np.testing.assert_array_equal(array(model(form)), expected)
    y = np.zeros_like(expected)
    np.testing.assert_array_equal(model.predict_on_batch(forms["lists"]), expected)
    assert model.evaluate(forms["tuples"], y, verbose=0) == pytest.approx(np.square(expected).mean(), rel=1e-5)
    assert model.test_on_batch(forms["objects"], y) == pytest.approx(np.square(expected).mean(), rel=1e-5)
    model.train_on_batch(forms["lists"], y)
    model.fit(forms["objects"], y, verbose=0)
    assert table.steps == 2
    assert sorted(map(str, table.ids().tolist())) == sorted({str(i) for row in ids for i in row})


@pytest.mark.enough("torch")
@pytest.mark.parametrize(("kind", "name"), some)
def test_columns_of_rank_1_are_themselves(kind, name):
    flat = [i for row in IDS[name] for i in row]
    typed = np.array(flat, DTYPES[name])
    model, table = nets.vectors(kind, length=None if kind == "sequential" else 1)
    table.set(flat, np.arange(6 * DIM, dtype=np.float32).reshape(6, DIM))
    shape = (6, DIM) if kind in {"subclassed", "sequential"} else (6, 1, DIM)
    arrow = pa.array(flat, pa.uint64()) if name == "unsigned" else pa.array(flat)
    forms = [
        flat,
        tuple(flat),
        typed,
        np.array(flat, object),
        arrow,
        pa.chunked_array([arrow[:4], arrow[4:]]),
        arrow.dictionary_encode(),
        pa.chunked_array([arrow[:2].dictionary_encode(), arrow[2:].dictionary_encode()]),
        pd.Series(typed if name != "strings" else flat),
        pd.Series(flat).astype("category"),
        pl.Series(typed if name != "strings" else flat),
    ]
    for form in forms:
        np.testing.assert_array_equal(model.predict(form, verbose=0), table.lookup(flat).reshape(shape))
    for form in forms[-3:]:
        model.fit(form, np.zeros(shape), batch_size=2, verbose=0)
    assert len(table) == len(set(flat))


def test_tensors_of_every_framework_are_ids(backend):
    import jax.numpy as jnp
    import tensorflow as tf
    import torch

    ids = np.array([[1, 2], [3, 2**31 - 1]], np.int32)
    model, table = nets.vectors("functional", length=2)
    table.set(ids, np.ones((2, 2, DIM)) * [[[1], [2]], [[3], [4]]])
    for tensor in (tf.constant(ids), jnp.asarray(ids), torch.tensor(ids), torch.tensor(ids).long()):
        np.testing.assert_array_equal(model.predict(tensor, verbose=0), table.lookup(ids))
        np.testing.assert_array_equal(array(model(tensor)), table.lookup(ids))
        model.fit(tensor, np.zeros((2, 2, DIM)), verbose=0)
    assert len(table) == 4
    big = np.array([[2**40, 5]])
    for tensor in (tf.constant(big), torch.tensor(big)):
        np.testing.assert_array_equal(model.predict(tensor, verbose=0), table.lookup(big))
    words, _ = nets.vectors("functional", length=2)
    texts = [["a", "b"]]
    np.testing.assert_array_equal(words.predict(tf.constant(texts), verbose=0), words.layers[1].table.lookup(texts))


# --- frames, tables, dicts -------------------------------------------------------------------------------------------


def two_columns(struct):
    """User and item by name or by place, and a number beside them."""
    user, item, price = (keras.Input((1,), name=name) for name in ("user", "item", "price"))
    both = [hotrow.keras.Embedding(None, DIM, seed=s)(x) for s, x in enumerate((user, item))]
    out = layers.Dense(1)(layers.Concatenate()([layers.Flatten()(layers.Concatenate()(both)), price]))
    inputs = {"user": user, "item": item, "price": price} if struct == "dict" else [user, item, price]
    model = hotrow.keras.Model(inputs, out)
    model.compile("sgd", "mse")
    return model, [layer.table for layer in model.layers if isinstance(layer, hotrow.keras.Embedding)]


COLUMNS = {
    "price": [1.5, 2.5, 0.0],
    "user": ["ann", "bob", "ann"],
    "item": [2**40, -1, 2**40],
    "more": [0, 0, 0],
}


@pytest.mark.parametrize("struct", ["dict", "list"])
def test_columns_by_name_go_to_the_inputs_of_these_names(struct):
    model, (users, items) = two_columns(struct)
    forms = [
        {name: np.array(column) for name, column in COLUMNS.items()},
        {name: np.array(column)[:, None] for name, column in COLUMNS.items()},
        pa.table(COLUMNS),
        pd.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS),
    ]
    expected = model.predict(COLUMNS, verbose=0)
    for form in forms:
        np.testing.assert_array_equal(model.predict(form, verbose=0), expected)
        np.testing.assert_allclose(array(model(form)), expected, rtol=1e-6)
    assert len(users) == len(items) == 0
    for form in (COLUMNS, *forms[2:]):
        model.fit(form, [1.0, 2.0, 3.0], batch_size=2, verbose=0)
    assert [sorted(map(str, table.ids().tolist())) for table in (users, items)] == [
        ["ann", "bob"],
        ["-1", str(2**40)],
    ]
    assert users.steps == 8


def test_several_inputs_by_place_are_lists_or_arrays():
    model, _ = two_columns("list")
    by_name = model.predict(COLUMNS, verbose=0)
    columns = [COLUMNS[name] for name in ("user", "item", "price")]
    np.testing.assert_array_equal(model.predict(columns, verbose=0), by_name)
    np.testing.assert_array_equal(model.predict(tuple(columns), verbose=0), by_name)
    np.testing.assert_array_equal(model.predict([np.array(c) for c in columns], verbose=0), by_name)
    model.fit(columns, [1.0, 2.0, 3.0], verbose=0)
    named_inputs, _ = two_columns("dict")
    named_inputs.set_weights(model.get_weights())
    np.testing.assert_array_equal(named_inputs.predict(columns, verbose=0), model.predict(COLUMNS, verbose=0))


def test_a_frame_for_a_single_input_is_its_matrix_or_its_column():
    model, table = nets.vectors("functional", length=2)
    frame = {"a": ["x", "y"], "b": ["y", "z"]}
    expected = table.lookup([["x", "y"], ["y", "z"]])
    for form in (pd.DataFrame(frame), pl.DataFrame(frame), pa.table(frame)):
        np.testing.assert_array_equal(model.predict(form, verbose=0), expected)
    one, table = nets.vectors("functional", length=1)
    for form in (pd.DataFrame({"a": ["x"]}), {"any": ["x"]}, pa.table({one.inputs[0].name: ["x"], "other": [1]})):
        np.testing.assert_array_equal(one.predict(form, verbose=0), table.lookup([["x"]]))


def test_a_column_that_is_missing_is_named():
    model, _ = two_columns("dict")
    with pytest.raises(ArgumentError, match=r"input 'item'; expected that column, got \['user', 'price'\]"):
        model.fit({"user": ["a"], "price": [1.0]}, [1.0])
    model, _ = two_columns("list")
    with pytest.raises(ArgumentError, match=r"inputs \['user', 'item', 'price'\]; .* got 2 of them"):
        model.predict([["a"], [1]])
    with pytest.raises(ArgumentError, match="got a ndarray"):
        model.predict(np.array([1, 2]))


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.enough("torch")
@pytest.mark.parametrize("form", [list, pa.array, pd.Series, pl.Series], ids=["list", "Arrow", "pandas", "polars"])
def test_rank_1_targets_and_weights_equal_the_columns_by_hand(form):
    ids, y, weight = ["a", "b", "a", "c"], [0, 1, 1, 0], [1.0, 0.5, 2.0, 0.0]

    def trained(x, y, weight):
        keras.utils.set_random_seed(0)
        i = keras.Input((None,))
        layer = hotrow.keras.Embedding(None, DIM)
        model = hotrow.keras.Model(i, layers.Dense(2, "softmax")(layer(i)))
        model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
        history = model.fit(x, y, sample_weight=weight, batch_size=2, epochs=2, shuffle=False, verbose=0).history
        history["evaluated"] = model.evaluate(x, y, sample_weight=weight, verbose=0)
        history["batch"] = model.train_on_batch(x, y, weight), model.test_on_batch(x, y, weight)
        return history, layer.table.lookup(["a", "b", "c"])

    by_hand, table = trained(*(np.array(column)[:, None] for column in (ids, y, weight)))
    history, same = trained(form(ids), form(y), form(weight))
    np.testing.assert_array_equal(same, table)
    assert history == by_hand


def test_each_output_has_targets_of_its_own_rank():
    ids = keras.Input((None,), name="ids")
    vectors = hotrow.keras.Embedding(None, DIM)(ids)
    each = layers.Dense(2, "softmax", name="each")(vectors)
    whole = layers.Dense(1, name="whole")(layers.GlobalAveragePooling1D()(vectors))
    x, labels, numbers = ["a", "b", "a"], [0, 1, 0], [0.5, 1.5, 2.5]
    losses = {"each": "sparse_categorical_crossentropy", "whole": "mse"}
    results = []
    for outputs, y in (
        ([each, whole], [np.array(labels)[:, None], np.array(numbers)[:, None]]),
        ([each, whole], [labels, numbers]),
        ([each, whole], (np.array(labels), pa.array(numbers))),
        ({"each": each, "whole": whole}, {"whole": numbers, "each": labels}),
        ({"each": each, "whole": whole}, pd.DataFrame({"whole": numbers, "each": labels})),
    ):
        model = hotrow.keras.Model(ids, outputs)
        model.compile("sgd", losses if isinstance(outputs, dict) else list(losses.values()))
        results.append(model.evaluate(x, y, verbose=0)[0])
    assert results == pytest.approx([results[0]] * len(results))


def test_targets_stay_as_they_are_where_the_output_has_no_rank_for_a_column():
    seen = []

    class Seeing(hotrow.keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **how):
            seen.append(tuple(y.shape))
            return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **how)

    model = Seeing([keras.Input((2,)), hotrow.keras.Embedding(None, DIM), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit([["a", "b"]] * 2, [1.0, 2.0], verbose=0)
    assert seen[-1] == (2,)


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.enough("torch")
@pytest.mark.parametrize("kind", ["functional", "sequential"])
@pytest.mark.parametrize(
    "bad",
    [
        [1.5],
        [float("nan")],
        [None],
        [True],
        np.array([True]),
        [2.0**53],
        np.array([2.0**24], np.float32),
        [1, "a"],
        [2**64],
    ],
    ids=str,
)
def test_what_is_no_id_is_refused_before_anything_changed(kind, bad):
    model, table = nets.vectors(kind, length=1)
    model.fit([1, 2], np.ones((2, 1, DIM)), verbose=0)
    before, steps = table.vectors(), table.steps
    for method in (model.fit, model.train_on_batch, model.evaluate, model.test_on_batch):
        with pytest.raises((IdError, KindError)):
            method(bad, np.ones((len(bad), 1, DIM)))
    for method in (model.predict, model.predict_on_batch, model):
        with pytest.raises((IdError, KindError)):
            method(bad)
    np.testing.assert_array_equal(table.vectors(), before)
    assert table.steps == steps


@pytest.mark.parametrize("how", [{}, {"run_eagerly": True}], ids=["compiled", "eagerly"])
def test_an_id_outside_of_input_dim_is_named_and_changes_nothing(how):
    i = keras.Input((None,))
    layer = hotrow.keras.Embedding(10, DIM)
    model = hotrow.keras.Model(i, layer(i))
    model.compile("adam", "mse", **how)
    model.fit([1, 2, 1], np.ones((3, 1, DIM)), verbose=0)
    before, steps = layer.table.state().weights.copy(), layer.table.steps
    for bad in (10, -1, 2**53 + 1, -(2**63)):
        for method in (model.fit, model.train_on_batch):
            with pytest.raises(Exception, match=f"got {bad}; expected ids from 0 to 9, the input_dim of layer"):
                method([2, bad], np.ones((2, 1, DIM)))
        for method in (model.predict, model.predict_on_batch, model):
            with pytest.raises(Exception, match=f"got {bad}; expected ids from 0 to 9"):
                array(method([2, bad]))
    np.testing.assert_array_equal(layer.table.state().weights, before)
    assert layer.table.steps == steps
    model.fit([9, 0], np.ones((2, 1, DIM)), verbose=0)
    assert layer.table.steps == steps + 1


# --- Keras's own options ---------------------------------------------------------------------------------------------


def histories(x, y, *args, names=named, optimizer="sgd", options=lambda names: {}, **more):
    """What fit gives for hotrow's model of names, and for its twin of small ids."""
    results = []
    for words in (None, 8):
        model, _ = classifier(words, optimizer=optimizer)
        keras.utils.set_random_seed(5)
        given = {**more, **options(names if words is None else np.asarray)}
        history = model.fit(names(x) if words is None else x, y, *args, verbose=0, **given)
        results.append(history.history)
    return results


def check_twins(*args, **how):
    ours, theirs = histories(*args, **how)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5, err_msg=name)
    return ours


X, Y = nets.data()
WEIGHT = np.linspace(0, 2, len(Y)).astype(np.float32)

OPTIONS = {
    "positional": {},
    "validation_split": {"validation_split": 0.25},
    "shuffle off": {"shuffle": False},
    "sample_weight": {"sample_weight": WEIGHT},
    "class_weight": {"class_weight": {0: 0.3, 1: 2.0}},
    "initial_epoch": {"epochs": 4, "initial_epoch": 2},
    "steps_per_epoch": {"steps_per_epoch": 2, "batch_size": 6},
    "validation_freq": {"validation_split": 0.25, "validation_freq": 2, "epochs": 4, "validation_batch_size": 3},
    "split and weights": {"validation_split": 0.5, "sample_weight": WEIGHT},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_of_fit_stay_those_of_keras(name):
    options = {"epochs": 2, "batch_size": 8} | OPTIONS[name]
    if name == "positional":
        check_twins(X, Y, 5, 3)
    else:
        check_twins(X, Y, **options)


@pytest.mark.parametrize("weighted", [False, True])
def test_validation_data_are_ids_as_they_are(weighted):
    more = [WEIGHT[:10]] if weighted else []

    def options(names):
        return {"validation_data": (names(X[:10]), Y[:10], *more)}

    ours = check_twins(X, Y, epochs=2, options=options)
    assert len(ours["val_loss"]) == 2


def test_validation_data_may_be_lists_by_position():
    model, _ = classifier()
    split, data = 0.0, (named(X[:4]).tolist(), Y[:4].tolist())
    history = model.fit(named(X), Y, 8, 2, 0, None, split, data, False, {0: 1.0, 1: 1.0}).history
    assert len(history["val_loss"]) == 2
    assert model.evaluate(named(X), Y, 8, 0, WEIGHT)[0] == pytest.approx(
        model.evaluate(named(X), Y, sample_weight=WEIGHT, verbose=0)[0]
    )
    assert model.train_on_batch(named(X[:2]), Y[:2], None, {0: 1.0, 1: 2.0}, True).keys() == {"accuracy", "loss"}
    assert model.test_on_batch(named(X[:2]), Y[:2], WEIGHT[:2], True).keys() == {"accuracy", "loss"}
    assert model.predict(named(X[:3]), 2, 0).shape == (3, 2)


def test_ids_of_validation_get_no_row():
    model, layer = classifier()
    x = np.array([["new", f"id {i}"] for i in range(8)], object)
    x[6:, 0] = "only validated"
    validated = ["held out", "id 1"], ["id 2", "never seen"]
    model.fit(x, Y[:8], validation_split=0.25, epochs=2, verbose=0)
    model.fit(x[:6], Y[:6], validation_data=(list(validated), Y[:2]), verbose=0)
    assert "new" in layer.table
    assert len(layer.table) == len(NAMES) + 1


@each_kind
def test_only_training_makes_rows_and_unknown_ids_have_their_first_value(kind):
    model, table = nets.vectors(kind, length=2)
    ids = [["a", "b"], ["b", "c"]]
    first = table.lookup(ids)
    np.testing.assert_array_equal(model.predict(ids, verbose=0), first)
    np.testing.assert_array_equal(model.predict_on_batch(ids), first)
    np.testing.assert_array_equal(array(model(ids)), first)
    model.evaluate(ids, first, verbose=0)
    model.test_on_batch(ids, first)
    assert len(table) == 0
    assert table.kind is None
    model.train_on_batch(ids, first)
    assert table.ids().to_pylist() == ["a", "b", "c"]
    model.fit([["d", "a"]], first[:1], verbose=0)
    assert table.ids().to_pylist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(model.predict([["e", "e"]], verbose=0), table.lookup([["e", "e"]]))


def test_callbacks_may_ask_the_model_about_ids_as_they_are():
    asked, ids = [], named(X[:3])

    class Asking(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            asked.append((self.model.predict(ids, verbose=0), array(self.model(ids.tolist()))))

        def on_epoch_end(self, epoch, logs=None):
            asked.append((self.model.predict(ids, verbose=0), array(self.model(ids))))

    model, _ = classifier()
    model.fit(named(X), Y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[Asking()])
    undisturbed, _ = classifier()
    undisturbed.fit(named(X), Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for predicted, called in asked:
        np.testing.assert_allclose(predicted, called, rtol=1e-5)
    assert len(asked) == 8
    assert not np.allclose(asked[0][0], asked[-1][0])
    np.testing.assert_array_equal(model.predict(ids, verbose=0), undisturbed.predict(ids, verbose=0))
