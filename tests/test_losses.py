"""The losses' gradients against torch's own differentiation of the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hotrow
from hotrow.models import blocks, losses
from hotrow.models.blocks import Block


def block(seed=0):
    """Four users, nine candidates, six pairs, three cells known from before, drawn items some of them twice."""
    rng = np.random.default_rng(seed)
    return Block(
        users=rng.normal(size=(4, 5)).astype(np.float32),
        items=rng.normal(size=(9, 5)).astype(np.float32),
        bias=rng.normal(size=9).astype(np.float32),
        pairs=(np.array([0, 0, 1, 2, 3, 3]), np.array([0, 1, 2, 0, 3, 4])),
        known=(np.array([1, 2, 3]), np.array([5, 6, 8])),
        log_q=np.log(rng.uniform(0.1, 0.9, 9)).astype(np.float32),
        drawn=np.array([5, 6, 7, 8, 8, 2]),
        scores=np.empty((4, 9), np.float32),
    )


def large_block(users=300, items=400, pairs=900):
    """More users and items than a slice has."""
    rng = np.random.default_rng(1)
    cells = np.unique(np.concatenate([rng.integers(0, users * items, pairs), np.arange(users) * items]))
    known = np.setdiff1d(rng.integers(0, users * items, pairs), cells)
    return Block(
        users=rng.normal(size=(users, 8)).astype(np.float32),
        items=rng.normal(size=(items, 8)).astype(np.float32),
        bias=rng.normal(size=items).astype(np.float32),
        pairs=(cells // items, cells % items),
        known=(known // items, known % items),
        log_q=np.log(rng.uniform(0.1, 0.9, items)).astype(np.float32),
        drawn=rng.integers(0, items, 100),
        scores=np.empty((users, items), np.float32),
    )


def cells(given):
    negative = torch.ones(4, 9, dtype=torch.bool)
    negative[given.pairs] = negative[given.known] = False
    return negative


def softmax(users, items, bias, given, temperature=0.3):
    logits = torch.nn.functional.normalize(users) @ torch.nn.functional.normalize(items).T / temperature + bias
    corrected = torch.where(cells(given), logits - torch.tensor(given.log_q), -torch.inf)
    total = 0
    for u, i in zip(*given.pairs, strict=True):
        total = total - logits[u, i] + torch.logsumexp(torch.cat([logits[u, i][None], corrected[u]]), 0)
    return total / len(given.pairs[0])


def cosine(users, items, bias, given, margin=0.2, weight=10.0):
    cosines = torch.nn.functional.normalize(users) @ torch.nn.functional.normalize(items).T
    total = 0
    for u, i in zip(*given.pairs, strict=True):
        negatives = [j for j in given.drawn if cells(given)[u, j]]
        pushed = torch.relu(cosines[u, negatives] - margin).mean()
        total = total + 1 - cosines[u, i] + weight * pushed
    return total / len(given.pairs[0])


def bpr(users, items, bias, given, draws=3):
    scores = users @ items.T + bias
    row, column = (np.repeat(side, draws) for side in given.pairs)
    other = given.drawn[np.arange(len(row)) % len(given.drawn)]
    margin = scores[row, column] - scores[row, other]
    return (torch.nn.functional.softplus(-margin) * cells(given)[row, other]).mean()


CASES = {
    "softmax": ({"temperature": 0.3}, softmax),
    "cosine": ({"margin": 0.2, "weight": 10.0}, cosine),
    "bpr": ({"draws": 3}, bpr),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_formula(name):
    settings, formula = CASES[name]
    given = block()
    loss, *gradients = losses.make_loss(name, **settings).gradients(given)
    leaves = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (given.users, given.items, given.bias)]
    expected = formula(*leaves, given)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        wanted = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_factors_multiply_to_the_scores(name):
    loss = losses.make_loss(name)
    given = block()
    scores = loss.user_factors(given.users) @ loss.item_factors(given.items, given.bias).T
    users, items = given.users, given.items
    if loss.normalized:
        users, items = losses.normalize(users)[0], losses.normalize(items)[0]
    expected = loss.scale * users @ items.T + (given.bias if loss.biased else 0)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_slices_and_threads_change_nothing(name, monkeypatch):
    loss, given = losses.make_loss(name), large_block()
    results = list[losses.Gradients]()
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        results.append(loss.gradients(given))
    for a, b, c in zip(*results, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(a, c)
    monkeypatch.setattr(blocks, "_SLICE", 1000)
    for whole, sliced in zip(loss.gradients(given), results[0], strict=True):
        np.testing.assert_allclose(whole, sliced, rtol=1e-4, atol=1e-7)


def test_a_pair_that_scores_far_below_another_of_its_user_has_a_finite_loss():
    given = block()
    given.users[0], given.items[0], given.items[1] = 1, 1, -1
    loss, *gradients = losses.make_loss("softmax", temperature=0.01).gradients(given)
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_the_temperature_goes_by_the_items_and_the_pairs_a_user_has():
    loss = losses.make_loss("softmax")
    assert 1 / loss.suited_to(35_000, 4.4).scale == pytest.approx(0.103, abs=1e-3)
    assert 1 / loss.suited_to(1_700, 95).scale == pytest.approx(0.194, abs=1e-3)
    assert loss.suited_to(3, 2).scale == 2
    assert losses.make_loss("softmax", temperature=0.3).suited_to(35_000, 4.4).scale == pytest.approx(1 / 0.3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: losses.make_loss("hinge"),
        lambda: losses.make_loss("bpr", temperature=1.0),
        lambda: losses.make_loss("softmax", temperature=0.0),
        lambda: losses.make_loss("bpr", draws=0),
    ],
)
def test_losses_that_are_none_are_refused(make):
    with pytest.raises(hotrow.ArgumentError):
        make()
