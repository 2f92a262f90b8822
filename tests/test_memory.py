"""Tables name much address space and use little memory; many of them must leave room, for threads among others."""

from __future__ import annotations

import gc
import mmap
import resource

import numpy as np
import pytest

import hotrow
from hotrow.table import memory
from hotrow.table.memory import Growable


def test_a_hundred_tables_leave_most_of_the_address_space():
    gc.collect()
    before = memory._space.left
    tables = [hotrow.Table(64) for _ in range(100)]
    for table in tables:
        table.find(np.arange(100), grow=True)
    assert memory._space.left > before / 4
    assert len(np.zeros(2**29, np.uint8)) == 2**29  # which it once failed to find
    del tables, table
    gc.collect()
    assert memory._space.left == before


def test_an_array_grows_where_there_is_no_address_space_to_name(monkeypatch):
    monkeypatch.setattr(memory._space, "left", 0)
    growable = Growable(np.int64, 2**30)
    assert len(growable.array) == 0
    for n in (10, 5000):
        growable.ensure(n)
        growable.array[n - 1] = n
    assert growable.array[[0, 9, 4999]].tolist() == [0, 10, 5000]


@pytest.mark.parametrize(("counting", "named"), [("0\n", 2**16), ("1\n", 2**16), ("2\n", 0)])
def test_nothing_is_named_ahead_where_the_system_counts_it_as_taken(monkeypatch, tmp_path, counting, named):
    (tmp_path / "overcommit_memory").write_text(counting)
    monkeypatch.setattr(memory, "_OVERCOMMIT", tmp_path / "overcommit_memory")
    growable = Growable(np.int64, 2**13)
    assert growable.array.nbytes == named
    growable.ensure(100)
    growable.array[99] = 1


def test_of_a_limit_of_address_space_each_array_takes_a_small_part(monkeypatch, tmp_path):
    (tmp_path / "statm").write_text("1024 1 1 1 0 1 0\n")
    monkeypatch.setattr(memory, "_NAMED", tmp_path / "statm")
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = 2**46  # far from what this process has
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
        assert next(memory.shrinking(2**60)) == min(memory._space.left, most - 1024 * mmap.PAGESIZE) // 64
        monkeypatch.setattr(memory, "_NAMED", tmp_path / "none")
        assert next(memory.shrinking(2**60)) == min(memory._space.left, most) // 64
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_an_array_grows_beyond_what_was_named(monkeypatch):
    monkeypatch.setattr(memory, "physical", lambda: 2**16)
    growable = Growable(np.int64, 2**30)
    assert len(growable.array) == 2**13
    growable.array[:] = np.arange(2**13)
    growable.ensure(2**13 + 1)
    assert growable.array[: 2**13].tolist() == list(range(2**13))
    assert growable.array[2**13] == 0


@pytest.mark.compiled
def test_steps_on_known_ids_take_no_new_memory_from_the_system():
    table, random = hotrow.Table(64), np.random.default_rng(0)
    batches = [random.integers(0, 50_000, 8192) for _ in range(10)]
    gradients = np.ones((8192, 64), np.float32)

    def steps():
        for ids in batches:
            batch = table.find(ids, grow=True)
            table.lookup(batch)
            table.update(batch, gradients)

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        steps()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    steps()
    vectors = 4 * gradients.size / mmap.PAGESIZE  # that of one batch, if their pages were new at each step
    assert min(faults() for _ in range(3)) < vectors
