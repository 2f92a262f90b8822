"""What Embedding and EmbeddingBag share: a table, its hook, and when it may grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.utils.data import get_worker_info

from hotrow.bridges.torch_modules import Gradients, Lookup, fetched
from hotrow.errors import ArgumentError
from hotrow.table.batch import Batch
from hotrow.table.table import Table
from hotrow.torch import arguments, saving
from hotrow.torch.following import begin

F = TypeVar("F", bound=Callable[..., Any])


def outside_graphs(function: F) -> F:
    """A forward that torch.compile leaves as it is, with a graph break: ids are found on the host."""
    return cast("F", torch.compiler.disable(function))


class Module(torch.nn.Module):
    """A module with a table. Its one parameter, the table's hook, is a number that never changes a vector."""

    hook: Any
    gradients: Gradients

    def __init__(
        self,
        num_embeddings: int | None,
        embedding_dim: int,
        padding_idx: Any,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        _weight: Any,
        device: Any,
        dtype: Any,
        own: dict[str, Any],
    ) -> None:
        super().__init__()
        arguments.refuse(type(self).__name__, max_norm, device, dtype)
        self.num_embeddings = count = arguments.check_count(num_embeddings)
        self.padding_idx = arguments.to_padding(padding_idx, count)
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        first = None if _weight is None else arguments.to_matrix(_weight, (count, embedding_dim), "_weight")
        table = arguments.make_table(embedding_dim, count=count, **own)
        self.embedding_dim = table.dim
        self.gradients = Gradients.of(table)
        self.gradients.explicit |= own["optimizer"] is not None
        self.hook = self.gradients.hook
        self._dtype = torch.float32
        if first is not None:
            table.set(range(len(first)), first)

    @property
    def table(self) -> Table:
        """The `hotrow.Table`, with all that it can: `emb.table.save(path)`, `set`, `forget`, `len`."""
        return self.gradients.table

    @property
    def weight(self) -> Any:
        """The matrix, float32 (num_embeddings, embedding_dim): a copy. Without a bound on the ids there is none."""
        if self.num_embeddings is None:
            raise ArgumentError(
                "there is no matrix, for there is no bound on the ids; expected emb.table.ids() and "
                "emb.table.vectors(), or emb.table.lookup(ids)"
            )
        return torch.from_numpy(self.table.lookup(range(self.num_embeddings)))

    def follow(self, optimizer: Any) -> None:
        """Train the table as this torch optimizer, which must have the module's parameters, trains the rest.

        See `hotrow.torch.follow`, which does it for a whole model. With `optimizer=` given to the module the table
        keeps its own, and steps when this one does.
        """
        begin(self.gradients, optimizer)

    def step(self) -> None:
        """One step of the table's own optimizer on all that backward has brought since the last one.

        Raises ArgumentError if it follows a torch optimizer, if what was brought has been dropped by zero_grad, or
        isn't finite.
        """
        self._refuse_in_worker("step")
        if self.gradients.follower is not None:
            raise ArgumentError("this table follows a torch optimizer and steps when it does; leave emb.step() out")
        self.gradients.step_alone()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop what is pending, as torch's own."""
        super().zero_grad(set_to_none)
        self.gradients.drop()

    def _is_wanted(self) -> bool:
        return self.hook.requires_grad and torch.is_grad_enabled()

    def _is_growing(self) -> bool:
        return self.training and self._is_wanted()

    @staticmethod
    def _refuse_in_worker(what: str) -> None:
        if get_worker_info() is not None:
            raise ArgumentError(
                f"{what} in a worker of a DataLoader would change a copy of the table that nobody sees; expected raw "
                "ids out of the dataset, and the module called in the training loop; in a worker emb.eval() only looks"
            )

    def _look(self, batch: Batch, weights: Any, device: Any, known: Any = None) -> Any:
        vectors = Lookup.apply(self.hook, weights, batch, self.gradients, self.scale_grad_by_freq, known)
        return self.out(vectors, device)

    def _look_each(self, ids: Any, device: Any) -> Any:
        """Vectors of ids that aren't in bags."""
        if self.padding_idx is None and not isinstance(ids, Batch):
            self._check(ids)
            if not self._is_wanted():
                return self.out(torch.from_numpy(self.table.lookup(ids)), device)
            found = self.table.fetch(ids, fetched)
            if found is not None:
                return self._look(found[0], None, device, found[1])
        return self._look(self._found(ids, self.table.find), None, device)

    def out(self, vectors: Any, device: Any) -> Any:
        """Vectors on that device, None for the CPU, in the dtype that the module was given."""
        if device is None and self._dtype is torch.float32:
            return vectors
        return vectors.to(device=device, dtype=self._dtype)

    def _found(self, ids: Any, find: Callable[..., Batch]) -> Batch:
        """The Batch of ids, of which new ones get their row in training."""
        self._check(ids)
        return find(ids, grow=self._is_growing(), mask=self.padding_idx)

    def _check(self, ids: Any) -> None:
        """Refuse what can't be trained here, and ids beyond the bound."""
        if self._is_growing():
            self._refuse_in_worker("training an embedding")
            self.gradients.check_not_lost()
        if self.num_embeddings is not None:
            arguments.check_range(ids, self.num_embeddings, self.embedding_dim)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """What .to(), .half() and the like do: vectors come out in that dtype, and the table stays as it is."""
        there = fn(torch.zeros((), dtype=self._dtype, device=self.hook.device))
        self._dtype = there.dtype

        def move(tensor: Any) -> Any:
            return tensor.to(there.device)

        return super()._apply(move, recurse)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination.update(saving.to_tensors(self.table, prefix))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        unexpected: list[str] = []
        missing: list[str] = []
        weight = state_dict.get(prefix + "weight")
        if self.num_embeddings is not None and weight is not None and prefix + "table.config" not in state_dict:
            self._load_matrix(weight, prefix, error_msgs)
            return
        saving.from_tensors(self.table, state_dict, prefix, missing, unexpected, error_msgs)
        if strict:
            missing_keys += missing
            unexpected_keys += unexpected

    def _load_matrix(self, weight: Any, prefix: str, error_msgs: list[str]) -> None:
        """The vectors of one of torch's own modules."""
        expected = (self.num_embeddings, self.embedding_dim)
        if tuple(weight.shape) != expected:
            error_msgs.append(f"size mismatch for {prefix}weight: got {tuple(weight.shape)}, expected {expected}")
        else:
            self.table.set(range(expected[0] or 0), weight.numpy(force=True))
