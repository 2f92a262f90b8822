"""What torch's own modules may be given, in the table's terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hotrow.bridges.id_range import IdRange
from hotrow.errors import ArgumentError, IdError, KindError
from hotrow.table import ids as ids_
from hotrow.table.batch import Batch
from hotrow.table.initializers import Initializer, Normal
from hotrow.table.table import Table


def check_count(num_embeddings: Any) -> int | None:
    """A bound on the ids, or None; ArgumentError for what can't be one."""
    if num_embeddings is None:
        return None
    if isinstance(num_embeddings, bool) or not isinstance(num_embeddings, int | np.integer) or num_embeddings < 1:
        raise ArgumentError(
            f"num_embeddings must be a whole number from 1 on, or None for any id; got {num_embeddings!r}"
        )
    return int(num_embeddings)


def refuse(name: str, max_norm: Any, device: Any, dtype: Any) -> None:
    """ArgumentError for what a table can't do."""
    if max_norm is not None:
        raise ArgumentError(
            f"{name}(max_norm={max_norm!r}) would change rows in a forward pass, also in evaluation; expected None, "
            "and weight_decay= of the optimizer, or torch.nn.functional.normalize(vectors, dim=-1)"
        )
    if device is not None and torch.device(device).type != "cpu":
        raise ArgumentError(
            f"{name}(device={device!r}): a table is in the CPU's memory; leave device= out, for vectors come out on "
            "the device of the ids"
        )
    if dtype not in (None, torch.float32):
        raise ArgumentError(
            f"{name}(dtype={dtype}): a table's vectors are float32; leave dtype= out, and call .to({dtype}) on the "
            "module for vectors of it"
        )


def to_padding(padding_idx: Any, count: int | None) -> Any:
    """The id that stands for padding; with a bound, one below 0 counts from its end, as in torch."""
    if padding_idx is None or count is None:
        return padding_idx
    if (
        isinstance(padding_idx, bool)
        or not isinstance(padding_idx, int | np.integer)
        or not -count <= padding_idx < count
    ):
        raise ArgumentError(f"padding_idx must be within num_embeddings, −{count} to {count - 1}; got {padding_idx!r}")
    return int(padding_idx) % count


def make_table(
    dim: int, table: Any, *, optimizer: Any, initializer: Any, seed: int | None, ids: str | None, count: int | None
) -> Table:
    """The table that is given, or a new one; ArgumentError where both are."""
    if isinstance(optimizer, torch.optim.Optimizer):
        raise ArgumentError(
            f"optimizer= is one of hotrow's own, as hotrow.Adam(1e-3); for this {type(optimizer).__name__} of torch "
            "leave it out, and call hotrow.torch.follow(model, optimizer)"
        )
    if table is None:
        if count is not None and ids == "string":
            raise ArgumentError(
                f"ids='string' can't be 0 to {count - 1}; expected num_embeddings=None: Embedding(None, {dim})"
            )
        kind = "int64" if count is not None and ids is None else ids
        first: Initializer = Normal(1.0) if initializer is None else initializer
        return Table(dim, optimizer=optimizer, initializer=first, seed=_drawn() if seed is None else seed, ids=kind)
    if not isinstance(table, Table):
        raise ArgumentError(
            f"table= must be a hotrow.Table; got a {type(table).__name__}. A module's is its .table: "
            "hotrow.torch.Embedding(None, 32, table=other.table)"
        )
    given = {"initializer": initializer, "seed": seed, "ids": ids}
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(f"{name}={value!r} is the table's own; give it to hotrow.Table, or leave table= out")
    if table.dim != dim:
        raise ArgumentError(f"embedding_dim is {dim}, and the table's vectors have {table.dim} floats")
    if optimizer is not None and optimizer != table.optimizer:
        table.set_optimizer(optimizer)
    return table


def _drawn() -> int:
    """A seed from torch's generator, so that torch.manual_seed decides, as for torch's own modules."""
    return int(torch.randint(2**62, ()))


def to_host(ids: Any) -> tuple[Any, Any]:
    """Ids for the table, and the device that their vectors belong on."""
    if not isinstance(ids, torch.Tensor):
        return ids, None
    if ids.dtype in (torch.bfloat16, torch.complex64, torch.complex128):
        raise KindError(f"got ids that are a tensor of {ids.dtype}; expected whole numbers, e.g. ids.long()")
    return ids.numpy(force=True), None if ids.device.type == "cpu" else ids.device


def to_keys(ids: Any, kind: str | None) -> Any:
    """Ids as keys, which tables take too; a Batch as it is. Raises what ids are refused with."""
    return ids if isinstance(ids, Batch) else ids_.to_keys(ids, kind)


def check_range(ids: Any, count: int, dim: int) -> None:
    """IdError for an id that isn't 0 to count − 1."""
    if isinstance(ids, Batch):
        return
    keys = ids_.to_keys(ids, None)
    allowed = IdRange(count, "for num_embeddings says so", dim)
    other = f"For any other ids leave the bound out: hotrow.torch.Embedding(None, {dim})"
    if keys.texts is not None:
        raise KindError(f"got strings; expected {allowed.expected('ids')}. {other}")
    outside = keys.keys >= np.uint64(count)  # those below 0 are the largest of all
    if outside.any():
        at = int(np.argmax(outside))
        place = f" at position {tuple(map(int, np.unravel_index(at, keys.shape)))}" if keys.shape else ""
        given = ids_.restore(keys.keys[at : at + 1], keys.kind)[0]
        raise IdError(f"got {given}{place}; expected {allowed.expected('ids')}. {other}")


def to_matrix(given: Any, shape: tuple[Any, int], name: str) -> np.ndarray:
    """Vectors for the ids 0 to V − 1: float32 (V, dim)."""
    if shape[0] is None:
        raise ArgumentError(
            f"{name} is for the ids 0 to V − 1, and there is no bound on them here; expected "
            "emb.table.set(ids, vectors)"
        )
    matrix = given.numpy(force=True) if isinstance(given, torch.Tensor) else np.asarray(given)
    if matrix.shape != shape:
        raise ArgumentError(f"{name} must be of shape {shape}; got {matrix.shape}")
    return matrix
