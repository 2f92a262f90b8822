"""Where vectors start: singular vectors, against NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest

import hotrow
from hotrow.models import spectral as module
from hotrow.models.ranking import blas_on_one_thread
from hotrow.models.spectral import POWER, spectral
from hotrow.models.training import Pairs


def some_pairs(users=70, items=40, share=0.15, seed=0):
    """Distinct pairs, ordered by user, of users and items of several kinds."""
    rng = np.random.default_rng(seed)
    likes = rng.integers(0, 4, users)[:, None] == rng.integers(0, 4, items)
    cells = rng.random((users, items)) < np.where(likes, 3 * share, share / 3)
    cells[np.arange(users), rng.integers(0, items, users)] = True
    return Pairs(*np.nonzero(cells))


def weighted(pairs, users, items):
    """The matrix, dense."""
    dense = np.zeros((users, items))
    dense[pairs.users, pairs.items] = 1
    return dense * np.maximum(dense.sum(1, keepdims=True), 1) ** -POWER * np.maximum(dense.sum(0), 1) ** -POWER


def test_items_span_the_leading_singular_vectors_and_users_are_the_sums_of_their_items(monkeypatch):
    monkeypatch.setattr(module, "_ROUNDS", 20)  # two are near enough to start from, not to compare with
    pairs = some_pairs()
    users, items = spectral(pairs, 70, 40, 3, np.random.default_rng(1))
    dense = weighted(pairs, 70, 40)
    right = np.linalg.svd(dense)[2][:3].T
    expected = right / np.linalg.norm(right, axis=1, keepdims=True)
    np.testing.assert_allclose(items @ items.T, expected @ expected.T, atol=2e-3)
    expected = dense @ right
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(users @ users.T, expected @ expected.T, atol=2e-3)


def test_more_floats_than_the_pairs_have_rank_are_zeros():
    pairs = Pairs(np.array([0, 0, 1, 2]), np.array([0, 1, 0, 2]))
    users, items = spectral(pairs, 3, 3, 8, np.random.default_rng(0))
    assert (users.shape, items.shape) == ((3, 8), (3, 8))
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, atol=1e-5)
    assert np.isfinite(users).all()
    assert not users[:, 3:].any()
    assert abs(users[2] @ users[0]) < 1e-3  # nothing in common
    assert users[0] @ users[1] > 0.5


def test_of_many_pairs_some_users_are_drawn_and_every_item_is_placed(monkeypatch):
    pairs = some_pairs(users=400)
    whole = spectral(pairs, 400, 40, 3, np.random.default_rng(0))[1]
    monkeypatch.setattr(module, "MOST", len(pairs) // 3)
    users, part = spectral(pairs, 400, 40, 3, np.random.default_rng(0))
    likeness = np.corrcoef((whole @ whole.T).ravel(), (part @ part.T).ravel())[0, 1]
    assert likeness > 0.9
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), 1, atol=1e-5)
    monkeypatch.setattr(module, "MOST", 12)  # a user or two, who can't have all items
    np.testing.assert_allclose(
        np.linalg.norm(spectral(pairs, 400, 40, 3, np.random.default_rng(0))[1], axis=1), 1, atol=1e-5
    )


@pytest.mark.compiled
def test_it_is_the_same_to_the_bit_on_any_number_of_threads():
    pairs, made = some_pairs(users=900, items=700), []
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        with blas_on_one_thread:
            made.append(spectral(pairs, 900, 700, 16, np.random.default_rng(4)))
    for users, items in made[1:]:
        assert np.array_equal(users, made[0][0])
        assert np.array_equal(items, made[0][1])
