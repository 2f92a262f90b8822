"""Bags: sum, mean, sqrtn and max, their gradients, weights, empty bags."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hotrow

MODES = ["sum", "mean", "sqrtn", "max"]


@st.composite
def bags(draw):
    sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ids = draw(st.lists(st.integers(0, 6), min_size=int(offsets[-1]), max_size=int(offsets[-1])))
    weights = draw(st.none() | st.lists(st.floats(-2, 2, width=32), min_size=len(ids), max_size=len(ids)))
    return ids, offsets, weights


@given(bags(), st.sampled_from(MODES))
def test_bags_and_their_gradients_are_as_specified(bag, mode):
    ids, offsets, weights = bag
    weights = None if mode == "max" else weights
    table = hotrow.Table(3, optimizer=hotrow.SGD(1.0), initializer=hotrow.Normal(1.0), ids="int64")
    vectors = table.lookup(np.array(ids, np.int64), grow=True).reshape(-1, 3)
    given_ = {"offsets": offsets, "weights": weights, "pooling": mode}
    batch = table.find(np.array(ids, np.int64), **given_)
    pooled = table.lookup(batch)
    assert pooled.shape == (len(offsets) - 1, 3)
    close = {"rtol": 1e-4, "atol": 1e-4}  # a mean may divide by a sum of weights near zero
    if weights is None or (mode != "mean" and all(abs(w) > 1e-2 for w in weights)):
        np.testing.assert_allclose(pooled, naive.pool(vectors, offsets, mode, weights), **close)
        gradients = np.random.default_rng(0).normal(size=pooled.shape).astype(np.float32)
        table.update(batch, gradients)
        expected = {id: vector.astype(np.float64) for id, vector in zip(ids, vectors, strict=True)}
        for id, g in zip(ids, naive.unpool(gradients, vectors, offsets, mode, weights), strict=True):
            expected[id] = expected[id] - g
        for id, vector in expected.items():
            np.testing.assert_allclose(table.lookup(id), vector, **close)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_are_those_of_torch(mode):
    ids, offsets = np.array([4, 1, 1, 3, 0]), np.array([0, 2, 2, 5])
    table = hotrow.Table(4, initializer=hotrow.Normal(1.0))
    weight = table.lookup(np.arange(5), grow=True)
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.tensor(weight), mode=mode)
    expected = bag(torch.tensor(ids), torch.tensor(offsets[:-1])).numpy()
    np.testing.assert_allclose(table.lookup(ids, offsets=offsets, pooling=mode), expected, rtol=1e-6)


def test_an_empty_bag_is_zeros_and_changes_nothing():
    table = hotrow.Table(2)
    before = table.lookup([1], grow=True)
    batch = table.find([1], offsets=[0, 0, 1, 1])
    assert table.lookup(batch)[[0, 2]].tolist() == [[0, 0], [0, 0]]
    table.update(batch, np.array([[9, 9], [0, 0], [9, 9]], np.float32))
    assert (table.lookup([1]) == before).all()


def test_an_unknown_id_in_a_bag_has_its_first_value():
    table = hotrow.Table(2, initializer=hotrow.Normal(1.0))
    table.lookup([1], grow=True)
    first = table.lookup([1, 2])
    np.testing.assert_allclose(table.lookup([1, 2], offsets=[0, 2], pooling="sum")[0], first.sum(0), rtol=1e-6)
    zero = table.lookup([1, 2], offsets=[0, 2], pooling="sum", unknown="zero")
    np.testing.assert_allclose(zero[0], first[0], rtol=1e-6)


def test_the_gradient_of_a_maximum_goes_where_the_lookup_saw_it():
    table = hotrow.Table(1, optimizer=hotrow.SGD(1.0))
    table.set([1, 2], np.array([[1.0], [2.0]]))
    batch = table.find([1, 2], offsets=[0, 2], pooling="max")
    assert table.lookup(batch).tolist() == [[2.0]]
    table.set([1], np.array([[5.0]]))  # another step comes between
    table.update(batch, np.ones((1, 1), np.float32))
    assert table.lookup([1, 2]).tolist() == [[5.0], [1.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"offsets": [0, 1]}, "end at the number of ids, 3"),
        ({"offsets": [1, 3]}, "start at 0"),
        ({"offsets": [0, 2, 1, 3]}, "never fall"),
        ({"offsets": [0.0, 3.0]}, "whole numbers"),
        ({"offsets": []}, "whole numbers"),
        ({"offsets": [0, 3], "pooling": "avg"}, "'sqrtn'"),
        ({"offsets": [0, 3], "weights": [1.0]}, r"shape \(3,\)"),
        ({"offsets": [0, 3], "weights": [1.0, float("nan"), 1.0]}, "weight 1"),
        ({"offsets": [0, 3], "weights": [1.0, 1.0, 1.0], "pooling": "max"}, "takes no weights"),
        ({"weights": [1.0, 1.0, 1.0]}, "offsets="),
        ({"pooling": "sum"}, "offsets="),
    ],
)
def test_bags_that_cannot_be_right_are_refused(arguments, message):
    table = hotrow.Table(2)
    with pytest.raises(hotrow.ArgumentError, match=message):
        table.lookup([1, 2, 3], grow=True, **arguments)
    assert len(table) == 0
