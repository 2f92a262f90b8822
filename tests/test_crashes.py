"""The power fails: whatever reached the disk by then, a folder holds what was acknowledged last, or something newer.

`disk.py` says what may have reached it. Each state is loaded, verified, and saved over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import threading
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from stories import Killed, Story, fail_at, leave_out
from test_snapshot import TEXTS

import hotrow.store
from hotrow.store import forgetting
from hotrow.store.snapshot import generations, verify

STATES = [pytest.param(80, id="some states"), pytest.param(2000, id="many states", marks=pytest.mark.long)]


def held(table: hotrow.Table):
    """What a table holds, to be compared: its config, and by key all that is kept of an id, to the bit."""
    state = table.state()
    arrays = [state.weights, *state.slots.values()]
    strings = [None] * len(state.keys) if state.strings is None else state.strings.to_pylist()
    rows = zip(strings, *([row.tobytes() for row in array] for array in arrays), strict=True)
    return state.config, list(state.slots), dict(zip(state.keys.tolist(), rows, strict=True))


# --- tables ----------------------------------------------------------------------------------------------------------


def look(path: Path):
    """What a table's folder holds."""
    if not path.is_dir() or not generations(path):
        return None
    problems = verify(path)
    if problems:
        raise OSError(problems[0])
    return held(hotrow.load(path))


def again(path: Path):
    table = trained(["one more"])
    table.save(path, keep=1)
    assert {entry.name for entry in path.iterdir()} == {"lock", f"generation-{generations(path)[-1]:06d}"}
    return held(table)


def trained(ids: list[str]) -> hotrow.Table:
    table = hotrow.Table(3, optimizer=hotrow.Adam(0.1), seed=len(ids))
    table.update(table.find(ids, grow=True), np.ones((len(ids), 3), np.float32))
    return table


def saving_one(seed: int, keep: int = 2):
    """(what it leaves, the call)"""
    table = trained(TEXTS[: 3 + seed])
    return held(table), lambda path: table.save(path, keep=keep)


def story_of_tables(folder: Path, path: str = "items") -> Story:
    return Story(folder, path, look, again)


def saves(folder: Path, keep: int) -> Story:
    story = story_of_tables(folder, "new/items")
    for seed in range(4):
        story.do(*saving_one(seed, keep))
    return story


SECRET = "whoever is to be forgotten"


def grown(table: hotrow.Table, seed: int) -> hotrow.Table:
    """A step of training: some rows change, one comes, and one goes."""
    ids = [SECRET, *(f"id {i}" for i in range(seed, seed + 4))]
    table.update(table.find(ids, grow=True), np.full((len(ids), 3), 1 + seed, np.float32))
    table.forget([f"id {seed}"])
    return table


def deltas(folder: Path, operations: str) -> Story:
    """save, delta, compact, forget: by their first letters. A capital: beside training."""
    story = story_of_tables(folder)
    table = hotrow.Table(3, optimizer=hotrow.Adam(0.1), seed=1)
    for seed, operation in enumerate(operations):
        if operation == "f":
            table.forget([SECRET])
        elif operation != "c":
            grown(table, seed)
        now = held(table)
        call = {
            "s": lambda path: table.save(path, keep=1),
            "d": lambda path: table.save_delta(),
            "S": lambda path: beside_training(table, table.save(path, keep=1, wait=False)),
            "D": lambda path: beside_training(table, table.save_delta(wait=False)),
            "c": hotrow.store.compact,
            "f": lambda path: forgetting.forget(path, [SECRET]),
        }[operation]
        story.do(now, call)
    return story


def beside_training(table: hotrow.Table, saving: Future[int]) -> None:
    grown(table, 50 + table.steps)
    saving.result()


TABLES = {
    "deltas": lambda folder: deltas(folder, "sddsd"),
    "deltas beside training": lambda folder: deltas(folder, "SDDSD"),
    "compact": lambda folder: deltas(folder, "sddcsdc"),
    "forget": lambda folder: deltas(folder, "sdfdsf"),
    "saves that keep one generation": lambda folder: saves(folder, 1),
    "saves that keep two generations": lambda folder: saves(folder, 2),
}


@pytest.mark.parametrize("at_most", STATES)
@pytest.mark.parametrize("name", TABLES)
def test_whenever_the_power_fails_a_table_is_the_last_that_was_saved_or_the_next(tmp_path, name, at_most):
    story = TABLES[name](tmp_path / "disk")
    assert list(story.problems(tmp_path / "crash", at_most)) == []


def in_a_new_folder(path: Path):
    path.mkdir()
    trained(TEXTS[:3]).save(path)


@pytest.mark.parametrize(
    ("first", "last", "known"),
    [
        pytest.param(None, (held(trained(TEXTS[:3])), in_a_new_folder), 0, id="a first save"),
        pytest.param(saving_one(0), saving_one(1), 1, id="a second save"),
        pytest.param(saving_one(0), saving_one(1, keep=1), 1, id="a save that removes one"),
    ],
)
def test_each_sync_of_a_save_is_needed_and_it_is_noticed_if_it_is_left_out(tmp_path, first, last, known):
    """known: syncs of the folder above, which isn't new the second time; no save can know that."""

    def story(name, number=0):
        told = story_of_tables(tmp_path / name)
        if first:
            told.do(*first)
        told.do(*last, lambda before: leave_out(before + number))
        return told

    whole = story("whole")
    calls = whole.disk.calls[whole.starts[-1] :]
    numbers = [number for number, name in enumerate(calls, 1) if name == "fsync"][known:]
    assert len(numbers) >= 10
    for number in numbers:
        left_out = story(f"without-{number}", number)
        assert next(left_out.problems(tmp_path / "crash", 900, since=known), None), f"call {number} isn't needed"


@pytest.mark.parametrize("operations", ["ssf", "sdsf", "sdf", "sdcf"])
def test_whenever_the_power_fails_after_an_id_was_forgotten_no_file_has_it(tmp_path, operations):
    story = deltas(tmp_path / "disk", operations)
    crashes = [crash for crash in story.disk.crashes(3000) if crash.acknowledged == len(operations)]
    assert crashes
    assert not [crash.shown for crash in crashes if SECRET.encode() in b"".join(filter(None, crash.tree.values()))]
    before = [crash for crash in story.disk.crashes(3000) if crash.acknowledged < len(operations)]
    assert [crash for crash in before if SECRET.encode() in b"".join(filter(None, crash.tree.values()))]


# --- beside training -------------------------------------------------------------------------------------------------


def test_an_id_that_is_forgotten_while_its_table_is_saved_is_in_what_is_saved(tmp_path):
    table = hotrow.Table(3, optimizer=hotrow.Adam(0.1))
    table.update(table.find(np.arange(10), grow=True), np.ones((10, 3), np.float32))
    now, forgotten = held(table), threading.Event()
    saving = table.save(tmp_path, wait=False, progress=lambda *_: forgotten.wait(60))
    table.forget([3, 4])
    table.find([77], grow=True)
    forgotten.set()
    saving.result()
    assert look(tmp_path) == now


# --- after something else went wrong ---------------------------------------------------------------------------------


BROKEN = {
    "dies": lambda step: fail_at(step, Killed(), for_ever=True),
    "fails": lambda step: fail_at(step, OSError(errno.EIO, os.strerror(errno.EIO))),
    "fails for good": lambda step: fail_at(step, OSError(errno.EIO, os.strerror(errno.EIO)), for_ever=True),
}


def saved_after_a_broken_one(folder: Path, how: str, step: int, *, saved: bool) -> Story:
    """A save perhaps, one that breaks at a call, and one that does not."""
    story = story_of_tables(folder, "new/items")
    if saved:
        story.do(*saving_one(0, keep=1))
    with contextlib.suppress(Killed, OSError):
        story.do(*saving_one(1, keep=1), lambda before: BROKEN[how](before + step))
    story.do(*saving_one(2, keep=1))
    return story


def calls_of_a_save(folder: Path, *, saved: bool) -> list[str]:
    story = story_of_tables(folder, "new/items")
    for seed in range(1 + saved):
        story.do(*saving_one(seed, keep=1))
    return story.disk.calls[story.starts[-1] :]


@pytest.mark.parametrize(
    ("every", "at_most"),
    [pytest.param(9, 12, id="some"), pytest.param(1, 40, id="all", marks=pytest.mark.long)],
)
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("how", BROKEN)
def test_what_is_saved_after_a_save_that_broke_anywhere_is_as_safe_as_any(tmp_path, how, saved, every, at_most):
    """The next save finds names that the running system shows and the disk may not have."""
    calls = calls_of_a_save(tmp_path / "calls", saved=saved)
    for step in range(1 + random.randrange(every), len(calls) + 1, every):
        story = saved_after_a_broken_one(tmp_path / f"{step}", how, step, saved=saved)
        problems = list(story.problems(tmp_path / "crash", at_most, seed=step, since=1 + saved))
        assert problems == [], f"{how} at call {step}, {calls[step - 1]}"


def test_a_folder_made_by_a_save_that_died_is_durable_after_the_next(tmp_path):
    calls = calls_of_a_save(tmp_path / "calls", saved=False)
    for step in [i for i, name in enumerate(calls, 1) if name == "mkdir"]:
        story = saved_after_a_broken_one(tmp_path / f"{step}", "dies", step + 1, saved=False)
        assert list(story.problems(tmp_path / "crash", 30, since=1)) == []


def test_a_generation_half_removed_by_a_save_that_died_never_comes_back_half(tmp_path):
    calls = calls_of_a_save(tmp_path / "calls", saved=True)
    step = calls.index("unlink")
    assert calls[step + 1] == "fsync"
    story = saved_after_a_broken_one(tmp_path / "dies", "dies", step + 2, saved=True)
    assert list(story.problems(tmp_path / "crash", 150, since=2)) == []
