"""The lookup in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from hotrow.bridges.crossing import Crossing


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Any, rate: float, crossing: Crossing, *hooks: Any) -> Any:
        ctx.set_materialize_grads(True)
        host_ids = [tensor.numpy(force=True) for tensor in ids]
        ctx.kept = host_ids, hooks, rate, crossing
        device = ids[0].device
        pulled = crossing.pull(*host_ids, *(hook.numpy(force=True) for hook in hooks))
        return tuple(torch.from_numpy(array).to(device) for array in pulled)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ids, hooks, rate, crossing = ctx.kept
        # No zero_grad() since the last backward?
        carried = [hook.is_leaf and hook.grad is not None and bool(hook.grad) for hook in hooks]
        arrays = (gradient.numpy(force=True) for gradient in gradients)
        numbers = crossing.push(*ids, *arrays, np.float32(rate), carried=carried)
        return None, None, None, *(gradients[-1].new_tensor(number) for number in numbers)


def lookup(ids: Sequence[Any], hooks: Sequence[Any], rate: Any, crossing: Crossing) -> list[Any]:
    """Vectors, masks and penalty, see `hotrow.bridges.crossing`."""
    if ids[0].is_meta:  # Keras traces shapes: nothing has a value
        return [torch.empty(shape, device="meta") for shape in crossing.shapes([tensor.shape for tensor in ids])]
    return list(_Lookup.apply(list(ids), float(rate), crossing, *hooks))


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


def differentiated(function: Callable[..., Any]) -> Callable[..., Any]:
    """As of the bridge of TensorFlow."""

    def run(watched: Any, *others: Any) -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # for the same sums to the bit
        try:
            leaves, form = tree_flatten(watched)
            leaves = [torch.tensor(leaf, requires_grad=True) for leaf in leaves]
            value, more = function(tree_unflatten(leaves, form), *tree_map(torch.tensor, others))
            gradients = torch.autograd.grad(value, leaves, materialize_grads=True)
            found = value, more, tree_unflatten(list(gradients), form)
            return tree_map(_to_host, found)
        finally:
            torch.set_num_threads(before)

    return run


def _to_host(tensor: Any) -> np.ndarray:
    return tensor.numpy(force=True)


def hold_threads(wanted: int | None = None) -> int:
    """Always 1, of what is `differentiated`."""
    return 1
