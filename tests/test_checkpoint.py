"""Checkpoints on disk: what stays, what goes, what is damaged, and what a save that never ended leaves."""

from __future__ import annotations

import json
import random
import threading

import numpy as np
import pytest

import hotrow
from hotrow.bridges import generators
from hotrow.store import checkpoint, files, snapshot
from hotrow.store.beside import Beside
from hotrow.store.checkpoint import Checkpoints
from hotrow.store.description import describe
from hotrow.store.forgetting import forget
from hotrow.store.lock import lock
from hotrow.store.sealed import read_sealed, sealed


class Run:
    """Two tables and an array, each a function of the step."""

    def __init__(self):
        self.words, self.users, self.step = hotrow.Table(3, seed=1), hotrow.Table(2, seed=2, ids="uint64"), 0

    @property
    def tables(self):
        return [self.words, self.users]

    def go(self):
        self.step += 1
        self.words.set([f"id {self.step % 5}", f"id {self.step % 3}"], np.full((2, 3), self.step, np.float32))
        self.users.update(self.users.find([self.step % 4], grow=True), np.ones((1, 2), np.float32))

    def start(self, checkpoints):
        return checkpoints.start(self.tables, {"net": np.full((2, 2), self.step, np.int32)}, {"step": self.step})


def contents(found_or_run):
    tables = found_or_run.tables
    return [sorted(zip(table.ids().tolist(), table.vectors().tolist(), strict=True)) for table in tables]


def read(checkpoints, number=None):
    return checkpoints.read(number, fits=lambda described: [None] * len(described.tables))


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def filled(path, steps, **how):
    """A run of so many checkpoints, and what it was at each."""
    run, checkpoints, was = Run(), Checkpoints(path, **how), {}
    for _ in range(steps):
        run.go()
        was[run.start(checkpoints).result()] = contents(run)
    return run, checkpoints, was


@pytest.mark.parametrize(
    ("keep", "deltas", "stay"), [(2, 0, [6, 7]), (1, 0, [7]), (2, 2, [4, 5, 6, 7]), (1, 9, [1, 2, 3, 4, 5, 6, 7])]
)
def test_so_many_whole_ones_stay_with_those_after_them_and_nothing_else(keep, deltas, stay, tmp_path):
    _, checkpoints, was = filled(tmp_path, 7, keep=keep, deltas=deltas)
    assert checkpoints.numbers() == stay
    for number in stay:
        found = read(checkpoints, number)
        assert (found.number, found.facts, found.arrays["net"].tolist()) == (
            number,
            {"step": number},
            [[number] * 2] * 2,
        )
        assert contents(found) == was[number]
    names = {f"checkpoint-{n:06d}.json" for n in stay} | {f"net-{n:06d}.safetensors" for n in stay}
    assert names_in(tmp_path) == {"lock", "table-1", "table-2"} | names
    assert names_in(tmp_path / "table-2") == {"lock"} | {f"generation-{n:06d}" for n in stay}
    assert snapshot.verify(tmp_path / "table-1") == []


def test_where_nothing_was_saved_there_is_nothing(tmp_path):
    assert read(Checkpoints(tmp_path / "none")) is None
    with pytest.raises(hotrow.DataError, match="has no checkpoint 3"):
        read(Checkpoints(tmp_path / "none"), 3)


def test_numbers_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(hotrow.ArgumentError, match="keep = 0: expected a whole number from 1 on"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(hotrow.ArgumentError, match="deltas = True"):
        Checkpoints(tmp_path, deltas=True)


@pytest.mark.parametrize("other", ["notes.txt", "table-1", "lock"])
def test_a_folder_of_other_things_is_refused_and_left_as_it_is(other, tmp_path):
    if other == "lock":  # of a table's own snapshot
        hotrow.Table(2).save(tmp_path)
    else:
        (tmp_path / other).mkdir()
    with pytest.raises(hotrow.ArgumentError, match="and no checkpoint; expected a new folder"):
        Checkpoints(tmp_path).open()
    before = sorted(tmp_path.rglob("*"))
    assert isinstance(Run().start(Checkpoints(tmp_path)).exception(), hotrow.ArgumentError)
    assert sorted(tmp_path.rglob("*")) == before


# --- damage ----------------------------------------------------------------------------------------------------------


def damaged(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "where", ["checkpoint-000003.json", "net-000003.safetensors", "table-2/generation-000003/weights.safetensors"]
)
@pytest.mark.parametrize("at", [0.0, 0.3, 0.7, 1.0])
def test_a_flipped_bit_or_a_missing_file_is_named_and_no_other_checkpoint_is_taken(where, at, tmp_path):
    _, checkpoints, was = filled(tmp_path, 3)

    def flip(data):
        data[round(at * (len(data) - 1))] ^= 4

    damaged(tmp_path / where, flip)
    with pytest.raises(hotrow.CorruptError, match=rf"{where}.*; others are there: 2"):
        read(checkpoints)
    assert contents(read(checkpoints, 2)) == was[2]
    (tmp_path / where).unlink()
    if where.startswith("checkpoint"):
        assert read(checkpoints).number == 2
    else:
        with pytest.raises(hotrow.CorruptError, match=where):
            read(checkpoints)


def test_a_generation_that_is_whole_and_of_another_step_is_noticed(tmp_path):
    _, checkpoints, _ = filled(tmp_path, 3)
    table = tmp_path / "table-2"
    (table / "generation-000003").rename(table / "away")
    (table / "generation-000002").rename(table / "generation-000003")
    with pytest.raises(hotrow.CorruptError, match="isn't the generation that belongs to this checkpoint"):
        read(checkpoints)


def test_a_link_in_the_place_of_a_table_is_refused(tmp_path):
    run, checkpoints, _ = filled(tmp_path / "run", 1)
    (tmp_path / "run" / "table-1").rename(tmp_path / "elsewhere")
    (tmp_path / "run" / "table-1").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(hotrow.CorruptError, match="is a symbolic link"):
        read(checkpoints)
    assert isinstance(run.start(checkpoints).exception(), hotrow.CorruptError)


NET = {"name": "net-000001.safetensors", "bytes": 0, "chunk": 1 << 20, "crc32": ""}
SHA = "0" * 64
BAD = [
    {"format": 2}, {"format": True}, {"deltas": -1}, {"facts": []}, {"net": None}, {"tables": {}}, {"more": 1},
    {"net": NET | {"bytes": 1.5}}, {"net": NET | {"crc32": [1]}}, {"net": NET | {"name": "net-000002.safetensors"}},
    {"net": NET | {"name": "../net-000001.safetensors"}}, {"net": NET | {"bytes": 1 << 62}}, {"net": NET},
    {"arrays": {"a": ["F32"]}}, {"arrays": {"a": ["F99", [1]]}}, {"arrays": {"a": ["F32", [-1]]}}, {"arrays": []},
    {"arrays": {}}, {"tables": [{"generation": "../1", "manifest": SHA}]}, {"tables": [[1]]},
    {"tables": [{"generation": 1, "manifest": SHA[:-1]}]}, {"tables": [{"generation": 1, "manifest": None}]},
]  # fmt: skip


@pytest.mark.parametrize("change", BAD, ids=lambda change: json.dumps(change)[:60])
def test_a_description_that_no_save_writes_is_refused(change, tmp_path):
    _, checkpoints, _ = filled(tmp_path, 1)
    path = tmp_path / "checkpoint-000001.json"
    path.write_bytes(sealed(read_sealed(path) | change))
    with pytest.raises((hotrow.CorruptError, hotrow.DataError), match="-000001"):
        read(checkpoints)


# --- saves that fail, or never end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("deltas", [0, 3])
@pytest.mark.parametrize("at", [0, 1, 3, 7, 12])
def test_whichever_write_fails_the_checkpoint_before_stays_and_the_next_is_whole(at, deltas, tmp_path, monkeypatch):
    run, checkpoints, was = filled(tmp_path, 2, deltas=deltas)
    left, write_all = [at], files.write_all

    def full(handle, view):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        write_all(handle, view)

    run.go()
    with monkeypatch.context() as broken:
        broken.setattr(files, "write_all", full)
        assert isinstance(run.start(checkpoints).exception(), OSError)
    assert contents(read(checkpoints)) == was[2]
    run.go()
    number = run.start(checkpoints).result()
    assert contents(read(checkpoints)) == contents(run)
    run.go()
    assert run.start(checkpoints).result() == number + 1
    assert contents(read(checkpoints)) == contents(run)
    assert len(names_in(tmp_path / "table-1") - {"lock"}) == len(checkpoints.numbers())


def test_a_checkpoint_whose_very_last_sync_fails_is_there_with_all_that_it_names(tmp_path, monkeypatch):
    run, checkpoints, _ = filled(tmp_path, 2)
    honest = checkpoint.write_durably

    def unsure(path, data):
        honest(path, data)
        raise OSError(5, "Input/output error")

    run.go()
    with monkeypatch.context() as broken:
        broken.setattr(checkpoint, "write_durably", unsure)
        assert isinstance(run.start(checkpoints).exception(), OSError)
    assert contents(read(checkpoints)) == contents(run)
    run.go()
    assert run.start(checkpoints).result() == 4
    assert contents(read(checkpoints)) == contents(run)


def test_what_a_save_that_never_ended_has_left_is_cleared_away(tmp_path):
    run, _, was = filled(tmp_path, 2)
    run.go()
    run.words.save(tmp_path / "table-1", keep=9)  # and then the process was killed
    (tmp_path / "net-000003.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoint-000003.json.tmp").write_bytes(b"half")
    again = Checkpoints(tmp_path, deltas=2)
    found = read(again)
    assert contents(found) == was[2]
    again.go_on_from(found.number, found.tables)
    assert again.start(found.tables, {}, {}).result() == 3
    assert describe(tmp_path, 3).deltas == 1
    assert len(names_in(tmp_path / "table-1")) == 4  # a delta to the second generation, and the lock
    assert contents(read(again)) == was[2]
    assert not [name for name in names_in(tmp_path) if name.endswith(".tmp")]


def test_who_goes_on_from_an_older_one_begins_with_a_whole_one(tmp_path):
    _, checkpoints, was = filled(tmp_path, 3, deltas=5)
    found = read(checkpoints, 2)
    checkpoints.go_on_from(2, found.tables)
    assert checkpoints.start(found.tables, {}, {}).result() == 4
    assert contents(read(checkpoints)) == was[2]
    assert describe(tmp_path, 4).deltas == 0


def test_a_second_writer_is_told_and_a_table_saved_elsewhere_is_saved_whole(tmp_path):
    run, checkpoints, _ = filled(tmp_path / "run", 1, deltas=5)
    with lock(tmp_path / "run"):
        with pytest.raises(hotrow.LockedError):
            checkpoints.open()
        assert isinstance(run.start(checkpoints).exception(), hotrow.LockedError)
    run.start(checkpoints).result()
    run.words.save(tmp_path / "elsewhere")
    run.go()
    assert run.start(checkpoints).result() == 3
    assert contents(read(checkpoints)) == contents(run)


def test_what_cannot_be_read_is_never_a_reason_to_remove_tables(tmp_path):
    run, checkpoints, was = filled(tmp_path, 2)
    path = tmp_path / "checkpoint-000002.json"
    whole = path.read_bytes()
    path.write_bytes(b"{}")
    run.go()
    assert run.start(checkpoints).result() == 3
    path.write_bytes(whole)
    assert contents(read(checkpoints, 2)) == was[2]


# --- beside training -------------------------------------------------------------------------------------------------


def test_one_that_is_due_too_early_is_left_out_counted_and_told_once(tmp_path, monkeypatch, caplog):
    run, beside = Run(), Beside(Checkpoints(tmp_path))
    go_on, write_all = threading.Event(), files.write_all

    def slow(handle, view):
        assert go_on.wait(60)
        write_all(handle, view)

    monkeypatch.setattr(files, "write_all", slow)
    run.go()
    before = contents(run)
    beside.begin(run.tables, {}, {"step": 1})
    for _ in range(2):
        run.go()
        assert beside.is_busy()
        beside.skip()
    assert beside.error is None
    go_on.set()
    beside.wait()
    assert (beside.skipped, caplog.text.count("still being written"), beside.error) == (2, 1, None)
    assert contents(read(beside.checkpoints)) == before


def test_an_error_stays_until_one_succeeds(tmp_path):
    run, beside = Run(), Beside(Checkpoints(tmp_path))
    with lock(tmp_path):
        beside.begin(run.tables, {}, {})
        beside.wait()
    assert isinstance(beside.error, hotrow.LockedError)
    beside.begin(run.tables, {}, {})
    beside.wait()
    assert beside.error is None


def test_random_generators_go_on_from_where_they_were():
    random.seed(3)
    np.random.seed(4)  # noqa: NPY002 — the global one is meant
    random.gauss(0, 1)
    np.random.standard_normal()  # noqa: NPY002
    arrays = generators.capture()

    def draw():
        return random.random(), random.gauss(0, 1), np.random.rand(3).tolist(), np.random.standard_normal()  # noqa: NPY002

    first = draw()
    draw()
    generators.check(arrays, "here")
    generators.put_back(arrays)
    assert draw() == first
    for name in ("random.python", "random.numpy"):
        for bad in (arrays[name][:-1], arrays[name] + 0.5, np.full(len(arrays[name]), 1e12)):
            with pytest.raises(hotrow.CorruptError, match=f"{name} isn't the state"):
                generators.check({name: bad}, "here")


def test_ids_taken_out_of_a_checkpoints_tables_are_gone_and_the_rest_is_restored(tmp_path):
    _, checkpoints, was = filled(tmp_path, 5, keep=2, deltas=2)
    assert forget(tmp_path / "table-1", ["id 1"])
    for number in checkpoints.numbers():
        words, users = was[number]
        assert contents(read(checkpoints, number)) == [[one for one in words if one[0] != "id 1"], users]
    assert not any(b"id 1" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
