"""`hotrow similar` and `hotrow index`, as typed."""

from __future__ import annotations

import json

import numpy as np
import pytest

import hotrow
from hotrow.apps import similar as app
from hotrow.apps.cli import main
from hotrow.models import Retrieval, open_folder
from hotrow.search import Search, asking


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "m"
    users = [u for u in range(30) for _ in range(5)]
    items = [f"{'red' if u % 2 else 'blue'} {(u * 7 + i * 3) % 9}" for u in range(30) for i in range(5)]
    Retrieval(6, epochs=3).fit((users, items)).save(path)
    return str(path)


def answer(capfd, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def wrong(capfd, *arguments):
    assert main([*map(str, arguments)]) == 1
    return " ".join(capfd.readouterr().err.split())


def test_any_side_is_asked_by_any_metric(capfd, model):
    folder = open_folder(model)
    for side, id in (("item", "red 3"), ("user", "3")):
        for metric, measure in app.MEASURES.items():
            found = answer(capfd, "similar", model, id, "--side", side, "--metric", metric, "-k", 4)
            search = Search.open(folder, side, metric=metric)
            ids, scores = search.similar([folder.side(side).parse(id)], k=4)
            assert found["id"] == folder.side(side).parse(id)
            assert [(one["id"], one[measure]) for one in found["similar"]] == list(zip(ids[0], scores[0], strict=True))
    assert answer(capfd, "similar", model, "red 3")["side"] == "item"


def test_a_saved_table_is_asked_like_a_model(capfd, tmp_path):
    table = hotrow.Table(4)
    table.lookup(["lantern", "cup", "mug"], grow=True)
    table.save(tmp_path)
    found = answer(capfd, "similar", tmp_path, "cup")
    assert {one["id"] for one in found["similar"]} == {"lantern", "mug"}
    assert found["side"] == "id"


def test_several_ids_are_one_question(capfd, model):
    found = answer(capfd, "similar", model, "red 3", "red 4", "--minus", "blue 2", "-k", 5)
    expected = Search.open(open_folder(model)).most_similar(["red 3", "red 4"], ["blue 2"], topn=5)
    assert [one["id"] for one in found["similar"]] == [id for id, _ in expected]
    assert (found["ids"], found["minus"]) == (["red 3", "red 4"], ["blue 2"])
    assert "leave out --metric dot" in wrong(capfd, "similar", model, "red 3", "red 4", "--metric", "dot")


def test_where_takes_what_a_file_tells_of_the_ids(capfd, model, tmp_path):
    file = tmp_path / "colours.csv"
    ids = open_folder(model).side().ids().to_pylist()
    lines = [f"{id},{id.split()[0]},{int(id.split()[1]) + 0.5}" for id in ids]
    file.write_text("\n".join(["item,colour,weight", *lines]) + "\n", "utf-8")
    found = answer(capfd, "similar", model, "red 3", "--where", "colour=blue", "--metadata", file)
    assert len(found["similar"]) == 9
    assert {one["id"].split()[0] for one in found["similar"]} == {"blue"}
    few = answer(
        capfd, "similar", model, "red 3", "--where", "colour=blue", "--where", "weight=..2", "--metadata", file
    )
    assert sorted(one["id"] for one in few["similar"]) == ["blue 0", "blue 1"]
    assert "there are 'blue', 'red'" in wrong(
        capfd, "similar", model, "red 3", "--where", "colour=pink", "--metadata", file
    )
    assert "add --metadata FILE" in wrong(capfd, "similar", model, "red 3", "--where", "colour=pink")


def test_metadata_without_a_condition_is_a_mistake(capfd, model):
    assert "add --where" in wrong(capfd, "similar", model, "red 3", "--metadata", "x.csv")


def test_an_unknown_id_or_side_is_one_line_that_says_what_there_is(capfd, model):
    assert "there are 'red 3'" in wrong(capfd, "similar", model, "rde 3")
    assert "'item', 'user'" in wrong(capfd, "similar", model, "red 3", "--side", "shelf")
    assert "ids here are integers" in wrong(capfd, "similar", model, "ann", "--side", "user")


def test_an_index_is_made_ahead_and_told(capfd, model, monkeypatch):
    told = answer(capfd, "index", model, "--method", "usearch")
    assert (told["side"], told["rows"], told["dim"], told["method"]) == ("item", 18, 6, "usearch")
    assert told["recall"] == 1
    assert told["bytes"] > 0
    assert main(["index", model, "--method", "usearch"]) == 0
    out = capfd.readouterr().out
    assert "100.00 %" in out
    assert "below 300,000 rows" in out
    found = answer(capfd, "similar", model, "red 3", "--method", "usearch")
    assert found["recall"] == 1
    assert np.allclose(
        [one["cosine"] for one in found["similar"]],
        [one["cosine"] for one in answer(capfd, "similar", model, "red 3")["similar"]],
    )
    monkeypatch.setattr(asking, "LARGE", 10)
    assert main(["similar", model, "red 3", "-k", "1"]) == 0
    assert "finds 100.0 % of the nearest to an ID" in capfd.readouterr().out


def test_few_rows_take_no_index_and_that_is_said(capfd, model):
    assert main(["index", model]) == 0
    assert "it takes no index" in capfd.readouterr().out
    assert answer(capfd, "index", model)["method"] == "exact"


def test_the_recall_of_a_mixture_is_that_of_mixtures(capfd, model, monkeypatch):
    monkeypatch.setattr(Search, "mixed_recall", property(lambda _: 0.75))
    ids = ["red 3", "red 4"]
    assert answer(capfd, "similar", model, *ids, "--method", "usearch")["recall"] == 0.75
    assert answer(capfd, "similar", model, "red 3", "--method", "usearch")["recall"] == 1
    assert main(["similar", model, *ids, "--method", "usearch"]) == 0
    assert "75.0 % of the nearest to such mixtures" in capfd.readouterr().out
    assert len(answer(capfd, "similar", model, "red 3", "-k", 10**10)["similar"]) == 17
