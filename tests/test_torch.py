"""hotrow.torch.Embedding: what tests/conformance.py asks of every way into a table, and what torch's users expect."""

from __future__ import annotations

import conformance
import numpy as np
import pyarrow as pa
import pytest
import torch
from conformance import BAD, DIM, OPTIMIZERS, POOLS

import hotrow
from hotrow import torch as hot


class InTorch:
    """A module, and a loss that has the gradients that are asked for."""

    def __init__(self, optimizer=None, table=None):
        how = {"optimizer": optimizer or hotrow.SGD(0.1), "seed": 5, "initializer": hotrow.Uniform()}
        self.emb = hot.Embedding(None, DIM, **how if table is None else {"table": table})
        self.table = self.emb.table

    def lookup(self, ids):
        with torch.no_grad():
            return self.emb(ids).numpy()

    def step(self, ids, gradients):
        (self.emb(ids) * torch.from_numpy(gradients)).sum().backward()
        self.emb.step()


class Ahead(InTorch):
    """The same, with ids that are found ahead."""

    def step(self, ids, gradients):
        super().step(self.emb.find(ids), gradients)


class InBags(InTorch):
    """The same, by bags of one id."""

    def __init__(self, optimizer=None, table=None):
        super().__init__(optimizer, table)
        self.bag = hot.EmbeddingBag(None, DIM, mode="sum", table=self.table)

    def step(self, ids, gradients):
        vectors = self.bag(np.reshape(ids, (-1, 1)) if isinstance(ids, np.ndarray) else ids)
        (vectors * torch.from_numpy(gradients.reshape(-1, DIM))).sum().backward()
        self.emb.step()


@pytest.mark.parametrize("way", [InTorch, Ahead, InBags])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_the_trained_table_is_the_same_to_the_bit(way, optimizer):
    conformance.check_trained(way(optimizer), "small")


@pytest.mark.parametrize("way", [InTorch, Ahead, InBags])
@pytest.mark.parametrize("kind", POOLS)
def test_the_trained_table_is_the_same_for_ids_of_every_kind(way, kind):
    conformance.check_trained(way(hotrow.Adam(0.01)), kind)


def test_unknown_ids_have_their_first_value():
    conformance.check_unknown(InTorch())


@pytest.mark.parametrize("way", [InTorch, Ahead])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_can_not_be_ids_is_refused_alike(way, bad):
    conformance.check_refused(way(), bad)


def test_strings_for_a_table_of_integers_are_refused_and_change_nothing():
    subject = InTorch()
    subject.step(np.array([[1]]), np.ones((1, 1, DIM), np.float32))
    before = subject.table.lookup([1])
    text = conformance.error_of(subject.step, [["cup"]], np.ones((1, 1, DIM), np.float32))
    assert "got 'cup' at position (0, 0) for a table of int64 ids; expected integers" in text
    assert len(subject.table) == 1
    np.testing.assert_array_equal(subject.table.lookup([1]), before)


# --- ids and vectors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([3, 5, 3]),
        torch.tensor([3, 5, 3], dtype=torch.int32),
        torch.tensor([3, 5, 3], dtype=torch.uint8),
        torch.tensor([3, 5, 3], dtype=torch.uint64),
        torch.tensor([3, 0, 5, 0, 3])[::2],
        np.array([3, 5, 3]),
        [3, 5, 3],
        pa.array([3, 5, 3]),
    ],
    ids=["int64", "int32", "uint8", "uint64", "strided", "NumPy", "list", "Arrow"],
)
def test_ids_come_as_anything_that_holds_integers(ids):
    emb = hot.Embedding(None, 2, seed=1)
    vectors = emb(ids)
    assert (vectors.dtype, vectors.shape, vectors.requires_grad) == (torch.float32, (3, 2), True)
    np.testing.assert_array_equal(vectors.detach().numpy(), emb.table.lookup([3, 5, 3]))
    assert emb.table.ids().tolist() == [3, 5]


def test_unsigned_ids_beyond_int64_stay_what_they_are():
    emb = hot.Embedding(None, 2)
    emb(torch.tensor([2**64 - 1, 2**63], dtype=torch.uint64))
    assert emb.table.ids().tolist() == [2**64 - 1, 2**63]


def test_first_values_are_those_of_torch_a_normal_distribution_that_manual_seed_decides():
    def draw():
        torch.manual_seed(3)
        return hot.Embedding(None, 64)(range(500)).detach()

    first = draw()
    assert torch.equal(first, draw())
    assert abs(first.mean()) < 0.02
    assert abs(first.std() - 1) < 0.02


def test_evaluation_no_grad_and_a_frozen_module_give_no_id_a_row():
    emb = hot.Embedding(None, 2, seed=0)
    expected = hotrow.Table(2, seed=0, initializer=hotrow.Normal(1.0)).lookup(["cup"])
    with torch.no_grad():
        np.testing.assert_array_equal(emb(["cup"]), expected)
    with torch.inference_mode():
        np.testing.assert_array_equal(emb(["cup"]), expected)
    np.testing.assert_array_equal(emb.eval()(["cup"]).detach(), expected)
    emb.train().requires_grad_(False)
    vectors = emb(["cup"])
    assert not vectors.requires_grad
    assert len(emb.table) == 0
    emb.requires_grad_(True)(["cup"])
    assert len(emb.table) == 1


def test_evaluation_trains_the_rows_that_there_are_and_says_so_of_others():
    emb = hot.Embedding(None, 2, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    emb([1, 2])
    emb.eval()([1]).sum().backward()
    emb.step()
    assert emb.table.lookup([1, 2])[:, 0].tolist() == [-1.0, 0.0]
    with pytest.raises(hotrow.UnknownIdError, match=r"id 9 \(position 1\) has no row .* emb.train\(\)"):
        emb([1, 9]).sum().backward()
    emb.step()
    assert emb.table.steps == 1


def test_a_bound_is_checked():
    emb = hot.Embedding(4, 2, padding_idx=-1)
    assert emb.padding_idx == 3
    assert emb([[0, 3]]).shape == (1, 2, 2)
    for bad in ([[0, 1], [2, 4]], torch.tensor([[0, 1], [2, -1]])):
        with pytest.raises(
            IndexError, match=r"at position \(1, 1\); expected ids from 0 to 3, for num_embeddings says"
        ):
            emb(bad)
    with torch.no_grad(), pytest.raises(hotrow.IdError, match=r"got 4; .*hotrow.torch.Embedding\(None, 2\)"):
        emb(4)
    with pytest.raises(hotrow.KindError, match="got strings; expected ids from 0 to 3"):
        emb(["cup"])
    assert emb.table.ids().tolist() == [0]


def test_padding_is_zeros_has_no_row_and_learns_nothing():
    emb = hot.Embedding(None, 2, padding_idx="", optimizer=hotrow.SGD(1.0))
    vectors = emb([["cup", ""], ["", "mug"]])
    assert vectors[0, 1].tolist() == vectors[1, 0].tolist() == [0.0, 0.0]
    vectors.sum().backward()
    assert float(emb.hook.grad) == pytest.approx(2.0)  # of two rows of ones, without those of padding
    emb.step()
    assert emb.table.ids().to_pylist() == ["cup", "mug"]
    assert emb([""]).tolist() == [[0.0, 0.0]]


def test_pretrained_vectors_are_frozen_unless_told_otherwise():
    matrix = torch.randn(5, 3)
    emb = hot.Embedding.from_pretrained(matrix)
    assert torch.equal(emb(torch.arange(5)), matrix)
    assert torch.equal(emb.weight, matrix)
    assert not emb(torch.arange(5)).requires_grad
    assert hot.Embedding.from_pretrained(matrix, freeze=False, padding_idx=1)([0]).requires_grad
    for bad, text in ((torch.randn(5), "two dimensions"), (torch.full((2, 2), torch.nan), "finite")):
        with pytest.raises(hotrow.ArgumentError, match=text):
            hot.Embedding.from_pretrained(bad)


def test_the_gradient_by_frequency_is_that_of_torch():
    ids, g = torch.tensor([0, 2, 2, 2, 1, 1]), torch.randn(6, 2)
    theirs = torch.nn.Embedding(3, 2, scale_grad_by_freq=True)
    ours = hot.Embedding(3, 2, scale_grad_by_freq=True, _weight=theirs.weight, optimizer=hotrow.SGD(1.0))
    for emb in (theirs, ours):
        (emb(ids) * g).sum().backward()
    ours.step()
    torch.testing.assert_close(theirs.weight - theirs.weight.grad, ours.weight)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"max_norm": 1.0}, r"max_norm=1.0.* change rows in a forward pass.*expected None"),
        ({"device": "cuda"}, "in the CPU's memory; leave device= out"),
        ({"dtype": torch.float16}, r"vectors are float32; .*\.to\(torch.float16\)"),
        ({"_weight": torch.zeros(3, 2)}, r"emb.table.set\(ids, vectors\)"),
        ({"optimizer": "adam"}, r"optimizer=hotrow.Adam\(1e-3\)"),
        ({"optimizer": torch.optim.SGD}, r"optimizer=hotrow.Adam\(1e-3\)"),
        ({"optimizer": torch.optim.SGD([torch.zeros(1)])}, r"call hotrow.torch.follow\(model, optimizer\)"),
        ({"table": torch.nn.Embedding(2, 2)}, "must be a hotrow.Table; got a Embedding"),
        ({"table": hotrow.Table(3)}, "embedding_dim is 2, and the table's vectors have 3"),
        ({"table": hotrow.Table(2), "seed": 3}, "seed=3 is the table's own"),
        ({"ids": "int32"}, "'int64', 'uint64', 'string'"),
    ],
)
def test_what_a_table_can_not_do_is_refused_by_name(how, text):
    with pytest.raises(hotrow.ArgumentError, match=text):
        hot.Embedding(None, 2, **how)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: hot.Embedding(0, 2), "num_embeddings must be a whole number from 1"),
        (lambda: hot.Embedding(3, 2, padding_idx=3), "padding_idx must be within num_embeddings"),
        (lambda: hot.Embedding(3, 2, _weight=torch.zeros(2, 2)), r"_weight must be of shape \(3, 2\); got \(2, 2\)"),
        (lambda: hot.Embedding(3, 2, ids="string"), "ids='string' can't be 0 to 2"),
        (lambda: hot.Embedding(None, 2).weight, "no bound on the ids"),
    ],
)
def test_arguments_that_can_not_be_right_are_refused(make, text):
    with pytest.raises(hotrow.ArgumentError, match=text):
        make()


def test_a_tensor_of_floats_must_be_whole_and_of_bfloat16_is_refused():
    emb = hot.Embedding(None, 2)
    assert emb(torch.tensor([1.0, 2.0])).shape == (2, 2)
    with pytest.raises(hotrow.IdError, match=r"0\.5"):
        emb(torch.tensor([0.5]))
    with pytest.raises(hotrow.KindError, match=r"bfloat16.*ids.long\(\)"):
        emb(torch.tensor([1.0], dtype=torch.bfloat16))


def test_a_module_moved_or_made_half_keeps_its_table():
    emb = hot.Embedding(None, 2, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    emb.half()
    vectors = emb([1])
    assert vectors.dtype is torch.float16
    vectors.sum().backward()
    assert emb.hook.grad.dtype is torch.float32
    emb.double()
    emb.to("cpu")
    emb.step()
    assert emb([1]).dtype is torch.float64
    emb.float()
    assert emb([1]).dtype is torch.float32
    assert emb.table.lookup([1]).tolist() == [[-1.0, -1.0]]


def test_a_module_says_what_it_is():
    assert repr(hot.Embedding(None, 8, padding_idx="")) == "Embedding(None, 8, padding_idx='')"
    assert repr(hot.EmbeddingBag(9, 8)) == "EmbeddingBag(9, 8, mode='mean')"
    assert [name for name, _ in hot.Embedding(None, 8).named_parameters()] == ["hook"]
