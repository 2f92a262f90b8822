"""A table in torch's own modules: a lookup that autograd knows, and the gradient that waits for a step.

A table has a **hook**, a scalar parameter that never changes any vector. After `backward` its `.grad` is the norm of
the table's whole gradient, and stands for it: whatever is done to it before the step is done to the table's.

    hook.grad is            so the table's gradient is
    the norm                as backward brought it
    f · the norm            f times that: unscaled by a GradScaler, clipped by its norm, divided by hand
    None or 0               dropped: `zero_grad`
    inf or NaN              not finite, and a GradScaler skips the step

Gradients count once autograd has really delivered to the hook: `torch.autograd.grad` for other tensors brings none.
"""

from __future__ import annotations

import copy
import math
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from hotrow.bridges.code_batch import CodeBatch
from hotrow.bridges.stage import Stage, to_matrix
from hotrow.errors import ArgumentError, UnknownIdError
from hotrow.kernels import threads
from hotrow.table.batch import Batch, Groups
from hotrow.table.table import Table

_LEAST = 2.0**-100  # a norm of 0 would look like zero_grad(); this one is one still after a GradScaler
_DEEPEST = 16  # backward passes inside of each other
_WORTHWHILE = 2048  # ids whose duplicates are worth a thread
_PATIENCE = 100  # backward passes without a step, after which somebody should be told


@dataclass
class Part:
    """The gradient of distinct rows: float32 (m, dim); batch is of shape (m,)."""

    batch: Batch
    gradient: np.ndarray


@dataclass
class Brought:
    """What one call's backward has brought: gradients of its vectors, not yet summed."""

    batch: Batch
    gradients: np.ndarray
    by_count: bool
    winners: np.ndarray | None

    def merge(self) -> Part:
        """Duplicates summed; with by_count divided by how often the id stands in the batch."""
        if self.winners is not None:
            self.batch.winners = self.winners
        flat = to_matrix(self.gradients, self.batch.table.dim)
        groups = self.batch.groups()
        total = groups.merge(self.batch.table.unpool(self.batch, flat))[0]
        if self.by_count:
            total /= np.diff(groups.starts).astype(np.float32)[:, None]
        batch = self.batch.unrepeated()
        if batch.padding is not None and batch.padding.any():  # nobody's gradient mustn't count in the norm
            total[batch.padding] = 0
        return Part(batch, total)


class Gradients:
    """What is pending for one table, of all modules that share it. `Gradients.of(table)` is the table's only one."""

    @classmethod
    def of(cls, table: Table) -> Gradients:
        """Those of this table, made at the first call; ArgumentError if Keras's layers train it."""
        if isinstance(table.pending, cls):
            return table.pending
        if isinstance(table.pending, Stage) and len(table.pending):
            raise ArgumentError(
                "this table is trained by a Keras layer already, which says when it steps; expected a table of its "
                "own, or a copy: hotrow.Table.from_state(layer.table.state())"
            )
        return cls(table, torch.nn.Parameter(torch.zeros(())))

    def __init__(self, table: Table, hook: Any) -> None:
        self.table, self.hook = table, hook
        self.explicit = False  # the table has an optimizer of its own
        self.follower: Any = None  # by whose steps it steps, as hotrow.torch knows
        self.part: Part | None = None
        self._norm = 0.0  # what hook.grad was when backward had ended
        self._before = 0.0  # and before this backward
        self._bringing: dict[int, list[Brought]] = {}
        self._arrived: list[Brought] = []
        self._arrived_in = -1
        self._passes = 0  # since the last step
        self._version = 0
        hook.register_post_accumulate_grad_hook(partial(_arrive, weakref.ref(self)))
        table.pending = self

    def __len__(self) -> int:
        """1: somebody trains this table."""
        return 1

    def __deepcopy__(self, memo: dict[int, Any]) -> Gradients:
        new = Gradients(Table.from_state(self.table.state(), path=self.table.path), copy.deepcopy(self.hook, memo))
        new.explicit = self.explicit
        return new

    def __reduce__(self) -> Any:
        raise ArgumentError(
            "a module with a table isn't pickled; save model.state_dict(), which is tensors alone. If a DataLoader's "
            "workers asked for it: give them raw ids, and call the module in the training loop"
        )

    # --- backward ----------------------------------------------------------------------------------------------

    def bring(self, brought: Brought) -> None:
        """Backward has come to a lookup of this table; it counts if autograd also delivers to the hook."""
        task = _task()
        if self._arrived and self._arrived_in != task:  # a backward inside of another, or one that has failed
            if self.hook.grad is None:
                self._arrived.clear()
            self.finish()
        _members(task)[self] = None
        self._bringing.setdefault(task, []).append(brought)

    def arrive(self) -> None:
        """Autograd has delivered to the hook; what it delivered are zeros."""
        task = _task()
        brought = self._bringing.pop(task, None)
        if brought is not None:
            if not self._arrived:
                self._before, self._arrived_in = float(self.hook.grad), task
            self._arrived += brought

    def end(self, task: int) -> None:
        """A backward has ended, or is given up."""
        self._bringing.pop(task, None)
        if self._arrived_in == task:
            self.finish()

    def finish(self) -> None:
        """Add what has arrived to what is pending, and let the hook say how much that is."""
        if not self._arrived:
            return
        arrived, self._arrived = self._arrived, []
        parts = [brought.merge() for brought in arrived]
        old, factor = self.part, self._factor(self._before)
        if old is not None and self._before != 0:
            if factor != 1:
                old.gradient = old.gradient * np.float32(factor)
            parts.insert(0, old)
        self.part = _fold(parts)
        self._norm = _norm(self.part.gradient)
        with torch.no_grad():
            self.hook.grad.fill_(self._norm)
        self._version = self.hook._version
        self._passes += 1
        if self._passes == _PATIENCE:
            self._warn()

    def _warn(self) -> None:
        if self.follower is None or self.part is not None:
            warnings.warn(
                f"{_PATIENCE} backward passes have brought gradients to a table that hasn't stepped since; expected "
                "emb.follow(optimizer), once, or emb.step() in each step",
                RuntimeWarning,
                stacklevel=2,
            )

    def _factor(self, value: float) -> float:
        """By what the gradient was multiplied, if the hook's is `value` now."""
        factor = value / self._norm if self._norm else 1.0
        return factor if math.isfinite(factor) else 1.0

    # --- a step ------------------------------------------------------------------------------------------------

    def check_not_lost(self) -> None:
        """ArgumentError if an optimizer has stepped and taken the hook for a weight, and the table didn't step."""
        if self.follower is None and self.part is not None and self.hook._version != self._version:
            raise ArgumentError(
                "an optimizer has stepped, and the table of this embedding hasn't: nobody told it. Expected "
                "hotrow.torch.follow(model, optimizer) once, before training, so that it steps with this optimizer; "
                "or emb.step() after each backward, for the table's own"
            )

    def scaled(self, value: float | None) -> Part | None:
        """The gradient for a step, for what the hook's gradient is now; None if there is none."""
        if self.part is None or not value:
            self.part = None
            return None
        factor = self._factor(value)
        gradient = self.part.gradient if factor == 1 else self.part.gradient * np.float32(factor)
        return Part(self.part.batch, gradient)

    def step(self, part: Part, rate: float | None, l2: float = 0.0, *, maximize: bool = False) -> None:
        """One step of the table. l2: this times the weights is added to their gradient."""
        gradient = -part.gradient if maximize else part.gradient
        if l2:
            gradient = gradient + np.float32(l2) * self.table.lookup(part.batch)
        self.table.update(part.batch, gradient, learning_rate=rate)
        self._passes = 0

    def step_alone(self) -> None:
        """One step of the table's own optimizer; ArgumentError for gradients that are gone or not finite."""
        self.finish()
        if self.part is None:
            return
        grad = self.hook.grad
        if grad is None or not float(grad):
            raise ArgumentError(
                "emb.step() has nothing to step on: what backward brought was dropped by zero_grad(). Expected "
                "loss.backward(), emb.step(), and then zero_grad()"
            )
        if not math.isfinite(float(grad)):
            raise ArgumentError(
                "the table's gradient isn't finite, and nothing was changed. Under a GradScaler, which skips such "
                "steps: hotrow.torch.follow(model, optimizer) in place of emb.step()"
            )
        part = self.scaled(float(grad))
        if part is not None:
            self.step(part, None)
        self.drop()

    def settle(self) -> None:
        """Nothing is ever owed: the table steps when the optimizer does."""

    def drop(self) -> None:
        """Forget what is pending."""
        self.part = None
        self._arrived.clear()
        self._bringing.clear()
        self.hook.grad = None


_open: dict[int, dict[Gradients, None]] = {}
"""Of each backward that goes on: the tables that it has come to."""


def _task() -> int:
    """The backward that goes on, on this thread."""
    return torch._C._current_graph_task_id()  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]


def _members(task: int) -> dict[Gradients, None]:
    if task not in _open:
        if len(_open) > _DEEPEST:  # one that has failed never ends
            _end(min(_open))
        _open[task] = {}
        engine: Any = torch.autograd.Variable._execution_engine  # pyright: ignore[reportPrivateUsage]
        engine.queue_callback(lambda: _end(task))
    return _open[task]


def _end(task: int) -> None:
    """A backward has ended: its tables' gradients are summed, side by side."""
    threads.each(lambda gradients: gradients.end(task), list(_open.pop(task, {})))


def _arrive(mine: weakref.ref[Gradients], _: Any) -> None:
    gradients = mine()
    if gradients is not None:
        gradients.arrive()


def _fold(parts: list[Part]) -> Part:
    """Parts as one, summed in their order."""
    if len(parts) == 1:
        return parts[0]
    batch, which = Batch.once([part.batch for part in parts])
    return Part(batch, Groups.of(which, len(batch)).merge(np.concatenate([part.gradient for part in parts]))[0])


def _norm(gradient: np.ndarray) -> float:
    """Of float32 (m, dim): a float32, never 0."""
    norm = math.sqrt(float(np.einsum("ij,ij->i", gradient, gradient).sum(dtype=np.float64)))
    if not math.isfinite(norm) and np.isfinite(gradient).all():
        norm = math.sqrt(float(np.square(gradient, dtype=np.float64).sum()))
    return math.nan if math.isnan(norm) else max(float(np.float32(norm)), _LEAST)


class Lookup(torch.autograd.Function):
    """Vectors of a Batch: `Lookup.apply(hook, weights, batch, gradients, by_count, vectors)`, on the CPU.

    weights: a tensor of the batch's weights, to which gradients flow too, or None. vectors: if they are known already.
    """

    @staticmethod
    def forward(
        ctx: Any, hook: Any, weights: Any, batch: Batch, gradients: Gradients, by_count: bool, vectors: Any
    ) -> Any:
        """float32 (*batch.shape, dim)."""
        ctx.kept = batch, gradients, by_count
        if vectors is None:
            vectors = batch.table.lookup(batch)
        ctx.winners = batch.winners
        ctx.rows = batch.table.lookup(_plain(batch)) if ctx.needs_input_grad[1] else None
        return torch.from_numpy(vectors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Bring the gradient to the table; return zeros for the hook, and the gradient of the weights."""
        batch, gradients, by_count = ctx.kept
        host = grad_outputs[0].numpy(force=True)
        for_hook = for_weights = None
        if ctx.needs_input_grad[0]:
            refuse_rowless(batch)
            gradients.bring(Brought(batch, host, by_count, ctx.winners))
            for_hook = gradients.hook.new_zeros(())
        if ctx.rows is not None:
            bag = np.repeat(np.arange(len(batch.bags)), np.diff(batch.bags.offsets))
            for_weights = torch.from_numpy(np.einsum("ij,ij->i", ctx.rows, host[bag]))
        return for_hook, for_weights, None, None, None, None


def refuse_rowless(batch: Batch) -> None:
    """UnknownIdError for ids that were only looked at, in eval(), and are now to take a gradient."""
    if batch.whole() is None and batch.forgotten is None and batch.missing().any():
        raise UnknownIdError(
            f"id {batch.name(int(np.argmax(batch.missing())))} has no row to take a gradient; rows are made in "
            "training: expected emb.train() before the forward pass"
        )


def fetched(table: Table, rows: np.ndarray, keys: np.ndarray, name: Callable[[int], str]) -> CodeBatch:
    """A Batch for `table.fetch`, whose duplicates are looked for on another thread until they matter."""
    batch = CodeBatch(table, rows.astype(np.int64), rows, keys.copy().take, name)
    if len(rows) >= _WORTHWHILE:
        batch.prepare()
    return batch


def _plain(batch: Batch) -> Batch:
    """The same ids, each by itself and in no bag."""
    plain = batch.unrepeated().take(batch.inverse)
    plain.padding = None
    return plain
