"""What is said of a ranking on held-out pairs: against plain loops, and against what would make it look better."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotrow.errors import ArgumentError
from hotrow.models import Retrieval, evaluation
from hotrow.models.evaluation import HeldOut, buckets, compared, intervals
from hotrow.models.pairs import join
from hotrow.models.ranking import Known

ITEMS = 7


@st.composite
def worlds(draw):
    """Known and held-out pairs of some users, and a ranking of 3 items for each; items from 7 on were never seen."""
    users = draw(st.integers(1, 6))
    known = [draw(st.sets(st.integers(0, ITEMS - 1), max_size=7)) for _ in range(users)]
    held_out = [draw(st.sets(st.integers(0, ITEMS + 2), min_size=1, max_size=4)) - mine for mine in known]
    best = np.array([draw(st.permutations(range(ITEMS)))[:3] for _ in range(users)], np.int32)
    return known, held_out, best


def in_arrays(known, held_out, best):
    pairs = sorted((user, item) for user, mine in enumerate(known) for item in mine)
    user, item = (
        (np.array(side, np.int64) for side in zip(*pairs, strict=True)) if pairs else (np.zeros(0, np.int64),) * 2
    )
    tested = [(user, item) for user, mine in enumerate(held_out) for item in mine]
    of = HeldOut.of(*(np.array(side) for side in zip(*tested, strict=True)), join(user, item))
    return Known.of(user, item, len(known)), of, best[of.users]


def naive_buckets(known):
    counts = Counter(item for mine in known for item in mine)
    total, before, out = sum(counts.values()), 0, {}
    for item in sorted(range(ITEMS), key=lambda item: (-counts[item], item)):
        out[item] = 3 if not counts[item] else before * 3 // total
        before += counts[item]
    return out


def naive_popular(known, user):
    """What is most frequent of what the user hasn't got, the lower of two; None if it has all."""
    counts = Counter(item for mine in known for item in mine)
    return min(set(range(ITEMS)) - known[user], key=lambda item: (-counts[item], item), default=None)


@given(worlds())
def test_what_is_compared_is_what_plain_loops_count(world):
    known, held_out, best = world
    if not any(held_out):
        return
    pairs, of, asked = in_arrays(*world)
    found = compared(asked, of, pairs, ITEMS, (1, 3), seed=0)
    measured = [user for user, mine in enumerate(held_out) if mine]
    tested = [(user, item) for user in measured for item in held_out[user]]
    assert found["measured"] == {"users": len(measured), "pairs": len(tested), "known": 0, "strangers": 0}

    bucket = naive_buckets(known)
    for row, number in zip(found["buckets"], range(4), strict=False):
        inside = [(user, item) for user, item in tested if bucket.get(item, 3) == number]
        assert row["items"] == list(bucket.values()).count(number)
        assert row["training_pairs"] == sum(bucket[item] == number for mine in known for item in mine)
        assert row["pairs"] == len(inside)
        hits = sum(item == best[user, 0] for user, item in inside)
        assert row["model"]["recall@1"] == (pytest.approx(hits / len(inside)) if inside else None)
        hits = sum(item == naive_popular(known, user) for user, item in inside)
        assert row["popularity"]["recall@1"] == (pytest.approx(hits / len(inside)) if inside else None)

    cold = [user for user in measured if len(known[user]) <= 5]
    assert (found["cold_users"]["at_most"], found["cold_users"]["users"]) == (5, len(cold))
    if cold:
        recall = np.mean([len(held_out[user] & set(best[user].tolist())) / len(held_out[user]) for user in cold])
        assert found["cold_users"]["model"]["recall@3"] == pytest.approx(recall)
    else:
        assert "model" not in found["cold_users"]

    listed = Counter(item for user in measured for item in best[user].tolist())
    often = [listed[item] for item in range(ITEMS)]
    assert found["coverage"]["model"]["coverage@3"] == pytest.approx(len(listed) / ITEMS)
    gini = sum(abs(a - b) for a in often for b in often) / (2 * ITEMS * sum(often))
    assert found["coverage"]["model"]["gini@3"] == pytest.approx(gini)
    json.dumps(found, allow_nan=False)


@given(worlds())
def test_buckets_are_thirds_of_the_known_pairs(world):
    known = world[0]
    pairs, _, _ = in_arrays(known, [{ITEMS}] * len(known), world[2])
    assert buckets(pairs, ITEMS).tolist() == list(dict(sorted(naive_buckets(known).items())).values())


def test_a_place_that_nothing_fills_covers_no_item():
    of = HeldOut.of(np.array([0]), np.array([1]), np.zeros(0, np.uint64))
    best = np.array([[2, -1, -1]], np.int32)
    found = compared(best, of, Known.nothing(1), 4, (3,), seed=0)
    assert found["coverage"]["model"]["coverage@3"] == 0.25
    nobody = compared(best - 3, of, Known.nothing(1), 4, (3,), seed=0)
    assert nobody["coverage"]["model"]["coverage@3"] == 0
    assert nobody["model"]["recall@3"] == 0


# --- how sure --------------------------------------------------------------------------------------------------------


def test_an_interval_has_the_truth_in_it_nineteen_times_of_twenty():
    rng = np.random.default_rng(5)
    inside = 0
    for seed in range(300):
        low, high = intervals(rng.exponential(2.0, (80, 1)), seed=seed, resamples=400)[0]
        inside += low <= 2.0 <= high
    assert 0.90 <= inside / 300 <= 0.98  # a little under 95 %, as the bootstrap's are where values are skewed


def test_an_interval_is_as_wide_as_its_values_and_their_number_make_it():
    rng = np.random.default_rng(6)
    values = rng.normal(0, [1.0, 3.0], (2000, 2))
    width = np.diff(intervals(values, seed=1))[:, 0]
    np.testing.assert_allclose(width, 2 * 1.96 * np.array([1.0, 3.0]) / np.sqrt(2000), rtol=0.15)
    assert intervals(np.full((5, 1), 0.25)).tolist() == [[0.25, 0.25]]


def test_the_same_seed_makes_the_same_intervals_however_many_are_drawn_at_a_time(monkeypatch):
    values = np.random.default_rng(7).random((50, 2))
    whole = intervals(values, seed=-3)
    assert not np.array_equal(whole, intervals(values, seed=2))
    monkeypatch.setattr(evaluation, "_NUMBERS", 7 * 50)
    np.testing.assert_allclose(intervals(values, seed=-3), whole, rtol=1e-12)


def test_a_ranking_that_is_popularitys_is_no_better_for_sure():
    of = HeldOut.of(np.arange(20), np.arange(20) % 3, np.zeros(0, np.uint64))
    best = np.zeros((20, 1), np.int32)
    found = compared(best, of, Known.nothing(20), 3, (1,), seed=0)
    assert found["intervals"]["difference"]["recall@1"] == [0, 0]
    low, high = found["intervals"]["model"]["recall@1"]
    assert low < found["model"]["recall@1"] == 7 / 20 < high


@pytest.mark.parametrize("metric", ["ndcg", "ndcg@", "ndcg@0", "ndcg@-1", "auc@10", "ndcg@ten", ""])
def test_what_is_no_metric_is_refused(metric):
    with pytest.raises(ArgumentError, match="'ndcg@20'; got"):
        evaluation.metric_and_k(metric)


# --- nothing leaks ---------------------------------------------------------------------------------------------------


def shelves(users=80):
    """Users of two kinds, who take from two shelves of 12 items; the last of each user is held out."""
    rng = np.random.default_rng(0)
    pairs = np.array([(u, 2 * i + u % 2) for u in range(users) for i in rng.permutation(12)[:6]])
    last = np.arange(len(pairs)) % 6 == 5
    return pairs[~last], pairs[last]


def fitted(pairs):
    return Retrieval(8, epochs=30, batch_size=64, negatives=16).fit(pairs)


@pytest.mark.compiled
def test_a_model_of_shuffled_labels_is_not_above_popularity_and_one_of_true_ones_is():
    train, test = shelves()
    found = fitted(train).report(test, ks=(5,))
    assert found["intervals"]["difference"]["recall@5"][0] > 0.2
    shuffled = np.stack([train[:, 0], np.random.default_rng(3).permutation(train[:, 1])], 1)
    found = fitted(shuffled).report(test, ks=(5,))
    assert found["intervals"]["difference"]["recall@5"][0] <= 0
    low, high = found["intervals"]["model"]["recall@5"]
    chance = 5 / (24 - 5)  # in 5 of the places that are left of 24 when 5 are known, or a little fewer
    assert low < chance + 0.05
    assert high < 0.5


@pytest.mark.compiled
def test_a_model_that_was_given_the_held_out_pairs_is_not_praised_for_knowing_them():
    train, test = shelves()
    told = fitted(np.concatenate([train, test]))
    for measure in (told.evaluate, told.popularity, told.report):
        with pytest.raises(ArgumentError, match="nothing to measure"):
            measure(test)
    half = fitted(np.concatenate([train, test[:40]])).report(test)
    assert half["measured"] == {"users": 40, "pairs": 40, "known": 40, "strangers": 0}


@pytest.mark.compiled
def test_a_report_says_what_evaluate_and_popularity_say_and_more():
    train, test = shelves()
    model = fitted(train)
    strangers = np.array([[999, 1], [999, 2], [0, 12345]])
    found = model.report(np.concatenate([test, strangers]), ks=(3, 10), seed=4)
    for which, measure in (("model", model.evaluate), ("popularity", model.popularity)):
        alone = measure(np.concatenate([test, strangers]), ks=(3, 10))
        assert alone == {key: found[which][key] for key in alone}
        assert set(found[which]) == {
            f"{n}@{k}" for n in ["recall", "ndcg", "hit_rate", "precision", "mrr"] for k in (3, 10)
        }
        for key, (low, high) in found["intervals"][which].items():
            assert low <= found[which][key] <= high
    assert found["measured"] == {"users": 80, "pairs": 81, "known": 0, "strangers": 2}
    assert [row["bucket"] for row in found["buckets"]] == ["head", "middle", "tail", "new"]
    assert found["buckets"][3]["pairs"] == 1
    assert found == model.report(np.concatenate([test, strangers]), ks=(3, 10), seed=4)
