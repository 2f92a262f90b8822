"""hotrow.torch beside what else is of torch: DataLoader's workers, torch.compile, functional transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import hotrow
from hotrow import torch as hot

D = 4


class Baskets(Dataset):
    """A word, an id beyond 53 bits, and a label."""

    def __len__(self):
        return 48

    def __getitem__(self, i):
        return f"word {i * i % 11}", 2**60 + i * i % 7, float(i % 3)


class Growing(Baskets):
    """What must not be done: a table that is trained in a worker."""

    def __init__(self, emb):
        self.emb = emb

    def __getitem__(self, i):
        return self.emb(["a"]).detach()[0]


def trained(workers, context):
    torch.manual_seed(0)
    word, user = hot.Embedding(None, D), hot.Embedding(None, D)
    out = torch.nn.Linear(2 * D, 1)
    model = torch.nn.ModuleList([word, user, out])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    hot.follow(model, optimizer)
    shuffled = torch.Generator().manual_seed(1)
    loader = DataLoader(
        Baskets(), 8, shuffle=True, generator=shuffled, num_workers=workers, multiprocessing_context=context
    )
    for words, users, labels in loader:
        optimizer.zero_grad()
        scores = out(torch.cat([word(words), user(users)], 1))[:, 0]
        (scores - labels).square().sum().backward()
        optimizer.step()
    return word.table, user.table, out.weight.detach()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_that_bring_raw_ids_change_nothing_of_the_result(context):
    expected, result = trained(0, None), trained(2, context)
    for one, other in zip(expected[:2], result[:2], strict=True):
        assert one.ids().tolist() == other.ids().tolist()
        assert one.steps == other.steps == 6
        np.testing.assert_array_equal(one.vectors(), other.vectors())
    assert torch.equal(expected[2], result[2])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_training_in_a_worker_is_refused_and_looking_is_not():
    emb = hot.Embedding(None, D, seed=0)
    with pytest.raises(hotrow.ArgumentError, match="raw ids out of the dataset, and the module called in the training"):
        list(DataLoader(Growing(emb), 8, num_workers=1, multiprocessing_context="fork"))
    emb.eval()
    vectors = next(iter(DataLoader(Growing(emb), 8, num_workers=1, multiprocessing_context="fork")))
    assert torch.equal(vectors[0], emb(["a"]).detach()[0])
    assert len(emb.table) == 0


def test_a_dataset_that_holds_a_module_is_not_sent_to_a_worker_by_spawn():
    loader = DataLoader(Growing(hot.Embedding(None, D)), 8, num_workers=1, multiprocessing_context="spawn")
    with pytest.raises(hotrow.ArgumentError, match="give them raw ids"):
        iter(loader)


def test_a_compiled_model_is_trained_as_any_other():
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(hot.Embedding(None, D, seed=0), torch.nn.Linear(D, D), torch.nn.Tanh())
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        hot.follow(model, optimizer)
        called = torch.compile(model, backend="eager") if compiled else model
        for i in range(4):
            optimizer.zero_grad()
            called(torch.tensor([[1, i], [i + 1, 2**40]])).square().sum().backward()
            optimizer.step()
        results.append((model[0].table.ids().tolist(), model[0].table.vectors()))
    torch._dynamo.reset()
    assert results[0][0] == results[1][0] == [1, 0, 2**40, 2, 3, 4]
    np.testing.assert_array_equal(results[1][1], results[0][1])


def test_a_whole_graph_can_not_be_compiled_and_torch_says_so():
    model = torch.compile(hot.Embedding(None, D), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match=r"(?i)torch.compiler.disable"):
        model(torch.tensor([1]))
    torch._dynamo.reset()


def test_a_functional_transform_is_refused_by_torch():
    emb = hot.Embedding(None, D)
    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(lambda x: (emb([1]) * x).sum())(torch.ones(()))
