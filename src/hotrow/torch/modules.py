"""Embedding and EmbeddingBag: torch's own signatures, and any id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch

from hotrow.bridges.torch_modules import fetched
from hotrow.errors import ArgumentError
from hotrow.table.batch import Batch
from hotrow.table.initializers import Initializer
from hotrow.table.optimizers import Optimizer
from hotrow.table.table import Table
from hotrow.torch import arguments, bags
from hotrow.torch.base import Module, outside_graphs


class Embedding(Module):
    """`torch.nn.Embedding` for any ids: tensors of integers, NumPy, lists, strings, Arrow. No vocabulary.

    num_embeddings      None: any int64, uint64 or string; a number: ids are 0 to num_embeddings − 1, others an error
    embedding_dim       floats a vector
    padding_idx         this id is padding: zeros, no row, never trained
    scale_grad_by_freq  divide an id's gradient by how often it stands in the batch
    sparse              accepted: a table is always trained sparsely
    _weight             (num_embeddings, embedding_dim) to begin with
    max_norm, device, dtype   refused, but for None, the CPU and float32

    and hotrow's own:

    optimizer    how the table is trained, one of hotrow's; else it follows torch's, see `follow`, or is Adam(1e-3)
    initializer  what a row starts with; Normal(1.0), as torch's
    seed         of the first values; else drawn from torch's generator, so torch.manual_seed decides
    ids          "int64", "uint64" or "string"; else the first ids decide
    table        a hotrow.Table: of another module, to share it, or one that was loaded

    Training gives new ids their row; `eval()`, `torch.no_grad()` and `requires_grad_(False)` don't: there an id without
    a row has its first value. Raises hotrow's errors for what can't be an id, with nothing changed.

    >>> import torch, hotrow
    >>> emb = hotrow.torch.Embedding(None, 4, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
    >>> emb(["lantern", "cup", "lantern"]).sum().backward()
    >>> emb.step()
    >>> emb(["cup", "lantern"])[:, 0].tolist()
    [-1.0, -2.0]
    """

    def __init__(
        self,
        num_embeddings: int | None,
        embedding_dim: int,
        padding_idx: Any = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        optimizer: Optimizer | None = None,
        initializer: Initializer | None = None,
        seed: int | None = None,
        ids: str | None = None,
        table: Table | None = None,
    ) -> None:
        own = {"optimizer": optimizer, "initializer": initializer, "seed": seed, "ids": ids, "table": table}
        theirs = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, device, dtype)
        super().__init__(num_embeddings, embedding_dim, *theirs, own)
        if _freeze:
            self.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, padding_idx: Any = None, **how: Any) -> Self:
        """A module whose ids 0 to V − 1 have these vectors (V, D), frozen unless told otherwise.

        For vectors of other ids: `Embedding(None, D)`, then `emb.table.set(ids, vectors)`.

        >>> import torch, hotrow
        >>> hotrow.torch.Embedding.from_pretrained(torch.eye(3))([2]).tolist()
        [[0.0, 0.0, 1.0]]
        """
        rows, dim = _check_matrix(embeddings)
        return cls(rows, dim, padding_idx, _weight=embeddings, _freeze=freeze, **how)

    def find(self, input: Any) -> Batch:
        """Find ids ahead, once; the Batch goes to the module in their place. In training new ids get their row.

        >>> import hotrow
        >>> emb = hotrow.torch.Embedding(None, 4)
        >>> emb(emb.find([[7, 9], [9, 7]])).shape
        torch.Size([2, 2, 4])
        """
        return self._found(arguments.to_host(input)[0], self.table.find)

    def count(self, ids: Any) -> int:
        """How many examples there are, as a column of `Features`; ArgumentError for ids of more than one axis."""
        shape = ids.shape if hasattr(ids, "shape") else (len(ids),)
        if len(shape) != 1 or bags.is_lists(ids):
            raise ArgumentError(
                "a column of an Embedding has one id in each example; expected an EmbeddingBag for bags"
            )
        return shape[0]

    def filler(self, ids: Any) -> Callable[[np.ndarray], Batch | None]:
        """Check ids now; the function then writes their vectors, on any thread, and gives the Batch for backward."""
        self._check(ids)
        grow, wanted, table = self._is_growing(), self._is_wanted(), self.table
        keys = arguments.to_keys(ids, table.kind)

        def fill(out: np.ndarray) -> Batch | None:
            if self.padding_idx is None and not isinstance(keys, Batch):
                if not wanted:
                    table.lookup(keys, out=out)
                    return None
                found = table.fetch(keys, fetched, out)
                if found is not None:
                    return found[0]
            batch = table.find(keys, grow=grow, mask=self.padding_idx)
            table.lookup(batch, out=out)
            return batch

        return fill

    @outside_graphs
    def forward(self, input: Any) -> Any:
        """Vectors float32 (*input.shape, embedding_dim), on the ids' device."""
        ids, device = arguments.to_host(input)
        return self._look_each(ids, device)

    def extra_repr(self) -> str:
        """As torch's."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx!r}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class EmbeddingBag(Module):
    """`torch.nn.EmbeddingBag` for any ids: each bag of ids becomes one vector.

    mode                 "mean", "sum" or "max", and hotrow's "sqrtn": the sum, divided by √ of the number of ids
    include_last_offset  offsets have one more number at their end, that of all ids
    padding_idx          this id counts for nothing, neither in a sum nor in the number of ids

    The other arguments are those of `Embedding`.

    >>> import torch, hotrow
    >>> bag = hotrow.torch.EmbeddingBag(None, 4, mode="sum")
    >>> bag(["a", "b", "c"], torch.tensor([0, 2])).shape          # bags {a, b} and {c}
    torch.Size([2, 4])
    >>> bag([["a", "b"], [], ["c"]]).shape                        # lists of any length
    torch.Size([3, 4])
    """

    def __init__(
        self,
        num_embeddings: int | None,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Any = None,
        include_last_offset: bool = False,
        padding_idx: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        optimizer: Optimizer | None = None,
        initializer: Initializer | None = None,
        seed: int | None = None,
        ids: str | None = None,
        table: Table | None = None,
    ) -> None:
        bags.check_mode(mode, scale_grad_by_freq)
        own = {"optimizer": optimizer, "initializer": initializer, "seed": seed, "ids": ids, "table": table}
        theirs = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, device, dtype)
        super().__init__(num_embeddings, embedding_dim, *theirs, own)
        self.mode, self.include_last_offset = mode, include_last_offset

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, **how: Any) -> Self:
        """As `Embedding.from_pretrained`.

        >>> import torch, hotrow
        >>> hotrow.torch.EmbeddingBag.from_pretrained(torch.eye(3), mode="sum")([[0, 2]]).tolist()
        [[1.0, 0.0, 1.0]]
        """
        rows, dim = _check_matrix(embeddings)
        module = cls(rows, dim, _weight=embeddings, **how)
        return module.requires_grad_(not freeze)

    def find(self, input: Any, offsets: Any = None) -> Batch:
        """Find the ids of bags ahead, once; the Batch goes to the module in their place."""
        return self._bags(arguments.to_host(input)[0], offsets, None)[0]

    def count(self, ids: Any) -> int:
        """How many bags there are, as a column of `Features`; ArgumentError for ids that aren't in bags."""
        if isinstance(ids, Batch):
            return ids.shape[0]
        if len(getattr(ids, "shape", ())) != 2 and not bags.is_lists(ids) and len(ids):
            raise ArgumentError(
                "a column of an EmbeddingBag has a bag of ids in each example; expected lists, or ids (bags, n)"
            )
        return len(ids)

    def filler(self, ids: Any) -> Callable[[np.ndarray], Batch | None]:
        """As `Embedding.filler`, of bags."""
        flat, ends = (ids, None) if isinstance(ids, Batch) else bags.to_flat(ids, None, self.include_last_offset)
        self._check(flat)
        grow, table = self._is_growing(), self.table
        keys = arguments.to_keys(flat, table.kind)

        def fill(out: np.ndarray) -> Batch:
            batch = table.find(keys, grow=grow, mask=self.padding_idx)
            if ends is not None:
                batch, _ = bags.pooled(batch, ends, None, self.mode)
            table.lookup(batch, out=out)
            return batch

        return fill

    @outside_graphs
    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Any:
        """Vectors float32 (bags, embedding_dim), on the ids' device.

        input               (bags, n), lists of any length, or all ids in one dimension, with offsets
        offsets             (bags,), where each bag begins; see include_last_offset
        per_sample_weights  one for each id, of the ids' shape; for mode="sum"
        """
        ids, device = arguments.to_host(input)
        weights = bags.to_weights(per_sample_weights, self.mode, input)
        batch, weights = self._bags(ids, offsets, weights)
        return self._look(batch, weights, device)

    def _bags(self, ids: Any, offsets: Any, weights: Any) -> tuple[Batch, Any]:
        if isinstance(ids, Batch):
            if offsets is not None or weights is not None:
                raise ArgumentError(
                    "a Batch has its bags from find(ids, offsets); weights go with ids, not with a Batch"
                )
            return self._found(ids, self.table.find), None
        flat, ends = bags.to_flat(ids, offsets, self.include_last_offset)
        if weights is not None:
            bags.check_weights(weights, int(ends[-1]))
        return bags.pooled(self._found(flat, self.table.find), ends, weights, self.mode)

    def extra_repr(self) -> str:
        """As torch's."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx!r}"
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}{padding}"


def _check_matrix(embeddings: Any) -> tuple[int, int]:
    shape = np.shape(embeddings) if not isinstance(embeddings, torch.Tensor) else tuple(embeddings.shape)
    if len(shape) != 2:
        raise ArgumentError(f"expected vectors in two dimensions, one row for each id; got shape {shape}")
    return shape[0], shape[1]
