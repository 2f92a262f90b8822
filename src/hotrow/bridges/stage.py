"""The host's side of a training step: backward adds to what is pending, and the optimizer's step commits it.

A step is not a backward pass: a shared layer runs backward twice a step, accumulation many times, a step whose
gradients overflowed is skipped, and gradients may be taken for no step at all. So

    forward    `pull` gives vectors. The framework also hands over the VALUE of the layer's hook, a scalar weight that
               never changes the output. Where it moved, the optimizer stepped, and what it stepped on becomes one
               merged step of the table.
    backward   `push` only adds to what is pending, and returns the hook's gradient, which the optimizer writes into the
               hook (`overwrite_with_gradient`): so it moves by any optimizer at any rate. This gradient is another
               number in each round of forward and backward, so that the hook says which rounds the step was of
               (`rounds.py`). What no step has taken is let go.

The lookup also gives a scalar, the penalty of a regularizer or 0, for the model to add to its loss: the gradient that
reaches it is this very step's loss scale.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import numpy as np

from hotrow.bridges.rounds import KEPT, Hook, Origin, Part, stepped_on
from hotrow.bridges.rules import Rule
from hotrow.errors import ArgumentError
from hotrow.table.batch import Batch, Groups
from hotrow.table.table import Table

_REMEMBERED = 64  # batches between their forward and their backward


class Stage:
    """What is pending for one table, of all layers that train it. `Stage.of(table)` is the table's only one."""

    @classmethod
    def of(cls, table: Table) -> Stage:
        """The stage of this table, made at the first call; ArgumentError if torch's modules train it."""
        if not isinstance(table.pending, cls):
            if table.pending is not None:
                raise ArgumentError(
                    "this table is trained by a module of hotrow.torch already, which says when it steps; expected a "
                    "table of its own, or a copy: hotrow.Table.from_state(module.table.state())"
                )
            table.pending = cls()
        return table.pending

    def __init__(self) -> None:
        self.rule = Rule()
        self.parts: list[Part] = []
        self._round = 0
        self._pushed = -1  # the latest round of which gradients have come
        self._changes = 0
        self._hooks: WeakSet[Hook] = WeakSet()
        self.follows: Any = None  # whose optimizer steps it, as the framework's own room knows
        self._lock = threading.RLock()
        self._owner: int | None = None

    def __len__(self) -> int:
        """The number of layers."""
        return len(self._hooks)

    def add(self, hook: Hook) -> None:
        """A layer joins."""
        hook.place = 1 + max((other.place for other in self._hooks), default=0)
        self._hooks.add(hook)

    def remove(self, hook: Hook) -> None:
        """A layer goes to another table."""
        self._hooks.discard(hook)

    # --- forward and backward ----------------------------------------------------------------------------------

    def pull(
        self, hook: Hook, origin: Origin, batch: Batch, value: float, *, training: bool, out: Any = None
    ) -> tuple[Any, float]:
        """The vectors of a batch, float32 (*batch.shape, dim), and the penalty of its rows.

        origin: by which `push` knows the batch again. value: the hook's. out: as of `Table.lookup`.
        """
        table = batch.table
        with self.working():
            self._observe({hook: value})
            if self._pushed == self._round:
                self._round += 1
            hook.enter(self._round)
            vectors = table.lookup(batch, out=out)
            penalty = 0.0
            if hook.penalty is not None:
                penalty = hook.penalty.value(_rows_of(batch))
            if training:
                batch.prepare()
                hook.remembered.append((origin, batch))
                del hook.remembered[:-_REMEMBERED]
        return vectors, penalty

    def look(self, hook: Hook, value: float) -> None:
        """Take the value of a hook, as `pull` does."""
        with self.working():
            self._observe({hook: value})

    def recall(self, hook: Hook, origin: Origin) -> Batch | None:
        """The batch that was pulled from there, if that wasn't long ago; it is given once."""
        with self._lock:
            for i in range(len(hook.remembered) - 1, -1, -1):
                (whose, known), batch = hook.remembered[i]
                if whose is origin[0] and _same(known, origin[1]):
                    del hook.remembered[i]
                    return batch
        return None

    def push(
        self,
        hook: Hook,
        batch: Batch,
        gradients: np.ndarray,
        scale: float,
        rate: float | None,
        *,
        carried: bool = False,
    ) -> np.float32:
        """Add the gradients of a batch, float (*batch.shape, dim), and return the hook's.

        scale    the penalty's gradient: by what the loss was multiplied; 0 where the penalty isn't in the loss
        carried  whether the framework will add the hook's gradient to one that no step has taken yet

        Raises ArgumentError where the loss is scaled and this can't be seen.
        """
        scaled_by = self.rule.scale(scale)
        flat = to_matrix(gradients, batch.table.dim)
        with self.working():
            self._changes += 1
            gradient, finite = batch.groups().merge(batch.table.unpool(batch, flat))
            if hook.penalty is not None and scale != 0:
                gradient += np.float32(scale) * hook.penalty.gradient(_rows_of(batch))
                finite = bool(np.isfinite(gradient).all())
            if scaled_by != 1:
                gradient /= np.float32(scaled_by)
            if hook.pushes >= max(1, hook.pulls):  # backward once more, without a forward
                self._round += 1
                hook.enter(self._round)
            given = hook.gradient(finite and math.isfinite(scale))
            self._pushed = max(self._pushed, hook.round)
            self._forget_old(hook)
            self.parts.append(Part(hook, batch, gradient, rate, hook.round, hook.number, scaled_by, carried))
        return given

    def _forget_old(self, hook: Hook) -> None:
        """Let go of this layer's parts of rounds long past, which no step has taken."""
        rounds = {part.round for part in self.parts if part.hook is hook}
        if len(rounds) >= max(KEPT, self.rule.every or 1):
            oldest = min(rounds)
            self.parts = [part for part in self.parts if part.hook is not hook or part.round != oldest]
            hook.lost = True

    # --- commit ------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Commit what the optimizer has stepped on, of which no forward pass has told yet."""
        if not self.parts or self._owner == threading.get_ident():
            return
        changes = self._changes
        # Outside the lock: on JAX the value waits for a running step, which waits for the lock.
        hooks = {part.hook for part in list(self.parts)}
        values = {hook: value for hook in hooks if (value := hook.read()) is not None}
        with self.working():
            if self._changes == changes:  # else a forward pass has been told of newer values meanwhile
                self._observe(values)

    def drop(self) -> None:
        """Forget what is pending, and what the hooks' values were."""
        with self._lock:
            self._changes += 1
            self.parts.clear()
            for hook in self._hooks:
                hook.seen = None
                hook.remembered.clear()

    @contextmanager
    def working(self) -> Generator[None]:
        """While this thread works here, its reading the table is no reason to settle."""
        with self._lock:
            was, self._owner = self._owner, threading.get_ident()
            try:
                yield
            finally:
                self._owner = was

    def _observe(self, values: dict[Hook, float]) -> None:
        """Take the values of hooks, and commit what those that moved say that was stepped on."""
        self._changes += 1
        for hook in {part.hook for part in self.parts} - values.keys():  # of other layers on this table
            if hook.peek and (value := hook.read()) is not None:
                values[hook] = value
        taken: list[Part] = []
        every = 1
        for hook, value in values.items():
            mine = [part for part in self.parts if part.hook is hook]
            if hook.observe(value) and mine:
                stepped, every = stepped_on(mine, value, self.rule.every)
                taken += stepped
                late = stepped[-1].round
                self.parts = [part for part in self.parts if part.hook is not hook or part.round > late]
        if taken:
            rounds = {part.round for part in taken}
            taken += [part for part in self.parts if part.hook not in values and part.round in rounds]
            self.parts = [part for part in self.parts if part.hook in values or part.round not in rounds]
            self._commit(taken, every)

    def _commit(self, parts: list[Part], every: int) -> None:
        """One step of the table, of these parts: layer by layer, for a sum's last bit depends on the order."""
        parts = sorted(parts, key=lambda part: part.hook.place)
        if len(parts) == 1:
            batch, gradient = parts[0].batch.unrepeated(), parts[0].gradient
        else:
            batch, which = Batch.once([part.batch for part in parts])
            gradient = Groups.of(which, len(batch)).merge(np.concatenate([part.gradient for part in parts]))[0]
        batch.table.update(batch, self.rule.apply(gradient, every), learning_rate=parts[-1].rate)
        for hook in {part.hook for part in parts}:
            if hook.constraint is not None:
                mine, _ = Batch.once([part.batch for part in parts if part.hook is hook])
                batch.table.constrain(mine, hook.constraint)


def to_matrix(gradients: np.ndarray, dim: int) -> np.ndarray:
    """float32 (n, dim), each row contiguous: columns of a wider matrix as they are."""
    if gradients.ndim == 2 and gradients.dtype == np.float32 and gradients.strides[1] == 4 <= gradients.strides[0]:
        return gradients
    return np.ascontiguousarray(gradients, np.float32).reshape(-1, dim)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.shape == b.shape and np.array_equal(a, b))


def _rows_of(batch: Batch) -> np.ndarray:
    """The vectors of the distinct ids of a batch, zeros for those without a row: float32 (m, dim)."""
    return batch.table.lookup(batch.unrepeated())
