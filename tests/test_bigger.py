"""A table whose rows are in a file learns the same to the bit, and a full disk, a fork or a kill does no harm."""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import weakref
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import int64_ids, lists, text_ids

import hotrow
from benchmarks import cgroup
from hotrow.kernels import INTERPRETED
from hotrow.table import mapped, memory
from hotrow.table.mapped import Mapped

ROOT = Path(__file__).parents[1]
MIB = 1 << 20
BYTES = 4 * 3 * 64  # of a row with Adam's slots


def run(code: str, group: cgroup.Group | None = None, **names: object) -> subprocess.CompletedProcess[str]:
    """`code` in a process of its own, with these names, each a string or a number."""
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    command = [sys.executable, "-c", f"import os, numpy as np, hotrow\n{given}{code}"]
    command = group.inside(command) if group else command
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def assert_equal(one: hotrow.Table, other: hotrow.Table) -> None:
    """Both tables are in the same state, to the bit."""
    mine, theirs = one.state(), other.state()
    assert mine.config == theirs.config
    assert mine.strings == theirs.strings
    assert (mine.keys == theirs.keys).all()
    assert (mine.cells == theirs.cells).all()
    assert mine.weights.tobytes() == theirs.weights.tobytes()
    assert {name: slot.tobytes() for name, slot in mine.slots.items()} == {
        name: slot.tobytes() for name, slot in theirs.slots.items()
    }


def trained(*tables: hotrow.Table, ids: object = range(500), steps: int = 3) -> None:
    """The same steps on each of the tables."""
    for table in tables:
        rng = np.random.default_rng(1)
        for _ in range(steps):
            batch = table.find(list(ids), grow=True)
            table.update(batch, rng.normal(size=(len(batch), table.dim)).astype(np.float32))


# --- the same table --------------------------------------------------------------------------------------------------


STEPS = st.sampled_from(["train", "forget", "set", "optimizer", "lookup"])


@settings(max_examples=30)
@given(
    st.sampled_from([int64_ids(), text_ids()]).flatmap(lambda ids: st.lists(st.tuples(STEPS, lists(ids)), max_size=12))
)
def test_whatever_is_done_to_it_a_table_in_a_file_is_the_one_in_memory(tmp_path_factory, steps):
    folder = tmp_path_factory.getbasetemp() / "rows"
    tables = [hotrow.Table(3, seed=5, path=path) for path in (None, folder)]
    for what, ids in steps:
        vectors = []
        for table in tables:
            if what == "train":
                trained(table, ids=ids, steps=1)
            elif what == "forget":
                table.forget(ids)
            elif what == "set":
                table.set(ids, np.full((len(ids), 3), 0.5, np.float32))
            elif what == "optimizer":
                table.set_optimizer(hotrow.RowwiseAdagrad(0.1 + len(ids)))
            vectors.append(table.lookup(ids).tobytes())
        assert vectors[0] == vectors[1]
    assert_equal(*tables)


@pytest.mark.parametrize("name", [*hotrow.table.optimizers.OPTIMIZERS])
def test_every_optimizer_steps_rows_in_a_file_as_those_in_memory(tmp_path, name):
    optimizer = hotrow.table.optimizers.OPTIMIZERS[name](0.05, weight_decay=0.01)
    tables = [hotrow.Table(5, optimizer=optimizer, path=path) for path in (None, tmp_path)]
    trained(*tables)
    assert_equal(*tables)


def test_it_is_saved_loaded_restored_and_given_another_optimizer_where_it_is(tmp_path):
    rows, saved = tmp_path / "rows", tmp_path / "saved"
    table, plain = hotrow.Table(4, path=rows), hotrow.Table(4)
    trained(table, plain)
    for each in (table, plain):
        each.forget(range(0, 500, 3))
    assert table.has_holes
    assert_equal(table, plain)
    table.save(saved)
    again = hotrow.load(saved, rows=rows)
    assert (table.path, again.path, plain.path, hotrow.load(saved).path) == (rows, rows, None, None)
    assert_equal(again, hotrow.load(saved))
    again.restore(plain.state())
    assert again.path == rows
    plain.restore(table.state())
    assert plain.path is None
    again.set_optimizer(hotrow.Adagrad(), fresh=True)
    assert again.path == rows
    copied = hotrow.Table.from_state(table.state(), path=tmp_path)
    assert copied.path == tmp_path
    assert_equal(copied, table)


def test_large_tables_are_copied_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(hotrow.table.rows, "_PIECE", 64)
    tables = [hotrow.Table(3, path=path) for path in (None, tmp_path)]
    trained(*tables)
    for table in tables:
        table.set_optimizer(hotrow.SGD(0.1, momentum=0.9))
        table.forget([7, 8, 30])
    assert_equal(hotrow.Table.from_state(tables[1].state(), path=tmp_path), tables[0])


@pytest.mark.parametrize("file", ["weights.safetensors", "slot-m.safetensors"])
def test_rows_that_are_mapped_as_they_are_loaded_are_checked_before(tmp_path, file):
    table = hotrow.Table(4)
    trained(table)
    table.save(tmp_path / "saved")
    path = tmp_path / "saved" / "generation-000001" / file
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(hotrow.CorruptError, match=file):
        hotrow.load(tmp_path / "saved", rows=tmp_path)


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_file_has_no_name_and_its_folder_is_made(tmp_path):
    folder = tmp_path / "a" / "b"
    table = hotrow.Table(4, path=str(folder))
    trained(table)
    assert table.path == folder
    assert list(folder.iterdir()) == []


def test_two_tables_in_one_folder_are_two(tmp_path):
    one, other = hotrow.Table(4, path=tmp_path), hotrow.Table(4, path=tmp_path)
    trained(one)
    assert (len(one), len(other)) == (500, 0)
    before = one.vectors()
    trained(other, steps=1)
    assert (one.vectors() == before).all()


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_nothing_is_left_when_the_process_is_gone(tmp_path, how):
    end = "os.kill(os.getpid(), 9)" if how == "killed" else ""
    done = run(f"t = hotrow.Table(4, path=path)\nt.find(np.arange(9), grow=True)\n{end}", path=str(tmp_path))
    assert done.returncode == (-signal.SIGKILL if how == "killed" else 0), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_nobody_holds_gives_its_disk_and_its_address_space_back(tmp_path):
    gc.collect()
    named, handles = memory._space.left, set(Path("/dev/fd").iterdir())
    table = hotrow.Table(4, path=tmp_path)
    trained(table)
    file = weakref.ref(table._rows._file._map)
    assert memory._space.left < named
    assert set(Path("/dev/fd").iterdir()) > handles
    del table
    gc.collect()
    assert file() is None
    assert memory._space.left == named
    assert set(Path("/dev/fd").iterdir()) == handles


@pytest.mark.parametrize("path", [3, b"rows", ["rows"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(hotrow.ArgumentError, match="path must be a folder"):
        hotrow.Table(4, path=path)


def test_a_file_is_no_folder_and_the_message_says_what_would_be_right(tmp_path):
    (tmp_path / "rows.bin").write_bytes(b"mine")
    with pytest.raises(hotrow.ArgumentError, match=r"is a file\. Try path="):
        hotrow.Table(4, path=tmp_path / "rows.bin")
    with pytest.raises(hotrow.ArgumentError, match="is a file"):
        hotrow.load(tmp_path, rows=tmp_path / "rows.bin")
    assert (tmp_path / "rows.bin").read_bytes() == b"mine"


def test_windows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped.sys, "platform", "win32")
    with pytest.raises(hotrow.ArgumentError, match="Windows"):
        mapped.folder_of(tmp_path)


def test_files_that_can_not_be_mapped_are_an_error_that_says_so(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(mapped.mmap, "mmap", refuse)
    with pytest.raises(hotrow.DiskError, match="maps no") as caught:
        Mapped(np.float32, 1000, tmp_path)
    assert caught.value.errno == errno.ENODEV


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk():
    """No file of this process may be longer than 6 MiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * MIB, before[1]))
    yield 6 * MIB
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_that_changes_nothing_and_the_table_goes_on(tmp_path, small_disk):
    table, plain = hotrow.Table(512, path=tmp_path), hotrow.Table(512)
    trained(table, plain, ids=range(50), steps=1)
    with pytest.raises(hotrow.DiskError, match=r"has no room for .* nothing was changed") as caught:
        table.find(range(2000), grow=True)
    assert caught.value.errno == errno.EFBIG
    assert_equal(table, plain)
    trained(table, plain, ids=range(50), steps=1)  # known ids still learn
    trained(table, plain, ids=range(99), steps=1)  # and what there is room for
    assert_equal(table, plain)


def test_on_a_full_disk_the_kind_of_ids_stays_undecided(tmp_path, small_disk):
    table = hotrow.Table(1024, path=tmp_path)
    with pytest.raises(hotrow.DiskError):
        table.find([f"cup {i}" for i in range(3000)], grow=True)
    assert (table.kind, len(table)) == (None, 0)
    trained(table, ids=range(10))


def test_room_that_is_only_wanted_ahead_is_done_without(tmp_path, small_disk):
    file = Mapped(np.uint8, 2**40, tmp_path)
    file.ensure(small_disk - MIB // 2)
    file.ensure(small_disk)
    with pytest.raises(hotrow.DiskError):
        file.ensure(small_disk + 1)
    file.array[small_disk - 1] = 1


@pytest.mark.parametrize("how", ["asked for", "written, where the system has no such call", "and where it refuses it"])
def test_room_is_on_disk_before_it_is_used(tmp_path, monkeypatch, how):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if "no such call" in how:
        monkeypatch.delattr(os, "posix_fallocate")
    if "refuses" in how:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    file = Mapped(np.float32, 2**30, tmp_path)
    for n in (10, MIB, 3 * MIB + 5):
        file.ensure(n)
        assert os.fstat(file._handle).st_blocks * 512 >= 4 * n  # a sparse file would have none
        assert not file.array[n - 10 : n].any()
        file.array[n - 1] = n
    assert file.array[[9, MIB - 1, 3 * MIB + 4]].tolist() == [10, MIB, 3 * MIB + 5]


def test_other_troubles_of_the_disk_come_as_they_are_with_the_folder(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        hotrow.Table(4, path=tmp_path)
    assert not isinstance(caught.value, hotrow.HotrowError)
    assert caught.value.filename == str(tmp_path)


# --- address space ---------------------------------------------------------------------------------------------------


def test_a_file_grows_beyond_what_was_named_and_nothing_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(memory._space, "left", 64 * 2**16)
    file = Mapped(np.int64, 2**30, tmp_path)
    first = file.array
    assert first.nbytes == 2**16
    file.ensure(2**14)
    assert file.array.nbytes >= 2**17
    first[5] = 7
    assert file.array[5] == 7  # the same page
    assert file.array is not first


def test_what_is_named_is_not_bounded_by_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "physical", lambda: 2**20)
    assert len(Mapped(np.uint8, 2**24, tmp_path).array) == 2**24


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are kept by Linux alone")
def test_where_the_system_refuses_address_space_tables_grow_all_the_same(tmp_path):
    code = """
import resource
named = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (named + 2**30, resource.RLIM_INFINITY))
tables = [hotrow.Table(16, path=path), hotrow.Table(16)]
lengths = [[len(table._rows.data)] for table in tables]
for start in range(0, rows, rows // 4):
    for table, known in zip(tables, lengths):
        batch = table.find(np.arange(start, start + rows // 4), grow=True)
        table.update(batch, np.full((len(batch), 16), 0.5, np.float32))
        known.append(len(table._rows.data))
assert (tables[0].vectors() == tables[1].vectors()).all()
print(lengths)
"""
    rows = 4_000 if INTERPRETED else 800_000
    done = run(code, path=str(tmp_path), rows=rows)
    assert done.returncode == 0, done.stderr
    for first, *_, last in json.loads(done.stdout):
        assert first * 4 <= 2**30 // 64  # of what is left a table asks for a part
        assert last >= rows * 48


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_refused_and_its_parent_goes_on(tmp_path):
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what this is about
table = hotrow.Table(4, path=path)
before = table.lookup(np.arange(100), grow=True)
child = os.fork()
if child == 0:
    refused = 0
    for use in (lambda: table.lookup([1]), lambda: table.set([1], np.zeros((1, 4), np.float32)),
                lambda: table.find(np.arange(10**3), grow=True), lambda: table.save(path + "/saved")):
        try:
            use()
        except hotrow.LockedError as error:
            assert "forked child" in str(error)
            refused += 1
    own = hotrow.Table(4, path=path)  # one of its own is as anywhere
    own.update(own.find(np.arange(100), grow=True), np.ones((100, 4), np.float32))
    os._exit(refused)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
assert (table.lookup(np.arange(100)) == before).all()
"""
    done = run(code, path=str(tmp_path))
    assert done.returncode == 0, done.stderr


# --- what is in memory -----------------------------------------------------------------------------------------------

GROW = """
def resident(which):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(which + ":"))

def step(table, ids):
    batch = table.find(ids, grow=True)
    table.lookup(batch)
    table.update(batch, np.ones((len(ids), 64), np.float32))

step(hotrow.Table(64, path=path), np.arange(40_000))
before = resident("RssAnon")
table = hotrow.Table(64, path=path)
for ids in np.split(np.arange(rows), range(10_000, rows, 10_000)):
    step(table, ids)
"""


@pytest.mark.compiled
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("where", ["in a file", "in memory"])
def test_rows_in_a_file_are_no_memory_of_the_process_and_rows_in_memory_are(tmp_path, where):
    code = GROW + 'print(768 * rows >> 20, resident("RssAnon") - before)'
    done = run(code, path=str(tmp_path) if where == "in a file" else None, rows=200_000)
    assert done.returncode == 0, done.stderr
    size, anonymous = map(int, done.stdout.split())
    assert anonymous < size / 4 if where == "in a file" else anonymous > size * 0.9


@pytest.mark.compiled
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_rows_that_leave_memory_come_back_as_they_were(tmp_path):
    code = (
        GROW
        + """
import mmap
vectors = table.vectors()
full = resident("VmRSS")
table._rows._file._map.madvise(mmap.MADV_DONTNEED)  # as the system does where memory is short
print(768 * rows >> 20, full - resident("VmRSS"))
assert (table.vectors() == vectors).all()
step(table, np.arange(0, rows, 10))
"""
    )
    done = run(code, path=str(tmp_path), rows=200_000)
    assert done.returncode == 0, done.stderr
    size, gone = map(int, done.stdout.split())
    assert gone > size * 0.9


@pytest.fixture(params=[160 * MIB])
def group(tmp_path, request):
    """A control group with a limit of memory."""
    if not cgroup.is_on_disk(tmp_path):
        pytest.skip("the temporary folder is in memory itself")
    with cgroup.limited(request.param) as made:
        if made is None:
            pytest.skip("no control group with a limit of memory can be made here; as root it can")
        yield made


SOME = "import zlib\nsome = np.arange(0, rows, 499)\nstep(table, some)\nprint(zlib.crc32(table.lookup(some)))\n"


@pytest.mark.compiled
def test_a_table_three_times_the_memory_that_it_may_use_trains_to_the_same_bits(tmp_path, group):
    rows = 3 * group.limit // BYTES
    inside = run(GROW + SOME, group, path=str(tmp_path), rows=rows)
    assert inside.returncode == 0, inside.stderr
    assert group.peak() <= group.limit
    table, some = hotrow.Table(64), np.arange(0, rows, 499)
    for ids in (*np.split(np.arange(rows), range(10_000, rows, 10_000)), some):
        table.update(table.find(ids, grow=True), np.ones((len(ids), 64), np.float32))
    assert int(inside.stdout) == zlib.crc32(table.lookup(some))


@pytest.mark.compiled
def test_the_same_table_in_memory_is_more_than_it_may_use(group):
    assert run(GROW, group, path=None, rows=3 * group.limit // BYTES).returncode == -signal.SIGKILL


@pytest.mark.long
@pytest.mark.compiled
@pytest.mark.parametrize("group", [256 * MIB], indirect=True)
def test_a_table_three_times_the_memory_that_it_may_use_is_saved_and_loaded(tmp_path, group):
    code = """
table.forget(np.arange(100))
table.save(path + "/saved")
again = hotrow.load(path + "/saved", rows=path)
again.set_optimizer(hotrow.Adagrad())
again.restore(table.state())
assert (again.lookup(some) == table.lookup(some)).all()
"""
    done = run(GROW + SOME + code, group, path=str(tmp_path), rows=3 * group.limit // BYTES)
    assert done.returncode == 0, done.stderr
    assert group.peak() <= group.limit


# --- asking ahead ----------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """The spans of bytes that the system is asked for."""
    spans: list[tuple[int, ...]] = []

    def note(_, advice, *span):
        if advice == "MADV_WILLNEED":
            spans.append(span)

    monkeypatch.setattr(mapped, "_advise", note)
    return spans


@pytest.mark.parametrize("width", [1, 192, 1024, 5000])
def test_rows_on_disk_are_asked_for_together_each_page_once(tmp_path, monkeypatch, asked, width):
    file = Mapped(np.float32, 2**30, tmp_path)
    rows = np.random.default_rng(0).choice(3000, 200, replace=False).astype(np.int32)
    rows[[3, 50]] = -1
    monkeypatch.setattr(mapped, "_pages_read", lambda: 10**6)
    file.expect(rows, width)
    page = mapped._PAGE
    pages = [page_ for begin, length in asked for page_ in range(begin // page, (begin + length) // page)]
    wanted = {byte // page for row in rows if row >= 0 for byte in range(row * width * 4, (row + 1) * width * 4, 4)}
    assert len(pages) == len(set(pages))
    assert set(pages) == wanted


def test_nothing_is_asked_for_where_rows_were_in_memory(tmp_path, asked):
    table = hotrow.Table(8, path=tmp_path)
    trained(table)
    assert asked == []


def test_where_the_last_rows_came_from_disk_each_way_to_look_asks_for_the_next(tmp_path, monkeypatch, asked):
    table = hotrow.Table(8, path=tmp_path)
    trained(table)
    read = iter(range(10**12, 10**13, 10**6))
    monkeypatch.setattr(mapped, "_pages_read", lambda: next(read))
    for use in (
        lambda: table.find([1, 2, 3]),
        lambda: table.find([1, 2, 501], grow=True),
        lambda: table.lookup([1, 2]),
        lambda: table.update([4, 5], np.ones((2, 8), np.float32)),
    ):
        asked.clear()
        use()
        assert asked
    asked.clear()
    table.find([])
    table.find([999])  # has no row
    assert asked == []
