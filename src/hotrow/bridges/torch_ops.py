"""What `hotrow.ops` needs of torch: rows of a matrix. Its tensors always have values, so ids are checked before."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def is_tensor(x: Any) -> bool:
    """Whether this is torch's: a tensor or a parameter."""
    return isinstance(x, torch.Tensor)


def is_traced(_: Any) -> bool:
    """Never: a tensor has its values."""
    return False


def tensor(array: np.ndarray) -> Any:
    """A tensor with the values of this array, of its dtype; a copy, for torch warns of arrays that can't be written."""
    return torch.tensor(array)


def matrix(params: Any) -> Any:
    """`params`; its shape is all there."""
    return params


def gather(params: Any, ids: np.ndarray) -> Any:
    """params[ids], for ids that were checked, int64; its gradient is dense."""
    return torch.nn.functional.embedding(torch.tensor(ids, device=params.device), params)
