"""Many readers beside one writer, growth under a reader, and life after a fork."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

import hotrow

DIM = 64


def test_a_lookup_beside_updates_sees_each_row_before_or_after_and_never_between():
    # Every row is constant across its columns, and stays so: a torn row would show two numbers.
    table = hotrow.Table(DIM, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    ids = np.arange(400)
    batch = table.find(ids, grow=True)
    torn, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            vectors = table.lookup(ids)
            if (vectors != vectors[0, 0]).any():  # rows of one update are also all of one step
                torn.append(vectors)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(60):
        table.update(batch, np.ones((len(ids), DIM), np.float32))
    stop.set()
    for reader in readers:
        reader.join()
    assert not torn
    assert (table.lookup(ids) == -60).all()


def test_growth_beside_readers_loses_nothing():
    table = hotrow.Table(4)
    known = np.arange(100)
    before = table.lookup(known, grow=True)
    wrong, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            if not (table.lookup(known) == before).all():
                wrong.append(1)

    def grow(first):
        for start in range(first, first + 4000, 400):
            table.find(np.arange(start, start + 400), grow=True)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=grow, args=(first,)) for first in (1000, 3000)]  # they overlap
    for thread in (reader, *writers):
        thread.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert not wrong
    assert sorted(table.ids().tolist()) == [*range(100), *range(1000, 7000)]


def test_two_threads_that_grow_with_other_kinds_of_ids_get_one_kind_and_one_error():
    for _ in range(20):
        table, results = hotrow.Table(2), []
        start = threading.Barrier(2)

        def grow(ids, table=table, results=results, start=start):
            start.wait()
            try:
                table.find(ids, grow=True)
                results.append("rows")
            except hotrow.KindError:
                results.append("error")

        threads = [threading.Thread(target=grow, args=(ids,)) for ids in ([1, 2], ["a", "b"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == ["error", "rows"]
        assert len(table) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # forking is the point
def test_after_a_fork_the_child_has_a_table_and_threads_of_its_own():
    hotrow.set_threads(2)
    table = hotrow.Table(4, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    ids = np.arange(100_000)
    batch = table.find(ids, grow=True)
    table.update(batch, np.ones((len(ids), 4), np.float32))  # the pool has threads now
    child = os.fork()
    if child == 0:
        try:
            table.update(batch, np.ones((len(ids), 4), np.float32))
            os._exit(0 if (table.lookup(ids) == -2).all() else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (table.lookup(ids) == -1).all()
    hotrow.set_threads(None)
