"""A table in a state_dict, in a copy, and trained on."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

import hotrow
from hotrow import torch as hot
from hotrow.store.arrays import sealed
from hotrow.store.strict_json import MalformedError

D = 4
WORDS = ["lantern", "cup", "mug", "té", "pot", ""]


class Net(torch.nn.Module):
    """Two modules that share a table, one with its own, and a dense layer."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.word = hot.Embedding(None, D)
        self.bag = hot.EmbeddingBag(None, D, table=self.word.table)
        self.user = hot.Embedding(None, D, ids="uint64")
        self.out = torch.nn.Linear(3 * D, 1)

    def forward(self, words, users):
        together = self.word(words), self.bag([[word, "cup"] for word in words]), self.user(users)
        return self.out(torch.cat(together, 1))


def batch(i):
    rng = np.random.default_rng(i)
    return [WORDS[k] for k in rng.integers(0, len(WORDS), 8)], rng.integers(2**63, 2**63 + 9, 8, dtype=np.uint64)


def train(model, optimizer, steps):
    for i in steps:
        optimizer.zero_grad()
        model(*batch(i)).square().sum().backward()
        optimizer.step()


def net(make=torch.optim.Adam, seed=0):
    model = Net(seed)
    optimizer = make(model.parameters(), lr=0.1)
    hot.follow(model, optimizer)
    return model, optimizer


def same(a, b):
    for name in ("word", "user"):
        x, y = getattr(a, name).table, getattr(b, name).table
        assert (x.ids().tolist(), x.steps) == (y.ids().tolist(), y.steps)
        np.testing.assert_array_equal(x.vectors(), y.vectors())
        for slot, values in x.state().slots.items():
            np.testing.assert_array_equal(values, y.state().slots[slot])
    assert torch.equal(a.out.weight, b.out.weight)


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.Adagrad, torch.optim.NAdam])
def test_training_that_was_saved_goes_on_to_the_bit(make, tmp_path):
    whole, optimizer = net(make)
    train(whole, optimizer, range(9))
    half, optimizer = net(make)
    train(half, optimizer, range(4))
    torch.save({"model": half.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "half.pt")
    again, optimizer = net(make, seed=1)
    saved = torch.load(tmp_path / "half.pt", weights_only=True)
    assert again.load_state_dict(saved["model"]).missing_keys == []
    optimizer.load_state_dict(saved["optimizer"])
    train(again, optimizer, range(4, 9))
    same(again, whole)


def test_a_state_dict_is_plain_tensors_that_are_copies():
    model, optimizer = net()
    train(model, optimizer, range(2))
    state = model.state_dict()
    kept = copy.deepcopy(state)
    train(model, optimizer, range(2, 4))
    assert all(type(value) is torch.Tensor for value in state.values())
    tables = [name for name in state if ".table." in name]
    assert all(torch.equal(state[name], kept[name]) for name in tables)
    names = {name.removeprefix("word.table.") for name in state if name.startswith("word.")}
    assert names == {"config", "keys", "weights", "slot_m", "slot_v", "text", "offsets", "sum"}
    assert state["user.table.keys"].dtype is torch.int64


def test_what_pends_is_dropped_when_a_state_is_loaded():
    emb = hot.Embedding(None, D, optimizer=hotrow.SGD(0.1))
    emb([1])
    state = emb.state_dict()
    emb([1]).sum().backward()
    emb.load_state_dict(state)
    emb.step()
    assert emb.table.steps == 0


def test_a_safetensors_file_holds_it(tmp_path):
    from safetensors.torch import load_file, save_file

    emb = hot.Embedding(None, D)
    emb(WORDS)
    save_file(emb.state_dict(), tmp_path / "emb.safetensors")
    other = hot.Embedding(None, D)
    other.load_state_dict(load_file(tmp_path / "emb.safetensors"))
    np.testing.assert_array_equal(other.table.lookup(WORDS, unknown="error"), emb.table.lookup(WORDS))


def test_what_does_not_fit_is_told_as_torch_tells_it():
    model, _ = net()
    state = model.state_dict()
    lacking = {name: value for name, value in state.items() if name != "word.table.keys"}
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "word.table.keys"'):
        model.load_state_dict(lacking)
    assert model.load_state_dict(lacking, strict=False).missing_keys == ["word.table.keys"]
    more = {**state, "word.weight": torch.zeros(2)}
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "word.weight"'):
        model.load_state_dict(more)
    assert model.load_state_dict(more, strict=False).unexpected_keys == ["word.weight"]
    with pytest.raises(RuntimeError, match=r"size mismatch for table.weights: vectors of 3 floats, and this"):
        hot.Embedding(None, D).load_state_dict(hot.Embedding(None, 3).state_dict())


def hostile():
    """(what was done, the change), to a state_dict of an embedding of strings."""
    yield "config cut", lambda s: s.update({"table.config": s["table.config"][:-1]})
    yield "a key twice", lambda s: s["table.keys"].__setitem__(0, s["table.keys"][1])
    yield "other dtype", lambda s: s.update({"table.weights": s["table.weights"].double()})
    yield "rows lacking", lambda s: s.update({"table.weights": s["table.weights"][1:]})
    yield "offsets that fall", lambda s: s["table.offsets"].__setitem__(1, 99)
    yield "not UTF-8", lambda s: s["table.text"].__setitem__(0, 255)
    yield "no text", lambda s: s.pop("table.text")
    yield "another slot", lambda s: s.update({"table.slot_x": s["table.slot_m"]})
    yield "a slot lacking", lambda s: s.pop("table.slot_m")
    yield "no tensor", lambda s: s.update({"table.keys": [1, 2]})
    yield "bfloat16", lambda s: s.update({"table.weights": s["table.weights"].bfloat16()})
    yield "sparse", lambda s: s.update({"table.weights": s["table.weights"].to_sparse()})
    yield "a scalar", lambda s: s.update({"table.keys": torch.tensor(1)})
    yield "no values", lambda s: s.update({"table.weights": s["table.weights"].to("meta")})


def seal(state):
    """Give a state its checksum, as a stranger would; what can't be summed is left as it is."""
    try:
        arrays = {name.removeprefix("table."): tensor.numpy() for name, tensor in state.items() if "table." in name}
        arrays["keys"] = arrays["keys"].view(np.uint64)
        state["table.sum"] = torch.from_numpy(sealed(arrays)["sum"])
    except (AttributeError, TypeError, RuntimeError, ValueError, MalformedError):
        pass


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in hostile()])
def test_what_no_table_has_written_is_refused_and_changes_nothing(change):
    emb, target = hot.Embedding(None, D), hot.Embedding(None, D)
    emb(WORDS)
    target(["other"])
    before = target.table.lookup(["other"])
    state = emb.state_dict()
    change(state)
    for _ in range(2):
        with pytest.raises(hotrow.CorruptError):
            target.load_state_dict(state)
        seal(state)
    assert target.table.ids().to_pylist() == ["other"]
    np.testing.assert_array_equal(target.table.lookup(["other"]), before)


def test_a_checkpoint_of_torchs_own_embedding_is_taken_where_ids_have_a_bound():
    theirs = torch.nn.Sequential(torch.nn.Embedding(5, D), torch.nn.Linear(D, 1))
    ours = torch.nn.Sequential(hot.Embedding(5, D), torch.nn.Linear(D, 1))
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours(torch.arange(5)), theirs(torch.arange(5)))
    with pytest.raises(RuntimeError, match=r"size mismatch for weight: got \(5, 4\), expected \(6, 4\)"):
        hot.Embedding(6, D).load_state_dict(theirs[0].state_dict())


def test_a_copy_has_tables_of_its_own_which_share_as_before():
    model, optimizer = net()
    train(model, optimizer, range(3))
    other = copy.deepcopy(model)
    same(model, other)
    assert other.word.table is other.bag.table
    assert other.word.hook is other.bag.hook
    assert other.word.table is not model.word.table
    train(model, optimizer, range(3, 5))
    assert other.word.table.steps == 3
    theirs = torch.optim.Adam(other.parameters(), lr=0.1)
    hot.follow(other, theirs)
    theirs.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch's would share its arrays
    other.load_state_dict(model.state_dict())
    for one, its in ((model, optimizer), (other, theirs)):
        train(one, its, range(5, 8))
    same(model, other)


def test_a_module_is_not_pickled_and_says_what_to_do():
    with pytest.raises(hotrow.ArgumentError, match=r"save model.state_dict\(\)"):
        pickle.dumps(hot.Embedding(None, D))


def test_a_snapshot_of_the_table_is_as_of_any_other(tmp_path):
    emb = hot.Embedding(None, D, seed=0)
    emb(WORDS).sum().backward()
    emb.step()
    emb.table.save(tmp_path / "words")
    loaded = hot.Embedding(None, D, table=hotrow.load(tmp_path / "words"))
    assert torch.equal(loaded(WORDS), emb(WORDS))
    assert loaded.table.steps == 1
