"""A layer of torch's own, brought into a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hotrow.bridges.bringing import table_of
from hotrow.errors import ArgumentError
from hotrow.table.optimizers import Optimizer
from hotrow.table.table import Table
from hotrow.torch.arguments import to_host


def from_embedding(layer: Any, ids: Any = None, *, optimizer: Optimizer | None = None) -> Table:
    """A table of a trained `torch.nn.Embedding` or `EmbeddingBag`: row i of its weight is the vector of ids[i].

    ids        one for each row, in any form that tables take and that has a length; None: the row numbers 0, 1, …
    optimizer  what the table is trained with from now on; Adam(1e-3) if not given

    The row of `padding_idx` is no id's and is left out. Numbers of another type are rounded to float32. ArgumentError
    for another layer, one on "meta", another number of ids, an id that comes twice, and numbers that aren't finite.

    >>> import torch, hotrow
    >>> layer = torch.nn.Embedding.from_pretrained(torch.eye(3), padding_idx=0)
    >>> table = hotrow.torch.from_embedding(layer, ["", "lantern", "cup"])
    >>> len(table), table.lookup("cup").tolist()
    (2, [0.0, 0.0, 1.0])
    """
    if not isinstance(layer, torch.nn.Embedding | torch.nn.EmbeddingBag):
        raise ArgumentError(f"expected a torch.nn.Embedding or EmbeddingBag; got {type(layer).__name__}")
    if layer.weight.is_meta:
        raise ArgumentError('the layer is on the device "meta" and has no numbers; load its state_dict first')
    matrix = layer.weight.detach().to("cpu", torch.float32).numpy()
    rows = np.arange(len(matrix))
    if layer.padding_idx is not None:
        rows = np.delete(rows, layer.padding_idx)
    return table_of(None if ids is None else to_host(ids)[0], matrix, rows, optimizer)
