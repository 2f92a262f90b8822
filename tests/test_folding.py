"""Users that no fit has seen, placed by their items alone."""

from __future__ import annotations

import numpy as np
import pytest

import hotrow
from hotrow.models import Retrieval

pytestmark = pytest.mark.compiled


def shelves(users=80, per_user=6, seed=0):
    """Users of two kinds, who take from two shelves of 12 items: (users, items); shelf and kind are the parity."""
    rng = np.random.default_rng(seed)
    pairs = [(u, 2 * i + u % 2) for u in range(users) for i in rng.permutation(12)[:per_user]]
    return tuple(np.array(side) for side in zip(*pairs, strict=True))


@pytest.fixture(scope="module")
def model():
    return Retrieval(8, epochs=20, batch_size=64, negatives=16).fit(shelves())


@pytest.mark.parametrize("loss", ["softmax", "cosine", "bpr"])
def test_a_stranger_is_recommended_what_goes_with_its_items(loss):
    settings = {"weight": 5.0} if loss == "cosine" else {}
    model = Retrieval(8, loss=loss, epochs=20, batch_size=64, negatives=16, **settings).fit(shelves())
    recommended, scores = model.recommend_for([[0, 2, 4], [1, 3, 5]], k=5)
    for side, row in enumerate(recommended):
        assert all(item % 2 == side for item in row)
        assert not set(row) & {0, 1, 2, 3, 4, 5}
    assert all(row == sorted(row, reverse=True) for row in scores)
    assert set(model.recommend_for([[0, 2, 4]], k=3, exclude_known=False)[0][0]) & {0, 2, 4}


def test_folded_in_users_are_beside_those_who_have_the_same_items(model):
    users, items = shelves()
    own = [items[users == user].tolist() for user in range(20)]
    folded = model.fold_in(own)
    trained = model.users.lookup(np.arange(20))
    cosines = (folded * trained).sum(1) / np.linalg.norm(folded, axis=1) / np.linalg.norm(trained, axis=1)
    assert cosines.mean() > 0.9


def test_steps_go_down_the_loss_of_a_users_own_items(model):
    from hotrow.models import folding

    own = [[0, 2, 5]]
    moved = model.fold_in(own)
    start = folding.STEPS, folding.RATE
    factors = model._item_factors()

    def chance(vectors):
        scores = model.loss.user_factors(vectors) @ factors.T
        at = model.items.find(own[0]).rows
        return float((scores[0, at] - np.log(np.exp(scores[0]).sum())).mean())

    try:
        folding.STEPS = 0
        assert chance(moved) > chance(model.fold_in(own))
    finally:
        folding.STEPS, folding.RATE = start


def test_a_user_is_placed_the_same_in_whatever_company_and_order(model):
    alone = model.fold_in([[4, 7, 9]])
    among = model.fold_in([[1, 2], [9, 7, 4, 4], [], [3]])
    np.testing.assert_allclose(among[1], alone[0], atol=1e-6)
    assert not among[2].any()
    flat = model.fold_in((np.array([1, 2, 9, 7, 4, 4, 3]), [0, 2, 6, 6, 7]))
    assert np.array_equal(flat, among)


def test_who_has_nothing_gets_what_is_frequent_and_the_model_stays_as_it_was(model):
    before = model.users.vectors().copy(), model.items.vectors().copy(), len(model.users)
    _, items = shelves()
    best = model.recommend_for([[]], k=24)[0][0]
    bias = dict(zip(model.items.ids().tolist(), model.items.vectors()[:, -1], strict=True))
    assert best == sorted(best, key=lambda item: -bias[item])
    assert set(best) == set(items.tolist())
    assert np.array_equal(model.users.vectors(), before[0])
    assert np.array_equal(model.items.vectors(), before[1])
    assert len(model.users) == before[2]


def test_strange_items_and_what_is_no_list_of_lists_are_refused(model):
    with pytest.raises(hotrow.UnknownIdError, match="999"):
        model.recommend_for([[1], [999]])
    for wrong in ([1, 2], "ab", [[1], 2], None):
        with pytest.raises(hotrow.ArgumentError, match="a list of items for each user"):
            model.fold_in(wrong)
    with pytest.raises(hotrow.ArgumentError):
        model.recommend_for([[1]], k=0)
    assert model.fold_in([]).shape == (0, 8)


def test_the_same_users_on_any_number_of_threads(model):
    rng = np.random.default_rng(0)
    histories = [rng.integers(0, 24, 5).tolist() for _ in range(600)]
    made = []
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        made.append(model.fold_in(histories))
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
