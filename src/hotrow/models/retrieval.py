"""Which items go with which users: two tables of vectors, learned from pairs that happened."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError, UnknownIdError
from hotrow.kernels import ranking as kernels
from hotrow.kernels import readonly
from hotrow.models import metrics
from hotrow.models.losses import Block, make_loss, normalize
from hotrow.models.ranking import Known, blas_threads, rank
from hotrow.table.initializers import Uniform
from hotrow.table.optimizers import Adam
from hotrow.table.table import Table

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.table.batch import Batch

Progress = Callable[[int, int, dict[str, Any]], None]
_TOGETHER = 8  # pairs of a user that are put in one batch: each row of scores then serves several


class Retrieval:
    """User and item vectors, and a bias for each item, trained so that pairs that happened score above others.

    dim            floats a vector
    loss           "softmax" (sampled, the default), "cosine" (contrastive) or "bpr"; see `hotrow.models.losses`
    epochs         times over the pairs; None: more for few pairs, 5 to 30
    batch_size     pairs a step
    negatives      items drawn for each step, beside the items of the step's other pairs
    learning_rate  Adam's, falling to 0 along a cosine during each fit
    l2             shrinks the rows that a step touches: l2 · w is added to their gradients
    seed           of first values, order and draws
    settings       of the loss, such as temperature=0.1

    `users` and `items` are Tables: ids of any kind, and a new id in a later `fit` just gets its row. The item table has
    a column more: the bias, which starts at half the log of how often the item comes. Results are the same for a fixed
    number of BLAS threads.

    >>> from hotrow.models import Retrieval
    >>> model = Retrieval(8, epochs=5).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"]))
    >>> model.recommend(["bob"], k=1)[0]
    [['mug']]
    """

    def __init__(
        self,
        dim: int = 64,
        *,
        loss: str = "softmax",
        epochs: int | None = None,
        batch_size: int = 2048,
        negatives: int = 512,
        learning_rate: float = 0.02,
        l2: float = 0.0,
        seed: int = 0,
        **settings: float,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("epochs", 1 if epochs is None else epochs)):
            if value < 1:
                raise ArgumentError(f"{name} must be at least 1; got {value!r}")
        self.loss = make_loss(loss, **settings)
        self.config = {
            "dim": dim, "loss": loss, "epochs": epochs, "batch_size": batch_size, "negatives": negatives,
            "learning_rate": learning_rate, "l2": l2, "seed": seed, **settings,
        }  # fmt: skip
        self.dim, self.epochs, self.batch_size, self.negatives = dim, epochs, batch_size, negatives
        self.learning_rate, self.l2, self.seed = learning_rate, l2, seed
        self.users = Table(dim, optimizer=Adam(learning_rate), initializer=Uniform(0.05), seed=seed)
        self.items = Table(dim + 1, optimizer=Adam(learning_rate), initializer=Uniform(0.05), seed=seed + 1)
        self._pairs = np.zeros(0, np.uint64)  # user row << 32 | item row, ascending

    # --- train ---------------------------------------------------------------------------------------------------

    def fit(self, pairs: Any, *, epochs: int | None = None, progress: Progress | None = None) -> Retrieval:
        """Train on pairs: (user ids, item ids), or anything with two columns. Again with others: training goes on.

        progress: callable(steps done, steps in all, {"loss", "pairs_per_second", "epoch"}). After a KeyboardInterrupt
        the model is what the steps so far made of it.
        """
        users, items = self._grow(pairs)
        if not len(users):
            return self
        epochs = epochs or self.epochs or min(30, max(5, round(2.5e6 / len(users))))
        trainer = _Trainer(self, users, items, epochs)
        with blas_threads():
            trainer.run(progress)
        return self

    def _grow(self, pairs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Rows for new ids, and the distinct pairs in rows; known from now on."""
        user_ids, item_ids = columns(pairs)
        before = len(self.items)
        users, items = self.users.find(user_ids, grow=True), self.items.find(item_ids, grow=True)
        if len(users) != len(items):
            raise ArgumentError(f"pairs are as many users as items; got {len(users)} and {len(items)}")
        codes = np.unique(users.rows.astype(np.uint64) << np.uint64(32) | items.rows.astype(np.uint64))
        rows = (codes & np.uint64(0xFFFFFFFF)).astype(np.int64)
        self._start_biases(before, np.bincount(rows, minlength=len(self.items)))
        self._pairs = np.union1d(self._pairs, codes)
        return (codes >> np.uint64(32)).astype(np.int64), rows

    def _start_biases(self, before: int, counts: np.ndarray) -> None:
        """New items: half the log of how often they come, which a model without it would have to learn first."""
        new = every(self.items).take(np.arange(before, len(self.items)))
        vectors = self.items.lookup(new)
        vectors[:, -1] = 0.5 * np.log(np.maximum(counts[before:], 1))
        self.items.set(new, vectors)

    def known(self) -> Known:
        """All pairs of all fits, in rows."""
        users = (self._pairs >> np.uint64(32)).astype(np.int64)
        return Known.of(users, (self._pairs & np.uint64(0xFFFFFFFF)).astype(np.int32), len(self.users))

    # --- ask -----------------------------------------------------------------------------------------------------

    def recommend(
        self, users: Any, k: int = 10, *, exclude_known: bool = True
    ) -> tuple[list[list[Any]], list[list[float]]]:
        """The k items that score highest for each user, without those it is known to have: ids and scores, best first.

        Raises UnknownIdError for a user that no fit has seen.
        """
        batch = self._find(self.users, users)
        known = self.known() if exclude_known else nothing_known(len(self.users))
        with blas_threads():
            factors = self.loss.user_factors(self.users.lookup(batch).reshape(-1, self.dim))
        return self._named(self.items, *rank(factors, self._item_factors(), batch.rows, known, min(k, len(self.items))))

    def similar(self, ids: Any, k: int = 10, *, side: str = "item") -> tuple[list[list[Any]], list[list[float]]]:
        """The k nearest by cosine of each item, or of each user with side="user": ids and cosines, nearest first.

        Raises UnknownIdError, with ids that are written alike, for one that no fit has seen.
        """
        if side not in ("item", "user"):
            raise ArgumentError(f"side must be 'item' or 'user'; got {side!r}")
        table = self.items if side == "item" else self.users
        batch = self._find(table, ids)
        unit = normalize(table.vectors()[:, : self.dim])[0]
        itself = Known(np.arange(len(table) + 1), np.arange(len(table), dtype=np.int32))
        return self._named(table, *rank(unit[batch.rows], unit, batch.rows, itself, min(k, len(table) - 1)))

    def _item_factors(self) -> np.ndarray:
        vectors = self.items.vectors()
        return self.loss.item_factors(vectors[:, :-1], vectors[:, -1])

    @staticmethod
    def _find(table: Table, ids: Any) -> Batch:
        batch = table.find(ids)
        if batch.missing().any():
            raise UnknownIdError(_strange(table, batch))
        return batch

    @staticmethod
    def _named(table: Table, best: np.ndarray, values: np.ndarray) -> tuple[list[list[Any]], list[list[float]]]:
        """Rows to ids; places that nothing fills are left out."""
        ids = table.ids()
        names = [
            ids.take(row[row >= 0]).tolist() if hasattr(ids, "to_pylist") else ids[row[row >= 0]].tolist()
            for row in best
        ]
        return names, [v[row >= 0].tolist() for row, v in zip(best, values, strict=True)]

    # --- measure -------------------------------------------------------------------------------------------------

    def evaluate(self, pairs: Any, ks: tuple[int, ...] = (10, 20)) -> dict[str, float]:
        """Full ranking of all items for each user of held-out pairs, known pairs left out: recall, NDCG and hit rate.

        {"recall@10": …, "ndcg@10": …, "hit_rate@10": …, "recall@20": …, …}. A held-out item that no fit has seen counts
        as missed; held-out pairs of users that no fit has seen are not measured.
        """
        users, items = self._held_out(pairs)
        asked, place = np.unique(users, return_inverse=True)
        with blas_threads():
            vectors = self.users.lookup(every(self.users).take(asked))
            best, _ = rank(self.loss.user_factors(vectors), self._item_factors(), asked, self.known(), max(ks))
        return self._metrics(best, place, items, ks)

    def popularity(self, pairs: Any, ks: tuple[int, ...] = (10, 20)) -> dict[str, float]:
        """The metrics of `evaluate` for the same list for everyone: the most frequent items, known ones left out."""
        users, items = self._held_out(pairs)
        asked, place = np.unique(users, return_inverse=True)
        known = self.known()
        counts = np.bincount(known.items, minlength=len(self.items)).astype(np.float32)[:, None]
        best, _ = rank(np.ones((len(asked), 1), np.float32), counts, asked, known, max(ks))
        return self._metrics(best, place, items, ks)

    def _held_out(self, pairs: Any) -> tuple[np.ndarray, np.ndarray]:
        user_ids, item_ids = columns(pairs)
        users, items = self.users.find(user_ids).rows.astype(np.int64), self.items.find(item_ids).rows.astype(np.int64)
        measured = users >= 0
        if not measured.any():
            raise ArgumentError("there is nothing to measure: no held-out pair has a user that a fit has seen")
        return users[measured], np.where(items[measured] < 0, len(self.items), items[measured])

    def _metrics(self, best: np.ndarray, users: np.ndarray, items: np.ndarray, ks: tuple[int, ...]) -> dict[str, float]:
        found, held_out = metrics.hits(best, users, items, len(self.items) + 1)
        measured = dict[str, float]()
        for k in ks:
            measured[f"recall@{k}"] = metrics.recall(found, held_out, k)
            measured[f"ndcg@{k}"] = metrics.ndcg(found, held_out, k)
            measured[f"hit_rate@{k}"] = metrics.hit_rate(found, k)
        return measured

    # --- keep ----------------------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a folder: both tables, the known pairs, and model.json, which makes them one, last."""
        from hotrow.models import saving

        saving.save(self, Path(path))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Retrieval:
        """The model saved at `path`. CorruptError for what isn't one."""
        from hotrow.models import saving

        return saving.load(cls, Path(path))

    def pairs_in_order(self) -> np.ndarray:
        """The known pairs as uint64, user << 32 | item, numbered in the order of `users.ids()` and `items.ids()`."""
        return self._pairs

    def remember(self, pairs: np.ndarray) -> None:
        """The inverse of `pairs_in_order`, for a model that is loaded."""
        self._pairs = pairs


class _Trainer:
    """One fit: batches in a random order, and a step for each."""

    def __init__(self, model: Retrieval, users: np.ndarray, items: np.ndarray, epochs: int) -> None:
        self.model, self.users, self.items, self.epochs = model, users, items, epochs
        self.random = np.random.default_rng([model.seed, model.users.steps])
        self.every_user, self.every_item = every(model.users), every(model.items)
        self.known = model.known()
        self.steps = epochs * -(-len(users) // model.batch_size)
        self.seen = np.unique(items)
        self.log_q = self._log_q()
        self.column_of = np.full(len(model.items), -1, np.int32)
        self.cells = np.empty((2, 1 << 16), np.int32)
        self.scratch: dict[str, np.ndarray] = {}

    def _log_q(self) -> np.ndarray:
        """Log of the chance that an item is among a step's candidates: by a pair, or drawn."""
        share = np.bincount(self.items, minlength=len(self.model.items)) / len(self.items)
        in_batch = self.model.batch_size * np.log1p(-np.minimum(share, 1 - 1e-9))
        drawn = self.model.negatives * math.log1p(-1 / (len(self.seen) + 1))
        return np.log(-np.expm1(np.minimum(in_batch + drawn, -1e-9))).astype(np.float32)

    def run(self, progress: Progress | None) -> None:
        from time import perf_counter

        started, step, pairs, recent = perf_counter(), 0, 0, 0.0
        for epoch in range(self.epochs):
            for batch in self._batches():
                rate = self.model.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))
                loss = self.step(batch, rate)
                step, pairs = step + 1, pairs + len(batch)
                recent = loss if step == 1 else 0.98 * recent + 0.02 * loss
                if progress is not None:
                    speed = pairs / (perf_counter() - started)
                    progress(step, self.steps, {"loss": recent, "pairs_per_second": speed, "epoch": epoch + 1})

    def _batches(self) -> Iterator[np.ndarray]:
        """All pairs once in a random order, but up to _TOGETHER of a user side by side."""
        n = len(self.users)
        shuffled = self.random.permutation(n)
        order = shuffled[np.argsort(self.users[shuffled], kind="stable")]
        user = self.users[order]
        first = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
        place = np.arange(n) - np.repeat(first, np.diff(np.r_[first, n]))
        group = np.cumsum(place % _TOGETHER == 0) - 1
        order = order[np.argsort(self.random.permutation(group[-1] + 1)[group], kind="stable")]
        for start in range(0, n, self.model.batch_size):
            yield order[start : start + self.model.batch_size]

    def step(self, batch: np.ndarray, rate: float) -> float:
        """One step on these pairs; returns their mean loss."""
        model = self.model
        users, user_of = np.unique(self.users[batch], return_inverse=True)
        drawn = self.seen[self.random.integers(0, len(self.seen), model.negatives)]
        items = np.unique(np.concatenate([self.items[batch], drawn]))
        self.column_of[items] = np.arange(len(items), dtype=np.int32)
        user_batch, item_batch = self.every_user.take(users), self.every_item.take(items)
        user_rows, item_rows = model.users.lookup(user_batch), model.items.lookup(item_batch)
        block = Block(
            user_rows,
            np.ascontiguousarray(item_rows[:, :-1]),
            np.ascontiguousarray(item_rows[:, -1]),
            self.log_q[items],
            user_of,
            self.column_of[self.items[batch]],
            self._known_cells(users),
            self.random,
            self.scratch,
        )
        loss, g_users, g_items, g_bias = model.loss.gradients(block)
        self.column_of[items] = -1
        gradients = np.column_stack([g_items, g_bias])
        if model.l2:
            g_users += np.float32(model.l2) * user_rows
            gradients += np.float32(model.l2) * item_rows
        model.users.update(user_batch, g_users, learning_rate=rate)
        model.items.update(item_batch, gradients, learning_rate=rate)
        return loss

    def _known_cells(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        most = int((self.known.starts[users + 1] - self.known.starts[users]).sum())
        if most > self.cells.shape[1]:
            self.cells = np.empty((2, 2 * most), np.int32)
        arrays = readonly(users), readonly(self.known.starts), readonly(self.known.items), readonly(self.column_of)
        count = kernels.cells(*arrays, self.cells[0], self.cells[1])
        return self.cells[0, :count], self.cells[1, :count]


def columns(pairs: Any) -> tuple[Any, Any]:
    """The users and the items of what was given as pairs."""
    names = getattr(pairs, "column_names", None) or getattr(pairs, "columns", None)
    if names is not None and not isinstance(pairs, (tuple, list)):
        if len(names) != 2:
            raise ArgumentError(f"pairs are two columns, users and items; got {list(names)!r}. Try fit((users, items))")
        return pairs[names[0]], pairs[names[1]]
    if isinstance(pairs, np.ndarray) and pairs.ndim == 2 and pairs.shape[1] == 2:
        return pairs[:, 0], pairs[:, 1]
    if not isinstance(pairs, (tuple, list)) or len(pairs) != 2:
        raise ArgumentError(
            "pairs are (user ids, item ids), or a table or array of two columns. Try fit((users, items))"
        )
    return pairs[0], pairs[1]


def every(table: Table) -> Batch:
    """The batch of all ids of a table, in row order: position r is row r, as long as none was forgotten."""
    batch = table.find(table.ids())
    if len(batch) and int(batch.distinct[-1]) != len(batch) - 1:
        raise ArgumentError("ids of this model's tables were forgotten, and it goes by row: fit a new model")
    return batch


def nothing_known(n_users: int) -> Known:
    """No pair at all."""
    return Known(np.zeros(n_users + 1, np.int64), np.zeros(0, np.int32))


def _strange(table: Table, batch: Batch) -> str:
    """A message about an unknown id, with names that are written alike."""
    u = int(np.flatnonzero(batch.missing())[0])
    message = f"id {batch.name(u)} has no vector: it was in no pair that the model was trained on"
    if table.kind == "string":
        wanted = batch.name(u).rsplit(" (", 1)[0][1:-1]
        alike = get_close_matches(wanted, table.ids().to_pylist(), 3, 0.6)
        if alike:
            message += f"; there are {', '.join(map(repr, alike))}"
    return message
