"""A snapshot and the deltas after it are the table, to the bit; a chain that isn't one is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from test_collisions import colliding
from test_determinism import OPTIMIZERS
from test_saving import assert_equal, content
from test_snapshot import fields_of, read, sign

import hotrow
from hotrow.store import files, generations, snapshot
from hotrow.store.snapshot import verify

DIM = 4


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda _: None)


def folder(path, number):
    return generations.folder_of(path, number)


def train(table, steps, seed, below=60):
    random_ = np.random.default_rng(seed)
    for _ in range(steps):
        ids = random_.integers(0, below, 30)
        table.update(table.find(ids, grow=True), random_.normal(size=(30, DIM)).astype(np.float32))
    return table


@pytest.fixture
def chained(tmp_path):
    """A table, saved as a snapshot and three deltas."""
    path = tmp_path / "items"
    table = train(hotrow.Table(DIM), 2, seed=0)
    table.save(path)
    for seed in (1, 2, 3):
        table.forget(range(5 * seed, 5 * seed + 5))
        train(table, 1, seed)
        table.save_delta()
    return path, table


def test_a_delta_holds_the_rows_that_changed_and_no_others(tmp_path):
    table = hotrow.Table(DIM)
    table.find(np.arange(1000), grow=True)
    table.save(tmp_path)
    table.update([3, 5, 3], np.ones((3, DIM), np.float32))
    table.set([7], np.ones((1, DIM)))
    table.find([2000], grow=True)
    table.forget([11, 12, 2000])
    table.find([12], grow=True)
    table.lookup(np.arange(1000))
    table.save_delta()
    change = read(tmp_path)
    assert sorted(change.keys.tolist()) == [3, 5, 7, 12]
    assert change.gone.tolist() == [11, 12, 2000]
    assert_equal(hotrow.load(tmp_path), table)


def test_each_generation_of_a_chain_can_be_loaded(chained):
    path, table = chained
    assert snapshot.generations(path) == [1, 2, 3, 4]
    assert snapshot.deltas(path) == [2, 3, 4]
    steps = [hotrow.load(path, number).steps for number in (1, 2, 3, 4)]
    assert steps == [2, 3, 4, 5]
    assert_equal(hotrow.load(path), table)
    assert verify(path) == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_training_goes_on_after_deltas_as_if_nobody_had_stopped(tmp_path, optimizer):
    whole = train(train(hotrow.Table(DIM, optimizer=optimizer), 6, seed=1), 4, seed=2)
    part = train(hotrow.Table(DIM, optimizer=optimizer), 2, seed=1)
    part.save(tmp_path)
    random_ = np.random.default_rng(1)
    for step in range(6):
        ids, gradients = random_.integers(0, 60, 30), random_.normal(size=(30, DIM)).astype(np.float32)
        if step >= 2:  # the steps before are in the snapshot
            part.update(part.find(ids, grow=True), gradients)
            part.save_delta()
            part = hotrow.load(tmp_path)
    hotrow.set_threads(1)
    assert_equal(train(part, 4, seed=2), whole)


RESUME = """
import sys
sys.path.insert(0, sys.argv[2])
import hotrow
from test_deltas import train
table = hotrow.load(sys.argv[1])
hotrow.set_threads(int(sys.argv[3]))
train(table, 3, seed=2, below=4000)
table.save_delta()
"""


@pytest.mark.compiled
@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_new_process_goes_on_where_the_old_one_was_on_any_number_of_threads(tmp_path, threads):
    table = train(hotrow.Table(DIM, optimizer=hotrow.Adam(0.1)), 3, seed=1, below=4000)
    table.save(tmp_path)
    here = str(__file__).rsplit("/", 1)[0]
    subprocess.run([sys.executable, "-c", RESUME, str(tmp_path), here, threads], check=True, timeout=300)
    assert_equal(hotrow.load(tmp_path), train(table, 3, seed=2, below=4000))


def test_strings_that_share_a_fingerprint_come_back_from_a_delta(tmp_path):
    twins = colliding(4)
    table = hotrow.Table(DIM, ids="string")
    table.find(twins[:2], grow=True)
    table.save(tmp_path)
    table.find(twins, grow=True)
    table.forget(twins[1:2])
    table.save_delta()
    table.find(twins, grow=True)
    table.update(twins, np.ones((4, DIM), np.float32))
    table.save_delta()
    loaded = hotrow.load(tmp_path)
    assert_equal(loaded, table)
    assert (hotrow.view(tmp_path).lookup(twins) == table.lookup(twins)).all()


def test_a_table_loaded_from_a_chain_goes_on_with_it_and_one_that_was_overtaken_is_refused(chained):
    path, table = chained
    other = train(hotrow.load(path), 1, seed=9)
    assert other.save_delta() == 5
    with pytest.raises(hotrow.LockedError, match=r"newest generation isn't the one.*expected table\.save\("):
        table.save_delta()
    assert_equal(hotrow.load(path), other)
    older = hotrow.load(path, 2)
    with pytest.raises(hotrow.LockedError, match="newest generation isn't"):
        older.save_delta()
    assert older.save(path) == 6
    assert older.save_delta() == 7


def test_what_was_never_saved_there_has_no_delta(tmp_path):
    table = hotrow.Table(DIM)
    with pytest.raises(hotrow.ArgumentError, match=r"wasn't saved to or loaded from its folder; expected"):
        table.save_delta()
    table.save(tmp_path / "a")
    with pytest.raises(hotrow.ArgumentError, match=r"loaded from '.*b', but .*a; expected table\.save\('.*b'\) first"):
        table.save_delta(tmp_path / "b")
    assert table.save_delta(tmp_path / "a") == 2
    copied = hotrow.Table.from_state(table.state())
    with pytest.raises(hotrow.ArgumentError, match="wasn't saved"):
        copied.save_delta()


def test_another_learning_rate_goes_into_the_delta(tmp_path):
    table = train(hotrow.Table(DIM, optimizer=hotrow.Adam(0.1)), 1, seed=0)
    table.save(tmp_path)
    table.set_optimizer(hotrow.Adam(0.01))
    table.save_delta()
    loaded = hotrow.load(tmp_path)
    assert loaded.optimizer == hotrow.Adam(0.01)
    assert_equal(train(loaded, 1, seed=1), train(table, 1, seed=1))


# --- which stay ------------------------------------------------------------------------------------------------------


def test_snapshots_are_kept_with_their_deltas(chained):
    path, table = chained
    table.save(path)
    assert snapshot.generations(path) == [1, 2, 3, 4, 5]
    table.save_delta()
    table.save(path, keep=2)
    assert snapshot.generations(path) == [5, 6, 7]
    table.save(path, keep=1)
    assert snapshot.generations(path) == [8]


def test_compact_makes_a_snapshot_that_a_table_in_training_and_a_view_go_on_from(chained):
    path, table = chained
    view = hotrow.view(path)
    assert hotrow.compact(path) == 5
    assert hotrow.compact(path) == 5
    assert snapshot.deltas(path) == [2, 3, 4]
    assert_equal(hotrow.load(path), table)
    train(table, 1, seed=5)
    assert table.save_delta() == 6  # its parent was 4, for which 5 stands
    assert_equal(hotrow.load(path), table)
    assert view.refresh()
    assert content(view) == {id: row.tobytes() for id, row in zip(table.ids(), table.vectors(), strict=True)}
    assert hotrow.compact(path, keep=1) == 7
    assert snapshot.generations(path) == [7]


def test_compact_refuses_while_somebody_saves(chained):
    path, table = chained

    def try_to(*_):
        with pytest.raises(hotrow.LockedError):
            hotrow.compact(path)

    table.save(path, progress=try_to)
    assert snapshot.generations(path)[-1] == 5


# --- chains that are none --------------------------------------------------------------------------------------------


def must_be_refused(path, text, number=None):
    for look in (hotrow.load, hotrow.view):
        with pytest.raises(hotrow.CorruptError, match=text):
            look(path, number)


def test_a_chain_with_a_link_missing_or_damaged_is_refused_and_verify_says_where(chained):
    path, _ = chained
    manifest = folder(path, 2) / "manifest.json"
    text = manifest.read_bytes()
    manifest.unlink()
    must_be_refused(
        path, r"000003/manifest\.json|000004/manifest\.json: is a change to a generation whose manifest has"
    )
    assert any("is a change to a generation" in line for line in verify(path))
    manifest.write_bytes(text[:50] + bytes([text[50] ^ 1]) + text[51:])
    must_be_refused(path, r"generation-000002/manifest\.json: isn't what was written")
    manifest.write_bytes(text)
    weights = folder(path, 3) / "weights.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    must_be_refused(path, r"generation-000003/weights\.safetensors: bytes .*another generation is there")
    assert len(verify(path)) == 1
    assert hotrow.load(path, 2).steps == 3


def resign(path, number, **changes):
    fields = fields_of(folder(path, number))
    sign(folder(path, number), fields | changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"parent": "0" * 64}, "is a change to a generation"),
        ({"parent": "g" * 64}, "aren't checksums"),
        ({"parent": 7}, "aren't checksums"),
        ({"parent": None}, "one missing"),
        ({"stands_for": "0" * 64}, "aren't checksums"),
        ({"stands_for": ["x"]}, "something else than checksums"),
        ({"config": {"seed": 1}}, "has {'seed': 1}"),
        ({"config": {"ids": "uint64"}}, "has {'ids': 'uint64'}"),
        ({"config": {"dim": 5}}, "expected F32"),
        ({"config": {"optimizer": {"name": "SGD", "learning_rate": 0.1}}}, "slots|optimizer"),
        ({"config": {"optimizer": {"name": "Nonsense"}}}, "optimizer"),
    ],
)
def test_a_delta_with_a_right_checksum_that_fits_nothing_is_refused(chained, changes, text):
    path, _ = chained
    if "config" in changes:
        changes = {"config": fields_of(folder(path, 4))["config"] | changes["config"]}
    resign(path, 4, **changes)
    with pytest.raises(hotrow.CorruptError, match=text):
        hotrow.load(path)


def test_a_delta_with_a_key_twice_or_in_the_place_of_a_table_is_refused(chained):
    path, table = chained
    from test_snapshot import sign_again

    from hotrow.store.format import write_arrays

    keys = folder(path, 4) / "keys.safetensors"
    n = fields_of(folder(path, 4))["rows"]
    keys.unlink()
    write_arrays(keys, {"keys": np.zeros(n, np.uint64)})
    sign_again(folder(path, 4))
    must_be_refused(path, r"keys\.safetensors: has a key twice")
    assert "has a key twice" in verify(path)[-1]
    with pytest.raises(hotrow.ArgumentError, match="a whole table and no change"):
        table.apply(table.state())


def test_a_damaged_delta_changes_nothing_in_a_view_that_goes_on(chained):
    path, table = chained
    view = hotrow.view(path)
    before = view.lookup(np.arange(60))
    train(table, 1, seed=7)
    table.save_delta()
    keys = folder(path, 5) / "keys.safetensors"
    data = keys.read_bytes()
    keys.write_bytes(data[:-1] + bytes([data[-1] ^ 128]))
    for _ in range(2):
        with pytest.raises(hotrow.CorruptError, match="000005/keys"):
            view.refresh()
    assert view.generation == 4
    assert (view.lookup(np.arange(60)) == before).all()
    keys.write_bytes(data)
    assert view.refresh()
    assert (view.lookup(np.arange(60)) == table.lookup(np.arange(60))).all()


def test_the_manifest_of_a_delta_names_its_parent(chained):
    path, _ = chained
    shas = [json.loads((folder(path, k) / "manifest.json").read_text())["sha256"] for k in (1, 2, 3, 4)]
    parents = [fields_of(folder(path, k))["parent"] for k in (1, 2, 3, 4)]
    assert parents == [None, *shas[:3]]


def test_a_view_is_said_to_be_at_a_delta_before_anybody_can_look_again(tmp_path, monkeypatch):
    table = train(hotrow.Table(DIM), 1, seed=0)
    table.save(tmp_path)
    view = hotrow.view(tmp_path)
    for seed in (1, 2, 3):
        train(table, 1, seed)
        table.save_delta()
        if seed == 1:
            view.refresh()  # which reads the snapshot into memory
    alone, said = [], view._is_at
    monkeypatch.setattr(view, "_is_at", lambda *args: alone.append(view.lock._writing) or said(*args))
    before = view.links
    assert view.refresh()
    assert alone == [True, True]
    assert view.links[: len(before)] == before
    assert len(view.links) == len(before) + 2 == 4
    assert view.generation == 4
