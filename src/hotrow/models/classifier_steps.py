"""A classifier's training by blocks: tables and optimizer here, the dense part wherever the blocks are computed.

```
 rows of a step ──tables──▶ vectors ─┬─ block 0 ──▶ replica of the net ──▶ gradients ─┐
    weights of the net ─────────────▶├─ block 1 ──▶         …            ──▶     …     ├─▶ added in this order: a step
                                     └─ block 2 ──▶         …            ──▶     …     ┘
```
A step is one of Keras's optimizer and of the tables. What is of a step and a block alone is computed there, all else
here, so that it is the same to the bit whoever computes:

loss, gradients        of a block, as its share of the step's rows
batch normalization    by the statistics of a block; its moving averages become the mean of what the blocks make of them
dropout                drawn by the seed, the step and the number of the block
l2                     of the distinct rows of the whole step, here; the dense part has none

A replica is Keras's own net, on the backend of this process, with the framework's own gradients. An operation takes one
thread in it, on TensorFlow as many as it may take in this process, for the last bits of a sum depend on that.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models.crews import Crew, Pending

BLOCK = 256
"""Rows a block, if nothing else is said: of fewer, batch normalization knows little."""


def cut(rows: int, size: int) -> list[slice]:
    """Blocks of `size` rows; the last one has from half as many to half as many more.

    >>> cut(1000, 300), cut(20, 300)
    ([slice(0, 300, None), slice(300, 600, None), slice(600, 1000, None)], [slice(0, 20, None)])
    """
    count = max(1, (rows + size // 2) // size)
    return [slice(k * size, (k + 1) * size if k + 1 < count else rows) for k in range(count)]


@dataclass(frozen=True)
class _Done:
    found: list[Any]

    def result(self) -> list[Any]:
        return self.found


@dataclass
class Alone:
    """No crew: this process computes all blocks, one after the other.

    staleness  as with a crew: vectors and weights may lack the last so many steps

    >>> Alone().submit(1, [2, 3], lambda block: block * block).result()
    [4, 9]
    """

    staleness: int = 0

    def submit(self, step: int, blocks: Sequence[Any], shared: Any) -> Pending:
        """Do all of it."""
        return _Done([shared(block) for block in blocks])


@dataclass(frozen=True)
class Net:
    """The dense part of a net, from which any process makes the same replica; see `hotrow.keras.replica`."""

    backend: str
    text: str
    loss: str
    threads: int


@dataclass(frozen=True)
class Block:
    """Some rows of a step: vectors and numbers float32 (rows, width) of each feature, and targets."""

    number: int
    vectors: list[np.ndarray]
    numbers: list[np.ndarray]
    targets: np.ndarray


@dataclass(frozen=True)
class Shared:
    """What all blocks of a step need: the net, its weights now, the seed, and how many rows the step is of."""

    net: Net
    weights: list[np.ndarray]
    rest: list[np.ndarray]
    seed: int
    step: int
    rows: int

    def __call__(self, block: Block) -> Any:
        """Gradients of a block, in whichever process, as `hotrow.keras.replica.Gradients` has them, but by name."""
        seed = self.seed % 2**64, self.step, block.number
        found = _replica(self.net)(
            self.weights, self.rest, block.vectors, block.numbers, block.targets, share=1 / self.rows, seed=seed
        )
        return {"loss": found.loss, "vectors": found.vectors, "weights": found.weights, "rest": found.rest}


@lru_cache(maxsize=4)
def _replica(net: Net) -> Any:
    """One of this process's own; ArgumentError where its Keras runs on another backend."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = net.backend
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on this machine's processor
    here = import_module("keras").backend.backend()
    if here != net.backend:
        raise ArgumentError(
            f"Keras runs on {here!r} in this process already, and on {net.backend!r} where the classifier is trained; "
            "expected workers of a crew that is used for one backend"
        )
    return import_module("hotrow.keras.replica").Replica(net.text, net.loss, net.threads)


@dataclass(frozen=True)
class _Step:
    """One under way. sizes: rows of each block."""

    batches: Sequence[Any]
    sizes: list[int]
    pending: Pending


class Course:
    """A fit by blocks, step by step, of a compiled classifier's net, on columns as its `fit` takes them."""

    def __init__(self, net: Any, columns: Any, targets: np.ndarray, crew: Crew, *, block: int, seed: int) -> None:
        keras: Any = import_module("keras")
        self._halves: Any = import_module("hotrow.keras.halves").Halves(net)
        threads = import_module("hotrow.keras.backend").bridge.hold_threads()
        self._net = Net(keras.backend.backend(), self._halves.text, net.loss, threads)
        self._columns, self._targets = self._halves.encode(columns), targets
        self._crew, self._block, self._seed = crew, block, seed
        self._under_way: deque[_Step] = deque()
        self._steps = 0
        self._stopped = False

    def epoch(self, number: int, size: int) -> Iterator[tuple[float, int]]:
        """Train on all rows once, in an order of this epoch's own; the loss and the rows of each step that is done."""
        rows = len(self._targets)
        order = np.random.default_rng([self._seed % 2**64, 2, number]).permutation(rows)
        steps = [order[at : at + size] for at in range(0, rows, size)]
        found = None
        for step, after in zip(steps, [*steps[1:], None], strict=True):
            if self._stopped:
                break
            self._begin(step, found or self._halves.find(self._columns, step))
            found = None if after is None else self._halves.find(self._columns, after)  # while others compute
            if len(self._under_way) > self._crew.staleness:
                yield self._end(self._under_way.popleft())
        while self._under_way:
            yield self._end(self._under_way.popleft())

    def stop(self) -> None:
        """Begin no other step: the epoch ends with those under way."""
        self._stopped = True

    def _begin(self, rows: np.ndarray, batches: Sequence[Any]) -> None:
        vectors, numbers = self._halves.pull(batches), self._halves.numbers(self._columns, rows)
        targets, bounds = self._targets[rows], cut(len(rows), self._block)
        blocks = [
            Block(number, [one[b] for one in vectors], [one[b] for one in numbers], targets[b])
            for number, b in enumerate(bounds)
        ]
        self._steps += 1
        weights, rest = self._halves.weights()
        shared = Shared(self._net, weights, rest, self._seed, self._steps, len(rows))
        sizes = [b.stop - b.start for b in bounds]
        self._under_way.append(_Step(batches, sizes, self._crew.submit(self._steps, blocks, shared)))

    def _end(self, step: _Step) -> tuple[float, int]:
        found, rows = step.pending.result(), sum(step.sizes)
        vectors = [np.concatenate(parts) for parts in zip(*(one["vectors"] for one in found), strict=True)]
        weights = [_total(parts) for parts in zip(*(one["weights"] for one in found), strict=True)]
        shares = [np.float32(size / rows) for size in step.sizes]
        rest = [
            _total([share * part for share, part in zip(shares, parts, strict=True)])
            for parts in zip(*(one["rest"] for one in found), strict=True)
        ]
        penalty = self._halves.push(step.batches, vectors, weights, rest)
        return sum(one["loss"] for one in found) + penalty, rows


def _total(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Their sum, added in this order."""
    total = np.array(parts[0])
    for part in parts[1:]:
        total += part
    return total


def fit(course: Course, net: Any, validating: Any, size: int, epochs: int, callbacks: list[Any], batch: int) -> None:
    """What `net.fit` does, by blocks: Keras's callbacks are told of steps and epochs, and may stop it.

    size: rows a step; validating: (columns, targets), measured after each epoch, `batch` rows at a time.
    """
    told = import_module("keras").callbacks.CallbackList(callbacks, model=net, epochs=epochs)
    net.stop_training = False
    told.on_train_begin()
    for epoch in range(epochs):
        told.on_epoch_begin(epoch)
        logs: dict[str, float] = {}
        total, rows = 0.0, 0
        for at, (loss, count) in enumerate(course.epoch(epoch, size)):
            total, rows = total + loss * count, rows + count
            logs = {"loss": total / rows}
            told.on_train_batch_end(at, logs)
            if net.stop_training:
                course.stop()
        measured = net.evaluate(*validating, batch_size=batch, verbose=0, return_dict=True)
        told.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in measured.items()})
        if net.stop_training:
            break
    told.on_train_end()
