"""The power fails: whatever reached the disk by then, a folder holds what was acknowledged last, or something newer.

`disk.py` says what may have reached it. Each state is loaded, verified, and saved over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from pathlib import Path

import pytest
from stories import Killed, Story, fail_at, leave_out
from test_snapshot import TEXTS, save, state

from hotrow.store.snapshot import generations, read, verify

STATES = [pytest.param(250, id="some states"), pytest.param(5000, id="many states", marks=pytest.mark.long)]


def content(state):
    """A state of a table as something that can be compared: every bit of it."""
    strings = None if state.strings is None else state.strings.to_pylist()
    arrays = {"keys": state.keys, "weights": state.weights, "cells": state.cells, **state.slots}
    return state.config, strings, {name: (array.shape, array.tobytes()) for name, array in arrays.items()}


# --- tables ----------------------------------------------------------------------------------------------------------


def look(path: Path):
    """What a table's folder holds."""
    if not path.is_dir() or not generations(path):
        return None
    problems = verify(path)
    if problems:
        raise OSError(problems[0])
    return content(read(path))


def again(path: Path):
    given = state(2, seed=99)
    save(path, given, keep=1)
    assert {entry.name for entry in path.iterdir()} == {"lock", f"generation-{generations(path)[-1]:06d}"}
    return content(given)


def given(seed: int):
    return state(texts=TEXTS[: 3 + seed], seed=seed)


def saving_one(seed: int, keep: int = 2):
    """(what it leaves, the call)"""
    return content(given(seed)), lambda path: save(path, given(seed), keep=keep)


def story_of_tables(folder: Path, path: str = "items") -> Story:
    return Story(folder, path, look, again)


def saves(folder: Path, keep: int) -> Story:
    story = story_of_tables(folder, "new/items")
    for seed in range(4):
        story.do(*saving_one(seed, keep))
    return story


TABLES = {
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
    save(path, given(0))


@pytest.mark.parametrize(
    ("first", "last", "known"),
    [
        pytest.param(None, (content(given(0)), in_a_new_folder), 0, id="a first save"),
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
        assert next(left_out.problems(tmp_path / "crash", 1000, since=known), None), f"call {number} isn't needed"


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
    [pytest.param(6, 20, id="some"), pytest.param(1, 300, id="all", marks=pytest.mark.long)],
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
        assert list(story.problems(tmp_path / "crash", 60, since=1)) == []


def test_a_generation_half_removed_by_a_save_that_died_never_comes_back_half(tmp_path):
    calls = calls_of_a_save(tmp_path / "calls", saved=True)
    step = calls.index("unlink")
    assert calls[step + 1] == "fsync"
    story = saved_after_a_broken_one(tmp_path / "dies", "dies", step + 2, saved=True)
    assert list(story.problems(tmp_path / "crash", 300, since=2)) == []
