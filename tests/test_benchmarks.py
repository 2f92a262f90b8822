"""The benchmarks prove that all sides compute the same before they time them; here that this proof can fail."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from benchmarks import harness, report, workload
from benchmarks.harness import Result, UnequalError
from benchmarks.peers import DictNumpy, Hotrow, Peer, present
from benchmarks.workload import QUICK, Workload


class Wrong(DictNumpy):
    """Moves one row by another hundred-thousandth or more, from its second step on."""

    steps = 0

    def step(self, ids, gradients):
        super().step(ids, gradients)
        self.steps += 1
        if self.steps > 1:
            self._weights[0] += 1e-4


class Elsewhere(Peer):
    """Takes no time, and says that it took a second."""

    name, given = "elsewhere", "nothing"

    def __init__(self, work=None, threads=1):
        self.seen = []

    def lookup(self, ids, out=None):
        return np.zeros((len(ids), 1), np.float32)

    def look(self, ids, out=None):
        self.seen.append(ids)
        return 1.0


def batches_of(work, n=4):
    return workload.batches("zipf", work.rows, QUICK.batch, n)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "rowwise_adagrad"])
def test_hotrow_and_a_dict_compute_the_same_steps(optimizer):
    work = Workload(QUICK.rows, 8, optimizer)
    peers = [Hotrow(work, 1), DictNumpy(work, 1)]
    differences = harness.check_equal(peers, batches_of(work), workload.gradients(QUICK.batch, 8))
    assert differences == {"hotrow, raw ids": 0.0, "dict + NumPy, raw ids": pytest.approx(0, abs=1e-5)}


def test_a_side_that_moves_a_row_elsewhere_is_not_timed():
    work = Workload(QUICK.rows, 8, "adam")
    peers = [Hotrow(work, 1), Wrong(work, 1)]
    with pytest.raises(UnequalError, match=r"dict \+ NumPy is 0.0\d+ away from hotrow; at most 1e-05"):
        harness.check_equal(peers, batches_of(work), workload.gradients(QUICK.batch, 8))


def test_a_side_that_gives_no_numbers_is_not_timed():
    work = Workload(QUICK.rows, 8, "adam")
    peers = [Hotrow(work, 1), DictNumpy(work, 1)]
    peers[1]._weights[:] = np.nan
    with pytest.raises(UnequalError, match="inf away"):
        harness.check_equal(peers, batches_of(work), None)


def test_a_side_that_keeps_its_own_clock_is_believed():
    side = Elsewhere()
    taken = harness.race(harness.lookups_of([side], [np.arange(3)], None), rounds=2, steps=2, warm=1)
    assert taken == {"elsewhere, nothing": [1000.0, 1000.0]}
    assert len(side.seen) == 2 * (1 + 2)  # in each round a warm one first


def test_sides_are_judged_by_their_fastest_round_and_beside_the_first():
    one, other = harness.results("t", {}, {"ours": [2.0, 1.0], "theirs": [9.0, 3.0]}, least={"theirs": 3.5})
    assert (one.best, one.ratio, one.holds) == (1.0, None, None)
    assert (other.best, other.ratio, other.holds) == (3.0, 3.0, False)
    assert replace(other, least=3.0).holds


def test_a_result_without_a_ratio_is_held_to_its_own_number():
    row = Result("bytes", {}, "hotrow", "B", 90.0, most=92.0)
    assert row.holds
    assert not replace(row, best=93.0).holds


def test_a_side_is_only_where_it_is_measured():
    assert DictNumpy in present(dim=16)
    assert DictNumpy not in present(dim=128)
    assert {Hotrow, DictNumpy} <= set(present())


def test_who_is_not_installed_is_named_with_the_way_to_get_it(caplog):
    class Absent(Elsewhere):
        name, needs = "Absent", ("no_such_module", "pip install no-such-module")

    assert present([Absent, Hotrow]) == [Hotrow]
    assert "Absent is left out" in caplog.text
    assert "pip install no-such-module" in caplog.text


def test_a_growing_table_is_timed_at_each_call():
    from benchmarks import growth

    assert len(growth.grow(rows=1000, batch=300, threads=1)) == 4


def test_saving_and_loading_are_measured_on_a_small_table(monkeypatch, tmp_path):
    from benchmarks import durability

    monkeypatch.setattr(durability, "PLACE", tmp_path / "place")
    monkeypatch.setattr(durability, "FLIPS", 5)
    found = list(durability.run(workload.QUICK))
    assert {result.side for result in found} >= {"save", "cp and fsync", "load", "beside a save, longest", "noticed"}
    assert found[-1].holds
    assert not (tmp_path / "place").exists()


def test_each_benchmark_of_the_page_can_be_run_by_its_name():
    for name in ("insert", "growth", "memory", "scaling", "small", "step", "lookup", "raw", "strings"):
        assert name in report.ORDER
        assert callable(import_module(f"benchmarks.{name}").run)


def test_raw_ids_are_distinct_and_a_longer_list_begins_with_the_shorter():
    ids = workload.raw_ids(5000)
    assert len(np.unique(ids)) == 5000
    assert np.array_equal(workload.raw_ids(100), ids[:100])
