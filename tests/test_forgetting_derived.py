"""What was made from a table goes when an id is forgotten, whatever comes between, and a receipt is written."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

import hotrow
from hotrow.apps import endings
from hotrow.apps import forget as command
from hotrow.apps.cli import main
from hotrow.errors import DataError
from hotrow.models import Retrieval
from hotrow.store import derived, files
from hotrow.store.forgetting import forget

SECRET = "the secret one"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda _: None)


@pytest.fixture
def path(tmp_path):
    """A saved table, and what was made from it."""
    table = hotrow.Table(3)
    table.find([SECRET, "b", "c"], grow=True)
    table.save(tmp_path / "t")
    make(tmp_path / "t")
    return tmp_path / "t"


def make(path):
    (path / "derived" / "maps").mkdir(parents=True)
    (path / "derived" / "maps" / "id-pca.arrow").write_text(SECRET)


def left(path):
    return [file for file in path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


class Killed(BaseException):
    """As if the process were stopped."""


@pytest.mark.parametrize("given", [[], ["--rewrite"]])
def test_what_a_forgetting_that_was_stopped_has_left_goes_with_the_next(path, monkeypatch, capsys, given):
    removed = []

    def stopped(root):
        if removed:
            make(root)  # somebody has made it again since
            raise Killed
        removed.append(derived.folder_of(root).is_dir())
        return derived.remove(root)

    with monkeypatch.context() as patch:
        patch.setattr(command, "derived", SimpleNamespace(NAME=derived.NAME, remove=stopped))
        with pytest.raises(Killed):
            main(["forget", str(path), SECRET, *given])
    assert removed == [True]  # it was to go before the table changed
    assert SECRET not in hotrow.load(path)
    assert left(path / "derived")
    assert main(["forget", str(path), SECRET, *given]) == 0
    said = capsys.readouterr().out
    assert "derived/, all of it" in said
    assert "itself has none of these ids" in said
    assert not (path / "derived").exists()
    assert main(["forget", str(path), SECRET, *given]) == 0
    assert "nothing was changed" in capsys.readouterr().out


def test_what_is_written_while_it_is_removed_goes_too(path, monkeypatch, tmp_path):
    rmtree, written = shutil.rmtree, []

    def meanwhile(folder):
        if len(written) < 3:
            written.append(folder / "late")
            written[-1].write_text(SECRET)
            raise OSError(39, "Directory not empty", str(folder))
        rmtree(folder)

    monkeypatch.setattr(derived.shutil, "rmtree", meanwhile)
    receipt = tmp_path / "receipt.json"
    assert main(["forget", str(path), SECRET, "--rewrite", "--receipt", str(receipt)]) == 0
    assert len(written) == 3
    assert left(path) == []
    assert sorted(one.name for one in path.iterdir()) == ["generation-000001", "lock"]
    told = json.loads(receipt.read_text("utf-8"))["removed"]
    assert {"from": "derived/, all of it", "rows": 0, "bytes": len(SECRET)} in told


def test_what_cannot_be_removed_is_told_and_there_is_a_receipt(path, monkeypatch, tmp_path, capsys):
    calls = []

    def refusing(root):
        calls.append(root)
        if len(calls) == 2:
            raise PermissionError(13, "in use", str(root / "derived"))
        return derived.remove(root)

    monkeypatch.setattr(command, "derived", SimpleNamespace(NAME=derived.NAME, remove=refusing))
    assert main(["forget", str(path), SECRET, "--receipt", str(tmp_path / "receipt.json")]) == 1
    assert "may still have them" in capsys.readouterr().err
    assert json.loads((tmp_path / "receipt.json").read_text("utf-8"))["removed"]


def test_a_removal_that_was_stopped_is_ended_by_the_next_and_is_no_stranger_meanwhile(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(derived.shutil, "rmtree", lambda _: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            derived.remove(path)
    [leaving] = [one.name for one in path.iterdir() if one.name.startswith(".derived-")]
    assert not (path / "derived").exists()
    others = {"generation-000001", "lock"}
    assert endings.check_out(path, "a table", others, lambda _: False) == path
    (path / ".derived-x").mkdir()
    with pytest.raises(DataError, match="derived-x"):
        endings.check_out(path, "a table", others, lambda _: False)
    assert hotrow.load(path).ids().to_pylist() == [SECRET, "b", "c"]
    make(path)
    assert derived.remove(path) == 2 * len(SECRET)
    assert not (path / leaving).exists()
    assert (path / ".derived-x").exists()


def test_an_id_that_cannot_be_one_is_refused_before_anything_goes(tmp_path):
    table = hotrow.Table(3)
    table.find([1], grow=True)
    table.save(tmp_path)
    make(tmp_path)
    assert main(["forget", str(tmp_path), "ann", "--rewrite"]) == 1
    with pytest.raises(hotrow.KindError):
        forget(tmp_path, ["ann"])
    assert left(tmp_path)


def test_forgotten_in_python_it_is_in_nothing_that_was_made_from_the_table(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(derived.shutil, "rmtree", lambda _: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            forget(path, [SECRET])
    assert SECRET in hotrow.load(path)  # what was made from it goes first
    assert forget(path, [SECRET])
    assert left(path) == []
    make(path)
    assert forget(path, [SECRET]) == []
    assert left(path) == []


def test_a_model_loses_what_was_made_from_it_before_and_after_its_save(tmp_path, monkeypatch):
    Retrieval(3, epochs=1).fit((["ann", "bob"] * 4, ["tea", "mug"] * 4)).save(tmp_path)
    make(tmp_path)
    save, there = Retrieval.save, []

    def saving(model, folder, **given):
        there.append((tmp_path / "derived").exists())
        save(model, folder, **given)
        make(tmp_path)

    monkeypatch.setattr(Retrieval, "save", saving)
    assert main(["forget", str(tmp_path), "ann"]) == 0
    assert there == [False]
    assert not (tmp_path / "derived").exists()


# --- the receipt -----------------------------------------------------------------------------------------------------


def test_there_is_a_receipt_also_if_the_card_cannot_be_made(path, tmp_path, capsys):
    assert main(["card", str(path)]) == 0
    (path / "report.json").write_text("{}")
    receipt = tmp_path / "receipt.json"
    capsys.readouterr()
    assert main(["forget", str(path), SECRET, "--receipt", str(receipt), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads(receipt.read_text("utf-8"))
    assert "the ids are forgotten, but" in said.err
    assert "report.json" in said.err
    assert SECRET not in hotrow.load(path)


@pytest.mark.parametrize("place", [".", "no/receipt.json"])
def test_a_receipt_that_could_not_be_written_is_refused_before_anything_goes(path, tmp_path, capsys, place):
    assert main(["forget", str(path), SECRET, "--receipt", str(tmp_path / place)]) == 1
    assert "such as receipt.json" in capsys.readouterr().err
    assert SECRET in hotrow.load(path)
    assert left(path / "derived")
