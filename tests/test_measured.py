"""What `hotrow train` and `hotrow evaluate` say of a model: what was measured, how sure it is; and nothing leaks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hotrow.apps.cli import main
from hotrow.models import Retrieval

pytestmark = pytest.mark.compiled
COLUMNS = ["--user", "user", "--item", "item"]
QUICK = ["--epochs", "30", "--dim", "8"]


def write(path, rows):
    path.write_text("user,item,when\n" + "".join(f"{user},{item},{when}\n" for user, item, when in rows))
    return path


@pytest.fixture(scope="module")
def rows():
    """40 users of two shelves, with six items each, whose last one is a canary that only that user ever has."""
    rng = np.random.default_rng(0)
    out = []
    for user in range(40):
        items = [f"shelf {user % 2} thing {i}" for i in rng.permutation(9)[:5]] + [f"canary {user}"]
        out += [(user, item, 100 * day + user) for day, item in enumerate(items)]
    return [out[i] for i in rng.permutation(len(out))] + out[:20]  # in no order, and some said twice


def run_json(capfd, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_no_last_item_of_a_user_comes_into_training(capfd, rows, tmp_path):
    path, folder = write(tmp_path / "log.csv", rows), tmp_path / "m"
    report = run_json(capfd, "train", path, *COLUMNS, "--time", "when", "--out", folder, *QUICK)
    assert not [id for id in Retrieval.load(folder).items.ids().to_pylist() if id.startswith("canary")]
    assert report["rows"]["unreachable"] == report["measured"]["pairs"] == 40
    assert report["model"]["recall@20"] == 0
    new = report["buckets"][-1]
    assert (new["bucket"], new["pairs"], new["items"]) == ("new", 40, 0)


def test_nothing_as_late_as_what_is_held_out_comes_into_training(capfd, rows, tmp_path):
    path, folder = write(tmp_path / "log.csv", rows), tmp_path / "m"
    arguments = [*COLUMNS, "--time", "when", "--hold-out", "latest", "--out", folder, *QUICK]
    report = run_json(capfd, "train", path, *arguments)
    times = sorted({(user, item): when for user, item, when in rows}.values())
    latest = {(user, item) for user, item, when in rows if when >= times[-24]}
    model = Retrieval.load(folder)
    users, items = (table.ids().tolist() for table in (model.users, model.items))
    known = {(users[pair >> 32], items[pair & 0xFFFFFFFF]) for pair in model.pairs_in_order().tolist()}
    assert len(known) == 240 - 24 == report["rows"]["training"]
    assert not known & latest


def test_a_report_has_intervals_buckets_cold_users_and_coverage_under_keys_of_their_own(capfd, rows, tmp_path):
    path = write(tmp_path / "log.csv", rows)
    report = run_json(capfd, "train", path, *COLUMNS, "--out", tmp_path / "m", *QUICK)
    assert {"model", "popularity", "intervals", "measured", "buckets", "cold_users", "coverage", "rows"} <= set(report)
    assert all(type(value) is float for value in [*report["model"].values(), *report["popularity"].values()])
    assert json.loads((tmp_path / "m" / "report.json").read_text("utf-8")) == report
    assert set(report["intervals"]) == {"model", "popularity", "difference"}


def test_people_see_how_sure_it_is_and_for_whom(capfd, rows, tmp_path):
    path = write(tmp_path / "log.csv", rows)
    assert main(["train", str(path), *COLUMNS, "--out", str(tmp_path / "m"), *QUICK]) == 0
    out = capfd.readouterr().out
    for words in (
        "95 %",
        "recall@20 of held-out pairs by item",
        "most popular",
        "users with at most 5 training pairs:",
    ):
        assert words in out
    assert "of the items are among somebody's first 20" in out
    assert main(["inspect", str(tmp_path / "m")]) == 0
    assert "95 %" in capfd.readouterr().out


def test_a_difference_that_may_be_chance_is_called_that(capfd, rows, tmp_path):
    rng = np.random.default_rng(1)
    noise = [(user, f"thing {item}", 0) for user in range(30) for item in rng.permutation(60)[:4]]
    path = write(tmp_path / "noise.csv", noise)
    assert main(["train", str(path), *COLUMNS, "--out", str(tmp_path / "m"), *QUICK]) == 0
    assert "which of the two is better in recall@20 is not certain" in capfd.readouterr().out


def test_a_report_of_before_there_were_intervals_is_shown(capfd, rows, tmp_path):
    path, folder = write(tmp_path / "log.csv", rows), tmp_path / "m"
    assert main(["train", str(path), *COLUMNS, "--out", str(folder), *QUICK]) == 0
    old = {"model": {"recall@10": 0.5}, "popularity": {"recall@10": 0.25}, "data": "old.csv", "seconds": 1.0}
    (folder / "report.json").write_text(json.dumps(old))
    capfd.readouterr()
    assert main(["inspect", str(folder)]) == 0
    assert "0.5000" in capfd.readouterr().out


def test_a_model_is_measured_on_a_file_of_pairs_that_it_does_not_know(capfd, rows, tmp_path):
    early = [row for row in rows if row[2] < 400]
    folder = tmp_path / "m"
    trained = run_json(capfd, "train", write(tmp_path / "log.csv", early), *COLUMNS, "--out", folder, *QUICK)
    model = Retrieval.load(folder)
    later = write(tmp_path / "later.csv", rows)
    found = run_json(capfd, "evaluate", folder, later, *COLUMNS)
    alone = model.evaluate(tuple(zip(*[row[:2] for row in rows], strict=True)))
    assert {key: found["model"][key] for key in alone} == alone
    assert found["measured"] == {
        "users": 40, "pairs": 240 - trained["rows"]["training"], "known": trained["rows"]["training"], "strangers": 0,
    }  # fmt: skip
    assert main(["evaluate", str(folder), str(later), *COLUMNS]) == 0
    out = capfd.readouterr().out
    assert f"{found['measured']['pairs']} pairs of 40 users measured" in out
    assert "not measured: the model was trained on them" in out


def test_a_file_that_a_model_was_trained_on_measures_nothing(capfd, rows, tmp_path):
    folder, path = tmp_path / "m", write(tmp_path / "log.csv", rows)
    Retrieval(4, epochs=1).fit(tuple(zip(*[row[:2] for row in rows], strict=True))).save(folder)
    assert main(["evaluate", str(folder), str(path), *COLUMNS]) == 1
    error = capfd.readouterr().err
    assert "nothing to measure" in error
    assert error.count("\n") == 1


def test_ids_of_digits_are_texts_where_the_model_has_texts(capfd, tmp_path):
    folder = tmp_path / "m"
    Retrieval(4, epochs=1).fit((["7", "007", "x"], ["1", "2", "3"])).save(folder)
    found = run_json(capfd, "evaluate", folder, write(tmp_path / "more.csv", [(7, 2, 0), (8, 1, 0)]), *COLUMNS)
    assert found["measured"] == {"users": 1, "pairs": 1, "known": 0, "strangers": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "FILE", "--hold-out", "latest"], "--hold-out latest needs --time"),
        (["train", "FILE", "--label", "item", "--hold-out", "random"], "--hold-out is of user and item vectors"),
        (["train", "FILE", "--label", "item", "--l2", "0.1"], "--l2 is of user and item vectors"),
        (["train", "FILE", "--l2", "1"], "from 0 to 1"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(capfd, rows, tmp_path, arguments, words):
    path = str(write(tmp_path / "log.csv", rows))
    with pytest.raises(SystemExit) as stopped:
        main([path if argument == "FILE" else argument for argument in arguments])
    assert stopped.value.code == 2
    assert words in capfd.readouterr().err


def test_where_nothing_can_be_held_out_it_is_said_before_training(capfd, tmp_path):
    path = write(tmp_path / "one.csv", [(user, "x", user) for user in range(30)])
    assert main(["train", str(path), *COLUMNS, "--out", str(tmp_path / "m"), *QUICK]) == 1
    assert "every user has but one item" in capfd.readouterr().err
    assert (
        main(["train", str(path), *COLUMNS, "--time", "when", "--hold-out", "latest", "--out", str(tmp_path / "m")])
        == 1
    )
    assert "no user of theirs has an earlier pair" in capfd.readouterr().err
    assert not (tmp_path / "m").exists()


def test_settings_of_the_command_line_are_those_of_the_model(capfd, rows, tmp_path):
    path = write(tmp_path / "log.csv", rows)
    given = [
        "--l2",
        "0.001",
        "--negatives-per-step",
        "32",
        "--loss",
        "cosine",
        "--margin",
        "0.5",
        "--negative-weight",
        "9",
    ]
    run_json(capfd, "train", path, *COLUMNS, "--out", tmp_path / "m", *QUICK, *given)
    config = Retrieval.load(tmp_path / "m").config
    wanted = {"l2": 0.001, "negatives": 32, "loss": "cosine", "margin": 0.5, "weight": 9.0, "dim": 8, "epochs": 30}
    assert wanted.items() <= config.items()
