"""SnapshotCallback: what fit saves while it goes on is of one step, and fit goes on from it to the bit."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest

import hotrow
from hotrow.keras import SnapshotCallback
from hotrow.store import files
from hotrow.store.lock import lock

BACKEND = keras.backend.backend()
rng = np.random.default_rng(5)
IDS = [[f"u{a}", f"i{b}"] for a, b in rng.integers(0, 9, (24, 2))]
NUMBERS = rng.integers(0, 9, (24, 2))
Y = rng.normal(size=24).astype(np.float32)


def functional(kind=hotrow.keras.Model, bound=None, **how):
    """Dropout, statistics, a schedule, two layers that share a table and one with its own."""
    keras.utils.set_random_seed(how.pop("seed", 0))
    ids = keras.Input((2,), dtype="int32" if bound else None)
    first = hotrow.keras.Embedding(bound, 4, **how)
    second = hotrow.keras.Embedding(bound, 4, table=first.table)
    third = hotrow.keras.Embedding(bound, 3, **how)
    both = keras.layers.Concatenate()([first(ids), second(ids), third(ids)])
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(both))
    return kind(ids, keras.layers.Dense(1)(keras.layers.Dropout(0.3)(x)))


def sequential(seed=0):
    keras.utils.set_random_seed(seed)
    model = hotrow.keras.Sequential([hotrow.keras.Embedding(None, 4), keras.layers.Flatten(), keras.layers.Dense(1)])
    model(IDS[:2])
    return model


def plain(seed=0):
    """keras.Model itself: the layers bring their optimizer."""
    return functional(keras.Model, 9, seed=seed, optimizer=hotrow.Adam(0.01))


def compiled(model, optimizer=None):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9)
    model.compile(optimizer or keras.optimizers.Adam(schedule), "mse")
    if model.built:
        model.optimizer.build(model.trainable_variables)  # so that what it is can be compared
    return model


def fit(model, *callbacks, start=0, stop=4, shuffle=False, data=None):
    x = NUMBERS if type(model).__module__.startswith("keras.") else IDS
    x, y = data or (x, Y)
    return model.fit(
        x, y, batch_size=6, initial_epoch=start, epochs=stop, shuffle=shuffle, verbose=0, callbacks=list(callbacks)
    )


def contents(model):
    """All numbers there are; a hook's only says which round of its step it was."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, hotrow.keras.Embedding)]
    hooks = {id(layer.hook) for layer in layers}
    variables = [*model.variables, *(model.optimizer.variables if model.optimizer else [])]
    found = [keras.ops.convert_to_numpy(v.value).tolist() for v in variables if id(v) not in hooks]
    for layer in layers:
        state = layer.table.state()
        order = np.argsort(state.keys)
        arrays = [state.keys, state.weights, *state.slots.values()]
        found.append([state.config["steps"], *(array[order].tolist() for array in arrays)])
    return found


class EachStep(keras.callbacks.Callback):
    """Notes what the model is after each batch."""

    def __init__(self):
        super().__init__()
        self.was = {}

    def on_train_batch_end(self, batch, logs=None):
        model = self.model
        self.was[int(model.optimizer.iterations)] = contents(model)


CASES = [(functional, False), (plain, False), (functional, True)]


@pytest.mark.parametrize(("make", "shuffle"), CASES, ids=["functional", "plain", "shuffled"])
def test_a_restored_fit_goes_on_to_the_bit(make, shuffle, tmp_path):
    if shuffle and BACKEND == "tensorflow":
        pytest.skip("tf.data keeps to itself where its shuffling is")
    whole = compiled(make())
    fit(whole, shuffle=shuffle)
    half, saving = compiled(make()), SnapshotCallback(tmp_path, deltas=2)
    fit(half, saving, stop=2, shuffle=shuffle)
    assert (saving.error, saving.restored) == (None, {})
    again, saving = compiled(make(seed=1)), SnapshotCallback(tmp_path, deltas=2)
    fit(again, stop=1)  # other numbers: all of it goes
    assert saving.restore(again) == 2
    assert saving.restored == {"step": 8, "epoch": 2, "batch": 0}
    assert contents(again) == contents(half)
    fit(again, saving, start=2, shuffle=shuffle)
    assert contents(again) == contents(whole)
    assert saving.restore(again) == 4
    assert contents(again) == contents(whole)


def test_from_within_an_epoch_it_goes_on_after_the_batches_that_are_done(tmp_path):
    whole = compiled(sequential())
    fit(whole, stop=1)
    saving = SnapshotCallback(tmp_path, every=3)
    fit(compiled(sequential()), saving, stop=1, data=(IDS[:18], Y[:18]))  # and then it stopped
    again = compiled(sequential(seed=2))
    assert saving.restore(again, 1) == 0
    assert saving.restored == {"step": 3, "epoch": 0, "batch": 3}
    fit(again, stop=1, data=(IDS[18:], Y[18:]))
    assert contents(again) == contents(whole)


def test_nothing_saved_yet_is_epoch_0_and_changes_nothing(tmp_path):
    model = compiled(functional())
    before = contents(model)
    assert SnapshotCallback(tmp_path / "new").restore(model) == 0
    assert contents(model) == before


def test_what_is_saved_beside_training_is_of_one_step(tmp_path):
    model, each = compiled(functional()), EachStep()
    saving = SnapshotCallback(tmp_path, every=1, keep=20, deltas=3)
    fit(model, each, saving, stop=3)
    numbers = sorted(int(path.stem.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*.json"))
    assert len(numbers) + saving.skipped >= 12
    other, steps = compiled(functional(seed=3)), []
    for number in numbers:
        saving.restore(other, number)
        assert contents(other) == each.was[saving.restored["step"]]
        steps.append(saving.restored["step"])
    assert steps == sorted(steps)
    assert steps[-1] == 12


@pytest.mark.enough("torch")
def test_one_that_is_due_while_another_is_written_is_left_out_and_the_end_is_saved(tmp_path, monkeypatch, caplog):
    go_on, write_all = threading.Event(), files.write_all

    def slow(handle, view):
        assert go_on.wait(60)
        write_all(handle, view)

    class LetGo(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                go_on.set()

    monkeypatch.setattr(files, "write_all", slow)
    model, saving = compiled(sequential()), SnapshotCallback(tmp_path, every=2)
    fit(model, saving, LetGo(), stop=3)
    assert saving.skipped >= 4
    assert caplog.text.count("still being written") == 1
    other = compiled(sequential(seed=1))
    assert saving.restore(other) == 3
    assert contents(other) == contents(model)
    assert saving.restore(other, 1) == 0
    assert saving.restored["step"] == 2


@pytest.mark.enough("torch")
def test_a_full_disk_is_told_and_stops_nothing(tmp_path, monkeypatch, caplog):
    first = compiled(sequential())
    fit(first, SnapshotCallback(tmp_path), stop=1)

    def full(handle, view):
        raise OSError(28, "No space left on device")

    model, saving = compiled(sequential()), SnapshotCallback(tmp_path)
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING, "hotrow"):
        broken.setattr(files, "write_all", full)
        history = fit(model, saving, stop=3)
    assert len(history.history["loss"]) == 3
    assert isinstance(saving.error, OSError)
    assert caplog.text.count("this checkpoint failed") >= 2
    assert "what fit has ended with isn't saved" in caplog.text
    other = compiled(sequential(seed=1))
    assert saving.restore(other) == 1
    assert contents(other) == contents(first)
    fit(model, saving, start=3, stop=4)
    assert saving.error is None
    assert saving.restore(other) == 4
    assert contents(other) == contents(model)


@pytest.mark.enough("torch")
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(tmp_path):
    model = compiled(sequential())
    before = contents(model)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        fit(model, SnapshotCallback(tmp_path / "file"))
    with pytest.raises(hotrow.ArgumentError, match="has 'file' in it and no checkpoint"):
        fit(model, SnapshotCallback(tmp_path))
    (tmp_path / "run").mkdir()
    with lock(tmp_path / "run"), pytest.raises(hotrow.LockedError):
        fit(model, SnapshotCallback(tmp_path / "run"))
    assert contents(model) == before
    for every in (0, "step", 1.5):
        with pytest.raises(hotrow.ArgumentError, match="every = "):
            SnapshotCallback(tmp_path / "run", every=every)


@pytest.mark.enough("torch")
def test_damage_is_an_error_and_changes_nothing(tmp_path):
    saving = SnapshotCallback(tmp_path)
    fit(compiled(sequential()), saving, stop=1)
    fit(compiled(sequential()), saving, start=1, stop=2)
    model = compiled(sequential(seed=1))
    before = contents(model)
    newest = max(int(path.stem.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*.json"))
    for name in ("checkpoint-*.json", "net-*.safetensors", "table-1/generation-*/weights.safetensors"):
        path = max(tmp_path.glob(name))
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(hotrow.CorruptError, match=f"{newest:06d}"):
            saving.restore(model)
        assert contents(model) == before
        path.write_bytes(whole)
    assert saving.restore(model) == 2


@pytest.mark.enough("torch")
def test_another_model_is_refused_and_nothing_changes(tmp_path):
    saving = SnapshotCallback(tmp_path)
    fit(compiled(sequential()), saving, stop=1)
    with pytest.raises(hotrow.ArgumentError, match=r"isn't built.*model\(x\[:1\]\)"):
        saving.restore(compiled(hotrow.keras.Sequential([hotrow.keras.Embedding(None, 4)])))
    with pytest.raises(hotrow.ArgumentError, match="was trained by Adam, this model is compiled with SGD"):
        saving.restore(compiled(sequential(), "sgd"))
    with pytest.raises(hotrow.ArgumentError, match="has 1 tables, this model has 2"):
        saving.restore(compiled(functional()))
    with pytest.raises(hotrow.ArgumentError, match="variables of net and optimizer"):
        saving.restore(compiled(sequential(), keras.optimizers.Adam(0.1, amsgrad=True)))
    ids = keras.Input((2,))
    flat = keras.layers.Flatten()(hotrow.keras.Embedding(None, 5)(ids))
    with pytest.raises(hotrow.ArgumentError, match="of this model is float32 of "):
        saving.restore(compiled(hotrow.keras.Model(ids, keras.layers.Dense(1)(flat))))
    flat = keras.layers.Flatten()(hotrow.keras.Embedding(None, 4, ids="int64")(ids))
    other = compiled(hotrow.keras.Model(ids, keras.layers.Dense(1)(flat)))
    before = contents(other)
    with pytest.raises(hotrow.ArgumentError, match="has ids of kind string"):
        saving.restore(other)
    assert contents(other) == before


def test_a_model_that_is_only_to_predict_needs_no_compile(tmp_path):
    model, saving = compiled(sequential()), SnapshotCallback(tmp_path)
    fit(model, saving, stop=1)
    other = sequential(seed=1)
    assert saving.restore(other) == 1
    assert np.array_equal(other.predict(IDS, verbose=0), model.predict(IDS, verbose=0))


def test_within_an_accumulation_it_waits_for_the_end(tmp_path):
    optimizer = keras.optimizers.Adam(0.1, gradient_accumulation_steps=2)
    model, each = compiled(functional(), optimizer), EachStep()
    saving = SnapshotCallback(tmp_path, every=1, keep=9)
    fit(model, each, saving, stop=1)
    whole = contents(model)
    again = compiled(functional(seed=1), keras.optimizers.Adam(0.1, gradient_accumulation_steps=2))
    assert saving.restore(again, 1) == 0
    assert saving.restored["batch"] == 2
    fit(again, saving, stop=1, data=(IDS[12:], Y[12:]))
    assert contents(again) == whole


LOOP = """
import sys
sys.path.insert(0, {tests!r})
from test_snapshots import SnapshotCallback, compiled, fit, functional, keras
class Tell(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        saving._beside.wait()
        print(epoch + 1, flush=True)
model, saving = compiled(functional(seed=int(sys.argv[2]))), SnapshotCallback(sys.argv[1], deltas=2)
fit(model, saving, Tell(), start=saving.restore(model), stop=int(sys.argv[3]))
"""


@pytest.mark.compiled
def test_a_fit_that_is_killed_goes_on_in_a_new_process_to_the_bit(tmp_path):
    code = LOOP.format(tests=str(Path(__file__).parent))
    loop = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), "0", "100000"], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    for _ in range(3):
        acknowledged = int(loop.stdout.readline())
    loop.kill()
    rest, _ = loop.communicate()
    acknowledged = max([acknowledged, *map(int, rest.split())])
    model = compiled(functional(seed=4))
    saving = SnapshotCallback(tmp_path)
    epoch = saving.restore(model)
    assert epoch >= acknowledged
    fit(model, saving, start=epoch, stop=epoch + 2)  # from here: another process than that which saved
    whole = compiled(functional())
    fit(whole, stop=epoch + 2)
    assert contents(model) == contents(whole)


ELSEWHERE = """
import json, sys
sys.path.insert(0, {tests!r})
from test_snapshots import SnapshotCallback, compiled, contents, functional
model, saving = compiled(functional(seed=1)), SnapshotCallback(sys.argv[1])
print(json.dumps([saving.restore(model), contents(model)]))
"""


@pytest.mark.long
@pytest.mark.parametrize("backend", [name for name in ("tensorflow", "jax", "torch") if name != BACKEND])
def test_another_backend_restores_the_same_numbers(backend, tmp_path):
    model, saving = compiled(functional()), SnapshotCallback(tmp_path)
    fit(model, saving, stop=2)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE.format(tests=str(Path(__file__).parent)), str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [2, contents(model)]
