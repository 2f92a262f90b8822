"""Kernels run on one pool of threads: in slices, or many small ones side by side."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import hotrow
from hotrow.kernels import threads


@pytest.fixture(autouse=True)
def three_threads():
    hotrow.set_threads(3)
    yield
    hotrow.set_threads(None)


def test_each_gives_the_result_of_every_item_in_order():
    assert threads.each(lambda i: 2 * i, range(50)) == [2 * i for i in range(50)]
    assert threads.each(lambda i: 2 * i, range(0)) == []


def test_each_uses_the_threads_there_are():
    together = threading.Barrier(3, timeout=60)  # passes only if three wait at once

    threads.each(lambda _: together.wait(), range(3))


def test_an_error_is_raised_when_all_have_ended():
    done = []

    def work(i):
        if i == 2:
            raise ValueError("two")
        done.append(i)

    with pytest.raises(ValueError, match="two"):
        threads.each(work, range(20))
    settled = list(done)
    assert threads.each(lambda i: i, range(4)) == [0, 1, 2, 3]
    assert done == settled


def test_kernels_inside_of_it_are_not_sliced_further():
    assert threads.each(lambda _: threads.even(1 << 20, 1), range(2)) == [[0, 1 << 20]] * 2
    assert len(threads.even(1 << 20, 1)) == 4


def test_each_within_each_and_from_several_threads_at_once_ends():
    def nested(i):
        return threads.each(lambda j: i * j, range(3))

    expected = [[i * j for j in range(3)] for i in range(6)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: threads.each(nested, range(6)), range(8))) == [expected] * 8


def test_work_for_later_is_done_beside_each():
    futures = threads.each(lambda i: threads.later(lambda: i), range(10))
    assert threads.each(lambda future: future.result(timeout=60), futures) == list(range(10))


def test_one_thread_needs_no_pool():
    hotrow.set_threads(1)
    me = threading.get_ident()
    assert set(threads.each(lambda _: threading.get_ident(), range(5))) == {me}
