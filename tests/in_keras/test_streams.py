"""Data that comes batch by batch is what the same data in memory is: tf.data, DataLoader, PyDataset, generators."""

from __future__ import annotations

import threading
import time

import keras
import nets
import numpy as np
import pytest
from keras import layers
from nets import DIM, classifier, named

import hotrow
from hotrow.errors import IdError, KindError

X, Y = nets.data(24)
WEIGHT = np.linspace(0.5, 2, 24).astype(np.float32)
BATCH = 8


class Batches(keras.utils.PyDataset):
    def __init__(self, x, *others, fail_at=None, told=None, **how):
        super().__init__(**how)
        self.arrays, self.fail_at, self.told = (x, *others), fail_at, told if told is not None else []

    def __len__(self):
        return (len(self.arrays[0]) + BATCH - 1) // BATCH

    def __getitem__(self, i):
        if i == self.fail_at:
            raise LookupError("the disk is gone")
        return tuple(array[i * BATCH : (i + 1) * BATCH] for array in self.arrays)

    def on_epoch_end(self):
        self.told.append("end")


def tf_data(*arrays):
    import tensorflow as tf

    arrays = tuple(tf.constant(a.tolist()) if a.dtype == object else a for a in arrays)
    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(BATCH)


def torch_data(*arrays):
    import torch

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return len(arrays[0])

        def __getitem__(self, i):
            return tuple(a[i] if a.dtype != object else str(a[i]) for a in arrays)

    return torch.utils.data.DataLoader(Rows(), batch_size=BATCH)


def generator(*arrays, epochs=1):
    for _ in range(epochs):
        for i in range(0, len(arrays[0]), BATCH):
            yield tuple(a[i : i + BATCH] for a in arrays)


def workers(*arrays):
    return Batches(*arrays, workers=2)


STREAMS = {
    "tf.data": tf_data,
    "DataLoader": torch_data,
    "PyDataset": Batches,
    "workers": workers,
    "generator": generator,
}


def large(numbers):
    return np.asarray(numbers) + 2**40


def single():
    """One id a sample, for which DataLoader has strings."""
    ids = keras.Input((1,))
    layer = hotrow.keras.Embedding(None, DIM, seed=1)
    keras.utils.set_random_seed(0)
    model = hotrow.keras.Model(ids, layers.Dense(2, "softmax")(layer(ids)))
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    return model, layer.table


def check_same(history, table, expected, expected_table):
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-5, err_msg=name)
    ids = expected_table.ids()
    np.testing.assert_allclose(table.lookup(ids), expected_table.lookup(ids), atol=1e-6)
    assert len(table) == len(expected_table)
    assert table.steps == expected_table.steps


@pytest.mark.parametrize(
    ("stream", "ids"),
    [*((stream, named) for stream in STREAMS), ("tf.data", large), ("DataLoader", large)],
    ids=lambda x: x if isinstance(x, str) else {named: "strings", large: "64 bits"}[x],
)
def test_a_stream_trains_as_the_same_data_in_memory(stream, ids):
    x, stream = ids(X[:, 0]), STREAMS[stream]
    model, table = single()
    expected = model.fit(
        x,
        Y,
        sample_weight=WEIGHT,
        validation_data=(x[:16], Y[:16]),
        batch_size=BATCH,
        epochs=2,
        shuffle=False,
        verbose=0,
    ).history
    streamed, streamed_table = single()
    more = {"steps_per_epoch": 3} if stream is generator else {"shuffle": False}
    data = generator(x, Y, WEIGHT, epochs=2) if stream is generator else stream(x, Y, WEIGHT)
    validation = generator(x[:16], Y[:16], epochs=2) if stream is generator else stream(x[:16], Y[:16])
    more |= {"validation_steps": 2} if stream is generator else {}
    history = streamed.fit(data, epochs=2, validation_data=validation, verbose=0, **more).history
    check_same(history, streamed_table, expected, table)
    for method in ("evaluate", "predict"):
        arguments = (x, Y) if method == "evaluate" else (x,)
        np.testing.assert_allclose(
            getattr(streamed, method)(stream(*arguments), steps=3 if stream is generator else None, verbose=0),
            getattr(model, method)(*arguments, batch_size=BATCH, verbose=0),
            rtol=1e-5,
        )


def test_dicts_of_columns_come_in_streams():
    import tensorflow as tf

    columns = {"user": named(X[:, 0]), "item": X[:, 1] + 2**40, "price": WEIGHT}

    def model():
        keras.utils.set_random_seed(0)
        inputs = {name: keras.Input((1,), name=name) for name in columns}
        tables = [layers.Flatten()(hotrow.keras.Embedding(None, DIM, seed=1)(inputs[n])) for n in ("user", "item")]
        model = hotrow.keras.Model(inputs, layers.Dense(1)(layers.Concatenate()([*tables, inputs["price"]])))
        model.compile("sgd", "mse")
        return model

    expected = model().fit(columns, Y, batch_size=BATCH, shuffle=False, verbose=0).history["loss"]
    dataset = tf.data.Dataset.from_tensor_slices(({**columns, "user": columns["user"].tolist()}, Y)).batch(BATCH)
    assert model().fit(dataset, verbose=0).history["loss"] == pytest.approx(expected, rel=1e-5)

    def dicts():
        for i in range(0, 24, BATCH):
            yield {name: column[i : i + BATCH].tolist() for name, column in columns.items()}, Y[i : i + BATCH].tolist()

    assert model().fit(dicts(), steps_per_epoch=3, verbose=0).history["loss"] == pytest.approx(expected, rel=1e-5)


def test_class_weight_is_kerass_in_streams():
    results = []
    for x, y in ((named(X), Y), (tf_data(named(X), Y), None), (Batches(named(X), Y), None)):
        model, _ = classifier()
        history = model.fit(x, y, class_weight={0: 0.2, 1: 3.0}, batch_size=BATCH, shuffle=False, verbose=0).history
        results.append(history["loss"][0])
    assert results == pytest.approx([results[0]] * 3, rel=1e-5)
    model, _ = classifier()
    assert model.fit(named(X), Y, batch_size=BATCH, shuffle=False, verbose=0).history["loss"][0] != results[0]


def test_targets_beside_a_stream_are_refused_as_by_keras():
    model, _ = classifier()
    with pytest.raises(ValueError, match="`y`"):
        model.fit(generator(named(X)), Y)
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(Batches(named(X), Y), sample_weight=WEIGHT)


def test_sequences_of_another_length_in_each_batch():
    ids = keras.Input((None,))
    layer = hotrow.keras.Embedding(None, DIM, seed=1)
    model = hotrow.keras.Model(ids, layers.Dense(1)(layer(ids)))
    model.compile("sgd", "mse")
    lengths = [3, 3, 5, 2]

    def batches():
        for n in lengths:
            yield np.full((2, n), f"of {n}", object), np.ones((2, n, 1))

    model.fit(batches(), steps_per_epoch=4, verbose=0)
    assert sorted(layer.table.ids().to_pylist()) == ["of 2", "of 3", "of 5"]
    assert layer.table.steps == 4


def test_nothing_of_what_can_be_read_once_is_lost():
    taken = []

    class Taking(hotrow.keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = hotrow.keras.Embedding(None, DIM)

        def call(self, ids):
            return self.layer(ids)

    model = Taking()
    model.compile("sgd", "mse", metrics=["mae"])

    def batches():
        for n in range(6):
            taken.append(n)
            yield np.array([[f"batch {n}"]]), np.ones((1, 1, DIM))

    model.fit(batches(), epochs=2, steps_per_epoch=3, verbose=0)
    assert model.layer.table.ids().to_pylist() == [f"batch {n}" for n in range(6)]
    assert taken == list(range(6))


def test_batches_are_encoded_ahead_of_the_model_but_not_far():
    taken, seen = [], []
    model, _ = classifier()

    class Watching(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            deadline = time.monotonic() + 10
            while len(taken) < min(batch + 2, 8) and batch > 1 and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(len(taken))

    def batches():
        for n in range(8):
            taken.append(n)
            yield named(X[n : n + 1]), Y[n : n + 1]

    model.fit(batches(), steps_per_epoch=8, verbose=0, callbacks=[Watching()])
    assert all(n >= min(i + 2, 8) for i, n in enumerate(seen) if i > 1)
    assert all(n <= i + 5 for i, n in enumerate(seen))


# --- errors and endings ----------------------------------------------------------------------------------------------


def hanging():
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        threads = [t for t in threading.enumerate() if t.name.startswith(("hotrow-ahead", "Worker_"))]
        if not threads:
            return []
        time.sleep(0.02)
    return threads


@pytest.mark.parametrize("fail_at", [0, 1, 2])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "validation"])
def test_an_error_of_the_data_comes_out_as_itself(fail_at, method):
    model, _ = classifier()
    data = Batches(named(X), Y, fail_at=fail_at)
    given = ((named(X), Y), {"validation_data": data}) if method == "validation" else ((data,), {})
    call = model.fit if method == "validation" else getattr(model, method)
    with pytest.raises(LookupError, match="the disk is gone"):
        call(*given[0], **given[1], verbose=0)
    assert hanging() == []


@pytest.mark.parametrize("bad", [[[1.5, 2.0]], [[None, "a"]], [[1, "a"]]], ids=str)
def test_what_is_no_id_in_a_stream_is_the_same_error_as_in_memory(bad):
    def batches():
        yield named(X[:2]), Y[:2]
        yield named(X[:2]), Y[:2]
        yield named(X[:2]), Y[:2]
        yield bad, Y[:1]

    model, _ = classifier()
    with pytest.raises((IdError, KindError)) as here:
        model.fit(bad, Y[:1])
    with pytest.raises(type(here.value)) as there:
        model.fit(batches(), verbose=0)
    assert str(there.value) == str(here.value)


def test_an_error_of_a_callback_is_itself_and_leaves_no_thread():
    class Failing(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise LookupError("not mine")

    model, _ = classifier()
    with pytest.raises(LookupError, match="not mine"):
        model.fit(Batches(named(X), Y), verbose=0, callbacks=[Failing()])
    assert hanging() == []


@pytest.mark.parametrize("stream", [tf_data, torch_data, Batches, workers, generator])
def test_leaving_fit_early_leaves_no_thread(stream):
    class Stopping(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    model, table = single()
    model.fit(stream(named(X[:, 0]), Y), epochs=3, verbose=0, callbacks=[Stopping()])
    assert table.steps == 1
    assert hanging() == []


def test_a_generator_without_end_is_left_after_its_steps():
    def endless():
        while True:
            yield named(X[:4]), Y[:4]

    model, layer = classifier()
    model.fit(endless(), steps_per_epoch=3, epochs=2, validation_data=endless(), validation_steps=2, verbose=0)
    assert layer.table.steps == 6
    assert model.evaluate(endless(), steps=2, verbose=0)
    assert model.predict(endless(), steps=2, verbose=0).shape == (8, 2)
    assert hanging() == []


def test_a_pydataset_without_end_and_with_workers_is_read_while_its_epoch_lasts():
    class Endless(Batches):
        num_batches = None
        __len__ = None

        def __getitem__(self, i):
            return super().__getitem__(i % 3)

    for more in ({}, {"workers": 2}):
        model, layer = classifier()
        model.fit(Endless(named(X), Y, **more), steps_per_epoch=2, epochs=3, shuffle=False, verbose=0)
        assert layer.table.steps == 6
        assert hanging() == []


def test_a_pydataset_is_told_of_its_epochs_as_by_keras():
    told = [], []
    for words, heard in zip((None, 8), told, strict=True):
        model, _ = classifier(words)
        model.fit(Batches(named(X) if words is None else X, Y, told=heard), epochs=3, verbose=0)
    assert told[0] == told[1]


def test_a_stream_without_a_batch_is_an_error():
    model, _ = classifier()
    with pytest.raises(ValueError, match="batch"):
        model.fit(generator(named(X[:0]), Y[:0]), verbose=0)
