"""What a folder holds to be looked up, whatever wrote it, and how it follows what is saved there."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hotrow
from hotrow.errors import ArgumentError, CorruptError, DataError, IdError, UnknownIdError
from hotrow.models import Folder, NextItem, Ratings, Retrieval, Vectors, open_folder
from hotrow.models.spelling import alike
from hotrow.store import derived

USERS = ["ann", "ann", "bob", "bob", "eve", "eve"]
ITEMS = ["tea", "mug", "tea", "pot", "mug", "pen"]


def saved_table(path: Path, ids=("lantern", "cup", "mug"), dim: int = 4) -> hotrow.Table:
    table = hotrow.Table(dim)
    table.lookup(list(ids), grow=True)
    table.save(path)
    return table


def test_a_saved_table_has_one_side_with_its_own_vectors(tmp_path):
    table = saved_table(tmp_path / "t")
    folder = open_folder(tmp_path / "t")
    side = folder.side()
    assert (folder.kind, list(folder.sides), folder.model, side.kind, side.dim, len(side)) == (
        "table", ["id"], None, "string", 4, 3,
    )  # fmt: skip
    np.testing.assert_array_equal(side.vectors(), table.vectors())
    assert side.ids().to_pylist() == ["lantern", "cup", "mug"]
    np.testing.assert_array_equal(side.lookup(["mug", "cup", "mug"]), table.lookup(["mug", "cup", "mug"]))
    assert side.rows(["mug", "no", "lantern"]).tolist() == [2, -1, 0]
    assert "cup" in side
    assert "no" not in side
    assert 7 not in side
    with pytest.raises(UnknownIdError, match="'no'"):
        side.lookup(["cup", "no"])


def test_a_model_has_items_then_users_with_what_features_add_and_without_a_bias(tmp_path):
    model = Retrieval(8, epochs=2).fit((USERS, ITEMS), item_features={"kind": (["tea", "mug", "new"], ["a", "b", "a"])})
    model.save(tmp_path)
    folder = open_folder(tmp_path)
    assert (folder.kind, list(folder.sides)) == ("retrieval", ["item", "user"])
    items, users = folder.side(), folder.side("user")
    ids = items.ids().to_pylist()
    assert items.dim == users.dim == 8
    np.testing.assert_array_equal(items.vectors(), model.vectors(ids)[:, :8])
    np.testing.assert_array_equal(items.lookup(["new", "pen"]), model.vectors(["new", "pen"])[:, :8])
    np.testing.assert_array_equal(users.lookup(["eve"]), model.vectors(["eve"], side="user"))
    assert folder.model is not None
    assert folder.model.recommend(["ann"], k=2) == model.recommend(["ann"], k=2)
    assert folder.model.recommend_for([["tea"]], k=2) == model.recommend_for([["tea"]], k=2)
    assert folder.model.similar(["tea"], k=2) == model.similar(["tea"], k=2)
    assert not items.vectors().flags.writeable
    with pytest.raises(ArgumentError, match=r"sides 'item', 'user'; got side='column'"):
        folder.side("column")


def test_a_model_that_is_asked_is_neither_trained_nor_saved(tmp_path):
    Retrieval(8, epochs=1).fit((USERS, ITEMS)).save(tmp_path)
    model = open_folder(tmp_path).model
    for refused in (lambda: model.fit((USERS, ITEMS)), lambda: model.save(tmp_path), lambda: model.forget(["ann"])):
        with pytest.raises(ArgumentError, match=r"hotrow\.models\.Retrieval\.load\(path\)"):
            refused()


def test_models_of_ratings_and_of_what_comes_next_have_their_vectors_alone(tmp_path):
    ratings = Ratings(4, epochs=2).fit((USERS, ITEMS, [1, 2, 3, 4, 5, 1]))
    ratings.save(tmp_path / "ratings")
    following = NextItem(6, epochs=2).fit((USERS, ITEMS))
    following.save(tmp_path / "next")
    folder = open_folder(tmp_path / "ratings")
    assert (folder.kind, list(folder.sides)) == ("ratings", ["item", "user"])
    np.testing.assert_array_equal(folder.side("user").vectors(), ratings.users.vectors()[:, :4])
    assert folder.model.recommend(["ann"]) == ratings.recommend(["ann"])
    folder = open_folder(tmp_path / "next")
    assert (folder.kind, list(folder.sides), folder.side().dim) == ("next", ["item"], 6)
    np.testing.assert_array_equal(folder.side().lookup(["tea"]), following.items.lookup(["tea"])[:, :6])
    assert folder.model.recommend([["tea"]], k=3) == following.recommend([["tea"]], k=3)


def test_a_folder_of_nothing_is_an_error_that_says_what_makes_one(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=r"hotrow train … --out .* make one"):
            open_folder(path)


@pytest.mark.parametrize("newer", [Folder.refreshed, Folder.moved_on])
def test_a_folder_follows_deltas_and_snapshots_and_whoever_has_the_old_one_can_go_on_asking(tmp_path, newer):
    table = saved_table(tmp_path)
    first = open_folder(tmp_path)
    assert newer(first) is first
    before = first.side().ids().to_pylist(), first.side().vectors().copy()
    table.lookup(["teapot"], grow=True)
    table.update(["cup"], np.ones((1, 4), np.float32))
    table.save_delta()
    second = newer(first)
    assert second.stamp != first.stamp
    assert second.side().ids().to_pylist() == ["lantern", "cup", "mug", "teapot"]
    np.testing.assert_array_equal(second.side().lookup(["cup"]), table.lookup(["cup"]))
    table.forget(["lantern"])
    table.save(tmp_path)
    third = newer(second)
    assert newer(third) is third
    assert sorted(third.side().ids().to_pylist()) == ["cup", "mug", "teapot"]
    np.testing.assert_array_equal(
        third.side().vectors()[third.side().rows(["teapot", "cup"])], table.lookup(["teapot", "cup"])
    )
    assert (first.side().ids().to_pylist(), len(first.side())) == (before[0], 3)
    np.testing.assert_array_equal(first.side().vectors(), before[1])
    assert first.side().rows(["mug", "teapot"]).tolist() == [2, -1]
    if newer is Folder.refreshed:  # or its view has moved on
        np.testing.assert_array_equal(first.side().lookup(["lantern", "cup"]), before[1][:2])


def test_a_model_that_is_saved_anew_is_another_folder_and_the_old_one_answers_as_before(tmp_path):
    model = Retrieval(8, epochs=1).fit((USERS, ITEMS))
    model.save(tmp_path)
    first = open_folder(tmp_path)
    answer = first.model.recommend(["ann"])
    for _ in range(3):  # so the files that the first has mapped are gone
        model.fit((["ann"], ["cake"]))
        model.save(tmp_path)
    second = first.refreshed()
    assert second.stamp != first.stamp
    assert second.model.recommend(["bob"], k=9) == model.recommend(["bob"], k=9)
    assert first.model.recommend(["ann"]) == answer
    assert "cake" in second.side()
    assert "cake" not in first.side()


def test_folders_can_be_opened_while_somebody_saves(tmp_path):
    model = Retrieval(4, epochs=1).fit((USERS, ITEMS))
    model.save(tmp_path)
    stop = threading.Event()

    def save() -> None:
        while not stop.is_set():
            model.save(tmp_path)

    saver = threading.Thread(target=save)
    saver.start()
    try:
        for _ in range(20):
            assert len(open_folder(tmp_path).side("user").vectors()) == 3
    finally:
        stop.set()
        saver.join()


def test_a_broken_model_is_a_corrupt_error_and_what_was_open_stays(tmp_path):
    Retrieval(4, epochs=1).fit((USERS, ITEMS)).save(tmp_path)
    folder = open_folder(tmp_path)
    (tmp_path / "model.json").write_bytes(b"{}")
    with pytest.raises(CorruptError, match=r"model\.json"):
        folder.refreshed()
    assert len(folder.side().vectors()) == 4


def test_rows_of_a_table_with_holes_are_positions_in_its_ids(tmp_path):
    table = hotrow.Table(2)
    table.lookup(np.arange(10), grow=True)
    table.forget([0, 4])
    table.save(tmp_path)
    side = open_folder(tmp_path).side()
    assert side.ids()[side.rows([9, 1])].tolist() == [9, 1]
    assert side.rows([0]).tolist() == [-1]
    np.testing.assert_array_equal(side.vectors()[side.rows([5])], table.lookup([5]))


@pytest.mark.parametrize("ids", [[3, 1, 2], np.array([2**64 - 1, 5, 9], np.uint64), ["b", "ä", ""]])
def test_vectors_in_memory_are_asked_like_those_on_disk(ids):
    made = np.arange(6, dtype=np.float32).reshape(3, 2)
    side = Vectors.of(ids, made)
    given = list(ids)
    assert side.kind == {int: "int64", np.uint64: "uint64", str: "string"}[type(given[0])]
    np.testing.assert_array_equal(side.lookup(given[::-1]), made[::-1])
    assert side.rows(given[1:]).tolist() == [1, 2]
    assert side.ids().tolist() == [x if isinstance(x, str) else int(x) for x in given]


def test_vectors_in_memory_refuse_another_number_and_an_id_twice():
    with pytest.raises(ArgumentError, match=r"got 2 ids and vectors of shape \(3, 2\)"):
        Vectors.of([1, 2], np.zeros((3, 2)))
    with pytest.raises(ArgumentError, match="3 ids, 2 of them different"):
        Vectors.of([1, 2, 1], np.zeros((3, 2)))
    with pytest.raises(IdError):
        Vectors.of([1.5], np.zeros((1, 2)))


def test_what_was_typed_becomes_an_id_of_the_kind_of_the_side():
    numbers, texts = Vectors.of([1, -2], np.zeros((2, 1))), Vectors.of(["1", "a"], np.zeros((2, 1)))
    assert (numbers.parse("-2"), texts.parse("1")) == (-2, "1")
    for text in ("a", "1.0", "", "１", "9" * 30):
        with pytest.raises(IdError, match="integers"):
            numbers.parse(text)


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, unique=True), st.data())
def test_an_id_with_one_letter_dropped_or_doubled_or_two_swapped_finds_what_was_meant(names, data):
    meant = data.draw(st.sampled_from(names).filter(lambda name: len(name) >= 8) if any(len(n) >= 8 for n in names)
                      else st.just("lantern"))  # fmt: skip
    names = sorted({*names, meant})
    at = data.draw(st.integers(0, len(meant) - 2))
    wrong = data.draw(
        st.sampled_from([
            meant[:at] + meant[at + 1 :],
            meant[:at] + meant[at] + meant[at:],
            meant[:at] + meant[at + 1] + meant[at] + meant[at + 2 :],
        ])
    )  # fmt: skip
    if wrong not in names:
        assert meant in alike(pa.array(names, pa.large_string()), wrong, len(names))


def test_nothing_is_written_like_what_is_endless_or_empty():
    names = pa.array(["a" * 150, "b"], pa.large_string())
    assert alike(names, "a" * 10_000) == []
    assert alike(names, "") == []
    assert alike(names.slice(1), "b") == ["b"]
    assert alike(pa.array([], pa.large_string()), "b") == []


def test_the_report_of_training_is_read_and_what_isnt_one_is_refused(tmp_path):
    saved_table(tmp_path)
    assert open_folder(tmp_path).report() is None
    (tmp_path / "report.json").write_text(json.dumps({"data": "x"}))
    assert open_folder(tmp_path).report() == {"data": "x"}
    (tmp_path / "report.json").write_text("[1")
    with pytest.raises(DataError, match=r"report\.json isn't what"):
        open_folder(tmp_path).report()


def test_what_was_derived_is_removed_whole_and_a_link_leads_nowhere(tmp_path):
    saved_table(tmp_path / "t")
    folder = open_folder(tmp_path / "t").derived()
    assert derived.remove(tmp_path / "t") == 0
    (folder / "search").mkdir(parents=True)
    (folder / "search" / "x").write_bytes(b"12345")
    assert derived.remove(tmp_path / "t") == 5
    assert not folder.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_bytes(b"1")
    folder.symlink_to(tmp_path / "mine")
    assert derived.remove(tmp_path / "t") == 0
    assert (tmp_path / "mine" / "x").exists()
    assert not folder.is_symlink()


def test_a_model_isnt_saved_over_one_of_another_kind(tmp_path):
    pairs, following = Retrieval(4, epochs=1).fit((USERS, ITEMS)), NextItem(4, epochs=1).fit((USERS, ITEMS))
    pairs.save(tmp_path / "pairs")
    following.save(tmp_path / "next")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArgumentError, match="next holds a next-item model; save this one to another folder"):
        pairs.save(tmp_path / "next")
    with pytest.raises(ArgumentError, match="pairs holds a model of users and items"):
        following.save(tmp_path / "pairs")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("newer", [Folder.refreshed, Folder.moved_on])
def test_another_kind_of_folder_in_its_place_is_followed(tmp_path, newer):
    Retrieval(4, epochs=1).fit((USERS, ITEMS)).save(tmp_path / "pairs")
    NextItem(4, epochs=1).fit((USERS, ITEMS)).save(tmp_path / "next")
    saved_table(tmp_path / "table")
    kinds = []
    link = tmp_path / "model"
    folder = None
    for name in ("pairs", "next", "table", "pairs"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        folder = open_folder(link) if folder is None else newer(folder)
        kinds.append(folder.kind)
    assert kinds == ["retrieval", "next", "table", "retrieval"]
