"""The benchmark of quality: its splits are what they say, and its evaluator and its tables can say no."""

from __future__ import annotations

import numpy as np
import pytest

protocols = pytest.importorskip("benchmarks.protocols", reason="this is no checkout")
evaluator = pytest.importorskip("benchmarks.evaluator")
report = pytest.importorskip("benchmarks.report")
UnequalError = pytest.importorskip("benchmarks.harness").UnequalError


def codes(cut, side):
    users, items = getattr(cut, side)
    return users * cut.items + items


@pytest.mark.parametrize("validation", [False, True])
def test_no_held_out_pair_is_learned_from(validation):
    cut = protocols.made_up(0, validation)
    assert not np.isin(codes(cut, "held_out"), codes(cut, "train")).any()


def test_a_validation_cut_has_no_pair_of_the_test():
    test, validation = protocols.made_up(3, False), protocols.made_up(3, True)
    both = np.concatenate([codes(validation, "train"), codes(validation, "held_out")])
    assert np.array_equal(np.sort(both), np.sort(codes(test, "train")))


def test_a_stratified_split_takes_a_share_of_each_user():
    users = np.repeat([0, 1, 2], [4, 8, 100])
    pairs = users, np.arange(112)
    train, test = protocols.stratified(pairs, 0.25, 0)
    assert np.bincount(train[0]).tolist() == [3, 6, 75]
    assert np.bincount(test[0]).tolist() == [1, 2, 25]
    assert sorted([*train[1], *test[1]]) == list(range(112))


def test_each_rating_is_in_one_of_five_folds():
    folds = protocols.folds(1)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(100_000))
    assert all(len(np.intersect1d(train, test)) == 0 for train, test in folds)


def test_the_top_k_share_is_over_pairs():
    cut = protocols.Cut((np.array([0]), np.array([0])), (np.array([0, 0, 0, 1]), np.array([1, 2, 3, 1])), 2, 4)
    protocol = protocols.Protocol("", (), lambda seed, validation: cut, ("top@1", "recall@1"))
    measured = protocol.measure(np.array([[1], [3]]), cut)
    assert measured == {"top@1": 0.25, "recall@1": pytest.approx(1 / 6)}


def test_a_metric_that_differs_from_ranx_is_named():
    with pytest.raises(UnequalError, match=r"ndcg@10 is 0\.5"):
        evaluator.compare({"ndcg@10": 0.5}, {"ndcg@10": 0.500001})


@pytest.mark.long
def test_the_metrics_are_those_of_ranx_where_it_is_installed():
    pytest.importorskip("ranx", reason="it brings a plotting library; pip install ranx", exc_type=ImportError)
    assert evaluator.check(rounds=1).endswith("compared.")


def test_quality_against_time_is_drawn_with_a_curve_for_each_side():
    results = [
        report.Result("NDCG", {"side": side, "with": f"epochs {n}"}, column, "one seed", value * n)
        for side in ("hotrow", "<implicit>")
        for n in (1, 5)
        for column, value in (("training, s", 0.5), ("NDCG, %", 10.0))
    ]
    text, pictures = report.to_markdown("quality", {}, results)
    assert "quality-1.svg" in text
    assert "hotrow: 10.0 at 0.500, 50.0 at 2.50" in pictures["quality-1.svg"]


@pytest.mark.compiled
def test_sides_rank_the_items_that_users_of_a_kind_take():
    sides = pytest.importorskip("benchmarks.quality_sides")
    protocol = protocols.PROTOCOLS["made_up"]
    cut = protocol.cut(0, False)
    reached = {}
    for side in (sides.OURS, sides.POPULARITY):
        seconds, best = sides.SIDES[side](protocol, cut, 0, {}, True)
        assert seconds >= 0
        assert best.shape == (len(cut.asked()[0]), 10)
        assert not set(zip(*cut.train, strict=True)) & {
            (user, item) for user, row in zip(cut.asked()[0], best, strict=True) for item in row
        }
        reached[side] = protocol.measure(best, cut)["recall@10"]
    assert reached[sides.OURS] > 0.6 > reached[sides.POPULARITY]


def test_the_time_to_the_peers_best_is_that_of_the_first_point_as_good():
    quality = pytest.importorskip("benchmarks.quality")
    points = {"hotrow, no option": [(2.0, 8.0), (3.0, 11.0), (4.0, 12.0)], "ALS": [(0.1, 50.0)]}
    curve = [
        report.Result("", {"side": side, "with": f"epochs {seconds}"}, column, "one seed", value)
        for side, measured in points.items()
        for seconds, share in measured
        for column, value in (("training, s", seconds), ("recall@10, %", share))
    ]
    peer = [{"metrics": {"recall@10": value}, "seconds": 5.0} for value in (0.09, 0.11)]
    theirs, ours = quality._caught_up("made_up", peer, curve, held=True)
    assert (theirs.best, ours.best, ours.holds) == (5.0, 3.0, True)
    never = quality._caught_up("made_up", [{"metrics": {"recall@10": 0.5}, "seconds": 5.0}], curve, held=True)
    assert list(never)[1].holds is False
