"""A torch loop that goes on after a crash: model, tables and optimizers of one step, exactly."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_torch_saving import D, batch

import hotrow
from hotrow.torch import Embedding, EmbeddingBag, Snapshots, follow
from hotrow.torch.plain import decode, encode


class Net(torch.nn.Module):
    """Two modules that share a table, one with its own, dropout, statistics, a bfloat16 buffer and a dense layer."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.word = Embedding(None, D)
        self.bag = EmbeddingBag(None, D, table=self.word.table)
        self.user = Embedding(None, D, ids="uint64")
        self.norm = torch.nn.BatchNorm1d(3 * D)
        self.out = torch.nn.Linear(3 * D, 1)
        self.tied = self.out
        self.register_buffer("seen", torch.zeros(2, dtype=torch.bfloat16))
        self.register_buffer("not_saved", torch.zeros(1), persistent=False)

    def forward(self, words, users):
        together = self.word(words), self.bag([[word, "cup"] for word in words]), self.user(users)
        self.seen += 1
        return self.out(torch.nn.functional.dropout(self.norm(torch.cat(together, 1)), 0.5))


def net(make=torch.optim.Adam, seed=0):
    model = Net(seed)
    optimizer = make(model.parameters(), lr=0.1)
    follow(model, optimizer)
    return model, optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5], gamma=0.5)


def train(parts, steps):
    model, optimizer, scheduler = parts
    for i in steps:
        optimizer.zero_grad()
        model(*batch(i)).square().sum().backward()
        optimizer.step()
        scheduler.step()


def contents(parts):
    """All numbers there are."""
    model, optimizer, scheduler = parts
    found = {name: tensor.tolist() for name, tensor in model.state_dict().items() if "table" not in name}
    for name in ("word", "user"):
        table = getattr(model, name).table
        state, order = table.state(), np.argsort(table.state().keys)
        found[name] = [state.keys[order].tolist(), state.weights[order].tolist(), state.config["steps"]]
        found[name] += [slot[order].tolist() for slot in state.slots.values()]
    arrays = {}
    return (
        found,
        encode(optimizer.state_dict(), arrays, "o"),
        scheduler.state_dict(),
        {n: a.tolist() for n, a in arrays.items()},
    )


MAKES = {
    "SGD": lambda p, lr: torch.optim.SGD(p, lr=lr / 100, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p, lr: torch.optim.Adam(p, lr=lr, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "Adagrad": torch.optim.Adagrad,
    "NAdam": torch.optim.NAdam,
}


@pytest.mark.parametrize("deltas", [0, 2])
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_a_restored_loop_goes_on_to_the_bit(make, deltas, tmp_path):
    whole = net(make)
    train(whole, range(8))
    half = net(make)
    snapshots = Snapshots(tmp_path, *half, deltas=deltas)
    for step in range(4):
        train(half, [step])
        snapshots.save(step + 1)
    again = net(make, seed=1)
    snapshots = Snapshots(tmp_path, *again, deltas=deltas)
    train(again, range(30, 32))  # other rows, other numbers: all of it goes
    assert snapshots.restore() == 4
    train(again, range(4, 6))
    snapshots.save(6)
    train(again, range(6, 8))
    assert contents(again) == contents(whole)
    assert snapshots.restore() == 6
    train(again, range(6, 8))
    assert contents(again) == contents(whole)


def test_nothing_saved_yet_is_step_0_and_changes_nothing(tmp_path):
    parts = net()
    train(parts, range(2))
    before = contents(parts)
    assert Snapshots(tmp_path / "new", *parts).restore() == 0
    assert contents(parts) == before


def test_what_is_written_beside_training_is_of_the_step_at_which_it_was_begun(tmp_path):
    parts = net()
    snapshots = Snapshots(tmp_path, *parts, keep=20)
    begun = {}
    for step in range(12):
        train(parts, [step])
        if snapshots.save(step + 1, wait=False):
            begun[step + 1] = contents(parts)
    snapshots.wait()
    assert snapshots.error is None
    assert len(begun) + snapshots.skipped == 12
    for number, step in enumerate(begun, 1):
        other = net(seed=5)
        assert Snapshots(tmp_path, *other).restore(number) == step
        assert contents(other) == begun[step]


def test_a_failed_save_is_told_and_stops_nothing(tmp_path, monkeypatch, caplog):
    from hotrow.store import files

    parts = net()
    snapshots = Snapshots(tmp_path, *parts)
    train(parts, [0])
    snapshots.save(1)
    kept = contents(parts)

    def full(handle, view):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING, "hotrow"):
        broken.setattr(files, "write_all", full)
        train(parts, [1])
        assert snapshots.save(2, wait=False)
        snapshots.wait()
        assert isinstance(snapshots.error, OSError)
        assert "No space left on device" in caplog.text
        with pytest.raises(OSError, match="No space left"):
            snapshots.save(2)
    train(parts, [2])
    other = net(seed=3)
    assert Snapshots(tmp_path, *other).restore() == 1
    assert contents(other) == kept
    snapshots.save(3)
    assert snapshots.error is None
    assert Snapshots(tmp_path, *other).restore() == 3
    assert contents(other) == contents(parts)


def test_another_model_or_optimizer_is_refused_and_nothing_changes(tmp_path):
    parts = net()
    train(parts, range(2))
    Snapshots(tmp_path, *parts).save(2)
    model, optimizer, scheduler = other = net(seed=4)
    before = contents(other)
    with pytest.raises(hotrow.ArgumentError, match="was saved with Adam, MultiStepLR beside the model"):
        Snapshots(tmp_path, model, scheduler, optimizer).restore()
    with pytest.raises(hotrow.ArgumentError, match=r"is of another model, for model\.1\.weight"):
        Snapshots(
            tmp_path, torch.nn.Sequential(Embedding(None, D), torch.nn.Linear(D, 1)), optimizer, scheduler
        ).restore()
    part = torch.optim.Adam(model.out.parameters())
    with pytest.raises(hotrow.ArgumentError, match="is of other optimizers or schedulers"):
        Snapshots(tmp_path, model, part, scheduler).restore()
    wide = Net()
    wide.user = Embedding(None, D, ids="string")
    with pytest.raises(hotrow.ArgumentError, match="table 2 has vectors of 4 floats for uint64 ids"):
        Snapshots(tmp_path, wide, optimizer, scheduler).restore()
    assert contents(other) == before


def test_what_cannot_be_saved_is_refused_at_once(tmp_path):
    model, optimizer, _ = net()
    with pytest.raises(hotrow.ArgumentError, match=r"expected a torch\.nn\.Module"):
        Snapshots(tmp_path, "model")
    with pytest.raises(hotrow.ArgumentError, match="a int has no state_dict"):
        Snapshots(tmp_path, model, 3)
    with pytest.raises(hotrow.ArgumentError, match="step = -1"):
        Snapshots(tmp_path, model, optimizer).save(-1)

    class Odd:
        def state_dict(self):
            return {"what": object()}

        def load_state_dict(self, state):
            """Nothing."""

    with pytest.raises(hotrow.ArgumentError, match=r"the state of 0\.Odd has a object"):
        Snapshots(tmp_path, model, Odd()).save(1)
    assert not (tmp_path / "lock").exists()


def test_the_state_of_anything_comes_back_with_its_types():
    state = {
        "a": torch.tensor([1.5, -2], dtype=torch.bfloat16), 1: (2, [None, True]), ("x", 2): float("-inf"),
        "b": torch.tensor(3, dtype=torch.int16), "c": torch.tensor([True, False]), "n": 0.1,
    }  # fmt: skip
    arrays = {}
    there = decode(encode(state, arrays, "s"), arrays, "a file")
    assert there.keys() == state.keys()
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            assert there[key].dtype == value.dtype
            assert torch.equal(there[key], value)
        else:
            assert there[key] == value
            assert type(there[key]) is type(value)
    for bad in ({"dict": [1]}, {"tensor": "none", "dtype": "float32"}, {"tensor": "s.0", "dtype": "storage"}, {}):
        with pytest.raises(hotrow.CorruptError, match="a file: isn't what a save writes"):
            decode(bad, arrays, "a file")


LOOP = """
import sys
sys.path.insert(0, {tests!r})
from test_torch_snapshots import Snapshots, net, train
parts = net()
snapshots = Snapshots(sys.argv[1], *parts, deltas=3)
for step in range(snapshots.restore(), 100_000):
    train(parts, [step])
    if snapshots.save(step + 1, wait=step % 3 == 0) and step % 3 == 0:
        print(step + 1, flush=True)
"""


@pytest.mark.compiled
def test_a_loop_that_is_killed_goes_on_from_what_was_acknowledged_or_newer(tmp_path):
    code = LOOP.format(tests=str(Path(__file__).parent))
    whole, done = net(), 0
    acknowledged, random = 0, torch.get_rng_state()  # dropout draws from it
    for lines in (2, 3):
        loop = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(lines):
            acknowledged = int(loop.stdout.readline())
        loop.kill()
        rest, _ = loop.communicate()
        acknowledged = max([acknowledged, *map(int, rest.split())])
        parts = net(seed=9)
        step = Snapshots(tmp_path, *parts).restore()
        assert step >= acknowledged
        torch.set_rng_state(random)
        train(whole, range(done, step))
        done, random = step, torch.get_rng_state()
        assert contents(parts) == contents(whole)
