"""Metrics against scikit-learn and against their definitions, user by user."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

import hotrow
from hotrow.models import metrics

LABELLED = st.lists(st.tuples(st.integers(0, 1), st.floats(-5, 5, width=16)), min_size=2, max_size=40)


@given(LABELLED.filter(lambda pairs: len({label for label, _ in pairs}) == 2))
def test_auc_is_that_of_scikit_learn_with_ties(pairs):
    labels, scores = (np.array(side) for side in zip(*pairs, strict=True))
    assert metrics.auc(labels, scores) == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores))


@given(LABELLED)
def test_log_loss_is_that_of_scikit_learn(pairs):
    labels, scores = (np.array(side, np.float64) for side in zip(*pairs, strict=True))
    chances = 1 / (1 + np.exp(-scores))
    expected = sklearn.metrics.log_loss(labels, chances, labels=[0, 1])
    assert metrics.log_loss(labels, chances) == pytest.approx(expected)


def test_rmse_is_the_root_of_the_mean_square():
    assert metrics.rmse(np.array([1.0, 2.0]), np.array([4.0, 6.0])) == pytest.approx(math.sqrt(12.5))


def naive_metrics(ranked, held_out, k):
    """(recall, ndcg, hit rate, reciprocal rank, precision) of one user."""
    gains = [item in held_out for item in ranked[:k]]
    ideal = sum(1 / math.log2(i + 2) for i in range(min(k, len(held_out))))
    dcg = sum(gain / math.log2(i + 2) for i, gain in enumerate(gains))
    first = gains.index(True) + 1 if any(gains) else math.inf
    return sum(gains) / len(held_out), dcg / ideal, float(any(gains)), 1 / first, sum(gains) / k


@given(st.data())
def test_ranking_metrics_are_means_over_users(data):
    users = data.draw(st.integers(1, 5))
    rankings = [data.draw(st.permutations(range(8))) for _ in range(users)]
    held_out = [data.draw(st.sets(st.integers(0, 9), min_size=1, max_size=5)) for _ in range(users)]
    k = data.draw(st.integers(1, 8))
    pairs = [(user, item) for user, items in enumerate(held_out) for item in items]
    user, item = (np.array(side) for side in zip(*pairs, strict=True))
    found, counts = metrics.hits(np.array(rankings), user, item, 10)
    expected = np.mean([naive_metrics(*one, k) for one in zip(rankings, held_out, strict=True)], 0)
    got = (
        metrics.recall(found, counts, k),
        metrics.ndcg(found, counts, k),
        metrics.hit_rate(found, k),
        metrics.mrr(found, k),
        metrics.precision(found, k),
    )
    np.testing.assert_allclose(got, expected)
    alone = metrics.of_users(found, counts, k)
    order = ("recall", "ndcg", "hit_rate", "mrr", "precision")
    each = [naive_metrics(*one, k) for one in zip(rankings, held_out, strict=True)]
    np.testing.assert_allclose(np.stack([alone[name] for name in order], 1), each)


def test_ndcg_of_one_user_is_that_of_scikit_learn():
    ranked, held_out = np.array([[4, 2, 0, 1, 3]]), np.array([2, 3])
    found, counts = metrics.hits(ranked, np.zeros(2, int), held_out, 5)
    relevance = np.isin(np.arange(5), held_out)[None].astype(float)
    scores = np.array([[3.0, 2.0, 4.0, 1.0, 5.0]])
    assert metrics.ndcg(found, counts, 5) == pytest.approx(sklearn.metrics.ndcg_score(relevance, scores, k=5))


def test_a_place_that_nothing_fills_is_no_hit():
    found, _ = metrics.hits(np.array([[1, -1], [-1, -1]]), np.array([0, 1]), np.array([1, 4]), 5)
    assert found.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.auc(np.array([1, 1]), np.array([0.1, 0.2])),
        lambda: metrics.auc(np.array([0, 2]), np.array([0.1, 0.2])),
        lambda: metrics.log_loss(np.array([0, 1]), np.array([0.1])),
        lambda: metrics.rmse(np.array([]), np.array([])),
    ],
)
def test_what_has_no_metric_is_refused(call):
    with pytest.raises(hotrow.ArgumentError):
        call()
