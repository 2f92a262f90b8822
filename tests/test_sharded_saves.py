"""Saves of a table in shards: what is there, what is read of it, what each command does with it, and what goes when."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from sharding import Owner, held
from test_checkpoint import names_in, read
from test_collisions import colliding

import hotrow
from hotrow.apps.cli import main
from hotrow.models import open_folder
from hotrow.store import forgetting, saves, sharded, snapshot
from hotrow.store import generations as folders
from hotrow.store.checkpoint import Checkpoints
from hotrow.store.lock import lock
from hotrow.store.manifest import read_manifest
from hotrow.store.sealed import read_sealed, sealed
from hotrow.store.snapshot import deltas, generations, verify
from hotrow.store.writing import ShardedWriter
from hotrow.table.kept import Saved

TWINS = colliding(4)
SECRET = "whoever is to be forgotten"


def step(table, ids, value=1.0):
    batch = table.find(ids, grow=True)
    table.update(batch, np.full((len(ids), table.dim), value, np.float32))


def table_of_strings():
    table = hotrow.Table(3, optimizer=hotrow.Adam(0.1), seed=3)
    step(table, [SECRET, *TWINS, *(f"id {i}" for i in range(20))])
    table.forget(["id 3", "id 4"])
    return table


def changed(table, value):
    step(table, [TWINS[0], "id 3", f"new {value}", "id 9"], value)
    table.forget([f"id {int(value) + 10}"])


@pytest.fixture
def owner():
    return Owner(table_of_strings(), 3)


def filled(path, operations, shards=3):
    """Saved and saved as deltas, by first letters: the owner, and what the table was at each number."""
    owner, was = Owner(table_of_strings(), shards), {}
    for i, operation in enumerate(operations):
        changed(owner.table, float(i))
        number = owner.save(path) if operation == "s" else owner.save_delta()
        was[number] = held(owner.table)
    return owner, was


# --- what is written and read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
@pytest.mark.parametrize("operations", ["s", "sd", "sddsd"])
def test_load_gives_the_plain_table_to_the_bit(tmp_path, operations, shards):
    owner, was = filled(tmp_path, operations, shards)
    assert generations(tmp_path) == sorted(was)
    for number in was:
        assert held(hotrow.load(tmp_path, generation=number)) == was[number]
    assert sharded.is_sharded(tmp_path)
    assert verify(tmp_path) == []
    table = hotrow.load(tmp_path)
    assert table.ids().equals(owner.table.ids())  # in the order of their numbers
    assert (table.vectors() == hotrow.Table.from_state(owner.table.state()).vectors()).all()
    for one in (table, owner.table):
        changed(one, 7.0)
    assert held(table) == held(owner.table)
    assert table.saved is None
    with pytest.raises(hotrow.ArgumentError, match=r"expected table\.save\(its folder\) first"):
        table.save_delta()


def test_load_takes_a_folder_for_rows_and_tells_progress(tmp_path, owner):
    owner.save(tmp_path / "saved")
    (tmp_path / "rows").mkdir()
    told = []
    table = hotrow.load(tmp_path / "saved", rows=tmp_path / "rows", progress=lambda *each: told.append(each))
    assert held(table) == held(owner.table)
    assert told[-1][0] == told[-1][1] > 0
    assert told[-1][2]["generation"] == 1
    assert {facts["file"].partition("/")[0] for _, _, facts in told} == {"shard-000", "shard-001", "shard-002"}


def test_read_tells_what_was_written(tmp_path, owner):
    number = owner.save(tmp_path)
    found = sharded.read(tmp_path)
    assert (found.number, found.sha256, found.is_whole) == (number, owner.saved.sha256, True)
    assert found.shards == [(one.generation, one.sha256) for one in owner.of_shards]
    free = owner.table._index.free_rows().tolist()
    assert found.facts == {"shards": 3, "steps": owner.table.steps, "free": free}
    assert len(free) == 2
    assert sharded.read(tmp_path, number) == found
    owner.save_delta()
    assert not sharded.read(tmp_path).is_whole
    assert deltas(tmp_path) == [2]
    with pytest.raises(hotrow.DataError, match="has no generation 9; it has 1, 2"):
        sharded.read(tmp_path, 9)


def test_any_number_of_free_numbers_is_kept(tmp_path, owner):
    """As many as a table may have, not as many as fit into a description."""
    owner.save(tmp_path)
    many = np.random.default_rng(0).permutation(3_000_000)
    assert 8 * len(many) > 16 << 20
    sharded.write(tmp_path, 2, owner.of_shards, {"shards": 3, "steps": 1, "free": many})
    assert sharded.read(tmp_path).facts["free"] == many.tolist()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"shards": 2}, "expected them to have shards = 3"),
        ({"steps": -1}, "and steps, how many were taken"),
        ({"free": [1, 1]}, "free numbers that are below 0, or the same twice"),
        ({"free": [-1]}, "free numbers"),
        ({"more": {1, 2}}, "JSON"),
        ({"more": float("nan")}, "JSON"),
    ],
    ids=str,
)
def test_facts_that_cannot_be_are_refused_and_nothing_is_written(tmp_path, owner, change, match):
    owner.save(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(hotrow.ArgumentError, match=match):
        sharded.write(tmp_path, 2, owner.of_shards, {"shards": 3, "steps": 1} | change)
    assert sorted(tmp_path.rglob("*")) == before


def test_generations_that_are_not_there_are_not_tied(tmp_path, owner):
    owner.save(tmp_path)
    facts, first = {"shards": 3, "steps": 1}, owner.of_shards[0]

    def tied(at, other):
        saved = list(owner.of_shards)
        saved[at] = other
        sharded.write(tmp_path, 2, saved, facts)

    with pytest.raises(hotrow.DataError, match="expected a folder that all nodes with shards share"):
        tied(0, Saved(first.path, 7, first.sha256))
    with pytest.raises(hotrow.DataError, match="generation 1 isn't what shard 0 was saved as"):
        tied(0, Saved(first.path, 1, "0" * 64))
    with pytest.raises(hotrow.ArgumentError, match=r"shard 1 was saved to .*shard-000; expected .*shard-001"):
        tied(1, first)
    for number in (1, 0, True):
        with pytest.raises(hotrow.ArgumentError, match="expected one from 1 on that no save"):
            sharded.write(tmp_path, number, owner.of_shards, facts)
    hotrow.Table(3).save(tmp_path / "shard-000")
    plain = read_manifest(tmp_path / "shard-000" / "generation-000002").sha256
    with pytest.raises(hotrow.DataError, match="isn't what shard 0 was saved as"):
        tied(0, Saved(first.path, 2, plain))
    assert generations(tmp_path) == [1]


def test_one_shard_alone_is_no_table(tmp_path, owner):
    owner.save(tmp_path)
    with pytest.raises(hotrow.DataError, match=r"is one shard of a table; hotrow\.load\(.*\) reads all of them"):
        hotrow.load(tmp_path / "shard-001")
    with pytest.raises(hotrow.DataError, match="is one shard of a table"):
        hotrow.store.compact(tmp_path / "shard-001")


# --- views -----------------------------------------------------------------------------------------------------------


def test_a_view_looks_up_and_goes_on_to_whatever_is_saved_next(tmp_path, owner):
    owner.save(tmp_path)
    view = hotrow.view(tmp_path)

    def fits():
        ids = owner.table.ids()
        assert len(view) == len(owner.table)
        assert (view.lookup(ids) == owner.table.lookup(ids)).all()
        assert view.ids().equals(ids)
        assert "never seen" not in view
        view.check()

    fits()
    assert not view.refresh()
    stamps = {view.stamp}
    for save in (owner.save_delta, lambda: owner.save(tmp_path), lambda: owner.table.save(tmp_path)):
        changed(owner.table, float(len(stamps)))
        number = save()
        assert view.refresh()
        assert view.generation == number
        fits()
        stamps.add(view.stamp)
    changed(owner.table, 9.0)
    owner.save(tmp_path)  # of one table, mapped, to shards again
    assert view.refresh()
    fits()
    stamps.add(view.stamp)
    assert len(stamps) == 5


def test_a_view_notices_that_an_id_was_taken_out(tmp_path, owner):
    owner.save(tmp_path)
    view = hotrow.view(tmp_path)
    assert SECRET in view
    forgetting.forget(tmp_path, [SECRET])
    assert view.refresh()
    assert SECRET not in view


# --- both sorts in one folder ----------------------------------------------------------------------------------------


def test_saves_of_both_sorts_have_numbers_of_one_row_and_the_newest_is_the_table(tmp_path, owner):
    was = {owner.table.save(tmp_path, keep=9): held(owner.table)}
    for save in (owner.save, owner.table.save, owner.save, owner.table.save):
        changed(owner.table, float(len(was)))
        was[save(tmp_path, keep=9)] = held(owner.table)
    assert generations(tmp_path) == [1, 2, 3, 4, 5] == list(was)
    assert {n: held(hotrow.load(tmp_path, generation=n)) for n in was} == was
    assert not sharded.is_sharded(tmp_path)
    with pytest.raises(hotrow.DataError, match=r"generation 5 isn't of a table in shards; hotrow\.load\("):
        sharded.read(tmp_path)
    assert sharded.read(tmp_path, 4).number == 4
    assert verify(tmp_path) == []
    with pytest.raises(hotrow.LockedError, match="its newest generation isn't the one"):
        owner.save_delta()


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_so_many_whole_saves_stay_whichever_sort_they_are_of(tmp_path, owner, keep):
    operations = [owner.table.save, owner.save, owner.save, owner.table.save, owner.save]
    for i, save in enumerate(operations, 1):
        changed(owner.table, float(i))
        save(tmp_path, keep=keep)
        stay = list(range(max(1, i - keep + 1), i + 1))
        assert generations(tmp_path) == stay
        plain = [n for n in stay if operations[n - 1] == owner.table.save]
        ties = [n for n in stay if n not in plain]
        names = {"lock"} | {f"generation-{n:06d}" for n in plain} | {f"sharded-{n:06d}.json" for n in ties}
        names |= {f"free-{n:06d}.safetensors" for n in ties if sharded.read(tmp_path, n).free}
        names |= {f"shard-{at:03d}" for at in range(3) if ties}
        assert names_in(tmp_path) == names
        for at in range(3) if ties else ():
            assert len(folders.begun(tmp_path / f"shard-{at:03d}")) == len(ties)


def test_deltas_stay_as_long_as_what_they_are_changes_to(tmp_path):
    _, was = filled(tmp_path, "sddsdsd")
    assert generations(tmp_path) == [4, 5, 6, 7]
    assert folders.begun(tmp_path / "shard-001") == [4, 5, 6, 7]
    assert {n: held(hotrow.load(tmp_path, generation=n)) for n in (4, 5, 6, 7)} == {n: was[n] for n in (4, 5, 6, 7)}


def test_a_folder_may_hold_saves_of_other_numbers_of_shards(tmp_path):
    table, was = table_of_strings(), {}
    for shards in (2, 5, 1, 3):
        changed(table, float(shards))
        was[Owner(table, shards).save(tmp_path, keep=2)] = held(table)
        assert len(folders.shards(tmp_path)) == max(
            len(sharded.read(tmp_path, n).shards) for n in generations(tmp_path)
        )
    assert generations(tmp_path) == [3, 4]
    assert held(hotrow.load(tmp_path, generation=3)) == was[3]
    assert held(hotrow.load(tmp_path)) == was[4]


# --- saves that fail, or never end -----------------------------------------------------------------------------------


def test_what_a_save_that_never_ended_left_is_no_save_and_goes_with_the_next(tmp_path, owner):
    owner.save(tmp_path)
    was = held(owner.table)
    changed(owner.table, 5.0)
    half = Owner(owner.table, 3)
    half.save(tmp_path)
    (tmp_path / "sharded-000002.json").unlink()  # and then it was killed
    (tmp_path / "sharded-000002.json.tmp").write_bytes(b"half")
    assert generations(tmp_path) == [1]
    assert held(hotrow.load(tmp_path)) == was
    assert sharded.read(tmp_path).number == 1
    assert verify(tmp_path) == []
    assert owner.save(tmp_path) == 2
    assert held(hotrow.load(tmp_path)) == held(owner.table)
    assert folders.begun(tmp_path / "shard-002") == [1, 2]
    assert not [name for name in names_in(tmp_path) if name.endswith(".tmp")]


def test_shards_that_were_saved_before_one_failed_go_on_with_deltas(tmp_path, owner, monkeypatch):
    owner.save(tmp_path)
    changed(owner.table, 1.0)
    first = owner.of_shards[0]
    with monkeypatch.context() as broken:
        broken.setattr(sharded, "write_durably", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            owner.save_delta()
    assert generations(tmp_path) == [1]
    assert names_in(tmp_path) == {"lock", "shard-000", "shard-001", "shard-002", "sharded-000001.json"} | {
        "free-000001.safetensors"
    }
    assert owner.of_shards[0] == first  # this owner's shards begin their deltas where they were
    with pytest.raises(hotrow.LockedError):
        owner.save_delta()
    changed(owner.table, 2.0)
    assert owner.save(tmp_path) == 2
    assert held(hotrow.load(tmp_path)) == held(owner.table)


def test_the_first_save_that_never_ended_is_told_as_that(tmp_path, owner):
    owner.save(tmp_path)
    (tmp_path / "sharded-000001.json").unlink()
    with pytest.raises(hotrow.DataError, match="the only save here, of a table in shards, never ended"):
        hotrow.load(tmp_path)
    assert generations(tmp_path) == []
    assert owner.table.save(tmp_path) == 1
    assert names_in(tmp_path) == {"lock", "generation-000001"}


def test_two_that_save_at_once_are_told(tmp_path, owner):
    owner.save(tmp_path)
    with lock(tmp_path):
        for call in (owner.save, owner.table.save, lambda path: forgetting.forget(path, ["x"]), hotrow.store.compact):
            with pytest.raises(hotrow.LockedError):
                call(tmp_path)
    with lock(tmp_path / "shard-001"), pytest.raises(hotrow.LockedError):
        forgetting.forget(tmp_path, [SECRET])
    with pytest.raises(hotrow.ArgumentError, match="keep = 0: expected how many generations"):
        ShardedWriter(tmp_path, keep=0)
    assert owner.save(tmp_path) == 2


def test_what_cannot_be_read_is_never_a_reason_to_remove_shards(tmp_path, owner):
    for _ in range(2):
        owner.save(tmp_path)
    tie = tmp_path / "sharded-000002.json"
    whole = tie.read_bytes()
    tie.write_bytes(whole[:-9])
    assert owner.save(tmp_path) == 3
    assert generations(tmp_path) == [1, 2, 3]
    assert folders.begun(tmp_path / "shard-000") == [1, 2, 3]
    tie.write_bytes(whole)
    assert held(hotrow.load(tmp_path, generation=2)) == held(owner.table)
    assert owner.save(tmp_path, keep=1) == 4
    assert folders.begun(tmp_path / "shard-000") == [4]


# --- damage ----------------------------------------------------------------------------------------------------------


FILES = [
    "sharded-000002.json",
    "free-000002.safetensors",
    "shard-001/generation-000002/manifest.json",
    "shard-002/generation-000002/slot-number.safetensors",
    "shard-000/generation-000001/weights.safetensors",
]


@pytest.mark.parametrize("at", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_noticed_and_no_other_save_is_taken(tmp_path, name, at):
    filled(tmp_path, "sd")
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[round(at * (len(data) - 1))] ^= 4
    path.write_bytes(data)
    assert any(name in problem for problem in verify(tmp_path))
    if name.startswith("free"):
        with pytest.raises(hotrow.CorruptError, match=name):
            sharded.read(tmp_path)
    else:
        with pytest.raises(hotrow.CorruptError, match=name):
            hotrow.load(tmp_path)
    if "000002" in name and not name.startswith("free"):
        with pytest.raises(hotrow.CorruptError, match="another generation is there: generation=1"):
            hotrow.view(tmp_path)
    path.unlink()
    if not name.startswith("sharded"):
        assert any(name in problem for problem in verify(tmp_path))


def test_a_shards_part_that_is_missing_or_older_is_no_save(tmp_path):
    filled(tmp_path, "ss")
    shard = tmp_path / "shard-001"
    (shard / "generation-000002").rename(tmp_path / "away")
    with pytest.raises(hotrow.CorruptError, match=r"shard-001/generation-000002/manifest\.json: the file is missing"):
        sharded.read(tmp_path)
    with pytest.raises(hotrow.CorruptError, match="another generation is there: generation=1"):
        hotrow.load(tmp_path)
    (shard / "generation-000001").rename(shard / "generation-000002")
    for call in (sharded.read, hotrow.load, hotrow.view):
        with pytest.raises(hotrow.CorruptError, match=r"isn't the generation that belongs to sharded-000002\.json"):
            call(tmp_path)
    assert "isn't the generation that belongs" in verify(tmp_path, 2)[0]


def test_shards_of_two_tables_are_no_table(tmp_path, owner):
    """Each is whole, and the file that ties them as it was written."""
    owner.save(tmp_path)
    other = Owner(hotrow.Table(3, optimizer=hotrow.Adam(0.1), seed=9), 3)
    step(other.table, [f"id {i}" for i in range(9)])
    other.save(tmp_path)
    mixed = [owner.of_shards[0], other.of_shards[1], owner.of_shards[2]]
    sharded.write(tmp_path, 3, mixed, {"shards": 3, "steps": 1})
    with pytest.raises(hotrow.CorruptError, match=r"sharded-000003\.json: ties what doesn't belong together.*seed"):
        hotrow.load(tmp_path)
    assert "ties what doesn't belong together" in verify(tmp_path)[0]
    swapped = Owner(owner.table, 2)
    swapped.save(tmp_path / "two")
    for at, to in ((0, "x"), (1, 0), ("x", 1)):
        names = [at if at == "x" else f"shard-{at:03d}", to if to == "x" else f"shard-{to:03d}"]
        (tmp_path / "two" / names[0]).rename(tmp_path / "two" / names[1])
    tie = tmp_path / "two" / "sharded-000001.json"
    fields = read_sealed(tie)
    tie.write_bytes(sealed(fields | {"shards": fields["shards"][::-1]}))
    with pytest.raises(hotrow.CorruptError, match="is in shard 0 of 2, where nobody looks for it"):
        hotrow.load(tmp_path / "two")
    assert "where nobody looks for it" in verify(tmp_path / "two")[0]


def test_a_free_number_that_a_row_has_is_noticed(tmp_path, owner):
    owner.save(tmp_path)
    sharded.write(tmp_path, 2, owner.of_shards, {"shards": 3, "steps": 1, "free": [0]})
    assert "a number that it says is free is a row's" in verify(tmp_path)[0]


def test_a_link_in_the_place_of_a_shard_is_refused_and_nothing_there_removed(tmp_path, owner):
    owner.save(tmp_path / "table")
    (tmp_path / "table" / "shard-001").rename(tmp_path / "elsewhere")
    (tmp_path / "table" / "shard-001").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for call in (hotrow.load, sharded.read, owner.save):
        with pytest.raises(hotrow.CorruptError, match="is a symbolic link"):
            call(tmp_path / "table")
    assert "is a symbolic link" in verify(tmp_path / "table")[0]
    hotrow.Table(3).save(tmp_path / "table", keep=1)
    assert folders.begun(tmp_path / "elsewhere") == [1]


SHA = "0" * 64
BAD = [
    {"format": 2}, {"format": True}, {"whole": 1}, {"shards": []}, {"shards": {}}, {"facts": []}, {"more": 1},
    {"facts": {"shards": 3}}, {"facts": {"shards": 2, "steps": 1}}, {"facts": {"shards": 3, "steps": 1.5}},
    {"shards": [{"generation": "../1", "manifest": SHA}] * 3}, {"shards": [{"generation": 1, "manifest": SHA[1:]}] * 3},
    {"shards": [[1]] * 3}, {"free": {"name": "../free-000001.safetensors"}}, {"free": [1]}, {"free": True},
    {"free": {"name": "free-000002.safetensors", "bytes": 0, "chunk": 1 << 20, "crc32": ""}},
]  # fmt: skip


@pytest.mark.parametrize("change", BAD, ids=lambda change: json.dumps(change)[:60])
def test_a_description_that_no_save_writes_is_refused(change, tmp_path, owner):
    owner.save(tmp_path)
    path = tmp_path / "sharded-000001.json"
    path.write_bytes(sealed(read_sealed(path) | change))
    for call in (sharded.read, hotrow.load, hotrow.view):
        with pytest.raises((hotrow.CorruptError, hotrow.DataError), match="sharded-000001"):
            call(tmp_path)
    assert verify(tmp_path)


def test_a_reader_that_is_overtaken_by_saves_reads_the_newest(tmp_path, owner, monkeypatch):
    owner.save(tmp_path)
    honest = folders.read_manifest

    def overtaken(folder):
        monkeypatch.setattr(folders, "read_manifest", honest)
        found = honest(folder)
        changed(owner.table, 4.0)
        owner.save(tmp_path, keep=1)
        return found

    monkeypatch.setattr(folders, "read_manifest", overtaken)
    assert held(hotrow.load(tmp_path)) == held(owner.table)


# --- commands --------------------------------------------------------------------------------------------------------


def run_json(capfd, *arguments):
    capfd.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_compact_makes_one_table_of_it(tmp_path, capfd):
    _, was = filled(tmp_path, "sd")
    assert run_json(capfd, "compact", tmp_path)["generations"] == {"table": 3}
    assert not sharded.is_sharded(tmp_path)
    assert held(hotrow.load(tmp_path)) == was[2]
    assert generations(tmp_path) == [1, 2, 3]
    assert main(["compact", str(tmp_path), "--keep", "1"]) == 0
    assert names_in(tmp_path) == {"lock", "generation-000003"}
    table = hotrow.load(tmp_path)
    changed(table, 3.0)
    assert table.save_delta() == 4
    assert hotrow.compact(tmp_path, keep=1) == 5
    assert names_in(tmp_path) == {"lock", "generation-000005"}
    assert held(hotrow.load(tmp_path)) == held(table)


def test_inspect_verify_similar_and_lookup_tell_of_it_as_of_any_table(tmp_path, capfd):
    owner, _ = filled(tmp_path, "sd")
    facts = run_json(capfd, "inspect", tmp_path)["tables"]["table"]
    assert facts | {"bytes": 0} == {
        "rows": len(owner.table), "shards": 3, "dim": 3, "ids": "string", "optimizer": "Adam",
        "steps": owner.table.steps, "bytes": 0, "generations": [1, 2], "deltas": [2],
    }  # fmt: skip
    assert main(["inspect", str(tmp_path)]) == 0
    assert "1, 2 (delta), in 3 shards" in " ".join(capfd.readouterr().out.split())
    assert run_json(capfd, "verify", tmp_path)["problems"] == []
    assert run_json(capfd, "similar", tmp_path, "id 9")
    with (tmp_path / "shard-001" / "generation-000001" / "keys.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x99")
    assert main(["verify", str(tmp_path)]) == 1
    assert "shard-001/generation-000001/keys.safetensors" in "".join(capfd.readouterr().err.split())


def test_a_folder_of_it_is_opened_and_followed(tmp_path):
    owner, _ = filled(tmp_path, "s")
    folder = open_folder(tmp_path)
    assert (folder.kind, list(folder.sides), len(folder.side())) == ("table", ["id"], len(owner.table))
    assert folder.refreshed() is folder
    changed(owner.table, 6.0)
    owner.save_delta()
    for newer in (folder.refreshed(), folder.moved_on()):
        assert newer is not folder
        assert (newer.side().lookup(["new 6.0"]) == owner.table.lookup(["new 6.0"])).all()


@pytest.mark.parametrize("operations", ["s", "sd", "ssdd"])
def test_an_id_is_taken_out_of_all_that_is_kept(tmp_path, capfd, operations):
    owner, was = filled(tmp_path, operations)
    text = SECRET.encode()
    assert any(text in path.read_bytes() for path in tmp_path.rglob("*.arrow"))
    out = run_json(capfd, "forget", tmp_path, SECRET, TWINS[1], "--rewrite")
    assert {one["from"].split("/")[1] for one in out["removed"]} >= {"generation-000001"}
    assert all(one["from"].startswith("shard-00") for one in out["removed"])
    assert not any(text in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert verify(tmp_path) == []
    for number in was:
        table = hotrow.load(tmp_path, generation=number)
        assert SECRET not in table
        assert TWINS[1] not in table
        assert len(table) == len(was[number][2]) - 2
    expected = hotrow.Table.from_state(owner.table.state())
    expected.forget([SECRET, TWINS[1]])
    assert held(hotrow.load(tmp_path)) == held(expected)
    changed(owner.table, 8.0)
    owner.table.forget([SECRET, TWINS[1]])
    owner.save(tmp_path)
    assert held(hotrow.load(tmp_path)) == held(owner.table)


def test_to_forget_without_rewriting_takes_one_table(tmp_path, capfd, owner):
    owner.save(tmp_path)
    assert main(["forget", str(tmp_path), SECRET]) == 1
    told = " ".join(capfd.readouterr().err.split())
    assert "--rewrite" in told
    assert f"hotrow compact {tmp_path}" in told
    assert SECRET in hotrow.load(tmp_path)
    assert main(["compact", str(tmp_path)]) == 0
    assert main(["forget", str(tmp_path), SECRET]) == 0
    assert SECRET not in hotrow.load(tmp_path)


# --- checkpoints -----------------------------------------------------------------------------------------------------


class Clustered:
    """As much of a table in shards as `Checkpoints` asks of a table."""

    def __init__(self, table, shards):
        self.owner = Owner(table, shards)

    @property
    def saved(self):
        return self.owner.saved

    def save(self, path, *, keep, wait):
        assert (keep, wait) == (sys.maxsize, False)
        return done(self.owner.save(path, keep))

    def save_delta(self, *, wait):
        assert not wait
        return done(self.owner.save_delta())


def done(number):
    from concurrent.futures import Future

    future = Future()
    future.set_result(number)
    return future


@pytest.mark.parametrize(("keep", "deltas_", "stay"), [(2, 0, [4, 5]), (1, 1, [5]), (2, 2, [1, 2, 3, 4, 5])])
def test_checkpoints_hold_tables_in_shards_beside_others(tmp_path, keep, deltas_, stay):
    plain, clustered = table_of_strings(), Clustered(table_of_strings(), 2)
    checkpoints, was = Checkpoints(tmp_path, keep=keep, deltas=deltas_), {}
    for i in range(1, 6):
        changed(plain, float(i))
        changed(clustered.owner.table, i + 0.5)
        was[checkpoints.start([plain, clustered], {}, {}).result()] = [held(plain), held(clustered.owner.table)]
    assert checkpoints.numbers() == stay
    for number in stay:
        assert [held(table) for table in read(checkpoints, number).tables] == was[number]
    assert snapshot.generations(tmp_path / "table-2") == stay
    assert folders.begun(tmp_path / "table-2" / "shard-001") == stay
    assert verify(tmp_path / "table-2") == []


def test_training_goes_on_from_a_checkpoint_on_one_machine_and_on_others(tmp_path):
    plain, clustered = table_of_strings(), Clustered(table_of_strings(), 2)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.start([clustered, plain], {}, {}).result()
    found = read(Checkpoints(tmp_path))
    others = [found.tables[0], Clustered(found.tables[1], 5)]
    again = Checkpoints(tmp_path, keep=1, deltas=3)
    again.go_on_from(found.number, found.tables)
    for i in (1, 2):
        changed(others[0], float(i))
        changed(others[1].owner.table, float(i))
        assert again.start(others, {}, {}).result() == i + 1
        assert [held(table) for table in read(again).tables] == [held(others[0]), held(others[1].owner.table)]
    assert again.numbers() == [2, 3]
    assert names_in(tmp_path / "table-1") == {"lock", "generation-000002", "generation-000003"}
    assert len(folders.shards(tmp_path / "table-2")) == 5


def test_a_checkpoint_notices_a_save_in_shards_that_is_of_another_step(tmp_path):
    clustered = Clustered(table_of_strings(), 2)
    checkpoints = Checkpoints(tmp_path, keep=2)
    for _ in range(2):
        checkpoints.start([clustered], {}, {}).result()
    ties = [tmp_path / "table-1" / f"sharded-00000{n}.json" for n in (1, 2)]
    fields = read_sealed(ties[1])
    ties[1].write_bytes(sealed(fields | {"facts": {"shards": 2, "steps": 99}}))
    with pytest.raises(hotrow.CorruptError, match="isn't the generation that belongs to this checkpoint"):
        read(checkpoints)


def test_shards_stay_where_the_disk_may_still_have_the_save_that_needs_them(tmp_path, owner, monkeypatch, caplog):
    owner.save(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(saves, "sync_folder", lambda path: (_ for _ in ()).throw(OSError(5, "no", str(path))))
        owner.save(tmp_path, keep=1)
    assert "couldn't be removed" in caplog.text
    assert generations(tmp_path) == [2]
    assert folders.begun(tmp_path / "shard-001") == [1, 2]
    owner.save(tmp_path, keep=1)
    assert folders.begun(tmp_path / "shard-001") == [3]
