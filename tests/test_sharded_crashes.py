"""The power fails while a table in shards is saved: what was acknowledged last is there, whole, or something newer.

`disk.py` says what may have reached the disk by then; `test_crashes.py` has the same of one table.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import pytest
from sharding import Owner
from stories import Killed, Story, fail_at, leave_out
from test_crashes import SECRET, STATES, held

import hotrow
from hotrow.store import forgetting, saves, sharded
from hotrow.store import generations as folders
from hotrow.store.snapshot import generations, verify


def look(path: Path):
    """What a table's folder holds: all that a file of a table in shards names is there and checked."""
    if not path.is_dir() or not generations(path):
        return None
    problems = verify(path)
    if problems:
        raise OSError(problems[0])
    for number in folders.sharded(path):
        sharded.read(path, number)
    return held(hotrow.load(path))


def again(path: Path):
    """Saved once more, by a table on another number of shards: nothing of before is left."""
    table = hotrow.Table(3, optimizer=hotrow.Adam(0.1), seed=5)
    table.update(table.find(["one more", "and more"], grow=True), np.ones((2, 3), np.float32))
    Owner(table, 1).save(path, keep=1)
    number = generations(path)[-1]
    assert {entry.name for entry in path.iterdir()} == {"lock", f"sharded-{number:06d}.json", "shard-000"}
    assert len(folders.begun(path / "shard-000")) == 1
    return held(table)


def grown(table: hotrow.Table, seed: int) -> None:
    ids = [SECRET, *(f"id {i}" for i in range(seed, seed + 5))]
    table.update(table.find(ids, grow=True), np.full((len(ids), 3), 1 + seed, np.float32))
    table.forget([f"id {seed}"])


def told(folder: Path, operations: str, shards: int = 2, keep: int = 1) -> tuple[Story, Owner]:
    """save, delta, plain save, compact, forget: by their first letters."""
    story = Story(folder, "new/items", look, again)
    owner = Owner(hotrow.Table(3, optimizer=hotrow.Adam(0.1), seed=1), shards)
    for seed, operation in enumerate(operations):
        do(story, owner, seed, operation, keep)
    return story, owner


def do(story: Story, owner: Owner, seed: int, operation: str, keep: int = 1, fault=None) -> None:
    if operation == "f":
        owner.table.forget([SECRET])
    elif operation != "c":
        grown(owner.table, seed)
    call = {
        "s": lambda path: owner.save(path, keep=keep),
        "d": lambda path: owner.save_delta(),
        "p": lambda path: owner.table.save(path, keep=keep),
        "c": lambda path: hotrow.compact(path, keep=keep),
        "f": lambda path: forgetting.forget(path, [SECRET]),
    }[operation]
    story.do(held(owner.table), call, fault)


@pytest.mark.parametrize("at_most", STATES)
@pytest.mark.parametrize("operations", [pytest.param("sdsd", marks=pytest.mark.long), "sdc", "sps", "sdf"])
def test_whenever_the_power_fails_a_table_in_shards_is_the_last_that_was_saved_or_the_next(
    tmp_path, operations, at_most
):
    story, _ = told(tmp_path / "disk", operations)
    assert list(story.problems(tmp_path / "crash", at_most)) == []


@pytest.mark.parametrize("at_most", STATES)
def test_older_saves_stay_whole_too_whenever_the_power_fails(tmp_path, at_most):
    story, _ = told(tmp_path / "disk", "sss", keep=2)
    assert list(story.problems(tmp_path / "crash", at_most)) == []


def test_each_sync_that_ties_shards_is_needed_and_it_is_noticed_if_it_is_left_out(tmp_path, monkeypatch):
    """The free numbers, all names, the file that ties, its name; and its end, before what it needs is removed."""
    begun: list[tuple[int, int]] = []
    honest = sharded.write
    whole, owner = told(tmp_path / "whole", "s")

    def write(*arguments):
        begun.append((len(whole.disk.calls), len(whole.disk.events)))
        return honest(*arguments)

    with monkeypatch.context() as watched:
        watched.setattr(sharded, "write", write)
        do(whole, owner, 1, "s")
    first, since = begun[0]
    numbers = [i for i, name in enumerate(whole.disk.calls[first:], first + 1) if name == "fsync"][:5]
    assert len(numbers) == 5
    for number in numbers:
        story = Story(tmp_path / f"without-{number}", "new/items", look, again)
        owner = Owner(hotrow.Table(3, optimizer=hotrow.Adam(0.1), seed=1), 2)
        do(story, owner, 0, "s")
        do(story, owner, 1, "s", fault=lambda before, number=number: leave_out(number))
        crashes = story.disk.crashes(300, since=since)
        found = any(story.problem(crash, tmp_path / "crash", go_on=False) for crash in crashes)
        assert found, f"call {number} isn't needed"


@pytest.mark.parametrize("operations", ["ssf", "sdf"])
def test_whenever_the_power_fails_after_an_id_was_forgotten_no_file_of_a_shard_has_it(tmp_path, operations):
    story, _ = told(tmp_path / "disk", operations, keep=2)
    crashes = list(story.disk.crashes(1500))
    ended = [crash for crash in crashes if crash.acknowledged == len(operations)]
    assert ended
    assert not [crash.shown for crash in ended if SECRET.encode() in b"".join(filter(None, crash.tree.values()))]
    before = [crash for crash in crashes if crash.acknowledged < len(operations)]
    assert [crash for crash in before if SECRET.encode() in b"".join(filter(None, crash.tree.values()))]


BROKEN = {
    "dies": lambda step: fail_at(step, Killed(), for_ever=True),
    "fails": lambda step: fail_at(step, OSError(errno.EIO, os.strerror(errno.EIO))),
}


@pytest.mark.parametrize(
    ("every", "at_most"),
    [pytest.param(23, 8, id="some"), pytest.param(1, 20, id="all", marks=pytest.mark.long)],
)
@pytest.mark.parametrize("how", BROKEN)
def test_what_is_saved_after_a_save_that_broke_anywhere_is_as_safe_as_any(tmp_path, how, every, at_most):
    whole, _ = told(tmp_path / "calls", "ss")
    calls = whole.disk.calls[whole.starts[-1] :]
    for step in range(1, len(calls) + 1, every):
        story, owner = told(tmp_path / f"{step}", "s")
        with contextlib.suppress(Killed, OSError):
            do(story, owner, 1, "s", fault=lambda before, step=step: BROKEN[how](before + step))
        do(story, Owner(owner.table, 3), 2, "s")
        problems = list(story.problems(tmp_path / "crash", at_most, seed=step, since=2))
        assert problems == [], f"{how} at call {step}, {calls[step - 1]}"


def test_nothing_is_left_of_shards_when_a_plain_table_has_taken_their_place(tmp_path):
    story, _ = told(tmp_path / "disk", "sdpp")
    path = tmp_path / "disk" / "new" / "items"
    assert {entry.name for entry in path.iterdir()} == {"lock", "generation-000004"}
    assert saves.is_whole(path, 4)
    assert list(story.problems(tmp_path / "crash", 60)) == []
