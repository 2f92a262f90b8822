"""Which items go with which users: two tables of vectors, learned from pairs that happened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models import evaluation, stopping
from hotrow.models.crews import Crew
from hotrow.models.ctrl_c import CtrlC
from hotrow.models.evaluation import NOTHING, HeldOut
from hotrow.models.features import Feature, Given, Tables, check
from hotrow.models.folding import Folder, distinct, flat
from hotrow.models.forgetting import forget
from hotrow.models.losses import Loss, make_loss
from hotrow.models.pairs import check_lengths, columns, join, split
from hotrow.models.ranking import Known, blas_on_one_thread, check_counts, check_k, named, nearest, rank
from hotrow.models.starting import start
from hotrow.models.towers import Side, all_vectors, vectors
from hotrow.models.training import Pairs, Plan, Progress, Trainer
from hotrow.models.unknown import check_whole, find_known, found_or_ids
from hotrow.table.initializers import Uniform
from hotrow.table.optimizers import Adam
from hotrow.table.table import Receipt, Table

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.table.batch import Batch


class Retrieval:
    """User and item vectors, and a bias for each item, trained so that pairs that happened score above others.

    dim            floats a vector
    loss           "softmax" (sampled, the default), "cosine" (contrastive) or "bpr"; see `hotrow.models.losses`
    epochs         times over the pairs; None: 5 to 30, more for few pairs, and 5 in a later fit
    batch_size     pairs a step
    negatives      items drawn for each step, evenly; softmax also has the items of the step's other pairs
    hard           of so many times the negatives drawn, those are kept that score highest for any user of the step
    learning_rate  Adam's, falling to 0 along a cosine during each fit
    l2             shrinks the rows that a step touches: l2 · w is added to their gradients
    seed           of first values, order and draws
    features_alone share of a step's users and items, of those with features, that are placed by their features alone
    tables         makes the tables, of what `Table` takes, such as `hotrow.cluster.Table`
    settings       of the loss, such as temperature=0.1

    `users` and `items` are Tables: ids of any kind, and a new id in a later `fit` just gets its row. What `fit` is told
    of them by features has tables of its own, `features`; `vectors` has all of it together. The item table has
    a column more: the bias, which starts at half the log of how often the item comes. Vectors start where the pairs
    put them (see `hotrow.models.spectral`), those that are new in a later fit amid what they come with. Results are the
    same to the bit for any number of threads, on one CPU model with one NumPy.

    >>> from hotrow.models import Retrieval
    >>> model = Retrieval(8, epochs=5).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"]))
    >>> model.recommend(["bob"], k=1)[0]
    [['mug']]
    """

    def __init__(
        self,
        dim: int = 128,
        *,
        loss: str = "softmax",
        epochs: int | None = None,
        batch_size: int = 2048,
        negatives: int = 512,
        hard: int = 1,
        learning_rate: float = 0.01,
        l2: float = 1e-4,
        seed: int = 0,
        features_alone: float = 0.1,
        tables: Tables = Table,
        **settings: Any,
    ) -> None:
        check_counts(batch_size=batch_size, negatives=negatives, hard=hard, epochs=epochs)
        if not 0 <= l2 < 1:
            raise ArgumentError(f"l2 must be from 0 to 1; got {l2!r}. Try 1e-4")
        if not 0 <= features_alone < 1:
            raise ArgumentError(f"features_alone is a share, from 0 to below 1; got {features_alone!r}. Try 0.1")
        self._loss = make_loss(loss, **settings)
        self.config: dict[str, Any] = {
            "dim": dim, "loss": loss, "epochs": epochs, "batch_size": batch_size, "negatives": negatives,
            "hard": hard, "learning_rate": learning_rate, "l2": l2, "seed": seed, "features_alone": features_alone,
            **settings,
        }  # fmt: skip
        self.dim, self.epochs, self.batch_size, self.negatives = dim, epochs, batch_size, negatives
        self.hard, self.features_alone = hard, features_alone
        self.learning_rate, self.l2, self.seed = learning_rate, l2, seed
        self._tables, more = tables, {"optimizer": Adam(learning_rate), "initializer": Uniform(0.05)}
        self.users: Table = tables(dim, seed=seed, **more)
        self.items: Table = tables(dim + 1, seed=(seed + 1) % 2**64, **more)
        self.validated: list[float] = []
        self.parts: dict[str, dict[str, Feature]] = {"user": {}, "item": {}}  # `features`, with who has which value
        self.remember(np.zeros(0, np.uint64))

    # --- train ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        pairs: Any,
        *,
        user_features: Any = None,
        item_features: Any = None,
        epochs: int | None = None,
        validation: Any = None,
        patience: int = 3,
        progress: Progress | None = None,
        crew: Crew | None = None,
    ) -> Retrieval:
        """Train on pairs: (user ids, item ids), or anything with two columns. Again with others: training goes on.

        item_features  {"tag": (item ids, tags), …}, or a table of two columns in place of a tuple: a row for each tag
                    that an item has. Its vector is then its own row and, for each feature, the mean of its values'; an
                    item in no pair is placed by its features alone. They add up over fits, and `pairs` may be ([], [])
        user_features  likewise
        validation  pairs that are no part of `pairs`: NDCG@20 on them is measured after each epoch, see `validated`.
                    The model is that of the best epoch; after `patience` epochs without a better one training stops
        progress    callable(steps done, steps in all, {"loss", "pairs_per_second", "epoch"}), with `validation` also
                    {"validation"}, the last NDCG@20
        crew        workers that compute gradients, such as `hotrow.cluster.Crew`: with any number of them, or none, the
                    same to the bit. With staleness s a step's vectors lack what the last s steps have changed

        A pair given more than once counts once. Ctrl-C raises KeyboardInterrupt between two steps: the model is what
        the steps so far made of it, and all pairs are known. Raises what `Table.find` raises for ids, and
        ArgumentError, with nothing changed.
        """
        users, items = self._check(pairs)
        given = (
            check(user_features, "user", self.users, users, self.parts["user"]),
            check(item_features, "item", self.items, items, self.parts["item"]),
        )
        if validation is not None:
            self._check(validation)
            if not stopping.measurable((self.users, self.items), columns(pairs), columns(validation)):
                raise ArgumentError(NOTHING)
        check_counts(epochs=epochs, patience=patience)
        self.validated = []
        with blas_on_one_thread, CtrlC() as ctrl_c:
            trainer = self._begin(found_or_ids(pairs, users, items), given, epochs, crew)
            if trainer is not None:
                best = None if validation is None else self._best(validation, patience)
                try:
                    trainer.run(progress, ctrl_c, best)
                finally:
                    if best is not None:
                        best.restore()
        return self

    def _best(self, validation: Any, patience: int) -> stopping.Best:
        """Keeps the best tables, by NDCG@20 on these pairs."""
        tables = self.users, self.items, *(f.table for side in ("user", "item") for f in self._parts(side))
        batch, held_out = self._held_out(validation, (20,))

        def measure() -> float:
            return evaluation.measured(self._ranking(batch, held_out, 20), held_out, (20,))["ndcg@20"]

        best = stopping.Best(tables, measure, patience)
        self.validated = best.measured
        return best

    def _check(self, pairs: Any) -> tuple[Batch, Batch]:
        """What would be refused is refused now, before a row is made."""
        self.known()
        user_ids, item_ids = columns(pairs)
        users, items = self.users.find(user_ids), self.items.find(item_ids)
        check_lengths(len(users), len(items))
        return users, items

    def _begin(
        self, ids: tuple[Any, Any], given: tuple[list[Given], list[Given]], epochs: int | None, crew: Crew | None
    ) -> Trainer | None:
        """Rows for new ids, where they start, and the pairs and features remembered."""
        user_batch, item_batch = self.users.find(ids[0], grow=True), self.items.find(ids[1], grow=True)
        codes = np.unique(join(user_batch.rows, item_batch.rows))
        pairs, known = Pairs(*split(codes)), self.known()
        trained = np.flatnonzero(np.diff(known.starts)), np.unique(known.items)
        users = Side.joined(self.users, user_batch, self.parts["user"], given[0], pairs.users, trained[0], self._tables)
        items = Side.joined(self.items, None, self.parts["item"], given[1], pairs.items, trained[1], self._tables)
        random = np.random.default_rng([self.seed, self.users.steps])
        if len(codes):
            start(users, items, pairs, known, random)
        users.settle()
        items.settle()
        self.remember(np.union1d(self._pairs, codes))
        numbers = self.batch_size, self.negatives, self.learning_rate, self.l2, self.hard, self.features_alone
        plan = Plan(epochs or self._epochs(pairs, known), *numbers)
        return Trainer(self.loss, plan, users, items, pairs, known, random, crew) if len(codes) else None

    def _epochs(self, pairs: Pairs, known: Known) -> int:
        """As given, or some 2.5 million steps of a pair; few in a later fit, which would forget the old for the new."""
        return self.epochs or (5 if len(known.items) else min(30, max(5, round(2.5e6 / max(1, len(pairs))))))

    @property
    def loss(self) -> Loss:
        """The loss, with what it leaves to the data decided by the pairs known so far."""
        return self._loss.suited_to(len(self.items), len(self._pairs) / max(1, len(self.users)))

    def known(self) -> Known:
        """All pairs of all fits, in rows. ArgumentError if ids were forgotten, whose rows may be others' by now."""
        sizes = len(self.users), len(self.items)
        check_whole(self.users)
        check_whole(self.items)
        for feature in (*self._parts("user"), *self._parts("item")):
            check_whole(feature.table)
        if self._known is None or self._sizes != sizes:
            self._known, self._sizes = Known.of(*split(self._pairs), sizes[0]), sizes
        return self._known

    @property
    def features(self) -> dict[str, dict[str, Table]]:
        """The tables of features' values: {"user": {}, "item": {"tag": …}}."""
        return {side: {name: each.table for name, each in all.items()} for side, all in self.parts.items()}

    def _parts(self, side: str) -> list[Feature]:
        return list(self.parts[side].values())

    # --- ask -----------------------------------------------------------------------------------------------------

    def recommend(
        self, users: Any, k: int = 10, *, exclude_known: bool = True
    ) -> tuple[list[list[Any]], list[list[float]]]:
        """The k items that score highest for each user, without those it is known to have: ids and scores, best first.

        A user who has nearly all items gets fewer than k. Raises UnknownIdError for a user that no fit has seen: give
        `fit` its pairs first.
        """
        check_k(k)
        batch = find_known(self.users, users)
        known = self.known() if exclude_known else Known.nothing(len(self.users))
        factors = self.loss.user_factors(vectors(self.users, batch, self._parts("user")))
        best = rank(factors, self._item_factors(), batch.rows, known, min(k, len(self.items)))
        return named(self.items.ids(), *best)

    def fold_in(self, histories: Any) -> np.ndarray:
        """Vectors of users that no fit has seen, by their items: float32 (users, dim). The model stays as it is.

        histories: a list of item ids for each user, or a tuple of all their ids and offsets. A user's vector depends on
        its own items alone; without any it is zeros. Raises UnknownIdError for an item that no fit has seen.
        """
        return self._folded(histories)[0]

    def recommend_for(
        self, histories: Any, k: int = 10, *, exclude_known: bool = True
    ) -> tuple[list[list[Any]], list[list[float]]]:
        """As `recommend`, for users that no fit has seen, by `fold_in`: the k best items, best first, and their scores.

        A user without an item gets what is frequent.

        >>> from hotrow.models import Retrieval
        >>> model = Retrieval(8, epochs=5).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"]))
        >>> model.recommend_for([["tea"]], k=1)[0]
        [['mug']]
        """
        check_k(k)
        vectors, own = self._folded(histories)
        known = own if exclude_known else Known.nothing(len(vectors))
        factors = self.loss.user_factors(vectors)
        best = rank(factors, self._item_factors(), np.arange(len(vectors)), known, min(k, len(self.items)))
        return named(self.items.ids(), *best)

    def _folded(self, histories: Any) -> tuple[np.ndarray, Known]:
        ids, offsets = flat(histories)
        batch = find_known(self.items, ids, offsets)
        own = distinct(batch.rows, offsets)
        return self._folder().place(own), own

    def _folder(self) -> Folder:
        counts = np.bincount(self.known().items, minlength=len(self.items))
        return Folder.of(self.loss, self._every("item"), counts, np.random.default_rng(self.seed))

    def similar(self, ids: Any, k: int = 10, *, side: str = "item") -> tuple[list[list[Any]], list[list[float]]]:
        """The k nearest by cosine of each item, or of each user with side="user": ids and cosines, nearest first.

        Raises UnknownIdError, with ids that are written alike, for one that no fit has seen.
        """
        check_k(k)
        table = self._table(side)
        batch = find_known(table, ids)
        return nearest(self._every(side)[:, : self.dim], batch.rows, table.ids(), k)

    def vectors(self, ids: Any, *, side: str = "item") -> np.ndarray:
        """The vectors of items, and their bias as the last column, or of users: float32 (n, dim + 1) or (n, dim).

        The row of `items` or `users` and what features add to it. Raises UnknownIdError for an id that no fit has seen.
        """
        table = self._table(side)
        return vectors(table, find_known(table, ids), self._parts(side))

    def _table(self, side: str) -> Table:
        if side not in {"item", "user"}:
            raise ArgumentError(f"side must be 'item' or 'user'; got {side!r}")
        return self.items if side == "item" else self.users

    def _every(self, side: str) -> np.ndarray:
        return all_vectors(self._table(side), self._parts(side))

    def _item_factors(self) -> np.ndarray:
        every = self._every("item")
        return self.loss.item_factors(every[:, :-1], every[:, -1])

    # --- measure -------------------------------------------------------------------------------------------------

    def evaluate(self, pairs: Any, ks: tuple[int, ...] = (10, 20)) -> dict[str, float]:
        """Full ranking of all items for each user of held-out pairs, known pairs left out: recall, NDCG and hit rate.

        {"recall@10": …, "ndcg@10": …, "hit_rate@10": …, "recall@20": …, …}, means over users. A held-out item that no
        fit has seen counts as missed. Not measured are pairs that are known already, and users that no fit has seen.
        """
        batch, held_out = self._held_out(pairs, ks)
        return evaluation.measured(self._ranking(batch, held_out, max(ks)), held_out, ks)

    def popularity(self, pairs: Any, ks: tuple[int, ...] = (10, 20)) -> dict[str, float]:
        """The metrics of `evaluate` for the same list for everyone: the most frequent items, known ones left out."""
        _, held_out = self._held_out(pairs, ks)
        best = evaluation.most_popular(self.known(), len(self.items), held_out.users, max(ks))
        return evaluation.measured(best, held_out, ks)

    def evaluate_each(self, pairs: Any, metric: str = "ndcg@20") -> np.ndarray:
        """One metric of each user measured, in the order of their rows: float64 (users,), whose mean is in `report`.

        metric: "recall", "ndcg", "hit_rate", "precision" or "mrr", at a length. Two models that learned from the same
        pairs have the same users in the same order, so their difference can be taken user by user.
        """
        k = evaluation.metric_and_k(metric)[1]
        batch, held_out = self._held_out(pairs, (k,))
        return evaluation.of_each_user(self._ranking(batch, held_out, k), held_out, metric)

    def report(self, pairs: Any, ks: tuple[int, ...] = (10, 20), *, seed: int = 0) -> dict[str, Any]:
        """All that held-out pairs tell, beside popularity, as plain values: what `evaluation.compared` returns.

        Five metrics at each k, 95 % intervals of them by bootstrap (of this seed), the recall of frequent and of rare
        items, cold users, coverage. Pairs, and which of them are measured, as for `evaluate`.

        >>> from hotrow.models import Retrieval
        >>> model = Retrieval(8, epochs=5).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"]))
        >>> model.report((["bob", "bob", "eve"], ["mug", "tea", "mug"]), ks=(1,))["measured"]
        {'users': 1, 'pairs': 1, 'known': 1, 'strangers': 1}
        """
        batch, held_out = self._held_out(pairs, ks)
        best = self._ranking(batch, held_out, max(ks))
        return evaluation.compared(best, held_out, self.known(), len(self.items), ks, seed=seed)

    def _ranking(self, batch: Batch, held_out: HeldOut, k: int) -> np.ndarray:
        """The k best items of each user to be measured, known ones left out: int32 (users, k)."""
        _, asking = Side.of(self.users, batch, self._parts("user")).look(held_out.users)
        return rank(self.loss.user_factors(asking), self._item_factors(), held_out.users, self.known(), k)[0]

    def _held_out(self, pairs: Any, ks: tuple[int, ...]) -> tuple[Batch, HeldOut]:
        """The users' batch, and the pairs to be measured; items that have no row are numbered after all."""
        if not ks:
            raise ArgumentError("ks are the lengths of the lists to be measured; got none. Try ks=(10, 20)")
        for k in ks:
            check_k(k)
        users, items = (table.find(ids) for table, ids in zip((self.users, self.items), columns(pairs), strict=True))
        check_lengths(len(users), len(items))
        numbers = np.where(items.rows < 0, len(self.items) + items.inverse, items.rows)
        return users, HeldOut.of(users.rows, numbers, self._pairs)

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

    def forget(self, ids: Any, *, side: str = "user") -> Receipt:
        """Take users, or with side="item" items, out: their vectors, their ids and the known pairs they are in.

        An id that no fit has seen is no error. The rows of the others move together, so a Batch found before treats its
        ids as unknown. `save` writes what is left; `hotrow forget … --rewrite` removes what was saved before, too.
        """
        table = self._table(side)
        check_whole(table)
        receipt, stays, pairs = forget(table, ids, self._pairs, users=side == "user")
        self.remember(pairs)
        for feature in self._parts(side):
            feature.forget(stays)
        return receipt

    def pairs_in_order(self) -> np.ndarray:
        """The known pairs as uint64, user << 32 | item, ascending, numbered as `users.ids()` and `items.ids()` are."""
        return self._pairs

    def remember(self, pairs: np.ndarray) -> None:
        """Let these, in the form of `pairs_in_order`, be the known pairs."""
        self._pairs = pairs
        self._known: Known | None = None
        self._sizes = 0, 0  # of the tables, when _known was made
