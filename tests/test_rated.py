"""`hotrow train --rating` and what one asks of its model, as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from hotrow.apps.cli import main
from hotrow.apps.rated import cut_ratings
from hotrow.apps.reading import read_columns
from hotrow.errors import DataError


def write(path, seed=0, shuffled=False):
    """60 users rate 12 of 20 items, kitchen things or garden things by their own kind."""
    rng = np.random.default_rng(seed)
    pairs = [(user, item) for user in range(60) for item in rng.permutation(20)[:12]]
    stars = [1 + 4 * (user % 2 == item % 2) for user, item in pairs]
    if shuffled:
        stars = rng.permutation(stars)
    lines = [f"u{user},THING {item},{star}" for (user, item), star in zip(pairs, stars, strict=True)]
    path.write_text("\n".join(["who,what,stars", *lines, "u1,,3", "u1,THING 3,"]) + "\n")
    return path


COLUMNS = ("--user", "who", "--item", "what", "--rating", "stars", "--dim", "8", "--epochs", "150")


def run_json(capfd, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rated")
    assert main(["train", str(write(folder / "stars.csv")), *COLUMNS, "--out", str(folder / "m")]) == 0
    return folder / "m"


@pytest.mark.compiled
def test_training_reports_the_model_beside_the_baseline(capfd, tmp_path):
    report = run_json(capfd, "train", write(tmp_path / "a.csv"), *COLUMNS, "--out", tmp_path / "m")
    assert set(report["model"]) == set(report["baseline"]) == {"rmse", "mae"}
    assert report["model"]["rmse"] < 0.5 * report["baseline"]["rmse"]
    assert report["rows"]["read"] == 722
    assert report["rows"]["nulls"] == {"who": 0, "what": 1, "stars": 1}
    assert report["rows"]["training"] + report["rows"]["held_out"] == 720
    assert report["seconds"] > 0
    assert json.loads((tmp_path / "m" / "report.json").read_text()) == report
    nothing = run_json(capfd, "train", write(tmp_path / "b.csv", shuffled=True), *COLUMNS, "--out", tmp_path / "n")
    assert nothing["model"]["rmse"] > 0.9 * nothing["baseline"]["rmse"]


@pytest.mark.compiled
def test_the_commands_know_a_model_of_ratings(capfd, model, tmp_path):
    capfd.readouterr()
    found = run_json(capfd, "recommend", model, "u1", "-k", "3")["recommended"]
    assert all(int(one["id"].split()[1]) % 2 for one in found)
    assert run_json(capfd, "similar", model, "THING 2", "-k", "1")["similar"]
    assert len(run_json(capfd, "lookup", model, "--item", "THING 2")["vector"]) == 9
    assert run_json(capfd, "inspect", model)["report"]["baseline"]
    assert run_json(capfd, "verify", model)["problems"] == []
    assert main(["inspect", str(model)]) == 0
    assert "baseline" in capfd.readouterr().out
    assert main(["evaluate", str(model), str(model.parent / "stars.csv")]) == 1
    assert "is a model of ratings" in capfd.readouterr().err


@pytest.mark.compiled
def test_predict_fills_ratings_in(capfd, model, tmp_path):
    capfd.readouterr()
    path = tmp_path / "asked.csv"
    path.write_text("when,what,who\n1,THING 2,u1\n2,THING 3,u1\n3,THING 3,nobody\n")
    ratings = run_json(capfd, "predict", model, path)["ratings"]
    assert ratings[0] < 2.5
    assert ratings[1] > 3.5
    assert 1 <= ratings[2] <= 5
    assert main(["predict", str(model), str(path), "--out", str(tmp_path / "out.csv")]) == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[:2] == ["row,rating", f"1,{ratings[0]:.4f}"]
    capfd.readouterr()
    path.write_text("what,who\nTHING 2,\n")
    assert main(["predict", str(model), str(path)]) == 1


@pytest.mark.compiled
def test_forget_takes_a_user_out_of_a_model_of_ratings(capfd, tmp_path):
    arguments = *COLUMNS[:-1], "1", "--out", tmp_path / "m"
    run_json(capfd, "train", write(tmp_path / "a.csv"), *arguments)
    assert run_json(capfd, "forget", tmp_path / "m", "u1", "--rewrite")["removed"]
    assert main(["recommend", str(tmp_path / "m"), "u1"]) == 1
    assert main(["recommend", str(tmp_path / "m"), "u2"]) == 0


def columns(users, items, ratings, times=None):
    table = {"user": users, "item": items, "stars": ratings} | ({} if times is None else {"when": times})
    roles = {"user": "user", "item": "item", "rating": "stars", "time": None if times is None else "when"}
    return read_columns(pa.table(table), roles)


def named(read, rated):
    users, items = read.user.values.to_pylist(), read.item.values.to_pylist()
    return {(users[u], items[i], r) for u, i, r in zip(*(side.tolist() for side in rated), strict=True)}


def test_of_a_pair_rated_twice_the_last_one_counts_by_time_and_else_by_file():
    users, items, ratings = ["a", "a", "a", "b"], ["x", "x", "y", "x"], [1.0, 2.0, 3.0, 4.0]
    read = columns(users, items, ratings)
    cut = cut_ratings(read, 0)
    everything = named(read, cut.train) | named(read, cut.test)
    assert everything == {("a", "x", 2.0), ("a", "y", 3.0), ("b", "x", 4.0)}
    assert cut.repeated == 1
    read = columns(users, items, ratings, [9, 2, 3, 1])
    cut = cut_ratings(read, 0)
    assert named(read, cut.test) == {("a", "x", 1.0)}
    assert named(read, cut.train) == {("a", "y", 3.0), ("b", "x", 4.0)}
    read = columns(users, items, ratings, [5, 5, 6, 1])
    assert named(read, cut_ratings(read, 0).train) == {("a", "x", 2.0), ("b", "x", 4.0)}


@pytest.mark.parametrize(
    ("stars", "words"), [(["4", "good"], "'stars'.*isn't all numbers"), ([4.0, np.inf], "row 2 .*inf")]
)
def test_a_column_that_is_no_ratings_is_refused(stars, words):
    with pytest.raises(DataError, match=words):
        columns(["a", "b"], ["x", "y"], stars)


@pytest.mark.parametrize("more", [("--loss", "bpr"), ("--label", "stars"), ("--negatives", "2")])
def test_options_of_other_models_are_refused(capfd, tmp_path, more):
    with pytest.raises(SystemExit) as ended:
        main(["train", str(write(tmp_path / "a.csv")), *COLUMNS, *more])
    assert ended.value.code == 2
    assert "ratings" in capfd.readouterr().err
