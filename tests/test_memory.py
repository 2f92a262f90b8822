"""Tables name much address space and use little memory; many of them must leave room, for threads among others."""

from __future__ import annotations

import gc

import numpy as np

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


def test_an_array_grows_beyond_what_was_named(monkeypatch):
    monkeypatch.setattr(memory, "_physical", lambda: 2**16)
    growable = Growable(np.int64, 2**30)
    assert len(growable.array) == 2**13
    growable.array[:] = np.arange(2**13)
    growable.ensure(2**13 + 1)
    assert growable.array[: 2**13].tolist() == list(range(2**13))
    assert growable.array[2**13] == 0
