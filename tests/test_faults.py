"""Calls that fail: a full disk, a broken one, rights that were lost. The save says so; nothing else is lost."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from disk import Disk
from stories import Killed, fail_at, tree_of
from test_crashes import held, look

import hotrow
import hotrow.store
from hotrow.errors import HotrowError, LockedError
from hotrow.store import forgetting
from hotrow.store.snapshot import verify

IDS = ["lantern", "cup", "mug", "teapot"]


def trained(steps: int = 3) -> hotrow.Table:
    table = hotrow.Table(3, optimizer=hotrow.Adam(0.1), seed=1)
    for _ in range(steps):
        train(table)
    return table


def train(table: hotrow.Table):
    table.update(table.find(IDS, grow=True), np.ones((len(IDS), 3), np.float32))


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A table in its second generation, trained on since; a third save has one to remove."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # this machine's power doesn't fail, and it takes long
    path = tmp_path / "disk" / "items"
    table = trained()
    for _ in range(2):
        table.save(path)
        train(table)
    return table, path


def compact(table: hotrow.Table, path: Path):
    """A delta, and a snapshot of it."""
    table.save_delta()
    hotrow.store.compact(path)


def forget(table: hotrow.Table, path: Path):
    """An id, from the live table and from all generations, and a delta that says so."""
    table.forget(IDS[:1])
    forgetting.forget(path, IDS[:1])
    table.save_delta()


OPERATIONS = {
    "save": lambda table, path: table.save(path),
    "delta": lambda table, path: table.save_delta(),
    "compact": compact,
    "forget": forget,
}


def calls_of(operation, table: hotrow.Table, path: Path) -> list[str]:
    with Disk(path.parent) as disk:
        operation(table, path)
    return disk.calls


def error_of(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error
    return None


def failing(number: int, code: int, *, for_ever: bool = False):
    """A fault as the system raises it: a call with a path names it, one with a handle doesn't."""

    def fault(step, name, path):
        if step == number or (for_ever and step > number):
            raise OSError(code, os.strerror(code), *([path] if path else []))

    return fault


CASES = [("save", name, False) for name in ("ENOSPC", "EIO", "EACCES", "EROFS")]
CASES += [("delta", "EIO", False), ("compact", "ENOSPC", False), ("forget", "EIO", False)]
CASES += [("save", "ENOSPC", True), ("delta", "ENOSPC", True)]


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(("name", "code", "for_ever"), CASES)
def test_whichever_call_fails_the_error_names_a_path_training_goes_on_and_nothing_is_lost(
    saved, tmp_path, caplog, name, code, for_ever, every
):
    """for_ever: all later calls fail, too. every: one in so many calls is tried."""
    _, path = saved
    operation, number = OPERATIONS[name], getattr(errno, code)
    caplog.set_level(logging.ERROR, "hotrow")  # what can't be removed is warned of
    shutil.copytree(path.parent, tmp_path / "kept")

    def anew() -> hotrow.Table:
        shutil.rmtree(path.parent)
        shutil.copytree(tmp_path / "kept", path.parent)
        table = hotrow.load(path)
        train(table)
        return table

    steps = range(random.randrange(every) + 1, len(calls_of(operation, anew(), path)) + 1, every)
    failed = sum(one_fails(operation, anew(), path, step, number, for_ever=for_ever) for step in steps)
    assert failed > len(steps) // 4


def one_fails(operation, table: hotrow.Table, path: Path, step: int, code: int, *, for_ever: bool) -> bool:
    before, files = look(path), files_of(path)
    with Disk(path.parent, failing(step, code, for_ever=for_ever)) as disk:
        error = error_of(operation, table, path)
    train(table)
    called = f"call {step}, {disk.calls[step - 1]}"
    if error is not None:
        assert (type(error), error.errno) == (type(OSError(code, "")), code), called
        assert str(path.parent) in str(error), called
        assert verify(path) == [], called
        if operation is OPERATIONS["save"] or operation is OPERATIONS["delta"]:
            late = for_ever and "replace" in disk.calls[: step - 1]  # it is there, and couldn't be removed again
            assert late or look(path) == before, called
            assert for_ever or files_of(path) == files, called
    try:
        operation(table, path)
    except LockedError as advice:  # of a delta, if one is there that this table was told isn't
        if not for_ever or "expected table.save(" not in str(advice):
            raise
        table.save(path)
    assert look(path) == held(table), called
    assert operation is not OPERATIONS["save"] or len(names(path)) == 3, called
    return error is not None


def files_of(path: Path) -> set[str]:
    return set(tree_of(path))


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM], ids=errno.errorcode.get)
def test_where_nothing_can_be_renamed_the_error_says_so_and_the_old_generation_stays(saved, code):
    table, path = saved
    before = look(path)

    def fault(step, name, path):
        if name in {"rename", "replace"}:
            raise OSError(code, os.strerror(code), path)

    with Disk(path.parent, fault), pytest.raises(OSError, match=str(path)) as caught:
        table.save(path)
    assert not isinstance(caught.value, HotrowError)
    assert look(path) == before
    assert names(path) == ["generation-000001", "generation-000002", "lock"]
    train(table)
    table.save(path)
    assert look(path) == held(table)


def test_a_save_that_dies_at_any_call_leaves_the_last_generation_or_the_new_one_whole(saved, tmp_path):
    table, path = saved
    shutil.copytree(path.parent, tmp_path / "kept")
    before, now = look(path), held(table)
    calls = calls_of(OPERATIONS["save"], table, path)
    for step in range(1, len(calls) + 1):
        shutil.rmtree(path.parent)
        shutil.copytree(tmp_path / "kept", path.parent)
        with Disk(path.parent, fail_at(step, Killed(), for_ever=True)), pytest.raises(Killed):
            table.save(path)
        assert look(path) == (now if "replace" in calls[: step - 1] else before), calls[step - 1]
        hotrow.load(path).save(path)
        assert len(names(path)) == 3


@pytest.mark.parametrize("take", [1, 5, 4096])
def test_writes_that_take_less_than_they_are_given_go_on_with_the_rest(saved, take):
    table, path = saved
    with Disk(path.parent, lambda step, name, _: take if name in {"write", "pwrite"} else None) as disk:
        table.save(path)
    assert disk.calls.count("write") > (1000 if take == 1 else 10)
    assert look(path) == held(table)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_signals_that_interrupt_the_calls_of_a_save_change_nothing(saved):
    table, path = saved
    rang = []
    old = signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 2e-4, 2e-4)
        while len(rang) < 100:
            table.save(path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert look(path) == held(table)


# --- a disk that is really full --------------------------------------------------------------------------------------

FULL = """
import errno, os, sys
import numpy as np
import hotrow
folder = sys.argv[1]
with open(folder + "/ballast", "wb") as file:
    file.write(bytes(200_000))
table = hotrow.Table(16, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
saved = steps = 0
while True:
    ids = np.arange(200 * steps, 200 * (steps + 1))
    table.update(table.find(ids, grow=True), -np.ones((200, 16), np.float32))
    steps += 1
    try:
        table.save(folder + "/items")
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        assert folder in str(error), error
        break
    saved = steps
assert saved > 1, saved
table.update([1], -np.ones((1, 16), np.float32))
assert (table.lookup([0, 1, 2])[:, 0] == [1, 2, 1]).all()
from hotrow.store.snapshot import verify
assert verify(folder + "/items") == []
again = hotrow.load(folder + "/items")
assert (len(again), again.steps) == (200 * saved, saved)
assert (again.lookup(np.arange(200 * saved)) == 1).all()
os.unlink(folder + "/ballast")
assert table.save(folder + "/items") == saved + 1
assert (hotrow.load(folder + "/items").lookup([0, 1, 2])[:, 0] == [1, 2, 1]).all()
print("saved", saved)
"""


def test_on_a_disk_that_is_really_full_the_last_save_stays_and_training_goes_on(tmp_path):
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=800k tmpfs "$0" && "$@"']
    try:
        may = subprocess.run([*mount, str(tmp_path), "true"], capture_output=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if may.returncode:
        pytest.skip(f"a test may not mount a tmpfs here: {may.stderr.decode().strip()}")
    command = [*mount, str(tmp_path), sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("saved ")
    assert list(tmp_path.iterdir()) == []  # it was written nowhere else
