"""The sides of a benchmark, behind one small face: `lookup(ids)` and `step(ids, gradients)`.

hotrow and the dict are given raw 64-bit ids. torch and FBGEMM have no way from an id to a row, so they are given
ready-made rows 0 … V − 1, which a user of theirs would still have to find; and FBGEMM once more, behind a map.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

import hotrow
from benchmarks.workload import EPSILON, RATES, Workload

log = logging.getLogger("benchmarks")


class Peer:
    """A table of the workload's rows and first weights, with its optimizer."""

    name: ClassVar[str]
    given: ClassVar[str]
    optimizers: ClassVar[dict[str, str]]
    """The workload's name of an optimizer → the peer's own. An optimizer that isn't here, the peer hasn't got."""
    needs: ClassVar[tuple[str, str]] = ("numpy", "pip install numpy")
    """The module without which the side is left out, and how to get it."""
    takes_out: ClassVar[bool] = True
    widths: ClassVar[tuple[int, ...] | None] = None
    """The dims that the side is measured at where every other is measured at all of them; None for all."""

    def __init__(self, work: Workload, threads: int) -> None:
        raise NotImplementedError

    def ids(self, rows: np.ndarray) -> Any:
        """What the side is given for these rows. Made before the clock starts."""
        return rows

    def gradients(self, array: np.ndarray) -> Any:
        """The same for gradients."""
        return array

    def lookup(self, ids: Any, out: Any = None) -> Any:
        """The vectors of ids, (n, dim), new or in `out`; nothing is kept for a backward pass."""
        raise NotImplementedError

    def look(self, ids: Any, out: Any = None) -> float | None:
        """The same against the clock: the seconds if the side keeps its own, else None."""
        self.lookup(ids, out)
        return None

    def step(self, ids: Any, gradients: Any) -> float | None:
        """A whole training step: vectors forward, gradients backward, optimizer. Returns as `look` does."""
        raise NotImplementedError

    @classmethod
    def missing(cls) -> str | None:
        """Why the side can't be measured here; None if it can."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import_module(cls.needs[0])
        except (ImportError, OSError) as error:  # OSError: a library that was built for another torch
            return str(error)
        return None


class Hotrow(Peer):
    """A hotrow.Table."""

    name, given = "hotrow", "raw ids"
    optimizers: ClassVar = {"adam": "Adam", "adagrad": "Adagrad", "rowwise_adagrad": "RowwiseAdagrad"}

    def __init__(self, work: Workload, threads: int, arrival: np.ndarray | None = None) -> None:
        hotrow.set_threads(threads)
        self._ids = work.ids
        optimizer = getattr(hotrow, self.optimizers[work.optimizer])(RATES[work.optimizer], epsilon=EPSILON)
        self.table = hotrow.Table(work.dim, optimizer=optimizer, ids="int64")
        for rows, weights in work.weights():
            self.table.set(self._ids[rows if arrival is None else arrival[rows]], weights)

    def ids(self, rows: np.ndarray) -> np.ndarray:
        return self._ids[rows]

    def lookup(self, ids: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return self.table.lookup(ids, out=out)

    def step(self, ids: np.ndarray, gradients: np.ndarray) -> None:
        batch = self.table.find(ids, grow=True)
        self.table.lookup(batch)
        self.table.update(batch, gradients)


class Torch(Peer):
    """torch.nn.Embedding(sparse=True) with torch's own sparse optimizers."""

    name, given = "torch", "ready-made rows"
    optimizers: ClassVar = {"adam": "SparseAdam", "adagrad": "Adagrad"}
    needs = ("torch", "pip install torch")

    def __init__(self, work: Workload, threads: int) -> None:
        self._torch = torch = import_module("torch")
        torch.set_num_threads(threads)
        torch.sparse.check_sparse_tensor_invariants.disable()  # the default; said, for torch warns who doesn't choose
        weights = torch.empty(work.rows, work.dim)
        for rows, drawn in work.weights():
            weights[rows] = torch.from_numpy(drawn)
        self._embedding = torch.nn.Embedding.from_pretrained(weights, freeze=False, sparse=True)
        optimizer = getattr(torch.optim, self.optimizers[work.optimizer])
        self._optimizer = optimizer(self._embedding.parameters(), lr=RATES[work.optimizer], eps=EPSILON)

    def ids(self, rows: np.ndarray) -> Any:
        return self._torch.from_numpy(rows)

    def gradients(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(array)

    def lookup(self, ids: Any, out: np.ndarray | None = None) -> Any:
        torch, weights = self._torch, self._embedding.weight.detach()
        with torch.no_grad():
            if out is None:
                return torch.nn.functional.embedding(ids, weights)
            return torch.index_select(weights, 0, ids, out=torch.from_numpy(out))

    def step(self, ids: Any, gradients: Any) -> None:
        self._embedding(ids).backward(gradients)
        self._optimizer.step()
        self._optimizer.zero_grad()


class Fbgemm(Peer):
    """FBGEMM's table-batched bag on the CPU, optimizer fused into its backward pass; a bag for each id.

    Sums of bags of one id: its mode without bags does the same several times slower on a CPU. No check of bounds, to
    show it at its best.
    """

    name, given = "FBGEMM", "ready-made rows"
    optimizers: ClassVar = {"adagrad": "EXACT_ADAGRAD", "rowwise_adagrad": "EXACT_ROWWISE_ADAGRAD"}
    needs = ("fbgemm_gpu", "pip install --no-deps fbgemm-gpu-cpu==1.8.0, beside torch 2.13.0")
    takes_out = False

    def __init__(self, work: Workload, threads: int) -> None:
        self._torch = torch = import_module("torch")
        torch.set_num_threads(threads)
        with warnings.catch_warnings():  # it warns of optimizers that were left out of its own build
            warnings.simplefilter("ignore")
            training = import_module("fbgemm_gpu.split_table_batched_embeddings_ops_training")
        common = import_module("fbgemm_gpu.split_table_batched_embeddings_ops_common")
        configs = import_module("fbgemm_gpu.split_embedding_configs")
        float32 = configs.SparseType.FP32
        spec = (work.rows, work.dim, common.EmbeddingLocation.HOST, training.ComputeDevice.CPU)
        self._bags = training.SplitTableBatchedEmbeddingBagsCodegen(
            embedding_specs=[spec],
            optimizer=getattr(configs.EmbOptimType, self.optimizers[work.optimizer]),
            learning_rate=RATES[work.optimizer],
            eps=EPSILON,
            weights_precision=float32,
            output_dtype=float32,
            stochastic_rounding=False,
            pooling_mode=common.PoolingMode.SUM,
            bounds_check_mode=common.BoundsCheckMode.NONE,
        )
        (weights,) = self._bags.split_embedding_weights()
        for rows, drawn in work.weights():
            weights[rows] = torch.from_numpy(drawn)

    def ids(self, rows: np.ndarray) -> Any:
        return self._torch.from_numpy(rows), self._torch.arange(len(rows) + 1)

    def gradients(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(array)

    def lookup(self, ids: Any, out: Any = None) -> Any:
        with self._torch.no_grad():
            return self._bags(*ids)

    def step(self, ids: Any, gradients: Any) -> None:
        self._bags(*ids).backward(gradients)


class FbgemmFromIds(Fbgemm):
    """FBGEMM behind the quickest map from ids to rows that there is to put before it: its own, for pruned tables.

    The map has two places for each id, of which it must be told beforehand, and doesn't grow. Others were slower;
    milliseconds for 40,000 ids of 4 million, Zipf and uniform, on the 2 cores of docs/performance.md:

    torch.ops.fbgemm.pruned_hashmap_lookup     0.7    1.6
    pandas Index.get_indexer                   1.4    3.0
    … of the ids' distinct ones (factorize)    1.1    4.2
    numba's typed Dict, in a compiled loop     2.8    9.9
    torch.searchsorted and the order           3.3    7.5
    np.searchsorted, the ids sorted first      5.8    9.0
    dict                                       9.0     33
    np.searchsorted and the order               15     27
    pyarrow.compute.index_in                     –  1,050   (it hashes the 4 million in each call)
    """

    name, given = "FBGEMM behind its hash map", "raw ids"
    optimizers: ClassVar = {"rowwise_adagrad": "EXACT_ROWWISE_ADAGRAD"}

    def __init__(self, work: Workload, threads: int) -> None:
        super().__init__(work, threads)
        torch = self._torch
        self._all = work.ids
        places = 1 << (2 * work.rows - 1).bit_length()
        self._map, self._bounds = torch.full((places, 2), -1, dtype=torch.int64), torch.tensor([0, places])
        ids, rows, ends = torch.from_numpy(work.ids), torch.arange(work.rows), torch.tensor([0, work.rows])
        torch.ops.fbgemm.pruned_hashmap_insert(ids, rows, ends, self._map, self._bounds)

    def ids(self, rows: np.ndarray) -> Any:
        _, offsets = super().ids(rows)
        return self._torch.from_numpy(self._all[rows]), offsets, self._torch.tensor([0, len(rows)])

    def lookup(self, ids: Any, out: Any = None) -> Any:
        return super().lookup(self._found(ids), out)

    def step(self, ids: Any, gradients: Any) -> None:
        super().step(self._found(ids), gradients)

    def _found(self, given: Any) -> Any:
        ids, offsets, ends = given
        rows = self._torch.ops.fbgemm.pruned_hashmap_lookup(ids, ends, self._map, self._bounds)
        return rows, offsets


class DictNumpy(Peer):
    """What one writes without a library: a Python dict from id to row, NumPy arrays for weights and slots."""

    name, given = "dict + NumPy", "raw ids"
    optimizers: ClassVar = {"adam": "Adam", "adagrad": "Adagrad", "rowwise_adagrad": "row-wise Adagrad"}
    widths = (16,)

    def __init__(self, work: Workload, threads: int) -> None:
        self._ids = work.ids
        self._row_of = dict(zip(self._ids.tolist(), range(work.rows), strict=True))
        self._weights = np.empty((work.rows, work.dim), np.float32)
        for rows, drawn in work.weights():
            self._weights[rows] = drawn
        self._move = getattr(self, "_" + work.optimizer)
        widths = {"adam": (work.dim, work.dim), "adagrad": (work.dim,), "rowwise_adagrad": (1,)}[work.optimizer]
        self._slots = [np.zeros((work.rows, width), np.float32) for width in widths]
        self._rate, self._steps = RATES[work.optimizer], 0

    def ids(self, rows: np.ndarray) -> np.ndarray:
        return self._ids[rows]

    def lookup(self, ids: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        return np.take(self._weights, self._rows(ids), axis=0, out=out, mode="clip")

    def step(self, ids: np.ndarray, gradients: np.ndarray) -> None:
        rows = self._rows(ids)
        np.take(self._weights, rows, axis=0)
        order = np.argsort(rows, kind="stable")
        distinct, starts = np.unique(rows[order], return_index=True)
        self._steps += 1
        self._weights[distinct] -= self._move(distinct, np.add.reduceat(gradients[order], starts))

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        return np.fromiter(map(self._row_of.__getitem__, ids.tolist()), np.int64, len(ids))

    def _adam(self, rows: np.ndarray, g: np.ndarray) -> np.ndarray:
        m, v = self._slots
        m[rows] += np.float32(0.1) * (g - m[rows])
        v[rows] += np.float32(0.001) * (g * g - v[rows])
        rate = self._rate * (1 - 0.999**self._steps) ** 0.5 / (1 - 0.9**self._steps)
        return np.float32(rate) * m[rows] / (np.sqrt(v[rows]) + np.float32(EPSILON))

    def _adagrad(self, rows: np.ndarray, g: np.ndarray) -> np.ndarray:
        return self._by_squares(rows, g, g * g)

    def _rowwise_adagrad(self, rows: np.ndarray, g: np.ndarray) -> np.ndarray:
        return self._by_squares(rows, g, np.mean(g * g, axis=1, keepdims=True))

    def _by_squares(self, rows: np.ndarray, g: np.ndarray, squares: np.ndarray) -> np.ndarray:
        (total,) = self._slots
        total[rows] += squares
        return np.float32(self._rate) * g / (np.sqrt(total[rows]) + np.float32(EPSILON))


PEERS: tuple[type[Peer], ...] = (Hotrow, Torch, Fbgemm, FbgemmFromIds, DictNumpy)


def present(peers: Iterable[type[Peer]] = PEERS, dim: int | None = None) -> list[type[Peer]]:
    """Those of `peers` that are measured at `dim` and installed; who isn't is named, with the way to get it."""
    return [peer for peer in peers if (dim is None or dim in (peer.widths or (dim,))) and _installed(peer)]


@cache
def _installed(peer: type[Peer]) -> bool:
    missing = peer.missing()
    if missing is not None:
        log.warning("%s is left out: %s. To have it: %s", peer.name, missing, peer.needs[1])
    return missing is None
