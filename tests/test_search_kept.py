"""Indexes beside the tables: used again, brought up to date, believed only if whole, gone with what is forgotten."""

from __future__ import annotations

import json
import logging
import os
import shutil
import zlib

import numpy as np
import pytest

import hotrow
from hotrow.apps.cli import main
from hotrow.models import Retrieval, Vectors, open_folder
from hotrow.search import Search, graph, kept
from hotrow.store.lock import lock
from hotrow.store.sealed import sealed

N = 400


@pytest.fixture
def saved(tmp_path):
    """A table of strings on disk, its folder, and its path."""
    table = hotrow.Table(6, seed=3)
    table.lookup([f"id {i}" for i in range(N)], grow=True)
    table.save(tmp_path / "table")
    return table, tmp_path / "table"


@pytest.fixture
def built(monkeypatch):
    """How often an index was built."""
    calls, build = [], graph.Graph.build
    monkeypatch.setattr(graph.Graph, "build", lambda *args: calls.append(1) or build(*args))
    return calls


def opened(path, **more):
    return Search.open(open_folder(path), method="usearch", **more)


def home(path, metric="cosine"):
    return kept.home_of(open_folder(path), "id", metric)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_an_index_is_kept_and_used_again(saved, built, metric):
    first = opened(saved[1], metric=metric)
    files = sorted(path.name for path in home(saved[1], metric).iterdir())
    assert files == ["graph-000001", "index.json", "lock"]
    again = opened(saved[1], metric=metric)
    assert len(built) == 1
    assert again.recall == first.recall
    queries = first.vectors.vectors()[:20]
    for mine, theirs in zip(first.near(queries, 5), again.near(queries, 5), strict=True):
        assert np.array_equal(mine, theirs)
    assert sorted(path.name for path in home(saved[1], metric).iterdir()) == files


def test_a_delta_updates_it_by_what_changed_without_building_anew(saved, built):
    table, path = saved
    before = opened(path)
    table.set([f"id {i}" for i in range(20)], np.ones((20, 6), np.float32) * np.arange(20)[:, None].astype(np.float32))
    table.lookup(["new 1", "new 2"], grow=True)
    table.save_delta()
    after = opened(path)
    assert len(built) == 1
    assert len(after.vectors) == N + 2
    assert (home(path) / "graph-000002").exists()
    assert not (home(path) / "graph-000001").exists()
    exact = Search.open(open_folder(path), method="exact")
    assert after.similar(["id 3", "new 1"], 5) == exact.similar(["id 3", "new 1"], 5)
    assert before.similar(["id 30"], 2)[0]
    opened(path)
    assert len(built) == 1


def test_a_small_change_is_not_worth_writing_and_is_answered_all_the_same(saved, built, monkeypatch):
    monkeypatch.setattr(graph, "WORTH", 1)
    table, path = saved
    opened(path)
    table.set(["id 0"], np.full((1, 6), 2, np.float32))
    table.save_delta()
    search = opened(path)
    assert (home(path) / "graph-000001").exists()
    assert search.similar_by_vector(np.full(6, 3.0), 1)[0][0] == "id 0"
    assert len(built) == 1


def test_sides_and_metrics_have_indexes_of_their_own(tmp_path):
    Retrieval(4, epochs=1).fit((["a", "a", "b"], ["x", "y", "y"])).save(tmp_path / "m")
    folder = open_folder(tmp_path / "m")
    for side in ("item", "user"):
        for metric in ("cosine", "dot"):
            search = Search.open(folder, side, metric=metric, method="usearch")
            assert search.vectors.name == side
    assert len(list((folder.derived() / "search").iterdir())) == 4
    assert kept.home_of(folder, "../../x", "dot").parent == folder.derived() / "search"


def broken_files(path):
    """Every kept file cut off, flipped, empty, missing, or a link, each as a function that does it."""
    for name in ("index.json", "graph-000001"):
        file = path / name

        def cut(file=file):
            os.truncate(file, file.stat().st_size // 2)

        def flip(file=file):
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 4
            file.write_bytes(bytes(data))

        def link(file=file):
            file.rename(file.with_name("elsewhere"))
            file.symlink_to("elsewhere")

        yield from (cut, flip, link, file.unlink, lambda file=file: file.write_bytes(b""))


def test_a_broken_file_is_never_believed_and_is_made_anew(saved, built, caplog):
    path = saved[1]
    expected = opened(path).similar(["id 5"], 5)
    whole = path.parent / "whole"
    shutil.copytree(home(path), whole)
    for i in range(10):
        shutil.rmtree(home(path))
        shutil.copytree(whole, home(path))
        list(broken_files(home(path)))[i]()
        caplog.clear()
        assert opened(path).similar(["id 5"], 5) == expected
        assert len(built) == i + 2
        assert not caplog.records or "made anew" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 1), ("metric", "dot"), ("dim", 7), ("places", 3), ("reach", 0.0), ("reach", "1"),
        ("usual", [33, 1.0]), ("usual", [32, -1.0]), ("mixed", [32]), ("mixed", 32), ("mixed", [[], 1.0]),
        ("centre", [0.0]), ("centre", 3), ("centre", ["x"] * 6), ("graph", {"name": "../../x"}),
        ("graph", 3), ("more", 1),
    ],
)  # fmt: skip
def test_a_description_that_cannot_be_is_not_believed(saved, built, name, value):
    path = saved[1]
    opened(path)
    fields = json.loads((home(path) / "index.json").read_text("utf-8"))
    del fields["sha256"]
    fields[name] = value
    (home(path) / "index.json").write_bytes(sealed(fields))
    opened(path)
    assert len(built) == 2


def test_a_graph_that_is_no_index_is_not_believed(saved, built):
    path = saved[1]
    opened(path)
    fields = json.loads((home(path) / "index.json").read_text("utf-8"))
    del fields["sha256"]
    text = b"nothing of usearch's"
    (home(path) / "graph-000001").write_bytes(text)
    fields["graph"] |= {"bytes": len(text), "crc32": f"{zlib.crc32(text):08x}"}
    (home(path) / "index.json").write_bytes(sealed(fields))
    assert opened(path).similar(["id 5"], 3)[0]
    assert len(built) == 2


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_link_in_the_place_of_a_folder_is_not_followed(saved, built, caplog, level):
    path = saved[1]
    place = [home(path), home(path).parent, path / "derived"][level]
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(elsewhere)
    for _ in range(2):
        assert opened(path).similar(["id 5"], 3)[0]
    assert not list(elsewhere.iterdir())
    assert len(built) == 2
    assert "is a symbolic link" in caplog.text


def test_where_nothing_can_be_kept_it_is_in_memory_and_said_once(saved, built, caplog):
    (saved[1] / "derived").write_text("in the way")
    with caplog.at_level(logging.WARNING, "hotrow"):
        for _ in range(2):
            assert opened(saved[1]).similar(["id 1"], 2)[0]
    assert len(built) == 2
    assert caplog.text.count("in memory alone") == 1


def test_while_another_process_keeps_the_same_it_is_left_to_it(saved, built):
    home(saved[1]).mkdir(parents=True)
    with lock(home(saved[1])):
        assert opened(saved[1]).similar(["id 1"], 2)[0]
    assert [path.name for path in home(saved[1]).iterdir()] == ["lock"]


def test_a_save_that_fails_leaves_nothing_behind(saved, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "write_durably", full)
    assert opened(saved[1]).similar(["id 1"], 2)[0]
    assert [path.name for path in home(saved[1]).iterdir()] == ["lock"]
    assert "No space left" in caplog.text


def test_what_is_forgotten_while_an_index_is_made_is_not_kept(saved, monkeypatch):
    table, path = saved
    write = kept._write

    def forgotten_meanwhile(*args):
        write(*args)
        table.forget(["id 7"])
        table.save_delta()

    def grown_meanwhile(*args):
        write(*args)
        table.lookup(["one more"], grow=True)
        table.save_delta()

    monkeypatch.setattr(kept, "_write", forgotten_meanwhile)
    opened(path)
    assert [file.name for file in home(path).iterdir()] == ["lock"]
    monkeypatch.setattr(kept, "_write", grown_meanwhile)
    opened(path)
    assert (home(path) / "index.json").exists()


def test_an_index_of_a_side_whose_ids_are_of_another_kind_meanwhile_is_not_kept(saved, monkeypatch):
    write = kept._write

    def other_kind_meanwhile(*args):
        write(*args)
        shutil.copytree(saved[1] / "derived", saved[1].parent / "derived")
        shutil.rmtree(saved[1])
        other = hotrow.Table(6, ids="int64")
        other.lookup([1, 2], grow=True)
        other.save(saved[1])
        shutil.copytree(saved[1].parent / "derived", saved[1] / "derived")

    monkeypatch.setattr(kept, "_write", other_kind_meanwhile)
    opened(saved[1])
    assert not list((saved[1] / "derived").rglob("index.json"))


def test_forgetting_leaves_no_byte_of_an_id_in_the_folder_with_an_index(tmp_path, capfd):
    secret = "ann@example.org-0123456789"
    path = tmp_path / "model"
    users = [secret, "bob", "bob", secret, "eve"]
    Retrieval(4, epochs=1).fit((users, ["x", "x", "y", "z", "y"])).save(path)
    for side in ("user", "item"):
        Search.open(open_folder(path), side, method="usearch")
    vector = open_folder(path).side("user").lookup([secret]).astype(np.float16).tobytes()
    assert any(path.rglob("graph-*"))
    assert main(["forget", str(path), secret, "--rewrite"]) == 0
    capfd.readouterr()
    assert not (path / "derived").exists()
    for file in path.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert secret.encode() not in data
            assert vector not in data


def test_an_empty_and_a_one_row_table_have_indexes_too(tmp_path):
    for n in (0, 1):
        table = hotrow.Table(3, ids="int64")
        if n:
            table.lookup([5], grow=True)
        table.save(tmp_path / str(n))
        for _ in range(2):
            search = opened(tmp_path / str(n))
            assert search.near(np.ones((1, 3), np.float32), 2)[0].tolist() == [[0, -1] if n else [-1, -1]]
            assert search.recall == 1
    assert Search(Vectors.of(np.zeros(0, np.int64), np.zeros((0, 3))), method="usearch").similar([], 3) == ([], [])
