"""The ways in which torch's EmbeddingBag is given its bags, as the table's offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from hotrow.bridges.ragged import take_apart
from hotrow.errors import ArgumentError
from hotrow.table.batch import POOLINGS, Batch, to_bags


def check_mode(mode: str, scale_grad_by_freq: bool) -> None:
    """ArgumentError for a mode that there isn't."""
    if mode not in POOLINGS:
        raise ArgumentError(f"mode must be one of {', '.join(map(repr, POOLINGS))}; got {mode!r}")
    if mode == "max" and scale_grad_by_freq:
        raise ArgumentError("scale_grad_by_freq=True doesn't go with mode='max'; expected 'sum', 'mean' or 'sqrtn'")


def to_weights(given: Any, mode: str, input: Any) -> Any:
    """per_sample_weights in one dimension, a tensor or an array; ArgumentError where there can't be any."""
    if given is None:
        return None
    if mode != "sum":
        raise ArgumentError(f"per_sample_weights are for mode='sum'; this module's is {mode!r}")
    shape, expected = tuple(np.shape(given)), getattr(input, "shape", None)
    if expected is not None and shape != tuple(expected):
        raise ArgumentError(f"per_sample_weights must be of the ids' shape, {tuple(expected)}; got {shape}")
    if isinstance(given, torch.Tensor):
        return given.reshape(-1).to("cpu", torch.float32)
    return np.asarray(given, np.float32).reshape(-1)


def check_weights(weights: Any, n: int) -> None:
    """ArgumentError unless there are n of them, all finite."""
    host = weights.numpy(force=True) if isinstance(weights, torch.Tensor) else weights
    if len(host) != n:
        raise ArgumentError(f"per_sample_weights must be one for each of {n} ids; got {len(host)}")
    if not np.isfinite(host).all():
        raise ArgumentError(f"per_sample_weights must be finite; weight {int(np.argmin(np.isfinite(host)))} isn't")


def to_flat(ids: Any, offsets: Any, include_last: bool) -> tuple[Any, np.ndarray]:
    """Ids in one dimension, and offsets as the table has them, from 0 to the number of ids: int64 (bags + 1,)."""
    if isinstance(ids, (list, tuple)):
        return _from_list(cast("Sequence[Any]", ids), offsets, include_last)
    shape = getattr(ids, "shape", None)
    shape = (len(ids),) if shape is None else tuple(shape)
    if len(shape) == 2:
        _refuse_offsets(offsets)
        return ids.reshape(-1), np.arange(0, shape[0] * shape[1] + 1, shape[1] or 1)[: shape[0] + 1]
    if len(shape) != 1:
        raise ArgumentError(f"expected ids (bags, n), or in one dimension with offsets; got shape {shape}")
    return ids, _to_ends(offsets, shape[0], include_last)


def is_lists(ids: Any) -> bool:
    """Whether these are lists or arrays, one for each bag."""
    if not isinstance(ids, (list, tuple)) or not len(cast("Sequence[Any]", ids)):
        return False
    return all(isinstance(bag, (list, tuple, np.ndarray, torch.Tensor)) for bag in cast("Sequence[Any]", ids))


def _from_list(ids: Sequence[Any], offsets: Any, include_last: bool) -> tuple[Any, np.ndarray]:
    if not len(ids) and offsets is None:  # no bags
        return ids, np.zeros(1, np.int64)
    if not is_lists(ids):
        return ids, _to_ends(offsets, len(ids), include_last)
    _refuse_offsets(offsets)
    lists = [bag.tolist() if isinstance(bag, (np.ndarray, torch.Tensor)) else bag for bag in ids]
    return take_apart(lists)


def _refuse_offsets(offsets: Any) -> None:
    if offsets is not None:
        raise ArgumentError("ids in two dimensions are bags already; leave offsets= out, or give ids in one")


def _to_ends(offsets: Any, n: int, include_last: bool) -> np.ndarray:
    if offsets is None:
        raise ArgumentError("ids in one dimension need offsets, where each bag begins: emb(ids, torch.tensor([0, 2]))")
    given = offsets.numpy(force=True) if isinstance(offsets, torch.Tensor) else np.asarray(offsets)
    if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
        raise ArgumentError(f"offsets must be whole numbers in one dimension; got {given.dtype} of shape {given.shape}")
    ends = given.astype(np.int64) if include_last else np.append(given, n).astype(np.int64)
    if not len(ends) or ends[0] != 0 or ends[-1] != n or (np.diff(ends) < 0).any():
        raise ArgumentError(
            f"offsets must start at 0 and never fall, up to the number of ids, {n}"
            f"{', which is the last of them' if include_last else ''}; got {given.tolist()!r:.80}"
        )
    return ends


def pooled(batch: Batch, ends: np.ndarray, weights: Any, mode: str) -> tuple[Batch, Any]:
    """The Batch of these bags of a batch of ids in one dimension, without those that are padding; and its weights."""
    if batch.padding is not None and batch.padding.any():
        places = np.flatnonzero(~batch.padding[batch.inverse])
        batch, ends = batch.take(places), np.searchsorted(places, ends)
        weights = weights if weights is None else weights[places]
    host = weights.numpy(force=True) if isinstance(weights, torch.Tensor) else weights
    batch.bags = to_bags(ends, host, mode, len(batch))
    batch.shape = (len(ends) - 1,)
    return batch, weights if isinstance(weights, torch.Tensor) and weights.requires_grad else None
