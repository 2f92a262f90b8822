"""hotrow.torch.EmbeddingBag beside torch.nn.EmbeddingBag: vectors, gradients, and what each refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hotrow
from hotrow import torch as hot

V, D = 7, 3


@st.composite
def bags(draw):
    """Ids of all bags in one dimension, and where each bag begins."""
    lengths = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    ids = draw(st.lists(st.integers(0, V - 1), min_size=sum(lengths), max_size=sum(lengths)))
    offsets = np.cumsum([0, *lengths])
    return torch.tensor(ids, dtype=torch.int64), torch.from_numpy(offsets)


def pair(mode, **how):
    torch.manual_seed(0)
    theirs = torch.nn.EmbeddingBag(V, D, mode=mode, **how)
    ours = hot.EmbeddingBag(V, D, mode=mode, _weight=theirs.weight, optimizer=hotrow.SGD(1.0), **how)
    if "padding_idx" in how:
        with torch.no_grad():
            theirs.weight[how["padding_idx"]] = 0
    return theirs, ours


def check(theirs, ours, *arguments, weights=None):
    """The same vectors, and after a step of plain SGD the same matrix; and the gradient of the weights, if any."""
    results = []
    for module in (theirs, ours):
        own = None if weights is None else weights.clone().requires_grad_()
        vectors = module(*arguments, per_sample_weights=own)
        g = torch.linspace(-1, 2, vectors.numel()).reshape(vectors.shape)
        (vectors * g).sum().backward()
        results.append((vectors.detach(), None if own is None else own.grad))
    ours.step()
    torch.testing.assert_close(results[1][0], results[0][0])
    if weights is not None:
        torch.testing.assert_close(results[1][1], results[0][1])
    grad = theirs.weight.grad
    used = torch.arange(V) != (-1 if theirs.padding_idx is None else theirs.padding_idx)
    torch.testing.assert_close(ours.weight[used], (theirs.weight - grad).detach()[used])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@given(bags(), st.booleans())
def test_bags_are_those_of_torch(mode, given_bags, include_last):
    ids, offsets = given_bags
    theirs, ours = pair(mode, include_last_offset=include_last)
    check(theirs, ours, ids, offsets if include_last else offsets[:-1])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@given(bags())
def test_padding_counts_for_nothing(mode, given_bags):
    ids, offsets = given_bags
    check(*pair(mode, padding_idx=2), ids, offsets[:-1])


@given(bags(), st.booleans(), st.integers(0, 9))
def test_weights_get_their_gradient(given_bags, padded, seed):
    ids, offsets = given_bags
    weights = torch.randn(len(ids), generator=torch.Generator().manual_seed(seed))
    theirs, ours = pair("sum", padding_idx=2) if padded else pair("sum")
    check(theirs, ours, ids, offsets[:-1], weights=weights)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_two_dimensions_are_bags(mode):
    check(*pair(mode), torch.tensor([[0, 1, 1], [2, 3, 0]]))


def test_the_gradient_by_frequency_is_divided_by_how_often_an_id_stands_in_the_batch():
    # torch's own, 2.13 on the CPU, divides by the frequency of another id
    bag = hot.EmbeddingBag(V, D, mode="sum", scale_grad_by_freq=True, optimizer=hotrow.SGD(1.0))
    before = bag.weight
    bag(torch.tensor([[0, 1, 1], [2, 3, 0]])).sum().backward()
    bag.step()
    torch.testing.assert_close((before - bag.weight)[:, 0], torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))


def test_weights_in_two_dimensions_have_the_shape_of_the_ids():
    check(*pair("sum"), torch.tensor([[0, 1], [2, 0]]), weights=torch.tensor([[0.5, 2.0], [1.0, -1.0]]))


def test_weights_are_trained_also_beside_a_frozen_table():
    _, ours = pair("sum")
    ours.requires_grad_(False)
    weights = torch.ones(1, 2, requires_grad=True)
    ours(torch.tensor([[0, 1]]), per_sample_weights=weights).sum().backward()
    torch.testing.assert_close(weights.grad, ours.weight[:2].sum(1)[None])
    assert ours.gradients.part is None


def test_sqrtn_divides_by_the_root_of_the_number_of_ids():
    bag = hot.EmbeddingBag(None, D, mode="sqrtn", seed=0)
    rows = bag.table.lookup(["a", "b"])
    torch.testing.assert_close(bag([["a", "b"]])[0].detach(), torch.from_numpy(rows.sum(0) / np.sqrt(2)).float())


def test_lists_of_any_length_are_bags_of_any_ids():
    bag = hot.EmbeddingBag(None, D, mode="sum", seed=0, optimizer=hotrow.SGD(1.0), padding_idx="")
    before = bag.table.lookup(["a", "b"])
    vectors = bag([["a", "b", "a"], [], ["", "b"]])
    np.testing.assert_allclose(vectors.detach(), [2 * before[0] + before[1], np.zeros(D), before[1]], rtol=1e-6)
    vectors.sum().backward()
    bag.step()
    np.testing.assert_allclose(before - bag.table.lookup(["a", "b"]), np.full((2, D), 2.0), rtol=1e-5)
    assert bag.table.ids().to_pylist() == ["a", "b"]


def test_bags_found_ahead_are_the_same():
    bag = hot.EmbeddingBag(None, D, mode="mean", seed=0)
    batch = bag.find([5, 6, 7], [0, 1])
    assert torch.equal(bag(batch), bag([5, 6, 7], [0, 1]))
    with pytest.raises(hotrow.ArgumentError, match="a Batch has its bags from find"):
        bag(batch, [0, 1])


def test_two_calls_of_max_before_one_backward_each_have_their_own_maxima():
    bag = hot.EmbeddingBag(None, 1, mode="max", optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    batch = bag.find([[1, 2]])
    bag.table.set([1, 2], [[5.0], [0.0]])
    first = bag(batch)
    bag.table.set([1, 2], [[0.0], [5.0]])
    (first + bag(batch)).sum().backward()
    bag.step()
    assert bag.table.lookup([1, 2]).tolist() == [[-1.0], [4.0]]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda b: b([1, 2]), "in one dimension need offsets"),
        (lambda b: b(torch.tensor([[1]]), torch.tensor([0])), "two dimensions are bags already"),
        (lambda b: b([[1], [2, 3]], [0]), "two dimensions are bags already"),
        (lambda b: b(torch.tensor([1, 2]), torch.tensor([1])), "offsets must start at 0"),
        (lambda b: b([1, 2], [0, 3]), "up to the number of ids, 2"),
        (lambda b: b([1, 2], [0.5]), "whole numbers in one dimension; got float64"),
        (lambda b: b(torch.zeros(1, 1, 1, dtype=torch.int64)), r"expected ids \(bags, n\)"),
        (lambda b: b([1, 2], [0], [1.0]), "one for each of 2 ids; got 1"),
        (lambda b: b(torch.tensor([[1, 2]]), None, torch.ones(2)), r"must be of the ids' shape, \(1, 2\); got \(2,\)"),
        (lambda b: b([1, 2], [0], [1.0, float("nan")]), "weights must be finite; weight 1 isn't"),
        (lambda _: hot.EmbeddingBag(None, D)([[1]], per_sample_weights=[[1.0]]), "are for mode='sum'; .* 'mean'"),
        (lambda _: hot.EmbeddingBag(None, D, mode="median"), "mode must be one of 'sum', 'mean', 'sqrtn', 'max'"),
        (lambda _: hot.EmbeddingBag(None, D, mode="max", scale_grad_by_freq=True), "doesn't go with mode='max'"),
    ],
)
def test_what_are_no_bags_is_refused_and_changes_nothing(call, text):
    bag = hot.EmbeddingBag(None, D, mode="sum")
    with pytest.raises(hotrow.ArgumentError, match=text):
        call(bag)
    assert len(bag.table) == 0
