"""What brings a shard back: its home, whenever the power fails and whoever else writes there."""

from __future__ import annotations

import os
import shutil
import signal
import threading

import numpy as np
import pytest
from disk import Disk

import hotrow
from hotrow.cluster import home as home_module
from hotrow.cluster.home import Home
from hotrow.cluster.keyed import HOME, SAVES, Keyed
from hotrow.cluster.numbers import Numbers
from hotrow.cluster.whole import uninterrupted

DIM = 3


def changed(table: Keyed, number: int) -> Keyed:
    """Change `number`: one key comes, all that are there move, and every fourth goes."""
    keys = np.arange(number, dtype=np.uint64)
    table.admit("int64", keys[-1:], None, np.array([number - 1]))
    table.step(keys, np.full((number, DIM), number, np.float32), 0.1, number)
    if number % 4 == 0:
        table.drop(keys[:1] + np.uint64(number // 4 - 1))
    return table


def after(number: int) -> Keyed:
    """The table that so many changes make."""
    table = Keyed(DIM, optimizer=hotrow.Adagrad(0.1))
    for each in range(1, number + 1):
        changed(table, each)
    return table


def held(table: Keyed) -> dict[int, bytes]:
    """By key, the bytes of its row and slots."""
    state = table.part(whole=True)
    rows = np.concatenate([state.weights, *(state.slots[name] for name in sorted(state.slots))], axis=1)
    return {key: row.tobytes() for key, row in zip(state.keys.tolist(), rows, strict=True)}


def kept(home: Home, table: Keyed, applied: int) -> None:
    home.keep(table, applied).result(60)


@pytest.mark.parametrize("states", [pytest.param(60, id="some"), pytest.param(1500, id="many", marks=pytest.mark.long)])
def test_after_a_power_cut_the_number_of_changes_is_that_of_the_table_it_stands_beside(tmp_path, states):
    root = tmp_path / "home"
    root.mkdir()
    with Disk(root) as disk:
        table, acknowledged = after(0), [0]
        home = Home(root, 0, "a")
        for number in range(1, 8):
            kept(home, changed(table, number), number)
            acknowledged.append(number)
            disk.acknowledge()
        table, number = Home(root, 0, "b").load()
        home = Home(root, 0, "b")  # another life begins with that, whole, in a folder of its own
        for number in range(8, 11):
            kept(home, changed(table, number), number)
            acknowledged.append(number)
            disk.acknowledge()
    seen = set()
    for i, crash in enumerate(disk.crashes(states)):
        there = crash.put(tmp_path / f"crash-{i}")
        loaded, applied = Home(there, 0, "c").load() or (after(0), 0)
        assert applied >= acknowledged[crash.acknowledged], crash.shown
        assert held(loaded) == held(after(applied)), crash.shown
        seen.add(applied)
    assert seen >= {0, 1, 7, 10}


def test_a_life_that_was_thought_dead_can_neither_turn_the_newer_one_back_nor_hinder_it(tmp_path):
    old, new = Home(tmp_path, 0, "old"), Home(tmp_path, 0, "new")
    first = after(2)
    kept(old, first, 2)
    second, applied = new.load()
    assert applied == 2
    for number in (3, 4, 5):
        kept(new, changed(second, number), number)
    with pytest.raises(hotrow.LockedError):  # its own has gone
        kept(old, changed(first, 3), 3)
    old.left()
    kept(old, changed(first, 4), 4)  # late: as if it had been on its way when the other began
    third, applied = Home(tmp_path, 0, "third").load()
    assert applied == 5
    assert held(third) == held(after(5))
    kept(new, changed(second, 6), 6)
    assert {path.stem for path in (tmp_path / "kept-000").glob("*.json")} == {"new"}
    assert {path.name for path in (tmp_path / "kept-000").iterdir()} == {"new", "new.json"}


def test_deltas_are_as_much_as_the_table_at_most_and_then_all_of_it_is_written_anew(tmp_path):
    home, table = Home(tmp_path, 0, "life"), Keyed(DIM, optimizer=hotrow.SGD(0.1))
    keys = np.arange(20_000, dtype=np.uint64)
    table.admit("int64", keys, None, np.arange(20_000))
    whole = []
    for number in range(1, 15):
        table.step(keys[: 20_000 // 4], np.ones((5_000, DIM), np.float32), 0.1, number)
        kept(home, table, number)
        folders = sorted((tmp_path / "kept-000" / "life").glob("generation-*"))
        whole.append(len(folders) == 1)
    assert whole[0]
    assert 1 <= sum(whole[1:]) <= 2
    loaded, _ = Home(tmp_path, 0, "next").load()
    assert held(loaded) == held(table)


def test_what_has_changed_is_known_for_the_home_and_for_saves_apart(tmp_path):
    table, home = after(3), Home(tmp_path / "home", 0, "life")
    kept(home, table, 3)
    table.turn_to(SAVES)
    table.save(tmp_path / "saves")
    changed(table, 4)  # a key goes
    kept(home, table, 4)
    changed(table, 5)
    table.turn_to(SAVES)
    table.save_delta(tmp_path / "saves")
    table.turn_to(HOME)
    assert table.saved.path == tmp_path / "home" / "kept-000" / "life"
    changed(table, 6)
    kept(home, table, 6)
    loaded, applied = Home(tmp_path / "home", 0, "next").load()
    assert (applied, held(loaded)) == (6, held(after(6)))
    assert held(hotrow.store.load_as(Keyed, tmp_path / "saves")) == held(after(5))


def test_another_optimizer_leaves_each_row_its_number():
    table = after(5)
    before = table.numbers_of(np.arange(4, dtype=np.int32)).tolist()
    table.set_optimizer(hotrow.Adam(0.1))
    assert table.numbers_of(np.arange(4, dtype=np.int32)).tolist() == before


def test_numbers_that_follow_are_those_that_are_taken():
    numbers = Numbers(5)
    numbers.give_back(np.array([1, 3, 2]))
    for count in (0, 2, 4, 1):
        following = numbers.following(count).tolist()
        assert numbers.following(count).tolist() == following
        assert numbers.take(count).tolist() == following
    assert len(numbers) == 9
    assert numbers.most == 9


def test_ctrl_c_waits_for_the_end_of_what_is_done_as_a_whole():
    done = []

    def whole():
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("first")
            with uninterrupted():
                done.append("second")
            done.append("third")

    with pytest.raises(KeyboardInterrupt):
        whole()
    assert done == ["first", "second", "third"]
    with pytest.raises(KeyboardInterrupt):  # and it is as it was
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [3, 4])
def test_a_life_that_is_still_writing_while_the_next_one_reads_is_read_again(tmp_path, monkeypatch, number):
    old, table, reads = Home(tmp_path, 0, "old"), after(2), []
    kept(old, table, 2)
    load = home_module.load_as

    def late(*args):
        """Read only after the old life has kept once more, and removed what was there before."""
        if not reads:
            changed(table, 3)
            old.left()
            kept(old, table, 3)
            if number == 4:
                kept(old, changed(table, 4), 4)
        reads.append(args)
        return load(*args)

    monkeypatch.setattr(home_module, "load_as", late)
    loaded, applied = Home(tmp_path, 0, "new").load()
    assert (applied, held(loaded)) == (number, held(after(number)))


def test_a_home_that_is_broken_is_an_error_at_once(tmp_path):
    kept(Home(tmp_path, 0, "old"), after(2), 2)
    shutil.rmtree(tmp_path / "kept-000" / "old")
    with pytest.raises((hotrow.HotrowError, OSError)):
        Home(tmp_path, 0, "new").load()


@pytest.mark.parametrize("place", [HOME, SAVES])
def test_what_was_written_is_told_though_another_optimizer_came_meanwhile(tmp_path, place):
    """And the next time all of it is kept, for no row has its slots any more."""
    table, began, go_on = after(5), threading.Event(), threading.Event()

    def wrote(*_):
        began.set()
        assert go_on.wait(60)

    home = Home(tmp_path / "home", 0, "life", wrote)
    if place == HOME:
        writing = home.keep(table, 5)
    else:
        table.turn_to(SAVES)
        writing = table.save(tmp_path / "t", wait=False, progress=wrote)
    assert began.wait(60)
    table.set_optimizer(hotrow.Adam(0.1))
    go_on.set()
    writing.result(60)
    if place == HOME:
        loaded, applied = Home(tmp_path / "home", 0, "next").load()
        assert applied == 5
    else:
        loaded = hotrow.store.load_as(Keyed, tmp_path / "t")
    assert table.written == loaded.saved
    assert held(loaded) == held(after(5))
    kept(home, changed(table, 6), 6)
    loaded, applied = Home(tmp_path / "home", 0, "next").load()
    assert (applied, held(loaded)) == (6, held(table))


def test_another_table_is_kept_whole(tmp_path):
    home, second = Home(tmp_path, 0, "life"), after(3)
    kept(home, after(5), 5)
    kept(home, second, 6)
    loaded, applied = Home(tmp_path, 0, "next").load()
    assert (applied, held(loaded)) == (6, held(second))
