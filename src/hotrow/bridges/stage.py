"""The host's side of a training step: backward adds to what is pending, and the optimizer's step commits it.

A step is not a backward pass: a shared layer runs backward twice a step, accumulation many times, a step whose
gradients overflowed is skipped, and gradients may be taken for no step at all. So

    forward    `pull` gives vectors. The framework also hands over the VALUE of the layer's hook, a scalar weight that
               never changes the output. It moved since last time: the optimizer stepped, and what is pending becomes
               one merged step of the table. A new training forward, and it didn't move: that step never was, and its
               gradients are dropped.
    backward   `push` only adds to what is pending, and returns the hook's gradient, another number each time, which the
               optimizer writes into the hook (`overwrite_with_gradient`): so it moves by any optimizer at any rate.

The lookup also gives a scalar, the penalty of a regularizer or 0, for the model to add to its loss: the gradient that
reaches it is this very step's loss scale.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar
from weakref import WeakKeyDictionary, WeakSet

import numpy as np

from hotrow.table.batch import Batch, Groups
from hotrow.table.table import Table

_SERIALS = 1 << 20
_UNIT = 2.0**-44  # so small that no optimizer is disturbed, should it treat the hook as any other weight
_REMEMBERED = 64  # batches between their forward and their backward


@dataclass(frozen=True)
class Rule:
    """What happens to a step's merged gradient before the table's optimizer sees it.

    every      backward passes to one step, whose gradients are averaged (accumulation)
    clipvalue  each number is held to ±clipvalue
    clipnorm   the gradient of the step, all its rows together, is scaled down to this norm
    """

    every: int = 1
    clipvalue: float | None = None
    clipnorm: float | None = None

    def apply(self, gradient: np.ndarray) -> np.ndarray:
        """float32 (m, dim), which may be written, to the gradient of the step."""
        if self.every > 1:
            gradient /= np.float32(self.every)
        if self.clipvalue is not None:
            np.clip(gradient, -self.clipvalue, self.clipvalue, out=gradient)
        if self.clipnorm is not None:
            norm = float(np.sqrt(np.vdot(gradient, gradient)))
            if norm > self.clipnorm:
                gradient *= np.float32(self.clipnorm / norm)
        return gradient


@dataclass(frozen=True)
class Penalty:
    """l1 · Σ|w| + l2 · Σw² over the distinct rows of a batch."""

    l1: float = 0.0
    l2: float = 0.0

    def value(self, rows: np.ndarray) -> float:
        """Of rows float32 (m, dim)."""
        return self.l1 * float(np.abs(rows).sum()) + self.l2 * float(np.vdot(rows, rows))

    def gradient(self, rows: np.ndarray) -> np.ndarray:
        """float32 (m, dim) → float32 (m, dim)."""
        return np.float32(self.l1) * np.sign(rows) + np.float32(2 * self.l2) * rows


@dataclass(eq=False)
class Hook:
    """What the stage knows of one layer: its last value, and what the layer does to its rows.

    read        the hook's value now, for reads between steps
    penalty     added to the loss, for each batch
    constraint  float32 (m, dim) → float32 (m, dim): what the rows of a step become after it
    """

    read: Callable[[], float]
    penalty: Penalty | None = None
    constraint: Callable[[np.ndarray], np.ndarray] | None = None
    seen: float | None = None
    serial: int = 0
    step: int = 0
    pushed: bool = False
    remembered: list[tuple[np.ndarray, Batch]] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """What one backward pass has brought. rate: the step's learning rate, None for the optimizer's own."""

    hook: Hook
    batch: Batch
    gradient: np.ndarray
    rate: float | None
    step: int
    scale: float


class Stage:
    """What is pending for one table, of all layers that train it. `Stage.of(table)` is the table's only one."""

    _stages: ClassVar[WeakKeyDictionary[Table, Stage]] = WeakKeyDictionary()

    @classmethod
    def of(cls, table: Table) -> Stage:
        """The stage of this table, made at the first call."""
        stage = cls._stages.get(table)
        if stage is None:
            stage = cls._stages[table] = cls()
            table.pending = stage
        return stage

    def __init__(self) -> None:
        self.rule = Rule()
        self.parts: list[Part] = []
        self._hooks: WeakSet[Hook] = WeakSet()
        self._lock = threading.RLock()
        self._owner: int | None = None

    def __len__(self) -> int:
        """The number of layers."""
        return len(self._hooks)

    def add(self, hook: Hook) -> None:
        """A layer joins."""
        self._hooks.add(hook)

    def pull(self, hook: Hook, ids: np.ndarray, batch: Batch, value: float, training: bool) -> tuple[np.ndarray, float]:
        """The vectors of a batch, float32 (*batch.shape, dim), and the penalty of its rows.

        ids: what the framework brought, by which `push` knows the batch again. value: the hook's.
        """
        table = batch.table
        with self.working():
            self._observe(hook, value, training)
            vectors = table.lookup(batch)
            penalty = 0.0
            if hook.penalty is not None:
                penalty = hook.penalty.value(_rows_of(batch))
            if training:
                batch.prepare()
                hook.remembered.append((ids, batch))
                del hook.remembered[:-_REMEMBERED]
        return vectors, penalty

    def recall(self, hook: Hook, ids: np.ndarray) -> Batch | None:
        """The batch that these ids were pulled as, if that wasn't long ago; it is given once."""
        with self._lock:
            for i in range(len(hook.remembered) - 1, -1, -1):
                known, batch = hook.remembered[i]
                if known is ids or (known.shape == ids.shape and np.array_equal(known, ids)):
                    del hook.remembered[i]
                    return batch
        return None

    def push(self, hook: Hook, batch: Batch, gradients: np.ndarray, scale: float, rate: float | None) -> np.float32:
        """Add the gradients of a batch, float (*batch.shape, dim), and return the hook's.

        scale: by which the loss was multiplied, and so the gradients; 0 where the model never added the penalty.
        """
        flat = np.ascontiguousarray(gradients, np.float32).reshape(-1, batch.table.dim)
        with self.working():
            gradient = batch.merge(flat)
            if scale not in {0.0, 1.0}:
                gradient /= np.float32(scale)
            if hook.penalty is not None and scale != 0:
                gradient += hook.penalty.gradient(_rows_of(batch))
            first, hook.pushed = not hook.pushed, True
            hook.serial += first
            self.parts.append(Part(hook, batch, gradient, rate, hook.step, scale or 1.0))
        if not np.isfinite(gradient).all():
            return np.float32(np.nan)  # so that whoever skips steps that aren't finite skips this one
        return np.float32((1 + hook.serial % _SERIALS) * _UNIT if first else 0.0)

    def settle(self) -> None:
        """Commit what the optimizer has stepped on, of which no forward pass has told yet."""
        if not self.parts or self._owner == threading.get_ident():
            return
        # Outside the lock: on JAX the value waits for a running step, which waits for the lock.
        values = [(hook, hook.read()) for hook in {part.hook for part in self.parts}]
        with self.working():
            for hook, value in values:
                self._observe(hook, value, training=False)

    def drop(self) -> None:
        """Forget what is pending, and what the hooks' values were."""
        with self._lock:
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

    def _observe(self, hook: Hook, value: float, training: bool) -> None:
        """Take the value of a hook, and act on whether it moved."""
        if training and hook.pushed:
            hook.step, hook.pushed = hook.step + 1, False
        moved = value != hook.seen  # NaN is always another: the optimizer wrote what `push` returned
        known, hook.seen = hook.seen is not None, value
        if moved and known:
            self._commit()
        elif training and self.parts and self.rule.every == 1:
            self.parts = [part for part in self.parts if part.hook is not hook]

    def _commit(self) -> None:
        parts, self.parts = _taken(self.parts), []
        if not parts:
            return
        if len(parts) == 1:
            batch, gradient = parts[0].batch.unrepeated(), parts[0].gradient
        else:
            batch, which = Batch.once([part.batch for part in parts])
            gradient = Groups.of(which, len(batch)).merge(np.concatenate([part.gradient for part in parts]))
        batch.table.update(batch, self.rule.apply(gradient), learning_rate=parts[-1].rate)
        for hook in {part.hook for part in parts}:
            if hook.constraint is not None:
                mine, _ = Batch.once([part.batch for part in parts if part.hook is hook])
                batch.table.constrain(mine, hook.constraint)


def _taken(parts: list[Part]) -> list[Part]:
    """The parts without those of skipped micro-steps.

    Under accumulation with a loss scale, Keras skips one whose gradients overflowed, and halves the scale for the next.
    """
    scales = {part.step: part.scale for part in parts}
    return [part for part in parts if scales.get(part.step + 1, part.scale) >= part.scale]


def _rows_of(batch: Batch) -> np.ndarray:
    """The vectors of the distinct ids of a batch, zeros for those without a row: float32 (m, dim)."""
    return batch.table.lookup(batch.unrepeated())
