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


def test_nobody_waits_for_work_that_no_thread_has_begun():
    """The pool's threads wait for a lock whose holder runs a kernel in slices, as with a table in several threads."""
    begun, free = threading.Barrier(4, timeout=60), threading.Event()

    def block():
        begun.wait()
        return free.wait(timeout=60)

    blocked = [threads._shared().submit(block) for _ in range(3)]
    begun.wait()
    done = []
    threads.run(lambda *bounds: done.append(bounds), [0, 1, 2, 3])
    assert sorted(done) == [(0, 1), (1, 2), (2, 3)]
    assert threads.each(lambda i: i, range(5)) == [0, 1, 2, 3, 4]
    assert threads.later(lambda: 7).result() == 7
    free.set()
    assert all(future.result() for future in blocked)


def test_what_comes_later_fails_for_whoever_asks():
    future = threads.later(lambda: {}[0])
    for _ in range(2):
        with pytest.raises(KeyError):
            future.result()


def test_an_interrupt_is_raised_when_all_have_ended():
    begun, running = threading.Barrier(2, timeout=60), threading.Event()
    hotrow.set_threads(2)
    ended = []

    def work(i):
        begun.wait()
        if threading.current_thread() is threading.main_thread():
            running.set()
            raise KeyboardInterrupt
        running.wait(timeout=60)
        ended.append(i)

    with pytest.raises(KeyboardInterrupt):
        threads.each(work, range(2))
    assert len(ended) == 1
