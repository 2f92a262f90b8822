"""Crews of Ray's actors, and what becomes of a step whose workers are killed in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray

import hotrow
from hotrow.cluster import crew as crews
from hotrow.cluster.crew import Crew
from hotrow.errors import ClusterError
from hotrow.kernels import threads

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers can't import a test
pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.compiled, pytest.mark.usefixtures("ray_local")]


def total(block, shared):
    """Shared numbers of a range, added up; some of its blocks take their time, or end their worker."""
    start, stop, what = block
    if what == "slow":
        time.sleep(0.3)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise KeyError(f"no block {start}")
    return shared[start:stop].cumsum(dtype=np.float32)


def expected(blocks, shared):
    return [total((start, stop, None), shared) for start, stop, _ in blocks]


def same(results, wanted):
    return len(results) == len(wanted) and all(map(np.array_equal, results, wanted))


def blocks_of(n, count, what=None):
    bounds = [n * k // count for k in range(count + 1)]
    return [(a, b, what) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


@pytest.fixture(scope="module")
def two():
    with Crew(2, function=total, staleness=1) as crew:
        yield crew


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(what):
    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_blocks(two, count):
    shared = np.random.default_rng(0).random(50_000, np.float32)
    blocks = blocks_of(len(shared), count) if count else []
    assert same(two.submit(0, blocks, shared).result(), expected(blocks, shared))


def test_steps_are_asked_in_any_order_and_twice(two):
    shared = np.arange(10, dtype=np.float32)
    first, second = two.submit(0, blocks_of(10, 2), shared), two.submit(1, blocks_of(10, 3), shared)
    for pending, count in ((second, 3), (first, 2), (second, 3)):
        assert same(pending.result(), expected(blocks_of(10, count), shared))


def test_a_worker_reads_shared_arrays_in_place_and_has_one_thread():
    def look(block, shared):
        return shared.flags.writeable, shared.flags.owndata, threads.get_threads()

    with Crew(1, function=look) as crew:
        assert crew.submit(0, [0, 1], np.zeros(1 << 20)).result() == [(False, False, 1)] * 2


def test_without_a_function_the_shared_thing_is_called(two):
    class Add:
        def __init__(self, number):
            self.number = number

        def __call__(self, block):
            return block + self.number

    with Crew(1) as crew:
        assert crew.submit(0, [1, 2], Add(5)).result() == [6, 7]


def test_setup_is_called_once_in_each_worker():
    def setup():
        return [os.getpid()]

    def count(made, block, shared):
        made.append(block)
        return made[0] == os.getpid(), len(made)

    with Crew(1, function=count, setup=setup) as crew:
        assert crew.submit(0, [0, 0]).result() == [(True, 2), (True, 3)]
        assert crew.submit(1, [0]).result() == [(True, 4)]


def test_what_a_worker_raises_is_raised_at_the_caller_and_the_crew_goes_on(two):
    shared = np.arange(10, dtype=np.float32)
    bad = [*blocks_of(10, 2), (5, 6, "raise")]
    pending = two.submit(0, bad, shared)
    for _ in range(2):
        with pytest.raises(KeyError, match=r"^'no block 5'$"):
            pending.result()
    assert same(two.submit(1, blocks_of(10, 2), shared).result(), expected(blocks_of(10, 2), shared))


def test_what_setup_raises_is_raised_at_the_caller():
    def setup():
        raise ValueError("no net here")

    with pytest.raises(ValueError, match=r"^no net here$"):
        Crew(2, function=total, setup=setup)


def test_an_idle_worker_that_is_killed_is_replaced(two):
    shared = np.arange(1000, dtype=np.float32)
    before = {one["pid"]: one["restarts"] for one in two.stats()}
    victim = next(iter(before))
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: gone(victim))
    assert same(two.submit(0, blocks_of(1000, 4), shared).result(), expected(blocks_of(1000, 4), shared))

    def back():
        two.submit(1, blocks_of(1000, 4), shared).result()
        return not {victim} & {one["pid"] for one in two.stats()}

    wait_until(back)
    assert sum(one["restarts"] for one in two.stats()) == sum(before.values()) + 1


def test_a_worker_that_is_stopped_is_not_waited_for_for_ever():
    shared = np.arange(40, dtype=np.float32)
    with Crew(2, function=total, patience=2) as crew:
        assert same(crew.submit(0, blocks_of(40, 2), shared).result(), expected(blocks_of(40, 2), shared))
        os.kill(crew.stats()[0]["pid"], signal.SIGSTOP)
        blocks = blocks_of(40, 4)
        assert same(crew.submit(1, blocks, shared).result(), expected(blocks, shared))
        assert crew.stats()[0]["restarts"] == 1


def test_a_worker_ended_for_its_memory_counts_as_dead():
    assert {ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError} <= set(crews._lost())


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.long)])
def test_workers_killed_within_steps_change_no_bit(kills):
    shared = np.random.default_rng(1).random(1 << 16, np.float32)
    random = np.random.default_rng(2)
    with Crew(2, function=total, staleness=2) as crew:
        for step in range(kills):
            blocks = blocks_of(len(shared), 5, "slow" if step % 2 else None)
            pending = [crew.submit(step + k, blocks, shared) for k in range(3)]
            time.sleep(random.uniform(0, 0.4))
            for one in crew.stats()[: 1 + step % 2]:  # one of them, or both
                if not gone(one["pid"]):
                    os.kill(one["pid"], signal.SIGKILL)
            for one in pending:
                assert same(one.result(), expected(blocks, shared))
        assert sum(one["restarts"] for one in crew.stats()) >= kills - 1


def test_blocks_that_end_every_worker_are_an_error(monkeypatch):
    monkeypatch.setattr(crews, "MOST", 2)
    shared = np.arange(10, dtype=np.float32)
    with Crew(1, function=total) as crew:
        with pytest.raises(ClusterError, match="2 blocks of step 7 have ended 2 workers in a row"):
            crew.submit(7, blocks_of(10, 2, "kill"), shared).result()
        assert same(crew.submit(8, blocks_of(10, 2), shared).result(), expected(blocks_of(10, 2), shared))


def test_no_more_steps_are_under_way_than_the_staleness_allows():
    shared = np.arange(10, dtype=np.float32)
    with Crew(1, function=total, staleness=1) as crew:
        steps = [crew.submit(step, blocks_of(10, 1, "slow"), shared) for step in range(4)]
        assert [step.settled for step in steps] == [True, True, False, False]
        assert same(steps[3].result(), expected(blocks_of(10, 1), shared))


def test_statistics_count_what_was_done():
    shared = np.arange(10, dtype=np.float32)
    with Crew(2, function=total) as crew:
        for step in range(2):
            crew.submit(step, blocks_of(10, 5, "slow" if step else None), shared).result()
        facts = crew.stats()
    assert [one["blocks"] for one in facts] == [4, 6]
    assert facts[0]["seconds"] >= 0.6
    assert len({one["pid"] for one in facts}) == 2
    assert {one["node"] for one in facts} == {ray.get_runtime_context().get_node_id()}


def test_a_crew_that_is_closed_has_no_workers_and_says_so():
    with Crew(2, function=total) as crew:
        pids = [one["pid"] for one in crew.stats()]
    wait_until(lambda: all(map(gone, pids)))
    with pytest.raises(hotrow.ArgumentError, match="closed"):
        crew.submit(0, [])


def test_a_step_of_a_crew_that_was_closed_is_an_error_and_not_waited_for():
    with Crew(1, function=total) as crew:
        pending = crew.submit(0, blocks_of(10, 1, "slow"), np.arange(10, dtype=np.float32))
    with pytest.raises(hotrow.ArgumentError, match="closed"):
        pending.result()


def test_more_workers_than_the_cluster_has_room_for_are_an_error_and_leave_nothing(monkeypatch):
    monkeypatch.setattr(crews, "PATIENCE", 3.0)
    with pytest.raises(ClusterError, match=r"workers haven't come within 3 s: each takes 2 CPUs"):
        Crew(5, function=total, cpus=2)
    monkeypatch.undo()
    with Crew(1, function=total, cpus=2) as crew:
        assert len(crew.stats()) == 1


@pytest.mark.parametrize(
    "given", [{"workers": 0}, {"workers": True}, {"workers": 1, "staleness": -1}, {"workers": 1, "function": 3}]
)
def test_crews_that_cannot_be_are_refused(given):
    with pytest.raises(hotrow.ArgumentError, match="got"):
        Crew(**{"function": total, **given})


PROGRAM = """
import sys, time, ray
from hotrow.cluster.crew import Crew

ray.init(sys.argv[1], log_to_driver=False)
crew = Crew(2, function=lambda block, shared: time.sleep(60))
print(*(one["pid"] for one in crew.stats()), flush=True)
crew.submit(0, [0, 1]).result()
"""


def test_ctrl_c_leaves_no_worker_behind():
    command = [sys.executable, "-c", PROGRAM, ray.get_runtime_context().gcs_address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        pids = list(map(int, process.stdout.readline().split()))
        assert len(pids) == 2
        assert not any(map(gone, pids))
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert b"KeyboardInterrupt" in error
    wait_until(lambda: all(map(gone, pids)))


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(hotrow.MissingExtraError, match=r'pip install "hotrow\[ray\]"'):
        Crew(2, function=total)
