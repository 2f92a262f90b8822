"""A table in shards in place of a plain one, in torch and in JAX: the same bits, with no other change.

The same in Keras is in in_keras/test_cluster.py.
"""

from __future__ import annotations

import copy

import conformance
import numpy as np
import pytest
import torch
from conformance import DIM, OPTIMIZERS, POOLS
from sharded import assert_equal
from test_collisions import colliding
from test_jax import InJax, InsideJit
from test_torch import Ahead, InBags, InTorch

import hotrow
from hotrow.bridges.codes import decode, encode
from hotrow.table.optimizers import Optimizer

pytestmark = [pytest.mark.compiled, pytest.mark.xdist_group("ray")]
WAYS = [InTorch, Ahead, InBags, InJax, InsideJit]


def subject(way, sharded, optimizer: Optimizer, kind=None):
    return way(table=sharded(DIM, optimizer=optimizer, seed=5, ids="uint64" if kind == "unsigned" else None))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", POOLS)
def test_the_trained_table_is_the_same_for_ids_of_every_kind(sharded, way, kind):
    trained = subject(way, sharded, hotrow.Adam(0.01), kind)
    conformance.check_trained(trained, kind)
    assert_equal(trained.table, conformance.reference(hotrow.Adam(0.01), kind))


@pytest.mark.parametrize("way", [InTorch, InJax])
@pytest.mark.parametrize("optimizer", ["SGD", "Adagrad", "RowwiseAdagrad", "Ftrl"])
def test_the_trained_table_is_the_same_by_other_optimizers(sharded, way, optimizer):
    trained = subject(way, sharded, OPTIMIZERS[optimizer])
    conformance.check_trained(trained, "strings")
    assert_equal(trained.table, conformance.reference(OPTIMIZERS[optimizer], "strings"))


@pytest.mark.parametrize("way", [InTorch, InJax])
def test_unknown_ids_have_their_first_value_and_bad_ones_are_refused(sharded, way):
    conformance.check_unknown(subject(way, sharded, hotrow.SGD(0.1)))
    conformance.check_refused(subject(way, sharded, hotrow.SGD(0.1)), conformance.BAD["mixed"])


# --- torch ------------------------------------------------------------------------------------------------------------


class Net(torch.nn.Module):
    """Users and items by one table, tags in bags, and a layer of torch's own."""

    def __init__(self, make):
        super().__init__()
        torch.manual_seed(0)
        one, two = (make(DIM, optimizer=hotrow.Adam(0.01), seed=seed) for seed in (1, 2))
        self.user = hotrow.torch.Embedding(None, DIM, padding_idx="nobody", table=one)
        self.item = hotrow.torch.Embedding(None, DIM, table=one)
        self.tags = hotrow.torch.EmbeddingBag(None, DIM, mode="max", table=two)
        self.dense = torch.nn.Linear(3 * DIM, 1)

    def forward(self, users, items, tags):
        return self.dense(torch.cat([self.user(users), self.item(items), self.tags(tags)], 1))


def rows_of(step, n=20):
    random = np.random.default_rng(step)
    users = [["ann", "bob", "eve", "nobody"][i] for i in random.integers(0, 4, n)]
    items = [f"item {i}" for i in random.integers(0, 6 + step, n)]
    tags = [[f"tag {i}" for i in random.integers(0, 9, random.integers(0, 4))] for _ in range(n)]
    return users, items, tags


def train(net, steps):
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    hotrow.torch.follow(net, optimizer)
    losses = []
    for step in steps:
        optimizer.zero_grad()
        loss = net(*rows_of(step)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_torch_model_with_shared_tables_bags_and_padding_trains_to_the_same_bits(sharded):
    plain, afar = Net(hotrow.Table), Net(sharded)
    assert train(plain, range(5)) == train(afar, range(5))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(afar.state_dict()[name], value, rtol=0, atol=0, msg=name)
    other = Net(sharded)
    other.load_state_dict(plain.state_dict())
    assert train(plain, range(5, 8)) == train(other, range(5, 8))
    assert_equal(other.user.table, plain.user.table)
    assert_equal(other.tags.table, plain.tags.table)


def test_a_copy_of_a_torch_model_is_of_plain_tables(sharded):
    net = Net(sharded)
    train(net, range(2))
    twin = copy.deepcopy(net)
    assert type(twin.user.table) is hotrow.Table
    assert_equal(twin.user.table, net.user.table)


def test_forgotten_ids_are_new_again_in_torch(sharded):
    ends = []
    for make in (hotrow.Table, sharded):
        emb = hotrow.torch.Embedding(None, DIM, table=make(DIM, optimizer=hotrow.SGD(0.5), seed=3))
        vectors = emb(["a", "b", "c"])
        emb.table.forget(["b"])
        vectors.sum().backward()
        emb.step()
        emb(["d", "b"]).sum().backward()
        emb.step()
        ends.append(emb.table)
    assert_equal(*ends)


# --- JAX --------------------------------------------------------------------------------------------------------------


def test_jax_has_the_same_arrays_and_goes_on_from_them(sharded):
    tables = []
    for make in (hotrow.Table, sharded):
        emb = hotrow.jax.Embedding(None, DIM, mask_id=0, table=make(DIM, optimizer=hotrow.Adam(0.01), seed=1))
        for step in range(3):
            batch = emb.find([[step, 7, 0], [2**40, step, 5]], offsets=None)
            emb.update(batch, np.ones((2, 3, DIM), np.float32) * (step + 1))
            bags = emb.find([1, 2, step + 9], offsets=[0, 1, 3], pooling="sqrtn")
            emb.update(bags, np.asarray(emb(bags)))
        tables.append(emb)
    plain, afar = tables
    arrays = afar.state_dict()
    for name, array in plain.state_dict().items():
        np.testing.assert_array_equal(arrays[name], array, name)
    other = hotrow.jax.Embedding(None, DIM, mask_id=0, table=sharded(DIM, optimizer=hotrow.Adam(0.01)))
    other.load_state_dict(plain.state_dict())
    for emb in (plain, other):
        emb.update(emb.find([7, 8]), np.full((2, DIM), 0.5, np.float32))
    assert_equal(other.table, plain.table)


# --- strings with one fingerprint -------------------------------------------------------------------------------------


def test_strings_that_collide_go_by_their_own_keys_through_codes(sharded):
    one, two = colliding(2)
    ends = []
    for make in (hotrow.Table, sharded):
        table = make(DIM, optimizer=hotrow.Adam(0.1), seed=2)
        codes, words = encode([one, "else", two])
        for which in ([0, 1], [2, 0], [1, 2]):
            batch = decode(codes[which], table, grow=True)
            table.update(batch, np.arange(2 * DIM, dtype=np.float32).reshape(2, DIM))
        del words
        ends.append(table)
    assert_equal(*ends)
