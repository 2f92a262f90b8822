"""Ranking against a sort, and its kernels alone."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import hotrow
from hotrow.kernels import ranking as kernels
from hotrow.kernels import readonly
from hotrow.models import ranking
from hotrow.models.ranking import Known, blas_on_one_thread, rank


@pytest.mark.parametrize("k", [1, 3, 7, 40])
def test_ranking_is_that_of_a_sort_with_known_items_left_out(k):
    rng = np.random.default_rng(k)
    users, items = rng.integers(-3, 4, (9, 2)).astype(np.float32), rng.integers(-3, 4, (40, 2)).astype(np.float32)
    pairs = np.unique(rng.integers(0, 9 * 40, 120))
    known = Known.of(pairs // 40, pairs % 40, 9)
    best, values = rank(users, items, np.arange(9), known, k)
    for user in range(9):
        scores = users[user] @ items.T  # whole numbers: many ties, and exact
        left = [i for i in range(40) if i not in set(pairs[pairs // 40 == user] % 40)]
        expected = sorted(left, key=lambda i: (-scores[i], i))[:k]
        assert best[user][: len(expected)].tolist() == expected
        assert values[user][: len(expected)].tolist() == scores[expected].tolist()
        assert (best[user][len(expected) :] == -1).all()


def test_it_is_the_same_in_parts_and_on_any_number_of_threads(monkeypatch):
    rng = np.random.default_rng(5)
    users, items = rng.normal(size=(50, 8)).astype(np.float32), rng.normal(size=(90, 8)).astype(np.float32)
    monkeypatch.setattr(ranking, "_SCORES", 7 * 90)  # seven users at a time
    results = []
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        results.append(rank(users, items, np.arange(50), Known.nothing(50), 5))
    for best, values in results[1:]:
        assert np.array_equal(best, results[0][0])
        assert np.array_equal(values, results[0][1])
    assert results[0][0].tolist() == np.argsort(-(users @ items.T), 1)[:, :5].tolist()


def test_nobody_and_nothing_can_be_ranked():
    none = np.zeros((0, 2), np.float32)
    best, values = rank(none, np.ones((3, 2), np.float32), np.zeros(0, np.int64), Known.nothing(0), 2)
    assert best.shape == values.shape == (0, 2)
    best, values = rank(np.ones((2, 2), np.float32), none, np.arange(2), Known.nothing(2), 2)
    assert best.tolist() == [[-1, -1]] * 2
    assert np.isneginf(values).all()


def test_a_score_that_is_no_number_is_never_among_the_best():
    scores = np.array([[np.nan, 1, -np.inf, 3, np.inf, np.nan]], np.float32)
    best, values = np.empty((1, 5), np.int32), np.empty((1, 5), np.float32)
    nothing = readonly(np.zeros(2, np.int64)), readonly(np.zeros(0, np.int32))
    kernels.top(scores, readonly(np.zeros(1, np.int64)), *nothing, best, values, 0, 1)
    assert best.tolist() == [[4, 3, 1, -1, -1]]
    assert values.tolist() == [[np.inf, 3, 1, -np.inf, -np.inf]]


def test_known_pairs_are_found_in_a_block_of_scores():
    known = Known.of(np.array([0, 0, 2, 2]), np.array([3, 5, 5, 6]), 3)
    column_of = np.array([-1, -1, -1, 1, -1, 0, -1], np.int32)
    arrays = readonly(np.array([0, 2])), readonly(known.starts), readonly(known.items), readonly(column_of)
    rows, columns = np.empty(9, np.int32), np.empty(9, np.int32)
    count = kernels.cells(*arrays, rows, columns)
    assert list(zip(rows[:count].tolist(), columns[:count].tolist(), strict=True)) == [(0, 1), (0, 0), (1, 0)]


def test_blas_has_its_threads_back_when_all_are_done():
    def threads():  # of NumPy's own library; others are no business of ours
        found = [pool for pool in threadpool_info() if "numpy" in pool["filepath"]]
        return [pool["num_threads"] for pool in found if pool["user_api"] == "blas"]

    before = threads()
    with blas_on_one_thread:
        with blas_on_one_thread:
            assert set(threads()) <= {1}
        assert set(threads()) <= {1}
    assert threads() == before
