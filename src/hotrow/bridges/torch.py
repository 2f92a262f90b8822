"""The lookup in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hotrow.bridges.crossing import Crossing


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Any, hook: Any, rate: float, crossing: Crossing) -> Any:
        ctx.set_materialize_grads(True)
        host_ids = ids.numpy(force=True)
        ctx.kept = host_ids, hook, rate, crossing
        vectors, penalty = crossing.pull(host_ids, hook.numpy(force=True))
        return torch.from_numpy(vectors).to(ids.device), torch.tensor(penalty, device=ids.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ids, hook, rate, crossing = ctx.kept
        vectors, penalty = (gradient.numpy(force=True) for gradient in gradients)
        carried = hook.is_leaf and hook.grad is not None and bool(hook.grad)  # no zero_grad() since the last backward
        number = crossing.push(ids, vectors, penalty, np.float32(rate), carried=carried)
        return None, gradients[1].new_tensor(number), None, None


def lookup(ids: Any, hook: Any, rate: Any, crossing: Crossing) -> tuple[Any, Any]:
    """Vectors and penalty, see `hotrow.bridges.crossing`."""
    if ids.is_meta:  # Keras traces shapes: nothing has a value
        return torch.empty((*ids.shape, crossing.dim), device="meta"), torch.empty((), device="meta")
    return _Lookup.apply(ids, hook, float(rate), crossing)


def on_host(function: Callable[[np.ndarray], np.ndarray], ids: Any, dtype: str) -> Any:
    """function(ids), of the same shape."""
    if ids.is_meta:
        return torch.empty(ids.shape, dtype=getattr(torch, dtype), device="meta")
    return torch.from_numpy(function(ids.numpy(force=True))).to(ids.device)


def value_of(variable: Any) -> float:
    """A scalar parameter's value now."""
    return variable.item()


def is_symbolic(tensor: Any) -> bool:
    """Whether it has no value yet."""
    return isinstance(tensor, torch.Tensor) and tensor.is_meta


def refusal() -> str:
    """Why ids that are tensors may not be what they were, or ""."""
    return ""
