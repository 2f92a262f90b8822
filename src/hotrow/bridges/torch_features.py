"""Many tables in torch at once: one lookup whose vectors stand side by side, and one backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hotrow.bridges.torch_modules import Brought, Gradients, refuse_rowless
from hotrow.kernels import threads
from hotrow.table.batch import Batch


@dataclass(frozen=True)
class Column:
    """One feature of a lookup.

    fill     writes its vectors to float32 (batch, dim), and gives their Batch
    columns  where they stand
    """

    gradients: Gradients
    fill: Callable[[np.ndarray], Batch | None]
    columns: slice
    by_count: bool


def look(columns: Sequence[Column], n: int) -> Any:
    """The vectors of n examples, float32 (n, sum of dims); tables are looked into side by side."""
    wide = np.empty((n, columns[-1].columns.stop), np.float32)
    tables = list(dict.fromkeys(column.gradients for column in columns))
    batches: list[Batch | None] = [None] * len(columns)

    def group(gradients: Gradients) -> None:
        for i, column in enumerate(columns):
            if column.gradients is gradients:
                batches[i] = column.fill(wide[:, column.columns])

    threads.each(group, tables)
    return _Lookup.apply(wide, columns, batches, tables, *(gradients.hook for gradients in tables))


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wide: np.ndarray, columns: Any, batches: Any, tables: Any, *hooks: Any) -> Any:
        ctx.kept = columns, batches, tables, [None if batch is None else batch.winners for batch in batches]
        return torch.from_numpy(wide)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        columns, batches, tables, winners = ctx.kept
        wide = grad_outputs[0].numpy(force=True)
        wanted = dict(zip(tables, ctx.needs_input_grad[4:], strict=True))
        here = [i for i, column in enumerate(columns) if wanted[column.gradients]]
        for i in here:
            refuse_rowless(batches[i])
        for i in reversed(here):  # as autograd comes to modules that are called one after the other: the same sums
            gradients = wide[:, columns[i].columns]
            columns[i].gradients.bring(Brought(batches[i], gradients, columns[i].by_count, winners[i]))
        return None, None, None, None, *(t.hook.new_zeros(()) if wanted[t] else None for t in tables)
