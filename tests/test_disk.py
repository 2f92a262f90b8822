"""The model of a disk whose power fails: what it forgives, and that it notices each sync that is forgotten."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from functools import partial

import pytest
from disk import BLOCK, LEAVE_OUT, Disk


def put(path, data, *, sync=True):
    """A new file with `data` in it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(handle, data)
    if sync:
        os.fsync(handle)
    os.close(handle)


def sync_folder(path):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def replace(folder, data, *, sync=True, after=True):
    """Put `data` in the place of what is in `folder / "it"`, as one should."""
    put(folder / "new", data, sync=sync)
    (folder / "new").replace(folder / "it")
    if after:
        sync_folder(folder)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    return path


@pytest.fixture
def before(folder):
    """A folder with a file of old bytes."""
    (folder / "it").write_bytes(b"old")
    return folder


def contents(disk, at_most=1000):
    """What `it` may hold: before the call has returned, and after."""
    disk.acknowledge()
    found = list(disk.crashes(at_most))
    return [{crash.tree.get("it") for crash in found if crash.acknowledged == n} for n in (0, 1)]


# --- what it says of writers -----------------------------------------------------------------------------------------


def test_a_file_that_is_replaced_as_it_should_be_is_the_old_or_the_new_one_and_then_the_new(before):
    with Disk(before) as disk:
        replace(before, b"new")
    assert contents(disk) == [{b"old", b"new"}, {b"new"}]


def test_a_rename_without_the_sync_of_the_file_may_show_an_empty_half_or_zero_one(before):
    with Disk(before) as disk:
        replace(before, b"n" * 3 * BLOCK, sync=False)
    _, after = contents(disk)
    assert {b"", b"n" * BLOCK, bytes(3 * BLOCK), b"n" * 3 * BLOCK} <= after
    assert b"n" * 2 * BLOCK + bytes(BLOCK) in after
    assert bytes(BLOCK) + b"n" * 2 * BLOCK in after
    assert b"old" not in after


def test_a_rename_without_the_sync_of_its_folder_may_be_undone_after_the_call_has_returned(before):
    with Disk(before) as disk:
        replace(before, b"new", after=False)
    assert contents(disk) == [{b"old"}, {b"old", b"new"}]


def test_a_folder_that_is_synced_before_the_rename_does_not_have_it(before):
    with Disk(before) as disk:
        put(before / "new", b"new")
        sync_folder(before)
        (before / "new").replace(before / "it")
    assert contents(disk)[1] == {b"old", b"new"}


def test_a_file_written_in_place_may_be_lost(before):
    with Disk(before) as disk:
        put(before / "it", b"new")
    assert contents(disk) == [{b"old", b"new", b"", b"\0\0\0"}, {b"new"}]


def test_a_new_file_has_no_name_before_its_folder_is_synced(folder):
    with Disk(folder) as disk:
        put(folder / "it", b"new")
    assert contents(disk)[1] == {None, b"new"}


def test_a_new_folder_has_no_name_before_the_one_above_is_synced(folder):
    for above in (False, True):
        with Disk(folder) as disk:
            (folder / f"deep{above}").mkdir()
            put(folder / f"deep{above}" / "it", b"new")
            sync_folder(folder / f"deep{above}")
            if above:
                sync_folder(folder)
        disk.acknowledge()
        found = {crash.tree.get(f"deep{above}/it") for crash in disk.crashes(1000) if crash.acknowledged}
        assert found == ({b"new"} if above else {None, b"new"})


def test_what_one_name_refers_to_may_be_missing_if_their_folder_was_not_synced_between(before):
    for between in (False, True):
        with Disk(before) as disk:
            put(before / f"part{between}", b"part")
            if between:
                sync_folder(before)
            replace(before, f"part{between}".encode())
        found = disk.crashes(10_000)
        lost = [crash for crash in found if crash.tree["it"] not in {b"old", *map(str.encode, crash.tree)}]
        assert bool(lost) is not between
        (before / "it").write_bytes(b"old")


def test_names_removed_together_may_come_back_one_by_one(folder):
    for name in "abc":
        put(folder / name, b"")
    with Disk(folder) as disk:
        for name in "abc":
            (folder / name).unlink()
    assert {frozenset(crash.tree) for crash in disk.crashes(1000, since=3)} == {
        frozenset(c) for c in ("", *"abc", "ab", "ac", "bc", "abc")
    }


def test_a_rename_is_never_half(folder):
    put(folder / "a", b"a")
    with Disk(folder) as disk:
        (folder / "a").rename(folder / "b")
    assert {frozenset(crash.tree) for crash in disk.crashes(1000)} == {frozenset("a"), frozenset("b")}


def test_later_writes_may_reach_the_disk_without_earlier_ones(folder):
    put(folder / "it", b"")
    with Disk(folder) as disk:
        handle = os.open(folder / "it", os.O_WRONLY)
        os.write(handle, b"1" * BLOCK)
        os.write(handle, b"2" * BLOCK)
        os.fsync(handle)
        os.write(handle, b"3")
        os.close(handle)
    before, after = contents(disk)
    assert bytes(BLOCK) + b"2" * BLOCK in before
    assert after == {b"1" * BLOCK + b"2" * BLOCK + more for more in (b"", b"\0", b"3")}


def test_all_states_are_made_where_they_are_few_and_as_many_as_asked_for_where_not(folder):
    with Disk(folder) as disk:
        put(folder / "it", b"1" * BLOCK + b"2" * BLOCK, sync=False)
    states = {crash.tree.get("it") for crash in disk.crashes(1000)}
    assert states == {None, b""} | {
        (one + two)[:size]
        for one in (bytes(BLOCK), b"1" * BLOCK)
        for two in (bytes(BLOCK), b"2" * BLOCK)
        for size in (BLOCK, 2 * BLOCK)
    }
    with Disk(folder) as disk:
        for i in range(20):
            put(folder / f"{i}", b"x", sync=False)
    found = list(disk.crashes(500, seed=1))
    assert len(found) == 500
    assert found == list(disk.crashes(500, seed=1)) != list(disk.crashes(500, seed=2))
    assert len({crash.after for crash in found}) > len(disk.events) - 2


# --- what it writes down ---------------------------------------------------------------------------------------------


def test_what_is_written_down_is_what_is_on_the_disk(before, tmp_path):
    def change():
        (before / "a").mkdir()
        put(before / "a" / "1", b"one")
        handle = os.open(before / "a", os.O_RDONLY)
        inner = os.open("2", os.O_RDWR | os.O_CREAT, 0o666, dir_fd=handle)
        os.pwrite(inner, b"two", 5)
        os.ftruncate(inner, 6)
        os.fdatasync(inner)
        os.link(before / "a" / "1", before / "linked")
        os.rename("2", "3", src_dir_fd=handle, dst_dir_fd=handle)
        os.remove("1", dir_fd=handle)
        os.mkdir("b", dir_fd=handle)
        os.rmdir("b", dir_fd=handle)
        put(tmp_path / "elsewhere", b"no matter")
        (tmp_path / "elsewhere").unlink()
        os.close(inner)
        os.close(handle)

    with Disk(before) as disk:
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()
    assert disk.as_it_is() == {"it": b"old", "a": None, "a/3": b"\0\0\0\0\0t", "linked": b"one"}
    assert disk.as_it_is() in [crash.tree for crash in disk.crashes(1000)]
    with Disk(before) as disk:
        shutil.rmtree(before / "a")
    assert disk.as_it_is() == {"it": b"old", "linked": b"one"}
    assert disk.calls == ["unlink", "rmdir"]


def test_a_state_is_laid_out_as_it_was(before, tmp_path):
    with Disk(before) as disk:
        (before / "a").mkdir()
        put(before / "a" / "1", b"one")
    crash = next(crash for crash in disk.crashes(1000) if len(crash.tree) == 3)
    again = crash.put(tmp_path / "again")
    assert (again / "it").read_bytes() == b"old"
    assert (again / "a" / "1").read_bytes() == crash.tree["a/1"]


# --- faults ----------------------------------------------------------------------------------------------------------


def test_a_fault_may_fail_a_call_cut_a_write_short_or_leave_a_sync_out(before):
    def fault(step, name, path):
        if name == "replace":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        return {"write": 2, "fsync": LEAVE_OUT}.get(name)

    with Disk(before, fault) as disk, pytest.raises(OSError, match="cross-device"):
        replace(before, b"new")
    assert disk.calls == ["open", "write", "fsync", "replace"]
    assert disk.told == ["create new", "write 2 bytes"]
    assert disk.as_it_is() == {"it": b"old", "new": b"ne"}
    assert not isinstance(os.open, partial)
