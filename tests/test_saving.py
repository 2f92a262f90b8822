"""Saving beside training: what is written is the table of one step, and training is as if nobody saved."""

from __future__ import annotations

import errno
import logging
import os
import random
import subprocess
import sys
import threading
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hotrow
from hotrow.store import files, writing
from hotrow.store.snapshot import generations, verify
from hotrow.table import cut

DIM = 3


def content(table: hotrow.View) -> dict:
    """Each id's numbers: weights and, of a table that learns, slots."""
    ids = table.ids()
    rows = table.vectors()
    if isinstance(table, hotrow.Table):
        state = table.state()
        rows = np.hstack([rows, *(np.array(slot) for slot in state.slots.values())])
    return dict(zip(ids.tolist(), map(bytes, rows), strict=True))


def assert_equal(ours: hotrow.Table, theirs: hotrow.Table) -> None:
    assert content(ours) == content(theirs)
    assert ours.state().config == theirs.state().config


class Training:
    """Some table and what may happen to it, each by a number that a test draws."""

    def __init__(self, kind: str, optimizer: hotrow.optimizers.Optimizer | None = None, seed: int = 0) -> None:
        self.table = hotrow.Table(DIM, optimizer=optimizer or hotrow.Adam(0.1), ids=kind, seed=seed)
        self.named = (lambda i: f"id {i}") if kind == "string" else (lambda i: i)

    def ids(self, random_, n=6, below=400):
        return [self.named(random_.randrange(below)) for _ in range(n)]

    def do(self, what: int) -> None:
        random_, table = random.Random(what), self.table
        choice = what % 8
        if choice <= 2:  # known ids and new ones
            batch = table.find(self.ids(random_), grow=True)
            table.update(batch, np.random.default_rng(what).normal(size=(6, DIM)).astype(np.float32))
        elif choice == 3:
            table.forget(self.ids(random_, 20))
        elif choice == 4:
            ids = self.ids(random_)
            table.set(ids, np.random.default_rng(what).normal(size=(6, DIM)).astype(np.float32))
        elif choice == 5:  # gone and back
            ids = self.ids(random_)
            table.forget(ids)
            table.find(ids, grow=True)
        elif choice == 6:  # the index moves on to more buckets
            table.find(self.ids(random_, 300, 3000), grow=True)
        else:
            table.constrain(table.find(self.ids(random_)), lambda vectors: vectors * np.float32(0.5))


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda _: None)  # it is what is written that matters here
    monkeypatch.setattr(cut, "_PIECE", 16 * 3 * DIM)
    monkeypatch.setattr(cut, "_BUCKETS", 16)
    monkeypatch.setattr(cut, "_KEYS", 50)
    monkeypatch.setattr(cut, "_STRINGS", 50)


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("kind", ["int64", "string"])
@settings(max_examples=max(5, settings().max_examples // 4))
@given(before=st.lists(st.integers(0, 10**6), max_size=12), beside=st.lists(st.integers(0, 10**6), max_size=60))
def test_what_happens_beside_a_save_is_not_in_it_and_is_as_if_nobody_saved(
    tmp_path_factory, kind, delta, before, beside
):
    path = tmp_path_factory.mktemp("saved")
    one, twin = Training(kind), Training(kind)
    for what in range(0, 70, 7 if delta else 3):
        one.do(what), twin.do(what)
    if delta:
        one.table.save(path)
    for what in before:
        one.do(what), twin.do(what)
    expected, config = content(one.table), one.table.state().config
    todo = iter(beside)

    def go_on(*_):
        for what in todo:
            one.do(what)
            break

    number = one.table.save_delta(progress=go_on) if delta else one.table.save(path, progress=go_on)
    saved = hotrow.load(path, number)
    assert content(saved) == expected
    assert saved.state().config == config
    assert verify(path) == []
    for what in todo:
        one.do(what)
    for what in beside:
        twin.do(what)
    assert_equal(one.table, twin.table)
    one.table.save_delta()  # what happened beside the save is in the next delta
    assert_equal(hotrow.load(path), twin.table)


@pytest.mark.compiled
@pytest.mark.parametrize("rows", ["memory", "file"])
def test_all_rows_of_a_save_are_of_one_step_while_threads_train_and_look_up(tmp_path, rows):
    where = {"path": tmp_path / "rows"} if rows == "file" else {}
    table = hotrow.Table(8, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros(), **where)
    ids = np.arange(3000)
    down = -np.ones((3000, 8), np.float32)
    table.find(ids, grow=True)
    stop, odd = threading.Event(), []

    def train():
        while not stop.is_set():  # one more to each number of each row, a step
            table.update(np.random.default_rng(table.steps).permutation(ids), down)

    def look():
        while not stop.is_set():
            vectors = table.lookup(ids)
            if (vectors != vectors[0, 0]).any():
                odd.append(vectors)

    threads = [threading.Thread(target=train), threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    try:
        for k in range(6):
            number = table.save(tmp_path / "saved") if k % 2 == 0 else table.save_delta(wait=False).result()
            loaded = hotrow.load(tmp_path / "saved", number)
            assert (loaded.lookup(ids) == loaded.steps).all()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not odd
    assert loaded.steps <= table.steps


def test_a_save_in_the_background_is_cut_before_it_returns(tmp_path):
    training = Training("string")
    for what in range(40):
        training.do(what)
    expected = content(training.table)
    held, go = threading.Event(), threading.Event()

    def hold(*_):
        held.set()
        assert go.wait(60)

    saving = training.table.save(tmp_path, wait=False, progress=hold)
    assert held.wait(60)
    with pytest.raises(hotrow.LockedError, match=r"is saving to it"):
        training.table.save(tmp_path)
    with pytest.raises(hotrow.LockedError, match=r"this table is being saved"):
        training.table.save(tmp_path / "elsewhere")
    assert generations(tmp_path) == []
    for what in range(40, 60):
        training.do(what)
    go.set()
    assert saving.result() == 1
    assert content(hotrow.load(tmp_path)) == expected
    assert training.table.save(tmp_path / "elsewhere") == 1


def test_a_step_waits_when_too_much_of_what_it_changes_is_still_to_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(cut, "_FEWEST", 2)
    table = hotrow.Table(DIM)
    ids = np.arange(2000)
    table.find(ids, grow=True)
    held, go, done = threading.Event(), threading.Event(), threading.Event()

    def hold(*_):
        held.set()
        assert go.wait(60)

    def train():
        for start in range(0, 2000, 50):
            table.update(ids[start : start + 50], np.ones((50, DIM), np.float32))
        done.set()

    before = table.lookup(ids)
    saving = table.save(tmp_path, wait=False, progress=hold)
    assert held.wait(60)
    trainer = threading.Thread(target=train)
    trainer.start()
    assert not done.wait(0.3)
    assert (table.lookup(ids) != before).any()
    go.set()
    assert done.wait(60)
    trainer.join()
    saving.result()
    assert (hotrow.load(tmp_path).lookup(ids) == before).all()


def test_a_save_that_fails_beside_training_says_so_and_the_next_delta_has_all(tmp_path, monkeypatch, caplog):
    training = Training("int64")
    for what in range(30):
        training.do(what)
    training.table.save(tmp_path)
    for delta in (True, False, True):
        for what in range(8):
            training.do(what)
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "hotrow"):
            full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path))
            patch.setattr(writing, "write_durably", lambda *_, full=full: (_ for _ in ()).throw(full))
            beside = iter(range(8, 16))
            options = {"progress": lambda *_, beside=beside: [training.do(what) for what in islice(beside, 1)]}
            failed = (
                training.table.save_delta(wait=False, **options)
                if delta
                else training.table.save(tmp_path, wait=False, **options)
            )
            assert failed.exception().errno == errno.ENOSPC
        assert "what was there before is as it was" in caplog.text
        assert generations(tmp_path) == [1]
        for what in range(16, 24):
            training.do(what)
    training.table.save_delta()
    assert_equal(hotrow.load(tmp_path), training.table)


def test_a_table_restored_or_given_another_optimizer_beside_a_save_is_saved_as_it_was(tmp_path):
    for change in ("restore", "optimizer"):
        training = Training("string")
        for what in range(40):
            training.do(what)
        expected = content(training.table)
        once = iter([1])

        def go_on(*_, training=training, once=once, change=change):
            for _ in once:
                if change == "restore":
                    training.table.restore(hotrow.Table(DIM, optimizer=hotrow.Adam(0.1), ids="string").state())
                else:
                    training.table.set_optimizer(hotrow.SGD(0.1))
                training.do(0)

        path = tmp_path / change
        training.table.save(path, progress=go_on)
        assert content(hotrow.load(path)) == expected
        with pytest.raises(hotrow.ArgumentError, match=r"again after restore\(\) or another optimizer"):
            training.table.save_delta()
        training.table.save(path)
        training.do(1)
        training.table.save_delta()
        assert_equal(hotrow.load(path), training.table)


EXITS = """
import sys, numpy as np, hotrow
table = hotrow.Table(8)
table.find(np.arange(200_000), grow=True)
table.save(sys.argv[1], wait=False)
"""


@pytest.mark.compiled
def test_a_program_that_ends_while_a_table_is_saved_ends_when_it_is(tmp_path):
    program = [sys.executable, "-c", EXITS, str(tmp_path)]
    ended = subprocess.run(program, check=False, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(hotrow.load(tmp_path)) == 200_000
    assert verify(tmp_path) == []


def test_a_table_without_ids_is_saved_and_changed(tmp_path):
    table = hotrow.Table(DIM)
    table.save(tmp_path)
    assert table.save_delta() == 2
    table.find(["a"], grow=True)
    table.save_delta()
    loaded = hotrow.load(tmp_path)
    assert (loaded.kind, loaded.ids().to_pylist()) == ("string", ["a"])
    assert hotrow.load(tmp_path, 2).kind is None


FORKS = """
import os, sys, threading, numpy as np, hotrow
table = hotrow.Table(8, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
ids = np.arange(2000)
table.find(ids, grow=True)
table.save(sys.argv[1] + "/before")
held, go = threading.Event(), threading.Event()
saving = table.save(sys.argv[1] + "/parent", wait=False, progress=lambda *_: (held.set(), go.wait(60)))
held.wait(60)
child = os.fork()
if child == 0:
    for _ in range(50):
        table.update(ids, np.ones((2000, 8), np.float32))
    try:
        table.save_delta(sys.argv[1] + "/before")  # what has changed between it and the fork, only the parent knows
        os._exit(2)
    except hotrow.LockedError:
        os._exit(0 if table.save(sys.argv[1] + "/child") == 1 else 1)
assert os.waitpid(child, 0)[1] == 0
go.set()
assert saving.result() == 1
"""


@pytest.mark.compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_during_a_save_trains_on_and_saves_by_itself(tmp_path):
    program = [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path)]
    subprocess.run(program, check=True, timeout=300)
    parent, child = hotrow.load(tmp_path / "parent"), hotrow.load(tmp_path / "child")
    assert (parent.steps, child.steps) == (0, 50)
    assert (parent.lookup([3]) - child.lookup([3]) == 50).all()


@pytest.mark.compiled
def test_a_step_in_the_progress_of_a_save_does_not_wait_for_the_saver(tmp_path, monkeypatch):
    monkeypatch.setattr(cut, "_FEWEST", 1)
    monkeypatch.setattr(cut, "_PATIENCE", 600.0)
    table = hotrow.Table(DIM)
    ids = np.arange(2000)
    before = table.lookup(ids, grow=True)
    steps = iter(range(50))
    table.save(tmp_path, progress=lambda *_: [table.update(ids, np.ones((2000, DIM))) for _ in islice(steps, 1)])
    assert (hotrow.load(tmp_path).lookup(ids) == before).all()
    assert table.steps > 5


@pytest.mark.compiled
def test_steps_go_on_where_the_saver_has_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(cut, "_FEWEST", 1)
    monkeypatch.setattr(cut, "_PATIENCE", 0.05)
    table = hotrow.Table(DIM)
    ids = np.arange(2000)
    before = table.lookup(ids, grow=True)
    held, go = threading.Event(), threading.Event()
    saving = table.save(tmp_path, wait=False, progress=lambda *_: (held.set(), go.wait(600)))
    assert held.wait(60)
    for _ in range(20):
        table.update(ids, np.ones((2000, DIM), np.float32))
    go.set()
    saving.result()
    assert (hotrow.load(tmp_path).lookup(ids) == before).all()


@pytest.mark.parametrize("where", ["_before_change", "start"])
@pytest.mark.parametrize("kind", ["int64", "string"])
def test_a_ctrl_c_while_new_ids_get_their_rows_leaves_none_of_them(tmp_path, monkeypatch, kind, where):
    training = Training(kind)
    for what in range(20):
        training.do(what)
    table, new = training.table, [training.named(i) for i in range(5000, 5050)]
    table.save(tmp_path)
    before = content(table)
    with monkeypatch.context() as patch:
        owner = table if where == "_before_change" else table._rows
        patch.setattr(owner, where, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            table.find(new, grow=True)
    assert content(table) == before
    table.find(new[:10], grow=True)
    table.save_delta()
    assert_equal(hotrow.load(tmp_path), table)
    assert (table.lookup(new) == hotrow.Table(DIM, ids=kind).lookup(new)).all()


def test_a_save_that_lost_a_row_is_given_up(tmp_path, monkeypatch):
    table = hotrow.Table(DIM)
    table.find(np.arange(500), grow=True)
    table.save(tmp_path)
    honest = cut.Cut._note
    monkeypatch.setattr(cut.Cut, "_note", lambda self, numbers: honest(self, numbers[1:]))
    with pytest.raises(RuntimeError, match="rows of 500 came"):
        table.save(tmp_path, keep=1)
    assert generations(tmp_path) == [1]
    monkeypatch.undo()
    assert table.save(tmp_path, keep=1) == 2
