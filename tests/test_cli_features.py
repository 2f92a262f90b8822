"""`hotrow train --item-features FILE`, and what is asked of such a model then, as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hotrow.apps.cli import main
from hotrow.models import Retrieval

pytestmark = pytest.mark.compiled
TRAIN = "--user", "who", "--item", "what", "--epochs", "30", "--dim", "8"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Pairs of two shelves of 12 things, and a table of these things and of two that nobody has."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    pairs = [f"{100 + u},{'GK'[u % 2]} {i}" for u in range(60) for i in rng.permutation(12)[:8]]
    (folder / "pairs.csv").write_text("\n".join(["who,what", *pairs]) + "\n")
    things = [f"{shelf} {i}" for shelf in "GK" for i in range(13)]
    lines = [f"{20 + n}.5,{name},{name[0]}|new,{'wood' if n % 2 else ''}" for n, name in enumerate(things)]
    (folder / "things.csv").write_text("\n".join(["price,what,tags,stuff", *lines, "1.5,,G|old,wood"]) + "\n")
    tags = pa.array([[name[0], None, "new"] for name in things] + [None])
    pq.write_table(pa.table({"thing": [*things, "G 99"], "tags": tags}), folder / "things.parquet")
    users = [f"{100 + u},{'GK'[u % 2]}side" for u in range(62)]
    (folder / "users.csv").write_text("\n".join(["who,side", *users]) + "\n")
    pq.write_table(pa.table({"what": [1, 2], "tags": [["a"], ["b"]]}), folder / "numbers.parquet")
    return folder


@pytest.fixture(scope="module")
def model(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "model"
    features = "--item-features", str(files / "things.csv"), "--user-features", str(files / "users.csv")
    assert main(["train", str(files / "pairs.csv"), *TRAIN, *features, "--bag", "tags=|", "--out", str(out)]) == 0
    return out


def answer(capfd, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_what_nobody_has_is_found_by_its_features(capfd, model):
    for cold, shelf in (("G 12", "G"), ("K 12", "K")):
        near = [one["id"][0] for one in answer(capfd, "similar", model, cold, "-k", 5)["similar"]]
        assert near == [shelf] * 5
        assert np.any(answer(capfd, "lookup", model, "--item", cold)["vector"])
    for user, shelf in (("160", "G"), ("161", "K")):
        best = [one["id"][0] for one in answer(capfd, "recommend", model, user, "-k", 5)["recommended"]]
        assert best == [shelf] * 5


def test_columns_are_features_by_what_they_are_and_it_is_said(capfd, files, tmp_path):
    arguments = ["train", str(files / "pairs.csv"), *TRAIN, "--out", str(tmp_path / "m")]
    assert main([*arguments, "--item-features", str(files / "things.csv"), "--bag", "tags"]) == 0
    out = capfd.readouterr().out
    assert "features of items, by 'what': 'tags' of 52 values, 'stuff' of 13 values" in out
    assert "no features: 'price'" in out
    loaded = Retrieval.load(tmp_path / "m")
    assert sorted(loaded.features["item"]["tags"].ids().to_pylist()) == ["G", "K", "new"]
    assert len(loaded.items) == 26


def test_lists_of_parquet_are_bags_and_the_first_column_is_the_ids(capfd, files, tmp_path):
    arguments = ["train", str(files / "pairs.csv"), *TRAIN, "--out", str(tmp_path / "m")]
    assert main([*arguments, "--item-features", str(files / "things.parquet")]) == 0
    assert "by 'thing': 'tags' of 52 values" in capfd.readouterr().out
    assert "G 99" not in Retrieval.load(tmp_path / "m").items


def test_such_a_model_is_inspected_verified_and_forgets(capfd, model, tmp_path):
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    facts = answer(capfd, "inspect", copy)
    assert facts["features"] == {"user-feature-1": "side", "item-feature-1": "tags", "item-feature-2": "stuff"}
    assert facts["tables"]["item-feature-1"]["rows"] == 3
    assert main(["inspect", str(copy)]) == 0
    assert "item-feature-1 (tags)" in capfd.readouterr().out
    assert answer(capfd, "verify", copy)["problems"] == []
    answer(capfd, "forget", copy, "G 12", "--side", "item", "--rewrite")
    assert "G 12" not in Retrieval.load(copy).items
    assert answer(capfd, "verify", copy)["problems"] == []
    for path in copy.glob("*-feature-*/"):
        assert not path.is_dir() or len(list(path.glob("generation-*"))) == 1
    damaged = next(copy.glob("item-feature-1-*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert main(["verify", str(copy)]) == 1
    assert damaged.name in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--item-features", "{}/users.csv"], ["who", "no item of the pairs"]),
        (["--item-features", "{}/numbers.parquet"], ["int64", "large_string"]),
        (["--item-features", "{}/nowhere.csv"], ["nowhere.csv"]),
        (["--user-features", "{}/things.csv"], ["isn't how an integer is written", "users"]),
        (["--item-features", "{}/things.csv", "--bag", "hue"], ["hue", "tags"]),
        (["--item-features", "{}/things.csv", "--ignore", "tags", "--ignore", "stuff"], ["no column", "--discrete"]),
    ],
)
def test_files_of_features_that_cannot_be_are_refused_before_training(capfd, files, tmp_path, arguments, words):
    given = [argument.format(files) for argument in arguments]
    assert main(["train", str(files / "pairs.csv"), *TRAIN, *given, "--out", str(tmp_path / "m")]) == 1
    said = " ".join(capfd.readouterr().err.split())
    for word in words:
        assert word in said
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--item-features", "x.csv", "--numeric", "price"],
        ["--label", "who", "--user-features", "x.csv"],
        ["--bag", "x"],
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(arguments, capfd):
    with pytest.raises(SystemExit) as wrong:
        main(["train", "pairs.csv", *arguments])
    assert wrong.value.code == 2
    assert "--" in capfd.readouterr().err
