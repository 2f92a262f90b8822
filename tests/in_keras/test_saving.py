"""Saved, loaded, put back: net and table are always of one step, and training goes on as if nothing had been."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import h5py
import keras
import numpy as np
import pytest

import hotrow
from hotrow.bridges.stage import Stage
from hotrow.keras.tokens import Token
from hotrow.store.arrays import sealed, to_arrays

BACKEND = keras.backend.backend()
BACKENDS = ("tensorflow", "jax", "torch")
rng = np.random.default_rng(3)
IDS = {
    "int64": rng.integers(-(2**63), 2**63 - 1, 9)[rng.integers(0, 9, (12, 2))],
    "uint64": rng.integers(2**63, 2**64 - 1, 9, np.uint64)[rng.integers(0, 9, (12, 2))],
    "string": [[f"üser {i % 5}", f"v{i % 3}"] for i in range(12)],
    "small": rng.integers(0, 9, (12, 2), np.int32),
}
Y = rng.normal(size=(12, 2, 1)).astype(np.float32)


@keras.saving.register_keras_serializable("test_saving")
class Net(hotrow.keras.Model):
    """A subclassed model."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = hotrow.keras.Embedding(None, 4)
        self.dense = keras.layers.Dense(1)

    def call(self, ids):
        return self.dense(self.embedding(ids))


def functional(bound=None, kind=hotrow.keras.Model, **how):
    ids = keras.Input((None,))
    return kind(ids, keras.layers.Dense(1)(hotrow.keras.Embedding(bound, 4, **how)(ids)))


def sequential(*inputs, **how):
    return hotrow.keras.Sequential([*inputs, hotrow.keras.Embedding(None, 4, **how), keras.layers.Dense(1)])


def plain(**how):
    """keras.Model itself: the layer brings its optimizer."""
    return functional(9, keras.Model, **{"optimizer": hotrow.Adam(0.01)} | how)


def sharing(kind=hotrow.keras.Model, **how):
    """Two layers on one table."""
    one, other = keras.Input((None,)), keras.Input((None,))
    first = hotrow.keras.Embedding(9, 4, **how)
    second = hotrow.keras.Embedding(9, 4, table=first.table)
    return kind([one, other], keras.layers.Dense(1)(first(one) + second(other)))


def compiled(model, optimizer="adam"):
    model.compile(optimizer, "mse")
    return model


def fit(model, ids="small", epochs=1, **how):
    x = IDS[ids] if isinstance(ids, str) else ids
    return model.fit(x, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0, **how)


def out_of(model, ids="small"):
    """What comes out, by a plain call."""
    return keras.ops.convert_to_numpy(model(IDS[ids] if isinstance(ids, str) else ids))


def filled(model, ids="string"):
    """Built, with numbers in table and slots that no training has brought: that is faster."""
    out_of(model, ids)
    table = table_of(model)
    values = np.random.default_rng(5)
    batch = table.find(IDS[ids], grow=True)
    for _ in range(2):
        table.update(batch, values.normal(size=(12, 2, table.dim)))
    return model


def layers_of(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, hotrow.keras.Embedding)]


def table_of(model):
    return layers_of(model)[0].table


def contents(table):
    """All that a table is, as bytes."""
    return {name: array.tobytes() for name, array in to_arrays(table.state()).items()}


def twins(make, optimizer=None):
    """Two models that are the same."""
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        models.append(compiled(make(), (optimizer or (lambda: "adam"))()))
    return models


def assert_same(model, other, ids="small"):
    """To the bit: the tables, what comes out, and what the optimizers keep."""
    assert contents(table_of(model)) == contents(table_of(other))
    np.testing.assert_array_equal(out_of(model, ids), out_of(other, ids))
    mine, theirs = model.optimizer.variables, other.optimizer.variables
    assert len(mine) == len(theirs)
    for one, two in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(two))


# --- files -----------------------------------------------------------------------------------------------------------

of = keras.optimizers
MODELS = {
    "functional, int64": (functional, "int64", lambda: of.Adam(0.01, amsgrad=True)),
    "functional, uint64": (functional, "uint64", lambda: of.Nadam(0.01)),
    "functional, strings": (functional, "string", lambda: of.RMSprop(0.01, momentum=0.9, centered=True)),
    "bounded": (lambda: functional(9, mask_zero=True), "small", lambda: of.Ftrl(0.1)),
    "subclassed": (Net, "string", lambda: of.Adadelta(0.5)),
    "Sequential": (sequential, "int64", lambda: of.SGD(of.schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.9)),
    "Sequential with Input": (lambda: sequential(keras.Input((2,)), optimizer="lion"), "string", of.Adagrad),
    "keras.Model": (lambda: plain(optimizer=hotrow.RowwiseAdagrad(0.1)), "small", lambda: of.Adam(0.01)),
    "keras.Model, Keras's optimizer": (lambda: plain(optimizer=of.Adamax(0.1)), "small", lambda: of.SGD(0.1)),
    "sharing": (sharing, [IDS["small"], IDS["small"][::-1]], lambda: of.AdamW(0.01)),
}
each_model = pytest.mark.parametrize(("make", "ids", "optimizer"), MODELS.values(), ids=MODELS.keys())


@each_model
def test_a_loaded_model_is_the_same_to_the_bit_and_trains_on_alike(tmp_path, make, ids, optimizer):
    model = compiled(make(), optimizer())
    fit(model, ids)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert type(loaded) is type(model)
    assert table_of(loaded).steps == table_of(model).steps == 3
    assert_same(model, loaded, ids)
    x = IDS[ids] if isinstance(ids, str) else ids
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    for one in (model, loaded):
        fit(one, ids)
    assert table_of(loaded).steps == 6
    assert_same(model, loaded, ids)


@pytest.mark.parametrize("make", [functional, sequential, Net])
def test_weights_go_to_a_model_that_was_made_anew(tmp_path, make):
    model = compiled(make())
    fit(model, "string")
    model.save_weights(tmp_path / "m.weights.h5")
    other = compiled(make())
    out_of(other, "string")
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "m.weights.h5")
    assert_same(model, other, "string")
    for one in (model, other):
        fit(one, "string")
    assert_same(model, other, "string")


def test_weights_in_several_files_go_too(tmp_path):
    model = filled(functional())
    model.save_weights(tmp_path / "m.weights.json", max_shard_size=3e-7)
    assert len(list(tmp_path.glob("*.h5"))) > 1
    other = functional()
    other.load_weights(tmp_path / "m.weights.json")
    assert contents(table_of(other)) == contents(table_of(model))


def test_an_untrained_model_goes_too(tmp_path):
    model = functional()
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert len(table_of(loaded)) == 0
    np.testing.assert_array_equal(out_of(loaded, "string"), out_of(model, "string"))  # the same seed


def test_a_subclassed_model_that_was_never_called_loads_unbuilt(tmp_path):
    with pytest.warns(UserWarning, match="has not yet been built"):
        Net().save(tmp_path / "m.keras")
    loaded = compiled(keras.saving.load_model(tmp_path / "m.keras"))
    fit(loaded, "string")
    assert len(table_of(loaded)) == 8


def test_layers_of_one_name_and_keras_s_own_embedding_keep_apart(tmp_path):
    inputs = [keras.Input((None,)) for _ in range(3)]
    ours = [hotrow.keras.Embedding(9, 4, seed=i) for i in range(2)]
    layers = [ours[0], keras.layers.Embedding(9, 4), ours[1]]
    outputs = [layer(ids) for layer, ids in zip(layers, inputs, strict=True)]
    model = compiled(hotrow.keras.Model(inputs, keras.layers.Dense(1)(sum(outputs))))
    ids = [IDS["small"], IDS["small"][::-1], (IDS["small"] + 1) % 9]
    fit(model, ids)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for one, two in zip(layers_of(model), layers_of(loaded), strict=True):
        assert contents(one.table) == contents(two.table)
    np.testing.assert_array_equal(out_of(loaded, ids), out_of(model, ids))


@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", *(pytest.param(other, marks=pytest.mark.long) for other in ("mixed_bfloat16", "float16"))],
)
def test_a_model_of_half_precision_goes_on_from_its_file(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    model = compiled(functional(), of.Adam(0.01, epsilon=1e-3))
    fit(model, "string")
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for _ in range(2):
        assert contents(table_of(model)) == contents(table_of(loaded))
        np.testing.assert_array_equal(out_of(loaded, "string"), out_of(model, "string"))
        for one in (model, loaded):
            fit(one, "string")
    assert table_of(loaded).vectors().dtype == np.float32


def test_the_old_format_of_whole_models_is_refused(tmp_path):
    with pytest.raises(hotrow.ArgumentError, match=r'model\.save\("model\.keras"\)'):
        functional().save(tmp_path / "m.h5")
    assert not list(tmp_path.iterdir())


def test_saving_does_not_make_the_matrix(tmp_path, monkeypatch):
    model = functional(9)
    monkeypatch.setattr(hotrow.keras.Embedding, "embeddings", property(lambda self: pytest.fail("made for nothing")))
    model.save(tmp_path / "m.keras")
    keras.saving.load_model(tmp_path / "m.keras")


LOADED = """
import sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
import hotrow.keras
import keras, numpy as np
for path in sys.argv[1:]:
    model = keras.saving.load_model(path, compile="plain" not in path)
    data = np.load(path + ".npz")
    np.testing.assert_allclose(model.predict(data["ids"], verbose=0), data["out"], atol=1e-6)
    if model.compiled:
        model.fit(data["ids"], data["y"], batch_size=4, shuffle=False, verbose=0)
        np.testing.assert_allclose(model.predict(data["ids"], verbose=0), data["later"], atol=1e-5)
print("as it was")
"""


def test_a_model_loads_in_a_new_process_on_another_backend(tmp_path):
    own = {"optimizer": of.RMSprop(0.01)}  # on torch, Keras's optimizers are of other classes
    models = {
        "functional": (functional(), "string"),
        "sequential": (sequential(**own), "uint64"),
        "plain": (plain(**own), "small"),
    }
    paths = [str(tmp_path / f"{name}.keras") for name in models]
    for path, (model, ids) in zip(paths, models.values(), strict=True):
        fit(compiled(model), ids)
        model.save(path)
        out = out_of(model, ids)
        fit(model, ids)
        np.savez(path + ".npz", ids=IDS[ids], out=out, y=Y, later=out_of(model, ids))
    with ThreadPoolExecutor() as side_by_side:
        for done in side_by_side.map(lambda other: _load_on(other, paths), {*BACKENDS} - {BACKEND}):
            assert done.stdout.splitlines()[-1:] == ["as it was"], done.stderr[-3000:]


def _load_on(backend, paths):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", LOADED, *paths]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=250)


# --- get_weights, set_weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [functional, plain, sharing])
def test_weights_put_back_bring_the_table_back(make):
    model, twin = twins(make)
    ids = [IDS["small"], IDS["small"] % 7] if make is sharing else "small"
    for one in (model, twin):
        fit(one, ids)
    kept = copy.deepcopy(pickle.loads(pickle.dumps([array.copy() for array in model.get_weights()])))
    fit(model, [ids_ + 0 for ids_ in ids] if make is sharing else (IDS["small"] + 3) % 9, epochs=2)
    assert contents(table_of(model)) != contents(table_of(twin))
    model.set_weights(kept)
    assert contents(table_of(model)) == contents(table_of(twin))
    np.testing.assert_array_equal(out_of(model, ids), out_of(twin, ids))


def test_weights_go_to_another_model_alike():
    model, other = filled(functional()), functional()
    other.set_weights(model.get_weights())
    assert contents(table_of(other)) == contents(table_of(model))
    np.testing.assert_array_equal(out_of(other, "string"), out_of(model, "string"))


def test_a_state_tree_of_arrays_brings_the_table_back():
    model = filled(compiled(functional()))
    before, tree = contents(table_of(model)), model.get_state_tree(value_format="numpy_array")
    filled(model)
    model.set_state_tree(tree)
    assert contents(table_of(model)) == before


def test_with_input_dim_a_layer_s_weights_are_the_matrix():
    layer = hotrow.keras.Embedding(5, 3)
    assert layer.get_weights() == []
    layer.build()
    (matrix,) = layer.get_weights()
    assert matrix.shape == (5, 3)
    np.testing.assert_array_equal(matrix, layer.embeddings)
    layer.set_weights([np.arange(15.0).reshape(5, 3)])
    np.testing.assert_array_equal(layer.embeddings, np.arange(15.0).reshape(5, 3))
    layer.set_weights([matrix])
    np.testing.assert_array_equal(layer.embeddings, matrix)
    assert len(layer.table) == 0  # as it was: no id had a row


def refused(call, *arguments):
    with pytest.raises(hotrow.ArgumentError) as error:
        call(*arguments)
    return str(error.value)


def test_arrays_without_a_table_are_refused_and_change_nothing():
    model = filled(functional())
    before, out = contents(table_of(model)), out_of(model, "string")
    weights = model.get_weights()
    layer = layers_of(model)[0]
    for arrays in (
        [np.array(weight) for weight in weights],
        [weights[0] * 1, *weights[1:]],
        [np.float32(0), *weights[1:]],
    ):
        text = refused(model.set_weights, arrays)
        assert f"nothing of the table of layer {layer.name!r}" in text
        assert "model.load_weights(…)" in text
        assert "layer.table.set(ids, vectors)" in text
    assert "one weight to set; got 2" in refused(layer.set_weights, [np.zeros(()), np.zeros(())])
    assert "table.set(ids, vectors)" in refused(layer.set_weights, [np.zeros((3, 4))])
    assert contents(table_of(model)) == before
    np.testing.assert_array_equal(out_of(model, "string"), out)


@pytest.mark.enough("torch")
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: hotrow.keras.Embedding(None, 3), "has vectors of 4 floats, layer 'mine' has 3"),
        (lambda: hotrow.keras.Embedding(None, 4, ids="int64"), "has ids of kind string, layer 'mine' takes int64"),
    ],
)
def test_the_weights_of_another_kind_of_layer_are_refused_and_change_nothing(make, text):
    model = filled(functional())
    layer = make()
    layer.name = "mine"
    layer.build()
    layer.table.find([5, 6], grow=True)
    before = contents(layer.table)
    assert text in refused(layer.set_weights, layers_of(model)[0].get_weights())
    store = {}
    layers_of(model)[0].save_own_variables(store)
    assert text in refused(layer.load_own_variables, store)
    assert contents(layer.table) == before


def test_ids_beyond_input_dim_do_not_come_in_by_weights():
    big, small = hotrow.keras.Embedding(20, 4), hotrow.keras.Embedding(9, 4, name="mine")
    for layer in (big, small):
        layer.build()
    small.set_weights([np.ones((9, 4))])
    big.table.find([3, 12], grow=True)
    text = refused(small.set_weights, big.get_weights())
    assert "has id 12, layer 'mine' takes 0 to 8" in text
    np.testing.assert_array_equal(small.embeddings, np.ones((9, 4)))
    big.set_weights(small.get_weights())
    np.testing.assert_array_equal(big.embeddings[:9], np.ones((9, 4)))


# --- callbacks -------------------------------------------------------------------------------------------------------


def some_of(one, other):
    """A model of each kind with one way and another; the ways crossed over only in the long run."""
    crossed = [
        pytest.param(functional, other, marks=pytest.mark.long),
        pytest.param(plain, one, marks=pytest.mark.long),
    ]
    return [(functional, one), (plain, other), *crossed]


class Interrupt(keras.callbacks.Callback):
    """Stops at the end of an epoch or batch as a power cut would."""

    def __init__(self, epoch=None, batch=None):
        super().__init__()
        self.epoch, self.batch = epoch, batch
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches == self.batch:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("make", [functional, plain])
def test_early_stopping_puts_net_and_table_back_to_one_step(make):
    model, twin = twins(make)
    stop = keras.callbacks.EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True)
    history = fit(model, epochs=9, callbacks=[stop])
    assert len(history.epoch) == 3  # the first was the best, for so it was asked
    fit(twin)
    assert contents(table_of(model)) == contents(table_of(twin))
    np.testing.assert_array_equal(out_of(model), out_of(twin))


@pytest.mark.parametrize(("make", "form"), some_of("keras", "weights.h5"))
def test_a_checkpoint_of_the_best_is_of_one_step(tmp_path, make, form):
    model, twin = twins(make)
    path = tmp_path / f"best.{form}"
    options = {"monitor": "loss", "mode": "max", "save_best_only": True, "save_weights_only": form != "keras"}
    fit(model, epochs=3, callbacks=[keras.callbacks.ModelCheckpoint(path, **options)])
    fit(twin)
    if form == "keras":
        assert_same(keras.saving.load_model(path), twin)
    else:
        model.load_weights(path)
        assert_same(model, twin)


@pytest.mark.parametrize(("make", "anew"), some_of(True, False))
def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(tmp_path, make, anew):
    model, twin = twins(make)
    fit(twin, epochs=4)
    with pytest.raises(KeyboardInterrupt):  # in the third epoch, of which nothing was saved
        fit(model, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Interrupt(batch=8)])
    model = compiled(make()) if anew else model
    history = fit(model, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    assert history.epoch == [2, 3]
    assert_same(model, twin)


class EachBatch(keras.callbacks.Callback):
    """Saves after each batch, and notes what was saved."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.tokens = folder, []

    def on_train_batch_end(self, batch, logs=None):
        self.model.save_weights(self.folder / f"{batch}.weights.h5")
        self.tokens.append(self.model.get_weights())


def test_what_is_saved_after_any_batch_is_of_one_step(tmp_path):
    model, twin = twins(functional)
    each = EachBatch(tmp_path)
    fit(model, callbacks=[each])
    for batch in range(3):
        stop = slice(4 * batch, 4 * batch + 4)
        twin.train_on_batch(IDS["small"][stop], Y[stop])
        for restore in (
            lambda b: model.load_weights(tmp_path / f"{b}.weights.h5"),
            lambda b: model.set_weights(each.tokens[b]),
        ):
            restore(batch)
            assert table_of(model).steps == batch + 1
            assert contents(table_of(model)) == contents(table_of(twin))
            np.testing.assert_allclose(out_of(model), out_of(twin), atol=1e-7)


def test_what_is_saved_and_put_back_waits_for_a_step_that_still_runs(monkeypatch):
    """As a step on JAX that hasn't ended: it ends when the hook's value is asked for, and has changed the table."""
    layer = layers_of(filled(functional()))[0]
    table = layer.table
    kept, store = layer.get_weights(), {}
    before = contents(table)

    def end(_=None):
        table.update(["v0"], np.ones((1, 4), np.float32))
        return 0.0

    monkeypatch.setattr(layer, "_read_hook", end)
    steps = table.steps
    layer.save_own_variables(store)
    assert json.loads(bytes(store["config"]))["steps"] == steps + 1
    (token,) = layer.get_weights()
    assert json.loads(bytes(token.state["config"]))["steps"] == steps + 2
    layer.set_weights(kept)
    assert contents(table) == before
    layer.load_own_variables(store)
    assert table.steps == steps + 1
    layer.hook.assign(kept[0])
    assert contents(table) == before


class BackTo(keras.callbacks.Callback):
    """Goes back to how it was after the first batch, once, after the third."""

    def __init__(self, by_file, path):
        super().__init__()
        self.by_file, self.path = by_file, path

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0 and self.path is not None:
            self.kept = self.model.get_weights()
            self.model.save_weights(self.path)
        if batch == 2 and self.path is not None:
            self.model.load_weights(self.path) if self.by_file else self.model.set_weights(self.kept)
            self.path = None


@pytest.mark.parametrize(("make", "by_file"), some_of(True, False))
def test_weights_that_come_back_in_the_middle_of_a_fit_are_trained_on_from_there(tmp_path, make, by_file):
    model, twin = twins(make, lambda: of.SGD(0.1))
    ids = np.concatenate([IDS["small"], (IDS["small"] + 4) % 9])
    y = np.concatenate([Y, Y])
    model.fit(ids, y, batch_size=4, shuffle=False, verbose=0, callbacks=[BackTo(by_file, tmp_path / "m.weights.h5")])
    stayed = np.r_[0:4, 12:24]
    twin.fit(ids[stayed], y[stayed], batch_size=4, shuffle=False, verbose=0)
    assert contents(table_of(model)) == contents(table_of(twin))
    np.testing.assert_array_equal(out_of(model), out_of(twin))


# --- configs ---------------------------------------------------------------------------------------------------------

LAYERS = {
    "plain": {},
    "numbers of NumPy": {"seed": np.int64(4), "mask_id": np.int64(3)},
    "bytes": {"mask_id": b"none"},
    "ours": {"embeddings_initializer": hotrow.Normal(0.1), "optimizer": hotrow.Adagrad(0.2, initial_accumulator=0.1)},
    "Keras's": {"embeddings_initializer": keras.initializers.RandomNormal(0.0, 0.2, seed=3), "optimizer": "lion"},
    "Keras's own optimizer": {"optimizer": keras.optimizers.Adam(0.02, amsgrad=True, clipnorm=1.0), "ids": "string"},
    "rules": {"embeddings_regularizer": "l2", "embeddings_constraint": keras.constraints.MaxNorm(1.0, axis=1)},
    "a table": {"table": hotrow.Table(4, optimizer=hotrow.Adagrad(0.2), initializer=hotrow.Zeros(), seed=9)},
}


@pytest.mark.parametrize("how", LAYERS.values(), ids=LAYERS.keys())
def test_a_layer_s_config_is_json_and_makes_an_empty_one_like_it(how):
    layer = hotrow.keras.Embedding(None, 4, **how)
    layer.table.find(["a", "b"], grow=True)
    config = json.loads(json.dumps(layer.get_config()))
    other = hotrow.keras.Embedding.from_config(config)
    assert len(other.table) == 0
    assert other.table is not layer.table
    assert other.table.optimizer == layer.table.optimizer
    assert other.table.initializer == layer.table.initializer
    again = other.get_config()
    for one in (config, again):
        (one["table"] or {}).pop("mark", None)
        (one["table"] or {}).pop("ids", None)
        if isinstance(one["optimizer"], dict):
            one["optimizer"].get("config", {}).pop("learning_rate", None)  # float32 in Keras
    assert again == config
    if "seed" in how or "table" in how:
        assert other.table.seed == layer.table.seed


def test_a_table_that_was_given_to_a_layer_keeps_its_optimizer_in_a_file(tmp_path):
    table = hotrow.Table(4, optimizer=hotrow.Adagrad(0.2), seed=9)
    model = compiled(functional(table=table))
    fit(model)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for one in (model, loaded):
        fit(one)
    assert contents(table_of(loaded)) == contents(table)
    assert table_of(loaded).optimizer == hotrow.Adagrad(0.2)


COPIES = {
    "clone_model": keras.models.clone_model,
    "from_config": lambda model: type(model).from_config(model.get_config()),
    "JSON": lambda model: keras.models.model_from_json(model.to_json()),
}


@pytest.mark.parametrize("copy_of", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("make", [functional, sequential, Net])
def test_a_model_made_of_a_config_has_an_empty_table(make, copy_of):
    model = filled(make())
    other = copy_of(model)
    assert type(other) is (keras.Sequential if (make, copy_of) == (sequential, COPIES["clone_model"]) else type(model))
    assert table_of(other) is not table_of(model)
    assert len(table_of(other)) == 0
    assert len(table_of(model)) == 8


def test_the_clone_of_a_sequential_is_keras_s_and_says_what_it_needs():
    clone = keras.models.clone_model(compiled(sequential(keras.Input((2,)))))
    with pytest.raises(Exception, match=r"expected (ids without a bound in )?hotrow\.keras\.Model"):
        fit(clone)


@pytest.mark.parametrize("copy_of", COPIES.values(), ids=COPIES.keys())
def test_layers_that_shared_a_table_share_an_empty_one_in_a_copy(copy_of):
    model = sharing()
    ids = [IDS["small"], IDS["small"]]
    table_of(model).find(IDS["small"], grow=True)
    copies = [copy_of(model), copy_of(model)]
    tables = {id(layer.table) for one in (model, *copies) for layer in layers_of(one)}
    assert len(tables) == 3
    assert [len(table_of(one)) for one in copies] == [0, 0]
    assert [len(Stage.of(table_of(one))) for one in copies] == [2, 2]
    fit(compiled(copies[0]), ids)
    assert table_of(copies[0]).steps == 3
    assert len(table_of(copies[1])) == 0


def test_layers_that_shared_a_table_share_it_again_from_a_file_also_in_keras_model(tmp_path):
    model = compiled(sharing(keras.Model, optimizer=hotrow.Adam(0.1)))
    ids = [IDS["small"], IDS["small"]]
    fit(model, ids)
    model.save(tmp_path / "m.keras")
    loaded = [keras.saving.load_model(tmp_path / "m.keras") for _ in range(2)]
    assert len({id(layer.table) for one in loaded for layer in layers_of(one)}) == 2
    fit(loaded[0], ids)
    fit(model, ids)
    assert contents(table_of(loaded[0])) == contents(table_of(model))


def test_in_a_clone_of_keras_model_layers_do_not_silently_stop_to_share():
    model = compiled(sharing(keras.Model, optimizer=hotrow.Adam(0.1)))
    clone = compiled(keras.models.clone_model(model))
    with pytest.raises(Exception, match=r"one that shares its table with other layers, and keras\.Model can't tell"):
        fit(clone, [IDS["small"], IDS["small"]])
    assert len(table_of(clone)) == 0


def test_a_deep_copy_of_a_model_is_another_with_the_same_table():
    model = compiled(functional())
    fit(model, "string")
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert table_of(twin) is not table_of(model)
        assert_same(twin, model, "string")
    layer = copy.deepcopy(layers_of(model)[0])
    assert contents(layer.table) == contents(table_of(model))


# --- compiling again -------------------------------------------------------------------------------------------------


def test_compiled_anew_a_table_keeps_its_vectors_and_begins_its_slots_anew():
    for optimizer in (of.Adam(0.01), of.RMSprop(0.01)):
        model = compiled(functional(), of.Adam(0.01))
        fit(model)
        vectors = table_of(model).vectors()
        compiled(model, optimizer)
        assert table_of(model).steps == 0
        np.testing.assert_array_equal(table_of(model).vectors(), vectors)
        assert not any(slot.any() for slot in table_of(model).state().slots.values())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_loaded_without_its_optimizer_a_table_begins_its_slots_anew(tmp_path, optimizer):
    model = compiled(functional())
    fit(model)
    model.save(tmp_path / "m.keras")
    model.compile(optimizer, "mse")
    other = compiled(keras.saving.load_model(tmp_path / "m.keras", compile=False), optimizer)
    for one in (model, other):
        fit(one)
    assert_same(model, other)


def test_weights_saved_under_another_optimizer_leave_the_one_that_is_compiled(tmp_path):
    model = compiled(functional(), of.Adam(0.01))
    fit(model)
    model.save_weights(tmp_path / "m.weights.h5")
    other = compiled(functional(), of.SGD(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own, about the optimizer's variables
        other.load_weights(tmp_path / "m.weights.h5", skip_mismatch=True)
    assert isinstance(table_of(other).optimizer, hotrow.SGD)
    np.testing.assert_array_equal(table_of(other).vectors(), table_of(model).vectors())
    compiled(model, of.SGD(0.1))
    for one in (model, other):
        fit(one)
    np.testing.assert_array_equal(out_of(model), out_of(other))


# --- files that aren't what was written ------------------------------------------------------------------------------


def _changed(**changes):
    """The arrays of a part, with some of them replaced; None takes one out."""
    return lambda arrays: {name: array for name, array in (arrays | changes).items() if array is not None}


def _config(**changes):
    def change(arrays):
        config = json.loads(bytes(arrays["config"])) | changes
        return arrays | {"config": np.frombuffer(json.dumps(config).encode(), np.uint8)}

    return change


BAD = {
    "nothing": lambda arrays: {},
    "no config": _changed(config=None),
    "no keys": _changed(keys=None),
    "no slot": _changed(slot_m=None),
    "a slot too many": lambda arrays: arrays | {"slot_x": arrays["slot_m"]},
    "a slot that is narrow": lambda arrays: arrays | {"slot_m": arrays["slot_m"][:, :1]},
    "other arrays": _changed(more=np.zeros(3, np.float32)),
    "keys of another kind": lambda arrays: arrays | {"keys": arrays["keys"].astype(np.int64)},
    "a key twice": lambda arrays: arrays | {"keys": np.repeat(arrays["keys"][:1], len(arrays["keys"]))},
    "fewer weights": lambda arrays: arrays | {"weights": arrays["weights"][1:]},
    "bad JSON": _changed(config=np.frombuffer(b"{", np.uint8)),
    "no such optimizer": _config(optimizer={"name": "Sorcery"}),
    "an optimizer that is a list": _config(optimizer=[1]),
    "an initializer that is a list": _config(initializer=[1]),
    "no such initializer": _config(initializer={"name": "Sorcery"}),
    "a seed below 0": _config(seed=-1),
    "no kind of ids": _config(ids=None),
    "offsets that fall": lambda arrays: arrays | {"offsets": arrays["offsets"][::-1].copy()},
    "no UTF-8": lambda arrays: arrays | {"text": np.full_like(arrays["text"], 255)},
    "other strings": lambda arrays: arrays | {"text": np.full_like(arrays["text"], 97)},
}


@pytest.mark.enough("torch")
@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_a_part_that_no_layer_wrote_is_corrupt_and_changes_nothing(change):
    layer = hotrow.keras.Embedding(None, 4, optimizer=hotrow.Adam(0.1), name="mine")
    layer.table.find(["cup", "lantern", "mug"], grow=True)
    arrays = {}
    layer.save_own_variables(arrays)
    layer.table.find(["spoon"], grow=True)
    before = contents(layer.table)
    for hostile in (change(arrays), sealed(change(arrays))):  # as damage, and as a stranger would write it
        with pytest.raises(hotrow.CorruptError, match="the part of layer 'mine'"):
            layer.load_own_variables(hostile)
        assert contents(layer.table) == before


@pytest.mark.parametrize("make", [functional, Net])
def test_a_damaged_file_is_refused_with_the_reason_and_leaves_the_table(tmp_path, make):
    model = filled(make())
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "r+") as file:
        part = next(group for _, group in _groups(file) if "keys" in group)
        part["keys"][1] = part["keys"][0]
    before = contents(table_of(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's, about all the places where it has looked
        with pytest.raises(ValueError, match=r"of layer 'embedding.*its checksum differs"):  # Keras's own class
            model.load_weights(path)
    assert contents(table_of(model)) == before


def test_a_file_without_the_layer_is_refused(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(tmp_path / "m.weights.h5")
    model = functional()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"the part of layer 'embedding.* isn't in the file, or is empty"):
            model.load_weights(tmp_path / "m.weights.h5")


def _groups(file):
    found = []
    file.visititems(lambda name, thing: found.append((name, thing)) if isinstance(thing, h5py.Group) else None)
    return found


class Unreadable(dict):
    def __getitem__(self, name):
        raise OSError("Can't synchronously read data")


@pytest.mark.enough("torch")
def test_a_part_that_can_not_be_read_is_corrupt():
    layer = hotrow.keras.Embedding(None, 4, name="mine")
    with pytest.raises(hotrow.CorruptError, match=r"the part of layer 'mine' can't be read: Can't synchronously"):
        layer.load_own_variables(Unreadable(config=1))


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_the_table_as_it_was_whatever_is_done_with_it_since():
    layer = hotrow.keras.Embedding(None, 2, optimizer=hotrow.SGD(0.1))
    layer.build()
    layer.table.set(["cup"], np.ones((1, 2)))
    (token,) = layer.get_weights()
    layer.table.set(["cup", "mug"], np.zeros((2, 2)))
    for same in (token, token.copy(), copy.copy(token), copy.deepcopy(token), pickle.loads(pickle.dumps(token))):
        assert isinstance(same, Token)
        layer.set_weights([same])
        assert layer.table.ids().to_pylist() == ["cup"]
        assert layer.table.vectors().tolist() == [[1, 1]]
    for other in (token + 0, token[...], np.array(token), token.astype(np.float64)):
        with pytest.raises(hotrow.ArgumentError):
            layer.set_weights([other])
