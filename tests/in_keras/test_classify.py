"""The classifier on each backend: it learns, it keeps its word about nulls and seeds, and it is saved whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from loaders import seal_again
from pyarrow import csv, parquet
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

import hotrow
from benchmarks import frappe
from hotrow.apps import kinds, rows
from hotrow.apps.cli import main
from hotrow.data import debian_packages
from hotrow.models import Classifier, classify, metrics

pytestmark = pytest.mark.compiled
DATA = Path(os.environ.get("HOTROW_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")


def people(count=1500, seed=0):
    """What someone likes depends on the city and the tags together, and on the age; some of it is missing."""
    random = np.random.default_rng(seed)
    city = random.choice(["Lyon", "Oslo", "Bari"], count)
    tags = [[t for t in ("red", "old", "big") if random.random() < 0.4] for _ in range(count)]
    age = random.integers(20, 80, count).astype(float)
    score = 2.0 * (city == "Lyon") - 2.0 * np.array(["red" in t for t in tags]) + (age - 50) / 10
    label = np.where(score + random.normal(0, 0.5, count) > 0, "yes", "no")
    return pa.table(
        {
            "row": np.arange(count),
            "city": pa.array([None if random.random() < 0.05 else c for c in city], pa.string()),
            "tags": tags,
            "age": pa.array([None if random.random() < 0.05 else a for a in age], pa.float64()),
            "label": label,
        }
    )


SMALL = {"dim": 4, "hidden": (16,), "epochs": 8, "batch_size": 64, "learning_rate": 0.01}


def columns_of(table, names=("city", "tags", "age")):
    return {name: table[name] for name in names}


@pytest.fixture(scope="module")
def fitted():
    table = people()
    return Classifier(**SMALL).fit(columns_of(table), table["label"])


def test_it_learns_from_ids_bags_numbers_and_nulls(fitted):
    other = people(800, 1)
    measured = fitted.evaluate(columns_of(other), other["label"])
    assert measured["auc"] > 0.9
    assert fitted.classes == ["no", "yes"]
    assert fitted.inputs.columns["tags"]["kind"] == "bag"
    assert set(fitted.table("tags").ids().to_pylist()) == {"red", "old", "big"}
    assert len(fitted.table("city")) == 4  # null is one


def test_lists_and_arrow_give_the_same_and_prediction_makes_no_rows(fitted):
    table = people(50, 2)
    p = fitted.predict_proba(columns_of(table))
    lists = {name: column.to_pylist() for name, column in columns_of(table).items()}
    assert np.array_equal(p, fitted.predict_proba(lists))
    assert p.shape == (50, 2)
    assert p.sum(1) == pytest.approx(np.ones(50), abs=1e-6)
    before = len(fitted.table("city"))
    assert len(fitted.predict({"city": ["Atlantis"], "tags": [["new"]], "age": [None]})) == 1
    assert len(fitted.table("city")) == before


def test_the_same_seed_is_the_same_model_and_another_is_another():
    table = people(300)
    columns = columns_of(table, ["city"])  # of few columns, which compile in less time
    first, again, other = (
        Classifier(**SMALL | {"epochs": 1, "seed": seed}).fit(columns, table["label"]) for seed in (3, 3, 4)
    )
    p = first.predict_proba(columns)
    assert p == pytest.approx(again.predict_proba(columns), abs=1e-5)
    assert np.abs(p - other.predict_proba(columns)).max() > 1e-3


def test_labels_of_many_classes():
    table = people(600)
    labels = [3 if age is None else int(age > 50) for age in table["age"].to_pylist()]
    model = Classifier({"age": "number"}, **SMALL | {"hidden": ()}).fit(columns_of(table), labels)
    assert model.classes == [0, 1, 3]
    assert model.predict_proba(columns_of(table)).shape == (600, 3)
    assert model.evaluate(columns_of(table), labels)["accuracy"] > 0.9


@pytest.mark.enough("torch")
def test_the_sections_of_debian_are_told_by_tags_and_dependencies():
    table = debian_packages()
    table = table.filter(pc.is_in(table["section"], pa.array(["games", "perl", "python", "fonts"])))
    rows = np.random.default_rng(0).permutation(len(table))
    train, test = (table.take(part) for part in (rows[:3000], rows[3000:5000]))
    model = Classifier(**SMALL | {"epochs": 4}).fit(columns_of(train, ["tags", "depends"]), train["section"])
    measured = model.evaluate(columns_of(test, ["tags", "depends"]), test["section"])
    assert model.classes == ["fonts", "games", "perl", "python"]
    commonest = max(model.classes, key=train["section"].to_pylist().count)
    assert measured["accuracy"] > 0.2 + np.mean([one == commonest for one in test["section"].to_pylist()])
    assert "libc6" in model.table("depends").ids().to_pylist()


def together(columns, count=4000, seed=0):
    """Rows of ids whose label is whether the first two columns are of one taste; the other columns say nothing."""
    random = np.random.default_rng(seed)
    made = {f"c{place}": random.integers(0, 40, count) for place in range(columns)}
    return made, (made["c0"] % 4 == made["c1"] % 4).astype(int)


@pytest.mark.enough("torch")
def test_what_only_two_columns_together_tell_is_learned():
    model = Classifier(**SMALL | {"epochs": 20}).fit(*together(3))
    assert model.evaluate(*together(3, seed=1))["auc"] > 0.95


@pytest.mark.enough("torch")
@pytest.mark.parametrize(("columns", "products"), [(1, 0), (2, 4), (32, 1024), (33, 0)])
def test_the_net_gets_products_of_vectors_unless_they_are_one_or_too_many(tmp_path, columns, products):
    made, _ = together(max(columns, 2), 200)
    given = {name: made[name] for name in list(made)[:columns]}
    model = Classifier(**SMALL | {"epochs": 1}).fit(given, [0, 1] * 100)
    wide = next(layer for layer in model._net.layers if type(layer).__name__ == "BatchNormalization")
    assert wide.gamma.shape[0] == SMALL["dim"] * columns + products
    model.save(tmp_path / "m")
    assert np.array_equal(Classifier.load(tmp_path / "m").predict_proba(given), model.predict_proba(given))


@pytest.mark.enough("torch")
@pytest.mark.parametrize(("many", "dropout", "rate", "size"), [(901, 0.3, 2e-3, 36), (900, 0.2, 4e-3, 45)])
def test_steps_suit_the_number_of_rows_unless_asked_otherwise(monkeypatch, many, dropout, rate, size):
    monkeypatch.setattr(classify, "_MANY", many)
    monkeypatch.setattr(classify, "_ROWS_A_STEP", (25, 20))
    table, seen = people(1000), []
    steps = {"epochs": 1, "dim": 2, "hidden": (4,)}
    model = Classifier(**steps).fit(columns_of(table), table["label"], progress=lambda *at: seen.append(at[:2]))
    assert seen[-1] == (size, size)
    assert float(model._net.optimizer.learning_rate) == pytest.approx(rate)
    assert {layer.rate for layer in model._net.layers if type(layer).__name__ == "Dropout"} == {dropout}
    asked = Classifier(**steps, learning_rate=0.5, dropout=0.0).fit(columns_of(table), table["label"])
    assert float(asked._net.optimizer.learning_rate) == 0.5
    assert {layer.rate for layer in asked._net.layers if type(layer).__name__ == "Dropout"} == {0.0}


def test_without_hidden_layers_it_is_logistic_regression_as_scikit_learn_has_it():
    random = np.random.default_rng(0)
    columns = {name: random.integers(0, 8, 1200) for name in "abc"}
    z = sum(random.normal(0, 1, 8)[column] for column in columns.values())
    labels = (random.random(1200) < 1 / (1 + np.exp(-z))).astype(int)
    head = {name: column[:1000] for name, column in columns.items()}
    tail = {name: column[1000:] for name, column in columns.items()}
    options = {"hidden": (), "l2": 0.0, "epochs": 40, "batch_size": 128, "learning_rate": 0.05}
    ours = Classifier(**options).fit(head, labels[:1000], validation=(tail, labels[1000:]))
    one_hot = OneHotEncoder().fit(np.stack(list(columns.values()), 1))
    x, other = (one_hot.transform(np.stack(list(part.values()), 1)) for part in (head, tail))
    theirs = [LogisticRegression(C=c, max_iter=1000).fit(x, labels[:1000]) for c in (0.1, 1, 10)]
    measured = [metrics.of_classes(labels[1000:], model.predict_proba(other)) for model in theirs]
    best = min(measured, key=lambda found: found["log_loss"])
    assert ours.evaluate(tail, labels[1000:])["log_loss"] == pytest.approx(best["log_loss"], abs=0.01)
    assert ours.evaluate(tail, labels[1000:])["auc"] == pytest.approx(best["auc"], abs=0.01)


def test_it_is_saved_whole_without_pickle_and_over_itself(fitted, tmp_path):
    table = people(60, 5)
    fitted.notes = {"why": "a note"}
    for _ in range(2):
        fitted.save(tmp_path / "m")
    loaded = Classifier.load(tmp_path / "m")
    assert np.array_equal(loaded.predict_proba(columns_of(table)), fitted.predict_proba(columns_of(table)))
    assert loaded.notes == {"why": "a note"}
    (net,) = (tmp_path / "m").glob("*.keras")
    assert not [name for name in zipfile.ZipFile(net).namelist() if name.endswith((".pkl", ".pickle"))]
    description = tmp_path / "m" / "classifier.json"
    described = json.loads(description.read_text())
    for field, value in (("columns", {"a": 1}), ("config", {"dim": 0}), ("config", {"x": 1})):
        seal_again(description, described | {field: value})
        with pytest.raises(hotrow.CorruptError, match=r"classifier\.json: (?!isn't what was written)"):
            Classifier.load(tmp_path / "m")


def test_what_cannot_be_is_refused_before_anything_is_trained(fitted):
    with pytest.raises(hotrow.ArgumentError, match="isn't trained yet"):
        Classifier().predict({"a": [1]})
    with pytest.raises(hotrow.ArgumentError, match="expected a column 'tags'"):
        fitted.predict({"city": ["Oslo"], "age": [1.0]})
    with pytest.raises(hotrow.ArgumentError, match="none of the classes"):
        fitted.evaluate({"city": ["Oslo"], "tags": [[]], "age": [1.0]}, ["perhaps"])
    with pytest.raises(hotrow.ArgumentError, match="there are 'city', 'tags'"):
        fitted.table("age")
    for bad in ({"dim": 0}, {"hidden": (0,)}, {"l2": -1.0}, {"kinds": {"a": "word"}}, {"seed": "x"}):
        with pytest.raises(hotrow.ArgumentError):
            Classifier(**bad)


# --- the command line ------------------------------------------------------------------------------------------------


def run_json(capfd, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.mark.enough("tensorflow", "torch")
def test_from_a_file_to_predictions(capfd, tmp_path, backend):
    folder = tmp_path / "m"
    parquet.write_table(people(), tmp_path / "people.parquet.brotli", compression="brotli")
    options = "--label", "label", "--out", folder, "--epochs", "6"
    report = run_json(capfd, "train", tmp_path / "people.parquet.brotli", *options)
    assert {"auc", "log_loss", "accuracy"} == set(report["model"]) == set(report["logistic"]) == set(report["majority"])
    assert report["model"]["auc"] > 0.85
    assert report["majority"]["auc"] == 0.5
    assert report["backend"] == backend
    assert {one["name"]: one["kind"] for one in report["columns"]} == {
        "row": "left out", "city": "discrete", "tags": "bag", "age": "number",
    }  # fmt: skip
    assert main(["inspect", str(folder)]) == main(["verify", str(folder)]) == 0
    assert "logistic regression" in capfd.readouterr().out
    assert len(run_json(capfd, "lookup", folder, "--column", "city", "--id", "Oslo")["vector"]) == 16
    text = people(9, 7).drop_columns(["label", "tags", "row"])
    tags = pa.array([["red"]] * 9)
    parquet.write_table(text.append_column("tags", tags), tmp_path / "new.parquet")
    predicted = run_json(capfd, "predict", folder, tmp_path / "new.parquet")
    assert predicted["rows"] == 9
    assert main(["predict", str(folder), str(tmp_path / "new.parquet"), "--out", str(tmp_path / "p.csv")]) == 0
    written = csv.read_csv(tmp_path / "p.csv")
    assert written.column_names == ["row", "prediction", "p(no)", "p(yes)"]
    assert written["prediction"].to_pylist() == predicted["predictions"]
    net = next(folder.glob("*.keras"))
    data = bytearray(net.read_bytes())
    data[len(data) // 2] ^= 1
    net.write_bytes(data)
    capfd.readouterr()
    assert main(["verify", str(folder)]) == 1
    assert net.name in capfd.readouterr().err
    assert main(["predict", str(folder), str(tmp_path / "new.parquet")]) == 1


@pytest.mark.enough("torch")
def test_pairs_with_drawn_negatives(capfd, tmp_path):
    random = np.random.default_rng(0)
    user = random.integers(0, 60, 1500)
    item = (random.integers(0, 15, 1500) + 15 * (user % 2)).astype(int)
    lines = [
        "who,what,price,cnt",
        *(f"u{u},{i},{'cheap' if i % 3 else 'dear'},{u + i}" for u, i in zip(user, item, strict=True)),
    ]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    options = "--user", "who", "--item", "what", "--negatives", "2", "--out", tmp_path / "m", "--epochs", "12"
    report = run_json(capfd, "train", tmp_path / "log.csv", *options)
    assert report["model"]["auc"] > max(0.8, report["logistic"]["auc"])
    kinds = {one["name"]: (one["kind"], one["why"]) for one in report["columns"]}
    assert kinds["cnt"][0] == "left out"
    assert "item's own" in kinds["price"][1]
    assert report["rows"]["test_positives"] == 150


@pytest.mark.enough("torch")
def test_ctrl_c_leaves_the_model_so_far(tmp_path):
    parquet.write_table(people(), tmp_path / "people.parquet")
    program = (
        "import os, signal, sys\n"
        "from hotrow.models import classify\n"
        "from hotrow.apps.cli import main\n"
        "run = classify.Classifier.fit\n"
        "def fit(self, *args, progress, **options):\n"
        "    def told(done, total, facts):\n"
        "        progress(done, total, facts)\n"
        "        if done == 5: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return run(self, *args, progress=told, **options)\n"
        "classify.Classifier.fit = fit\n"
        "sys.exit(main(['train', 'people.parquet', '--label', 'label', '--out', 'm', '--epochs', '500']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 130, done.stderr
    assert "the model so far is in m" in done.stdout
    table = people(20, 3)
    assert len(Classifier.load(tmp_path / "m").predict(columns_of(table))) == 20
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.long
@pytest.mark.skipif(not (DATA / "adult").is_dir(), reason=f"no data at {DATA}; set HOTROW_DATA")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_adult_is_told_at_once(capfd, tmp_path, seed):
    path = DATA / "adult" / "adult.parquet.brotli"
    report = run_json(capfd, "train", path, "--label", "income", "--seed", seed, "--out", tmp_path / "m")
    assert report["model"]["auc"] >= 0.91
    assert report["model"]["auc"] > report["logistic"]["auc"]


@pytest.mark.long
@pytest.mark.skipif(not (DATA / "frappe").is_dir(), reason=f"no data at {DATA}; set HOTROW_DATA")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_frappe_is_told_without_what_gives_negatives_away(capfd, tmp_path, seed):
    with zipfile.ZipFile(DATA / "frappe" / "Mobile_Frappe.zip") as packed:
        name = next(name for name in packed.namelist() if name.endswith("/frappe.csv") and "__" not in name)
        (tmp_path / "frappe.csv").write_bytes(packed.read(name))
    options = "--user", "user", "--item", "item", "--negatives", "2", "--seed", seed, "--out", tmp_path / "m"
    report = run_json(capfd, "train", tmp_path / "frappe.csv", *options)
    assert {one["name"] for one in report["columns"] if one["kind"] == "left out"} == {"cnt"}
    assert report["model"]["auc"] >= 0.98
    assert report["model"]["auc"] > report["logistic"]["auc"]


@pytest.mark.enough("torch")
@pytest.mark.skipif(not (DATA / "frappe").is_dir(), reason=f"no data at {DATA}; set HOTROW_DATA")
def test_the_benchmark_of_frappe_draws_the_rows_that_the_command_does():
    frame = frappe._frame()
    told = [kinds.tell(name, column, text=True) for name, column in frame.columns.items() if name != "cnt"]
    wanted = rows.drawn(frame, told, ("user", "item"), 2, None, 5)
    for name, (columns, labels) in zip(rows.PARTS, frappe.parts(5, copied=False), strict=True):
        part = wanted.parts[name]
        assert np.array_equal(labels, part.labels)
        assert list(columns) == list(part.columns)
        assert all(columns[n].cast("string").equals(part.columns[n].cast("string")) for n in columns)
    (columns, labels) = frappe.parts(5, copied=True)[2]
    assert [columns["cost"][i] for i in range(0, 300, 3)] == [columns["cost"][i + 1] for i in range(0, 300, 3)]
