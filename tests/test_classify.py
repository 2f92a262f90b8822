"""What a classifier needs no Keras for: columns told apart, rows split and drawn, inputs, labels, metrics, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loaders import seal_again
from sklearn import metrics as theirs

from hotrow.apps import backends, dates, kinds, negatives, rows
from hotrow.apps.cli import main
from hotrow.apps.frame import read_frame
from hotrow.data import debian_packages
from hotrow.errors import ArgumentError, CorruptError, DataError
from hotrow.models import classes, classifier_files, metrics
from hotrow.models.inputs import Inputs, tidy

# --- columns told apart ----------------------------------------------------------------------------------------------


def tell(values, name="column", *, text=False, **forced):
    column = values if isinstance(values, pa.Array) else pa.array(values)
    return kinds.tell(name, column.cast(pa.large_string()) if text else column, text=text, **forced)


@pytest.mark.parametrize(
    ("values", "kind", "why"),
    [
        (["a", "b", None] * 20, "discrete", "2 distinct strings"),
        ([True, False] * 20, "discrete", "2 distinct values of bool"),
        ([1, 2, 3] * 20, "discrete", "3 distinct whole numbers"),
        (list(range(300)) * 100, "discrete", "300 distinct whole numbers"),
        (list(range(30)) * 2, "number", "whole numbers, 30 distinct"),
        ([1.0, 2.0, None] * 20, "discrete", "2 distinct whole numbers"),
        ([0.5, 1.25] * 20, "number", "numbers, 2 distinct"),
        ([["a"], [], None] * 20, "bag", "lists of strings"),
        ([[1, 2], [3]] * 20, "bag", "lists of whole numbers"),
        ([[0.5]] * 20, "left out", "can't be learned from"),
        ([f"row {i}" for i in range(40)], "left out", "each row has its own"),
        (list(range(40)), "left out", "each row has its own"),
        (["same"] * 40, "left out", "the same in every row"),
        ([None] * 40, "left out", "no value"),
        (["2010-12-31T08:26", "2010-12-01T20:00"] * 20, "date", "ISO 8601"),
        (["31/12/2010", "01/12/2010"] * 20, "date", "%d/%m/%Y"),
        (["01/02/2010", "02/01/2010"] * 20, "discrete", "2 distinct strings"),
    ],
)
def test_a_column_is_told_by_what_is_in_it(values, kind, why):
    told = tell(values)
    assert told.kind == kind
    assert why in told.why
    assert told.nulls == sum(value is None for value in values)


@pytest.mark.parametrize("name", ["id", "user_id", "CityCode", "item id", "customerID", "user_id:token", "zip"])
def test_whole_numbers_named_as_ids_are_discrete_however_many(name):
    assert tell(list(range(900)) * 2, name).kind == "discrete"
    assert tell(list(range(900)) * 2, "paid").kind == "number"


@pytest.mark.parametrize(
    ("values", "sep"),
    [
        (["red|small", "red", "small|old", "old", "red|old", "old|small", "red|small|old"] * 5, "|"),
        (["red, small", "red", "small, old", "old", "red, old", "old, small", "red, small, old"] * 5, ","),
        (["Korea, Republic of", "Bolivia, Plurinational State of", "Spain", "Iran, Islamic Republic of"] * 9, ""),
        ([f"{name}, The ({1990 + i % 9})" for i, name in enumerate("abcdefghijkl")] * 3, ""),
    ],
)
def test_text_of_csv_is_a_bag_only_where_the_same_parts_come_again_in_other_company(values, sep):
    told = tell(values, text=True)
    assert (told.kind, told.sep) == (("bag", sep) if sep else ("discrete", ""))
    assert tell(values).kind == "discrete"


def test_text_of_csv_that_is_numbers_is_numbers_and_that_of_typed_files_is_not():
    assert tell([f"{i}.5" for i in range(9)] * 5, text=True).kind == "number"
    assert tell(["007", "7", "8"] * 20, text=True).kind == "discrete"
    assert tell([f"{i}.5" for i in range(9)] * 5).kind == "discrete"


def test_the_callers_word_comes_first_and_what_cannot_be_is_refused():
    assert tell(list(range(40)), forced="discrete").form == "int64"
    assert tell(["1", "2"] * 20, text=True, forced="number").kind == "number"
    assert tell(["x/y"] * 3, forced="bag", sep="/").sep == "/"
    assert tell(["a", "b"], forced="left out").kind == "left out"
    with pytest.raises(DataError, match=r"can't be number.*'a'"):
        tell(["a", "b"], forced="number")
    with pytest.raises(DataError, match="no column 'z'"):
        kinds.forced_kinds({"discrete": ["z"]}, ["a"])
    with pytest.raises(DataError, match="leave one"):
        kinds.forced_kinds({"discrete": ["a"], "number": ["a"]}, ["a"])
    assert kinds.forced_kinds({"bag": ["a=|"]}, ["a"]) == {"a": ("bag", "|")}


def test_columns_are_made_as_they_were_told():
    text = pa.array(["red|small", None, "red"], pa.large_string())
    told = kinds.Told("tags", "bag", "", 1, "", "string", "|")
    assert kinds.made(told, text)["tags"][1].to_pylist() == [["red", "small"], None, ["red"]]
    number = kinds.Told("age", "number", "", 0, "")
    assert kinds.made(number, pa.array(["+1.5", "2"]))["age"][1].to_pylist() == [1.5, 2.0]
    with pytest.raises(DataError, match="'age' isn't number here"):
        kinds.made(number, pa.array(["old"]))
    assert kinds.Told(**json.loads(json.dumps(told.to_json()))) == told


def test_dates_become_hour_weekday_month_and_day():
    column = pa.array(["2024-02-29T23:10", None, "1969-12-31T01:00"], pa.large_string())
    made = {
        name: part.to_pylist() for name, (_, part) in dates.parts(column, dates.form_of(column.drop_null())).items()
    }
    assert made["hour"] == [23, None, 1]
    assert made["weekday"] == ["Thursday", None, "Wednesday"]
    assert made["month"] == [2, None, 12]
    assert made["day"] == [19782.0, None, -1.0]
    days = pa.array([19782, None], pa.int32()).cast(pa.date32())
    assert set(dates.parts(days, dates.DAYS)) == {"weekday", "month", "day"}
    with pytest.raises(DataError, match="isn't a date in the form"):
        dates.parts(pa.array(["13.1.2020"]), "%d/%m/%Y")


# --- negatives -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 9), st.integers(3, 12))
def test_no_negative_is_a_pair_of_any_part(seed, count, n_users, n_items):
    random = np.random.default_rng(seed)
    users, items = random.integers(0, n_users, 60), random.integers(0, n_items, 60)
    items = np.unique(items, return_inverse=True)[1]
    parts = np.split(random.permutation(60), [40, 50])
    drawn, missing = negatives.draw(users, items, parts, count, seed)
    pairs = set(zip(users.tolist(), items.tolist(), strict=True))
    for part, made in zip(parts, drawn, strict=True):
        assert sorted(made.rows[made.labels == 1]) == sorted(part)
        assert (items[made.items] == items[made.rows])[made.labels == 1].all()
        for row, other in zip(made.rows[made.labels == 0], made.items[made.labels == 0], strict=True):
            assert (users[row], items[other]) not in pairs
    found = sum(int((made.labels == 0).sum()) for made in drawn)
    assert found + missing == 60 * count
    full = {user for user in users.tolist() if len({i for u, i in pairs if u == user}) == items.max() + 1}
    assert (missing > 0) == any(user in full for user in users.tolist())


def test_what_the_item_determines_belongs_to_it_and_what_is_nearly_always_the_same_does_not():
    items = np.repeat(np.arange(50), 20)
    random = np.random.default_rng(0)
    assert negatives.belongs_to(items, items % 3)
    assert not negatives.belongs_to(items, random.integers(0, 3, 1000))
    assert not negatives.belongs_to(items, (random.random(1000) < 0.01).astype(int))
    assert not negatives.belongs_to(np.arange(50), np.arange(50))


def shop(count=400):
    """Who bought what: the price is the item's, the weather the row's, and how often is known only afterwards."""
    random = np.random.default_rng(1)
    item = random.integers(0, 40, count)
    return pa.table(
        {
            "who": random.integers(0, 30, count),
            "what": item,
            "price": [["cheap", "dear"][i % 2] for i in item],
            "weather": random.choice(["sun", "rain"], count),
            "cnt": random.integers(1, 6, count),
            "paid": random.random(count),
        }
    )


def test_a_negative_keeps_the_context_and_has_its_own_items_price():
    frame = read_frame(shop(), [])
    pair = ("who", "what")
    told = [
        kinds.tell(name, c, text=False, forced="discrete" if name in pair else "") for name, c in frame.columns.items()
    ]
    told = rows.known_before(told, pair, {})
    assert {one.name for one in told if one.kind == "left out"} == {"cnt", "paid"}
    assert rows.items_own(frame, told, pair) == {"price"}
    made = rows.drawn(frame, told, pair, 3, None, 0)
    for part in made.parts.values():
        columns = {name: column.to_pylist() for name, column in part.columns.items()}
        assert columns["price"] == [["cheap", "dear"][i % 2] for i in columns["what"]]
        starts = np.flatnonzero(part.labels == 1)
        groups = np.searchsorted(starts, np.arange(len(part)), side="right") - 1
        for name in ("who", "weather"):
            assert columns[name] == [columns[name][starts[group]] for group in groups]
    assert [made.counts[f"{name}_positives"] for name in rows.PARTS] == [280, 80, 40]


def test_by_time_the_latest_rows_test():
    table = pa.table({"x": ["a", "b"] * 50, "when": list(range(100))[::-1], "label": [0, 1] * 50})
    frame = read_frame(table, [])
    told = [kinds.tell("x", frame.columns["x"], text=False)]
    when = rows.times(frame, "when", None)
    made = rows.labelled(frame, told, "label", when, 0)
    assert len(made.parts["test"]) == 20
    assert made.parts["test"].columns["x"].to_pylist() == frame.columns["x"].to_pylist()[:20][::-1]


def test_rows_without_a_label_are_skipped_and_counted():
    table = pa.table({"x": ["a", "b"] * 50, "label": [None, 1, 0, 1] * 25})
    frame = read_frame(table, [])
    made = rows.labelled(frame, [kinds.tell("x", frame.columns["x"], text=False)], "label", None, 0)
    assert made.counts["without_label"] == 25
    assert sum(len(part) for part in made.parts.values()) == 75


# --- inputs, labels and metrics --------------------------------------------------------------------------------------


def test_nulls_are_an_id_of_their_own_and_the_mean_of_numbers():
    columns, _ = tidy({"s": ["a", None], "i": pa.array([1, None]), "b": [["a"], None], "n": [1.0, None]})
    inputs = Inputs.learn(columns, {})
    assert [told["kind"] for told in inputs.columns.values()] == ["id", "id", "bag", "number"]
    made = inputs.apply(columns)
    assert made["0"] == ["a", "\0null"]
    assert made["1"].to_pylist() == [1, -(2**63)]
    assert made["2"] == [["a"], []]
    assert made["numbers"].tolist() == [[0.0], [0.0]]
    assert made["3 range"].tolist() == [0, -1]
    again = Inputs.from_config(json.loads(json.dumps(inputs.columns)))
    assert again.columns == inputs.columns
    assert again.apply(columns)["3 range"].tolist() == [0, -1]


@given(st.lists(st.floats(allow_nan=False) | st.none() | st.sampled_from([0.0, 1.0]), min_size=1, max_size=200))
def test_numbers_are_near_zero_in_few_ranges_whose_order_is_theirs(values):
    if all(value is None for value in values):
        return
    columns, _ = tidy({"n": values})
    made = Inputs.learn(columns, {"n": "number"}).apply(columns)
    assert (np.abs(made["numbers"]) <= 5).all()
    numbers = np.array([np.nan if value is None else value for value in values])
    there = ~np.isnan(numbers)
    assert (made["0 range"][~there] == -1).all()
    assert len(np.unique(made["0 range"][there])) <= 64
    order = np.argsort(numbers[there], kind="stable")
    assert (np.diff(made["0 range"][there][order]) >= 0).all()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "expected columns by name"),
        ([1, 2], "expected columns by name"),
        ({"a": [1], "b": [1, 2]}, "1 'a', 2 'b'"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns, words):
    with pytest.raises(ArgumentError, match=words):
        tidy(columns)


def test_labels_of_any_kind_are_classes_in_order():
    assert classes.learn(["b", "a", "b"], 3)[0] == ["a", "b"]
    assert classes.learn(np.array([True, False]), 2)[0] == [False, True]
    assert classes.learn(pa.array([1.0, 0.0, 1.0]), 3)[1].tolist() == [1, 0, 1]
    assert classes.encode([3, 5], [3, 4, 5], 2).tolist() == [0, 2]
    for labels, words in ((["a", "a"], "2 to 1,000"), ([1, "a"], "all be"), ([0.5, 1], "got 0.5"), ([None, 1], "None")):
        with pytest.raises(ArgumentError, match=words):
            classes.learn(labels, 2)
    with pytest.raises(ArgumentError, match="'c' is none of"):
        classes.encode(["c"], ["a", "b"], 1)


@given(st.integers(2, 6), st.integers(0, 2**32))
def test_metrics_of_classes_are_scikit_learns(count, seed):
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(count), random.integers(0, count, 50)])
    p = random.dirichlet(np.ones(count), len(labels))
    ours = metrics.of_classes(labels, p)
    scores = p[:, 1] if count == 2 else p
    assert ours["auc"] == pytest.approx(theirs.roc_auc_score(labels, scores, multi_class="ovr"))
    assert ours["log_loss"] == pytest.approx(theirs.log_loss(labels, p))
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(labels, p.argmax(1)))


# --- files and usage -------------------------------------------------------------------------------------------------

DESCRIBED = {"config": {}, "columns": {"a": {}}, "classes": ["x", "y"], "notes": {}}


def test_a_model_is_replaced_in_one_step_and_its_net_is_checked(tmp_path):
    classifier_files.save(tmp_path, DESCRIBED, lambda path: path.write_bytes(b"first"))

    def fails(path):
        path.write_bytes(b"sec")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        classifier_files.save(tmp_path, DESCRIBED, fails)
    assert classifier_files.read(tmp_path)[1].read_bytes() == b"first"
    classifier_files.save(tmp_path, DESCRIBED, lambda path: path.write_bytes(b"second"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classifier.json", "lock", "net-000002.keras"]
    net = tmp_path / "net-000002.keras"
    net.write_bytes(b"sEcond")
    assert "checksum differs" in classifier_files.verify(tmp_path)[0]
    with pytest.raises(CorruptError, match=r"net-000002\.keras"):
        classifier_files.read(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": True},
        {"config": []},
        {"classes": ["x"]},
        {"classes": [None, 1]},
        {"notes": []},
        {"net": {"name": "../x.keras", "bytes": 1, "chunk": 4096, "crc32": []}},
        {"net": {}},
        {"more": 1},
    ],
)
def test_a_description_that_no_save_writes_is_refused(tmp_path, change):
    classifier_files.save(tmp_path, DESCRIBED, lambda path: path.write_bytes(b"net"))
    path = tmp_path / "classifier.json"
    seal_again(path, json.loads(path.read_text()) | change)
    with pytest.raises(CorruptError, match=r"classifier\.json: (?!isn't what was written)"):
        classifier_files.read(tmp_path)
    path.write_text("{")
    assert len(classifier_files.verify(tmp_path)) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["f.csv", "--negatives", "2"], "--user USER --item ITEM --negatives 2"),
        (["f.csv", "--negatives", "2", "--label", "x"], "leave one"),
        (["--label", "x"], "hotrow train FILE --label COLUMN"),
        (["f.csv", "--label", "x", "--loss", "bpr"], "--loss"),
        (["f.csv", "--label", "x", "--time-format", "%Y"], "--time COLUMN"),
        (["f.csv", "--bag", "x"], "hotrow train FILE --label COLUMN --bag"),
    ],
)
def test_options_that_do_not_go_together_show_the_right_call(capfd, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments])
    assert stopped.value.code == 2
    assert words in " ".join(capfd.readouterr().err.split())


def test_without_a_backend_it_says_what_to_install(tmp_path):
    (tmp_path / "people.csv").write_text("a,b\nx,y\n")
    hide = "import sys\nfor name in ('jax', 'torch', 'tensorflow'): sys.modules[name] = None\n"
    run = "from hotrow.apps.cli import main\nsys.exit(main(['train', 'people.csv', '--label', 'b']))"
    ours = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", hide + run],
        cwd=tmp_path,
        env=ours,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    for name in ("jax", "torch", "tensorflow"):
        assert f"hotrow[{name}]" in done.stderr


def test_a_folder_that_holds_something_else_is_not_written_to(capfd, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "people.csv").write_text("a,b\nx,y\n")
    assert main(["train", str(tmp_path / "people.csv"), "--label", "b", "--out", str(tmp_path)]) == 1
    assert "something else than a classifier" in capfd.readouterr().err
    assert main(["predict", str(tmp_path), str(tmp_path / "people.csv")]) == 1
    assert "hotrow train FILE --label COLUMN" in capfd.readouterr().err


# --- a file that ships -----------------------------------------------------------------------------------------------


def test_packages_of_debian_are_told_and_split():
    frame = read_frame(debian_packages(), ["section"])
    told = [kinds.tell(name, column, text=False) for name, column in frame.columns.items() if name != "section"]
    assert [(one.name, one.kind) for one in told] == [("package", "left out"), ("depends", "bag"), ("tags", "bag")]
    made = rows.labelled(frame, told, "section", None, 0)
    assert [made.kinds, made.out] == [{"depends": "bag", "tags": "bag"}, set()]
    assert sum(len(part) for part in made.parts.values()) + made.counts["of_no_class"] == frame.rows
    assert len(set(made.parts["train"].labels.to_pylist())) > 50
    again = rows.labelled(frame, told, "section", None, 0)
    assert again.parts["test"].columns["tags"].equals(made.parts["test"].columns["tags"])
    assert not rows.labelled(frame, told, "section", None, 1).parts["test"].labels.equals(made.parts["test"].labels)


# --- awkward files ---------------------------------------------------------------------------------------------------


def made_of(values, *, text=True, name="column", new=None):
    """What the model gets of a column, told by what is in it; of other values if they are given."""
    column = values if isinstance(values, pa.Array) else pa.array(values, pa.large_string() if text else None)
    told = kinds.tell(name, column, text=text)
    return told, kinds.made(told, column if new is None else new)[name][1].to_pylist()


def test_integers_that_csv_has_as_floats_are_ids_without_a_fraction():
    told, made = made_of(["1.0", "2.0", None] * 20)
    assert told.kind == "discrete"
    assert made[:3] == [1, 2, None]
    assert made_of(["1", "2"] * 20, new=pa.array(["2.0"]))[1] == [2]
    with pytest.raises(DataError, match="isn't discrete here"):
        made_of(["1", "2"] * 20, new=pa.array(["2.5"]))


def test_digits_that_name_a_thing_stay_as_they_are():
    assert made_of(["007", "7"] * 20)[1][:2] == ["007", "7"]
    assert made_of([str(10**20 + i % 9) for i in range(40)])[1][1] == "100000000000000000001"
    assert made_of(["0.5", "0", "10"] * 20)[0].kind == "number"


def test_bools_are_the_same_ids_in_each_kind_of_file():
    assert made_of([True, False] * 20, text=False, new=pa.array(["True", "FALSE", "true"]))[1] == [
        "true", "false", "true"
    ]  # fmt: skip
    with pytest.raises(DataError, match="it is bool, and was text"):
        made_of(["True", "False"] * 20, new=pa.array([True]))


def test_bags_of_uint64_and_with_nulls_among_their_parts():
    assert made_of(pa.array([[2**64 - 1], [3]] * 20, pa.list_(pa.uint64())), text=False)[1][0] == [2**64 - 1]
    assert made_of([["a", None], None, [None], []] * 20, text=False)[1][:4] == [["a"], None, [], []]


def test_numbers_are_no_dates():
    column = pa.array(["2010-12-31T08:26", "2010-12-01T20:00"] * 20)
    with pytest.raises(DataError, match="expected dates, timestamps or text"):
        kinds.made(tell(column), pa.array([1, 2]))


def labelled(labels, order=None, **columns):
    count = len(labels)
    frame = read_frame(pa.table({"x": ["a", "b"] * (count // 2), **columns, "label": labels}), [])
    told = [kinds.tell(name, frame.columns[name], text=False) for name in frame.columns if name != "label"]
    return rows.labelled(frame, told, "label", order, 0)


def test_rows_to_test_of_a_class_that_no_training_row_has_are_left_out_and_counted():
    made = labelled(["p", "q"] * 45 + ["new"] * 3 + ["p", "q", "q"] * 2 + ["p"], np.arange(100))
    assert made.counts["of_no_class"] == 3
    assert len(made.parts["test"]) == 17
    assert set(made.parts["test"].labels.to_pylist()) == {"p", "q"}
    assert any("3 rows left out" in sentence for sentence in made.sentences)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a"] * 40, "--label label: .*2 to 1,000 classes; got 1"),
        ([f"{i // 2}" for i in range(4000)], "got 1,"),
        ([["a"], ["b"]] * 20, "--label label: expected text.*it is list"),
        ([0.5, 1.5] * 20, "--label label: .*got"),
        (["a", "b"] * 16 + ["a"] * 8, "8 rows to test all have the label 'a'"),
    ],
)
def test_labels_that_cannot_be_learned_or_measured_are_refused_before_training(labels, words):
    with pytest.raises(DataError, match=words):
        labelled(labels, np.arange(len(labels)))


def test_a_number_that_no_training_row_has_is_left_out():
    late = pa.array([None] * 90 + [0.5, 1.5] * 5)
    made = labelled(["p", "q"] * 50, np.arange(100), late=late)
    assert made.out == {"late"}
    assert set(made.kinds) == {"x"}


def test_labels_that_are_lists_and_columns_that_come_twice_are_refused():
    with pytest.raises(ArgumentError, match=r"text, bool or integers; got \['a'\]"):
        classes.learn([["a"], ["b"]], 2)
    with pytest.raises(ArgumentError, match="several columns 'a'"):
        tidy(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]))


def test_parts_of_a_date_do_not_take_the_place_of_a_column_and_one_column_has_one_role():
    days = ["2024-01-02", "2024-01-03"] * 20
    with pytest.raises(DataError, match=r"'d \(month\)'.*--ignore 'd \(month\)'"):
        labelled(["p", "q"] * 20, d=days, **{"d (month)": ["a", "b"] * 20})
    with pytest.raises(DataError, match="--label and --time are both column 'a'"):
        rows.check_roles({"label": "a", "user": "b", "time": "a"})


def test_what_is_the_users_stays_theirs_even_where_an_item_has_few_of_them():
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(100), 6)
    items = np.where(random.random(600) < 0.97, users * 5 + random.integers(0, 5, 600), 500)
    town, price, weather = users % 7, items % 3, random.integers(0, 3, 600)
    assert not negatives.is_items_own(users, items, town)
    assert negatives.is_items_own(users, items, price)
    assert not negatives.is_items_own(users, items, weather)


def test_a_dates_parts_are_the_items_own_under_any_name():
    table = shop()
    days = [f"2024-01-{1 + item % 28:02d}" for item in table["what"].to_pylist()]
    frame = read_frame(table.append_column("sold (since)", pa.array(days)), [])
    told = [kinds.tell(name, frame.columns[name], text=False) for name in ("who", "what", "sold (since)")]
    told = rows.known_before(told, ("who", "what"), {})
    told = [kinds.tell(name, frame.columns[name], text=False, forced="discrete") for name in ("who", "what")] + told[2:]
    part = rows.drawn(frame, told, ("who", "what"), 2, None, 0).parts["train"]
    days_of = dict(zip(table["what"].to_pylist(), days, strict=True))
    expected = [float(np.datetime64(days_of[item]).astype(int)) for item in part.columns["what"].to_pylist()]
    assert part.columns["sold (since) (day)"].to_pylist() == expected


def test_columns_of_pandas_and_bools_have_nulls_and_ids():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"s": ["x", np.nan], "t": pandas.array(["p", None], "string"), "b": [True, False]})
    columns, _ = tidy(frame)
    made = Inputs.learn(columns, {}).apply(columns)
    assert [list(made[place]) for place in "012"] == [["x", "\0null"], ["p", "\0null"], ["true", "false"]]
    for bools in ([True, None], pa.array([True, None])):
        columns, _ = tidy({"b": bools})
        assert list(map(str, Inputs.learn(columns, {}).apply(columns)["0"])) == ["true", "\0null"]


def test_arrow_columns_of_another_type_than_in_training_are_refused_and_those_of_nulls_are_not():
    inputs = Inputs.learn(tidy({"n": pa.array([1, 2])})[0], {})
    with pytest.raises(ArgumentError, match="'n' has ids that are whole numbers, as in training; got string"):
        inputs.apply({"n": pa.array(["a", None])})
    assert inputs.apply({"n": pa.nulls(2)})["0"] == [-(2**63)] * 2


def test_metrics_refuse_nan_and_take_ties():
    labels, scores = np.array([0, 1, 1, 0, 1]), np.array([0.5, 0.5, 0.5, 0.2, 0.2])
    assert metrics.auc(labels, scores) == pytest.approx(theirs.roc_auc_score(labels, scores))
    for measure in (metrics.auc, metrics.log_loss):
        with pytest.raises(ArgumentError, match="NaN"):
            measure(labels, np.where(scores == 0.2, np.nan, scores))
    with pytest.raises(ArgumentError, match="NaN"):
        metrics.of_classes(labels, np.full((5, 3), np.nan))


def test_a_backend_that_is_none_is_said_in_one_line(tmp_path):
    (tmp_path / "people.csv").write_text("a,b\nx,y\n")
    run = "import sys; from hotrow.apps.cli import main; sys.exit(main(['train', 'people.csv', '--label', 'b']))"
    done = subprocess.run(
        [sys.executable, "-c", run],
        cwd=tmp_path,
        env=os.environ | {"KERAS_BACKEND": "nonsense"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "KERAS_BACKEND is 'nonsense', expected one of jax, torch, tensorflow" in done.stderr


def test_inspect_says_what_is_damaged(capfd, tmp_path):
    classifier_files.save(tmp_path, DESCRIBED, lambda path: path.write_bytes(b"net"))
    assert main(["inspect", str(tmp_path)]) == 1
    assert "column 'a' isn't described as a save does" in capfd.readouterr().err


@pytest.mark.parametrize("asked", [["recommend", "x"], ["lookup", "--item", "x"], ["lookup", "--id", "x"]])
def test_a_classifier_that_is_asked_for_users_and_items_says_what_it_has(capfd, tmp_path, asked):
    classifier_files.save(tmp_path, DESCRIBED, lambda path: path.write_bytes(b"net"))
    assert main([asked[0], str(tmp_path), *asked[1:]]) == 1
    assert "holds a classifier" in capfd.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["similar", "MODEL", "cup", "--side", "item"], ["index", "MODEL"], ["map", "MODEL"], ["serve", "MODEL"],
     ["export", "MODEL", "--to", "parquet", "-o", "items.parquet"]],
)  # fmt: skip
def test_whatever_opens_a_classifier_chooses_a_backend_first(capfd, tmp_path, monkeypatch, command):
    def prepare():
        raise DataError("a backend is chosen")

    monkeypatch.setattr(backends, "prepare", prepare)
    (tmp_path / "classifier.json").write_text("{}")
    assert main([str(tmp_path) if word == "MODEL" else word for word in command]) == 1
    assert capfd.readouterr().err == "hotrow: a backend is chosen\n"
