"""Tables in shards in place of plain ones in Keras, and classifiers trained by a crew: the same bits."""

from __future__ import annotations

import json
import os
import signal
import threading

import conformance
import keras
import numpy as np
import pytest
from conformance import DIM
from sharded import assert_equal
from test_classify import SMALL, columns_of, people
from test_conformance import InKeras

import hotrow
from hotrow.cluster.crew import Crew
from hotrow.keras import Bag, Features, Id, Sequence, SnapshotCallback
from hotrow.models import Classifier
from hotrow.models.classifier_steps import Alone

pytestmark = [pytest.mark.compiled, pytest.mark.xdist_group("ray")]
BLOCK = 24


@pytest.mark.parametrize("kind", ["64 bits", "strings"])
def test_the_trained_table_is_the_same_for_ids_of_every_kind(sharded, kind):
    subject = InKeras(table=sharded(DIM, optimizer=hotrow.Adam(0.01), seed=5))
    conformance.check_trained(subject, kind)
    assert_equal(subject.table, conformance.reference(hotrow.Adam(0.01), kind))


@pytest.mark.enough("torch")
def test_unknown_ids_have_their_first_value(sharded):
    conformance.check_unknown(InKeras(table=sharded(DIM, optimizer=hotrow.SGD(0.1), seed=5)))


def model_of(make):
    """Users alone, what they bought in an order and in bags, of a table that is shared; trained as it is compiled."""
    keras.utils.set_random_seed(1)
    user, item = make(DIM, optimizer=hotrow.Adam(0.01), seed=1), make(DIM, optimizer=hotrow.Adagrad(0.1), seed=2)
    features = Features(
        {
            "user": Id(DIM, table=user, mask_id="nobody", embeddings_regularizer=keras.regularizers.L2(0.01)),
            "history": Sequence(DIM, length=3, table=item),
            "basket": Bag(DIM, "max", table=item, embeddings_constraint=keras.constraints.NonNeg()),
        }
    )
    inputs = features.inputs()
    vectors = features(inputs)
    pooled = keras.layers.GlobalAveragePooling1D()(vectors["history"])
    out = keras.layers.Dense(1)(keras.layers.Concatenate()([vectors["user"], pooled, vectors["basket"]]))
    model = hotrow.keras.Model(inputs, out)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, user, item


def rows_of(seed, n=24):
    random = np.random.default_rng(seed)
    items = [f"item {i}" for i in range(8 + seed)]
    x = {
        "user": [["ann", "bob", "eve", "nobody"][i] for i in random.integers(0, 4, n)],
        "history": [[items[i] for i in random.integers(0, len(items), random.integers(1, 5))] for _ in range(n)],
        "basket": [[items[i] for i in random.integers(0, len(items), random.integers(0, 3))] for _ in range(n)],
    }
    return x, random.normal(size=(n, 1)).astype(np.float32)


def fit(model, seed, **how):
    return model.fit(*rows_of(seed), batch_size=8, epochs=2, shuffle=False, verbose=0, **how).history["loss"]


def test_a_model_with_shared_tables_masks_bags_and_rules_trains_to_the_same_bits_and_files(sharded, tmp_path):
    (plain, *tables), (afar, *others) = model_of(hotrow.Table), model_of(sharded)
    assert fit(plain, 0) == fit(afar, 0)
    for table, other in zip(tables, others, strict=True):
        assert_equal(other, table)
    afar.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert fit(plain, 1) == fit(loaded, 1)
    afar.set_weights(plain.get_weights())
    for table, other in zip(tables, others, strict=True):
        assert_equal(other, table)
    x, _ = rows_of(2)
    assert np.array_equal(plain.predict(x, verbose=0), afar.predict(x, verbose=0))


@pytest.mark.enough("torch")
def test_what_was_saved_while_fitting_goes_on_in_shards_and_plain(sharded, tmp_path):
    plain, *_ = model_of(hotrow.Table)
    saving = SnapshotCallback(tmp_path / "run", deltas=1)
    afar, *others = model_of(sharded)
    fit(afar, 0, callbacks=[saving])
    fit(plain, 0)
    again, *tables = model_of(sharded)
    assert SnapshotCallback(tmp_path / "run").restore(again) == 2
    for table, other in zip(tables, others, strict=True):
        assert_equal(table, other)
    assert fit(again, 1) == fit(plain, 1)


# --- classifiers ------------------------------------------------------------------------------------------------------


def classifier(**how):
    """A classifier that was fitted, and what it told of its progress."""
    table, told = people(400), []
    model = Classifier(**SMALL | {"epochs": 2, "batch_size": 80})
    model.fit(columns_of(table), table["label"], progress=lambda *at: told.append(at), **how)
    return model, told


@pytest.fixture(scope="module")
def alone():
    return classifier(block=BLOCK)


def assert_same(fitted, other):
    (model, told), (again, told_too) = fitted, other
    np.testing.assert_equal(told, told_too)  # losses, too; and a NaN is a NaN
    for name in ("city", "tags"):
        assert_equal(model.table(name), again.table(name))
    for one, two in zip(model._net.get_weights(), again._net.get_weights(), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


def test_a_fit_by_blocks_learns_what_one_without_does(alone):
    other = people(800, 1)
    measured = [fitted.evaluate(columns_of(other), other["label"])["auc"] for fitted, _ in (alone, classifier())]
    assert min(measured) > 0.8
    assert abs(measured[0] - measured[1]) < 0.05


def test_tables_in_shards_are_in_place_of_plain_ones(sharded, alone, tmp_path):
    model, told = classifier(block=BLOCK, tables=sharded)
    assert type(model.table("city")) is not hotrow.Table
    assert_same(alone, (model, told))
    model.save(tmp_path / "m")
    loaded = Classifier.load(tmp_path / "m")
    assert_equal(loaded.table("city"), model.table("city"))
    columns = columns_of(people(50, 3))
    assert np.array_equal(loaded.predict_proba(columns), model.predict_proba(columns))


@pytest.mark.enough("torch")
def test_tables_in_shards_do_without_blocks_too(sharded):
    assert_same(classifier(), classifier(tables=sharded))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.enough("torch")), 2])
def test_any_crew_gives_the_same_bits_as_none(ray_local, alone, workers):
    with Crew(workers) as crew:
        assert_same(alone, classifier(block=BLOCK, crew=crew))
        assert all(one["blocks"] for one in crew.stats())


@pytest.mark.enough("torch")
def test_a_worker_that_is_killed_changes_no_bit(ray_local, sharded, alone):
    with Crew(2) as crew:
        began = threading.Event()
        victim = crew.stats()[0]["pid"]

        def kill():
            began.wait()
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        table, told = people(400), []

        def progress(*at):
            told.append(at)
            if len(told) == 2:  # the next step's blocks are with the workers
                began.set()

        model = Classifier(**SMALL | {"epochs": 2, "batch_size": 80})
        model.fit(columns_of(table), table["label"], progress=progress, block=BLOCK, crew=crew, tables=sharded)
        killer.join()
        assert sum(one["restarts"] for one in crew.stats()) == 1
    assert_same(alone, (model, told))


@pytest.mark.enough("torch")
def test_staleness_is_the_same_with_a_crew_as_without(ray_local, alone):
    with Crew(2, staleness=2) as crew:
        late = classifier(block=BLOCK, crew=crew)
    assert_same(classifier(block=BLOCK, crew=Alone(staleness=2)), late)
    assert alone[1] != late[1]


def test_ctrl_c_ends_the_epoch_and_leaves_the_best_so_far():
    table, told = people(400), []

    def progress(*at):
        told.append(at)
        if len(told) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    model = Classifier(**SMALL | {"epochs": 9, "batch_size": 80})
    with pytest.raises(KeyboardInterrupt):
        model.fit(columns_of(table), table["label"], progress=progress, block=BLOCK)
    assert len(told) <= 4
    assert model.predict_proba(columns_of(table)).shape == (400, 2)


@pytest.mark.parametrize("block", [0, 1, True, 2.5, "64"])
def test_a_block_is_a_number_of_rows(block):
    with pytest.raises(hotrow.ArgumentError, match="block must be a whole number of rows"):
        Classifier().fit({"a": [1, 2, 3, 4]}, [0, 1, 0, 1], block=block)


@pytest.mark.enough("torch")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # of its own settings
def test_the_command_ends_with_the_same_classifier_on_any_shards_and_workers(ray_local, tmp_path, monkeypatch, capsys):
    from hotrow.apps import cli

    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    who, what = random.integers(0, 20, 300), random.integers(0, 9, 300)
    lines = [f"u{a},{b},{'yes' if (a + b) % 3 else 'no'}" for a, b in zip(who, what, strict=True)]
    (tmp_path / "rows.csv").write_text("who,what,label\n" + "\n".join(lines) + "\n")
    command = ["train", "rows.csv", "--label", "label", "--epochs", "2", "--cluster", "local", "--json"]
    told = []
    for shards, workers in (("1", "1"), ("2", "2")):
        assert cli.main([*command, "--shards", shards, "--workers", workers, "--out", f"model-{shards}"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["model"] == told[1]["model"]
    assert told[1]["cluster"]["shards"] == told[1]["cluster"]["workers"] == 2
    given = {"who": ["u1", "u2"], "what": [3, 4]}
    both = [Classifier.load(tmp_path / f"model-{shards}").predict_proba(given) for shards in (1, 2)]
    assert np.array_equal(*both)
