"""Which item comes next: one table of vectors, learned from what came after what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models import metrics
from hotrow.models.ctrl_c import CtrlC
from hotrow.models.features import Tables
from hotrow.models.losses import Loss, SampledSoftmax
from hotrow.models.next_training import NextPlan, NextTrainer, pool, weigh
from hotrow.models.ranking import Known, blas_on_one_thread, check_k, named, nearest, rank
from hotrow.models.sequences import (
    Histories,
    Sequences,
    check_lengths,
    numbered,
    take_histories,
    take_pairs,
)
from hotrow.models.training import Progress, Side
from hotrow.models.unknown import check_whole, find_known
from hotrow.table.initializers import Uniform
from hotrow.table.optimizers import Adam
from hotrow.table.table import Table

if TYPE_CHECKING:
    from os import PathLike

_PASSES = 8e5  # examples that a first fit learns from, each as often as it comes


class NextItem:
    """Vectors by which the items that came last say which comes next. It needs no user: a new one is a history.

    dim            floats a vector
    last           how many of a history's last items count
    decay          what an item counts of the one after it: 1 for all alike, 0 for the last item alone
    dropout        the share of a history's items that training leaves out at random; one always stays
    repeats        whether an item may come again. False: those of a history are no negatives, nor recommended
    temperature    of the softmax; None: by the number of items and the length of sequences, see `SampledSoftmax`
    epochs         times over the sequences; None: by their number, and 3 in a later fit
    batch_size     examples a step: an item, and the history before it
    negatives      items drawn for each step, beside the next items of the step's other examples
    learning_rate  Adam's, falling to 0 along a cosine during each fit
    l2             shrinks the rows that a step touches
    seed           of first values, order and draws
    tables         makes the table, of what `Table` takes, such as `hotrow.cluster.Table`

    `items` is a Table; a row has the item's vector, its bias, and the difference that it makes to stand in a history:
    so what follows a may be other than what a follows. Scores are cosine / temperature + bias. Results are the same to
    the bit for any number of threads, on one CPU model with one NumPy.

    >>> from hotrow.models import NextItem
    >>> model = NextItem(8, epochs=20).fit((["ann", "ann", "bob", "bob"], ["tea", "mug", "pen", "ink"]))
    >>> model.recommend([["tea"]], k=1)[0]
    [['mug']]
    """

    def __init__(
        self,
        dim: int = 64,
        *,
        last: int = 10,
        decay: float = 0.7,
        dropout: float = 0.2,
        repeats: bool = False,
        temperature: float | None = None,
        epochs: int | None = None,
        batch_size: int = 1024,
        negatives: int = 1024,
        learning_rate: float = 0.01,
        l2: float = 0.0,
        seed: int = 0,
        tables: Tables = Table,
    ) -> None:
        counts = {"last": last, "batch_size": batch_size, "negatives": negatives, "dim": dim}
        for name, value in (counts | {"epochs": 1 if epochs is None else epochs}).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be a whole number from 1 on; got {value!r}")
        for name, value, most in (("decay", decay, "≤ 1"), ("dropout", dropout, "< 1"), ("l2", l2, "< 1")):
            if not (0 <= value < 1 or (most == "≤ 1" and value == 1)):
                raise ArgumentError(f"{name} must be a number ≥ 0 and {most}; got {value!r}")
        if not isinstance(repeats, bool):
            raise ArgumentError(f"repeats must be True or False; got {repeats!r}")
        self._loss: Loss = SampledSoftmax(temperature)
        self.config: dict[str, Any] = {
            "dim": dim, "last": last, "decay": decay, "dropout": dropout, "repeats": repeats,
            "temperature": temperature, "epochs": epochs, "batch_size": batch_size, "negatives": negatives,
            "learning_rate": learning_rate, "l2": l2, "seed": seed,
        }  # fmt: skip
        self.dim, self.last, self.decay, self.repeats = dim, last, decay, repeats
        self.items: Table = tables(2 * dim + 1, optimizer=Adam(learning_rate), initializer=Uniform(0.05), seed=seed)

    # --- train ---------------------------------------------------------------------------------------------------

    def fit(self, pairs: Any, *, epochs: int | None = None, progress: Progress | None = None) -> NextItem:
        """Train on (user ids, item ids) in time order, or (user ids, item ids, times); again: training goes on.

        pairs can be a table of two or three columns, too. Of several pairs of a user at one time the later in the data
        is later. Users only tell sequences apart, and are not kept: a later fit needs their earlier items again where
        those belong to the histories. A user with one item is in no example.

        progress: callable(steps done, steps in all, {"loss", "pairs_per_second", "epoch"}). Ctrl-C raises
        KeyboardInterrupt between two steps: the model is what the steps so far made of it. Raises what `Table.find`
        raises for ids, and ArgumentError, also if nothing comes after anything; with nothing changed.
        """
        if epochs is not None and (isinstance(epochs, bool) or epochs < 1):
            raise ArgumentError(f"epochs must be a whole number from 1 on; got {epochs!r}")
        check_whole(self.items)
        user_ids, item_ids, times = take_pairs(pairs)
        users = numbered(user_ids)
        check_lengths(users, self.items.find(item_ids), times)
        if not len(users) or np.bincount(users).max() < 2:
            raise ArgumentError("no user has two items, so nothing comes after anything: fit needs sequences of items")
        with blas_on_one_thread, CtrlC() as ctrl_c:
            self._begin(users, item_ids, times, epochs).run(progress, ctrl_c)
        return self

    def _begin(self, users: np.ndarray, item_ids: Any, times: np.ndarray | None, epochs: int | None) -> NextTrainer:
        """Rows for new items, and where they start."""
        before = len(self.items)
        batch = self.items.find(item_ids, grow=True)
        sequences = Sequences.of(users, batch.rows.astype(np.int64), times)
        items = Side.of(self.items, self.items.find(self.items.ids()))
        self._start(items, np.arange(before, len(self.items)), sequences)
        if self.config["temperature"] is None:
            self._loss = self._loss.suited_to(len(self.items), len(users) / max(1, len(sequences.starts) - 1))
            self.config["temperature"] = 1 / self._loss.scale
        config = self.config
        examples = len(sequences.targets())
        plan = NextPlan(
            epochs=epochs or config["epochs"] or (3 if before else min(30, max(3, round(_PASSES / examples)))),
            **{name: config[name] for name in (
                "batch_size", "negatives", "learning_rate", "l2", "last", "decay", "dropout", "repeats",
            )},
        )  # fmt: skip
        random = np.random.default_rng([config["seed"] % 2**64, self.items.steps])
        return NextTrainer(self._loss, plan, items, sequences, random)

    def _start(self, items: Side, new: np.ndarray, sequences: Sequences) -> None:
        """The bias: half the log of how often the item comes. In a history an item at first is what it is elsewhere."""
        if not len(new):
            return
        batch, rows = items.look(new)
        counts = np.bincount(sequences.items, minlength=len(self.items))[new]
        rows[:, self.dim] = 0.5 * np.log(np.maximum(counts, 1))
        rows[:, self.dim + 1 :] = 0
        self.items.set(batch, rows)

    # --- ask -----------------------------------------------------------------------------------------------------

    def recommend(
        self, histories: Any, k: int = 10, *, exclude_known: bool | None = None
    ) -> tuple[list[list[Any]], list[list[float]]]:
        """The k items that most likely come next after each history, oldest item first: ids and scores, best first.

        histories      lists of item ids, in any form that bags have, or a tuple (ids, offsets)
        exclude_known  whether the items of a history are left out; None: unless the model has `repeats`

        An item that no fit has seen says nothing; after a history without any that is known come the frequent items.
        """
        check_k(k)
        excluded = not self.repeats if exclude_known is None else exclude_known
        best, values = self._rank(*self._rows(histories), k, exclude_known=excluded)
        return named(self.items.ids(), best, values)

    def _rows(self, histories: Any) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the known items of histories, and offsets."""
        ids, offsets = take_histories(histories)
        check_whole(self.items)
        if not len(self.items):
            raise ArgumentError("this model has learned nothing yet: fit((users, items)) comes first")
        rows = self.items.find(ids).rows.astype(np.int64) if len(ids) else np.zeros(0, np.int64)
        there = rows >= 0
        return rows[there], np.r_[0, np.cumsum(there)][offsets].astype(np.int64)

    def _rank(
        self, rows: np.ndarray, offsets: np.ndarray, k: int, *, exclude_known: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        count = len(offsets) - 1
        histories = Histories.before(rows, offsets[:-1], offsets[1:], self.last)
        table = self.items.vectors()
        pooled = pool(table[histories.items], histories, weigh(histories, self.decay))
        known = Known(offsets, rows.astype(np.int32)) if exclude_known else Known.nothing(count)
        factors = self._item_factors(table)
        return rank(self._loss.user_factors(pooled), factors, np.arange(count), known, min(k, len(self.items)))

    def _item_factors(self, table: np.ndarray) -> np.ndarray:
        return self._loss.item_factors(table[:, : self.dim], table[:, self.dim])

    def similar(self, ids: Any, k: int = 10) -> tuple[list[list[Any]], list[list[float]]]:
        """The k nearest items by cosine of each item: ids and cosines, nearest first. UnknownIdError for a strange one.

        What is alike comes after the same items, and mostly stands in for one another; `recommend` is for the next.
        """
        check_k(k)
        batch = find_known(self.items, ids, where="sequence")
        return nearest(self.items.vectors()[:, : self.dim], batch.rows, self.items.ids(), k)

    # --- measure -------------------------------------------------------------------------------------------------

    def evaluate(
        self, histories: Any, wanted: Any, ks: tuple[int, ...] = (10, 20), *, exclude_known: bool | None = None
    ) -> dict[str, float]:
        """Full ranking of all items after each history, one of which really came next: means over histories.

        wanted: an id for each history. → {"recall@10": …, "ndcg@10": …, "recall@20": …}. An item that no fit has seen
        counts as missed, and so does one that is in its own history, if those are left out.
        """
        excluded = not self.repeats if exclude_known is None else exclude_known
        rows, offsets, items = self._wanted(histories, wanted, ks)
        best, _ = self._rank(rows, offsets, max(ks), exclude_known=excluded)
        return _measured(best, items, ks)

    def popularity(
        self,
        histories: Any,
        wanted: Any,
        items: Any,
        ks: tuple[int, ...] = (10, 20),
        *,
        exclude_known: bool | None = None,
    ) -> dict[str, float]:
        """The metrics of `evaluate` for the same list for everyone: the most frequent of `items`, those of training."""
        excluded = not self.repeats if exclude_known is None else exclude_known
        rows, offsets, next_items = self._wanted(histories, wanted, ks)
        seen = self.items.find(items).rows
        counts = np.bincount(seen[seen >= 0], minlength=len(self.items)).astype(np.float32)[:, None]
        n = len(next_items)
        known = Known(offsets, rows.astype(np.int32)) if excluded else Known.nothing(n)
        best, _ = rank(np.ones((n, 1), np.float32), counts, np.arange(n), known, min(max(ks), len(self.items)))
        return _measured(best, next_items, ks)

    def _wanted(self, histories: Any, wanted: Any, ks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not ks:
            raise ArgumentError("ks are the lengths of the lists to be measured; got none. Try ks=(10, 20)")
        for k in ks:
            check_k(k)
        rows, offsets = self._rows(histories)
        items = self.items.find(wanted).rows.astype(np.int64).reshape(-1)
        if len(items) != len(offsets) - 1 or not len(items):
            raise ArgumentError(
                f"evaluate needs one wanted item for each history, and at least one; got {len(items):,} for "
                f"{len(offsets) - 1:,} histories"
            )
        return rows, offsets, items

    # --- keep ----------------------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a folder: its table, and next.json, which makes them one, last."""
        from hotrow.models import next_files

        next_files.save(self, Path(path))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> NextItem:
        """The model saved at `path`. CorruptError for what isn't one."""
        from hotrow.models import next_files

        return next_files.load(cls, Path(path))


def _measured(best: np.ndarray, items: np.ndarray, ks: tuple[int, ...]) -> dict[str, float]:
    """The metrics of `best` (histories, k), where items[h] came next; −1 is no item of the model's."""
    found = (best == items[:, None]) & (items >= 0)[:, None]
    one = np.ones(len(items), np.int64)
    measured = dict[str, float]()
    for k in ks:
        measured[f"recall@{k}"] = metrics.recall(found, one, k)
        measured[f"ndcg@{k}"] = metrics.ndcg(found, one, k)
    return measured
