"""How much a user likes an item, as a number: two tables of vectors with biases, learned from ratings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models import rating_steps as steps
from hotrow.models.ctrl_c import CtrlC
from hotrow.models.features import Tables
from hotrow.models.forgetting import forget
from hotrow.models.pairs import columns as columns_of_pairs
from hotrow.models.pairs import join, last_of_each, split
from hotrow.models.ranking import Known, check_k, named, nearest, rank
from hotrow.models.rating_inputs import Given, columns, numbers, scale
from hotrow.models.rating_training import Trainer
from hotrow.models.stopping import Best
from hotrow.models.training import Progress
from hotrow.models.unknown import check_whole, find_known
from hotrow.table.initializers import Normal
from hotrow.table.optimizers import SGD
from hotrow.table.table import Receipt, Table

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.table.batch import Batch

_PART = 1 << 16  # pairs whose vectors are there at a time


class Ratings:
    """Biased factorisation: a rating is the mean + the user's bias + the item's + the product of their vectors.

    dim            floats a vector
    epochs         times over the ratings; None: 40, fewer from a million ratings on, and 10 in a later fit
    batch_size     ratings a step
    learning_rate  SGD's, falling to 0 along a cosine during each fit
    l2             shrinks the vectors of each rating, and its biases by a fifth of it
    seed           of first values and order
    between        the lowest and the highest rating; predictions are clipped to them, and a fit refuses a rating that
                   isn't between them. None: as the first fit has seen
    center         what a prediction starts from; None: the mean of the first fit
    tables         makes the tables, of what `Table` takes, such as `hotrow.cluster.Table`

    `users` and `items` are Tables of dim + 1 floats, the last one the bias: ids of any kind, and a new id in a later
    `fit` just gets its row. An id that no fit has seen counts as one of no bias and no vector: of an unknown user the
    mean and the item's bias are predicted, of an unknown item the mean and the user's. Results are the same to the bit
    for any number of threads.

    >>> from hotrow.models import Ratings
    >>> model = Ratings(4, epochs=200).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"], [5, 1, 4]))
    >>> tea, mug = model.predict((["ann", "ann"], ["tea", "mug"])).tolist()
    >>> tea > mug
    True
    """

    def __init__(
        self,
        dim: int = 64,
        *,
        epochs: int | None = None,
        batch_size: int = 512,
        learning_rate: float = 0.02,
        l2: float = 0.1,
        seed: int = 0,
        between: tuple[float, float] | None = None,
        center: float | None = None,
        tables: Tables = Table,
    ) -> None:
        for name, value in {"batch_size": batch_size, "epochs": 1 if epochs is None else epochs}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name} must be a whole number from 1 on; got {value!r}")
        if not 0 <= l2 < 1:
            raise ArgumentError(f"l2 must be from 0 to 1; got {l2!r}. Try 0.1")
        self.dim, self.epochs, self.batch_size = dim, epochs, batch_size
        self.learning_rate, self.l2, self.seed = learning_rate, l2, seed
        self.between = None if between is None else scale(between)
        self.center = None if center is None else float(center)
        if self.center is not None and not math.isfinite(self.center):
            raise ArgumentError(f"center must be a finite number; got {center!r}")
        self.parts: dict[str, dict[str, Any]] = {"user": {}, "item": {}}  # no features, which saving asks for
        self.users, self.items = (
            tables(dim + 1, optimizer=SGD(learning_rate), initializer=Normal(0.05), seed=seed + side) for side in (0, 1)
        )
        self.remember(np.zeros(0, np.uint64))

    @property
    def config(self) -> dict[str, Any]:
        """What the constructor is given to make this model again, with what the first fit decided."""
        return {
            "dim": self.dim, "epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate,
            "l2": self.l2, "seed": self.seed, "center": self.center,
            "between": None if self.between is None else list(self.between),
        }  # fmt: skip

    # --- train ---------------------------------------------------------------------------------------------------

    def fit(self, ratings: Any, *, validation: Any = None, progress: Progress | None = None) -> Ratings:
        """Train on (user ids, item ids, ratings), or anything with three columns. Again with others: training goes on.

        validation: ratings of the same form that nothing is learned from. They are measured after each epoch, and the
        model of the epoch with the smallest RMSE stays; a fit isn't cut short, for vectors come after the biases.
        progress: callable(steps done, steps in all, {"rmse", "pairs_per_second", "epoch"}).

        Of a pair that is rated twice the last rating counts. Ctrl-C raises KeyboardInterrupt between two steps: the
        model is what the steps so far made of it. Raises what `Table.find` raises for ids, and ArgumentError for
        ratings that are no finite numbers, or not between the lowest and the highest, with nothing changed.
        """
        given = self._check(ratings)
        held_out = None if validation is None else self._check(validation, learned=False)
        if not len(given.values):
            return self
        with CtrlC() as ctrl_c:
            trainer = self._begin(given)
            best = None
            if held_out is not None:
                users, items = self.users.find(held_out.users), self.items.find(held_out.items)

                def measure() -> float:
                    return -self._measured(users, items, held_out.values)["rmse"]

                best = Best((self.users, self.items), measure, trainer.epochs)
            trainer.run(best, progress, ctrl_c)
            if best is not None:
                best.restore()
        return self

    def _check(self, given: Any, *, learned: bool = True) -> Given:
        """What would be refused is refused now, before a row is made."""
        check_whole(self.users)
        check_whole(self.items)
        users, items, ratings = columns(given)
        found = Given(users, items, numbers(ratings))
        counts = len(self.users.find(users)), len(self.items.find(items)), len(found.values)
        if len(set(counts)) > 1:
            raise ArgumentError(
                f"there is a user and an item for each rating; got {counts[0]:,} users, {counts[1]:,} items and "
                f"{counts[2]:,} ratings"
            )
        if not learned and not len(found.values):
            raise ArgumentError("there is nothing to measure: no rating was given")
        if learned and self.between is not None and len(found.values):
            low, high = float(found.values.min()), float(found.values.max())
            if low < self.between[0] or high > self.between[1]:
                odd = low if low < self.between[0] else high
                raise ArgumentError(
                    f"rating {odd:g} isn't between {self.between[0]:g} and {self.between[1]:g}, as this model's "
                    f"ratings are. Give the scale to a new one: Ratings(between=({min(low, self.between[0]):g}, "
                    f"{max(high, self.between[1]):g}))"
                )
        return found

    def _begin(self, given: Given) -> Trainer:
        """Rows for new ids, the pairs remembered, and the centre and the scale that everything is measured by."""
        if self.center is None:
            self.center = float(given.values.mean())
        if self.between is None:
            self.between = float(given.values.min()), float(given.values.max())
        users, items = self.users.find(given.users, grow=True), self.items.find(given.items, grow=True)
        codes = join(users.rows, items.rows)
        distinct, last = last_of_each(codes)
        last = np.sort(last)
        epochs = self.epochs or (10 if len(self._pairs) else min(40, max(10, round(4e7 / len(last)))))
        self.remember(np.union1d(self._pairs, distinct))
        targets = ((given.values[last] - self.center) / self.unit).astype(np.float32)
        random = np.random.default_rng([self.seed, self.users.steps])
        return Trainer(
            (self.users, self.items), (users.take(last), items.take(last)), targets, epochs, self.batch_size,
            self.learning_rate, self.l2, self.unit, random,
        )  # fmt: skip

    @property
    def unit(self) -> float:
        """What vectors and biases count in, a quarter of the scale: one learning rate suits stars and percents."""
        low, high = self._bounds()
        return (high - low) / 4 or 1.0

    def _bounds(self) -> tuple[float, float]:
        if self.between is None or self.center is None:
            raise ArgumentError("this model knows no rating yet: call fit((users, items, ratings)) first")
        return self.between

    # --- ask -----------------------------------------------------------------------------------------------------

    def predict(self, pairs: Any) -> np.ndarray:
        """The rating of each pair of (user ids, item ids): float32 (n,), within `between`.

        An id that no fit has seen has no bias and no vector, and is no error. ArgumentError before the first fit.
        """
        check_whole(self.users)
        check_whole(self.items)
        users, items = columns_of_pairs(pairs)
        of_user, of_item = self.users.find(users), self.items.find(items)
        if len(of_user) != len(of_item):
            raise ArgumentError(f"there is an item for each user; got {len(of_user):,} users, {len(of_item):,} items")
        return self._predicted(of_user, of_item)

    def _predicted(self, users: Batch, items: Batch) -> np.ndarray:
        low, high = self._bounds()
        out = np.empty(len(users), np.float32)
        for start in range(0, len(out), _PART):
            part = np.arange(start, min(start + _PART, len(out)))
            vectors = [_seen(table, batch.take(part)) for table, batch in ((self.users, users), (self.items, items))]
            out[part] = steps.predicted(*vectors)
        return np.clip((self.center or 0.0) + self.unit * out, low, high).astype(np.float32)

    def recommend(
        self, users: Any, k: int = 10, *, exclude_known: bool = True
    ) -> tuple[list[list[Any]], list[list[float]]]:
        """The k items of the highest ratings for each user, without those it has rated: ids and ratings, best first.

        The ratings aren't clipped, or the first ones would all be the same. UnknownIdError for a user of no fit.
        """
        check_k(k)
        self._bounds()
        batch = find_known(self.users, users, where="rating")
        known = Known.of(*split(self._pairs), len(self.users)) if exclude_known else Known.nothing(len(self.users))
        of_user, of_item = self.users.lookup(batch).reshape(-1, self.dim + 1), self.items.vectors()
        left = np.column_stack([of_user, np.ones(len(of_user), np.float32)])
        right = np.column_stack([of_item[:, :-1], np.ones(len(of_item), np.float32), of_item[:, -1]])
        best, scores = rank(left, right, batch.rows, known, min(k, len(self.items)))
        return named(self.items.ids(), best, np.float32(self.center) + np.float32(self.unit) * scores)

    def similar(self, ids: Any, k: int = 10, *, side: str = "item") -> tuple[list[list[Any]], list[list[float]]]:
        """The k nearest by cosine of each item, or of each user with side="user": ids and cosines, nearest first."""
        check_k(k)
        table = self._side(side)
        batch = find_known(table, ids, where="rating")
        return nearest(table.vectors()[:, :-1], batch.rows, table.ids(), k)

    def evaluate(self, ratings: Any) -> dict[str, float]:
        """How far predictions are from (user ids, item ids, ratings): {"rmse": …, "mae": …}.

        Ids that no fit has seen count, too, as `predict` has them.
        """
        given = self._check(ratings, learned=False)
        return self._measured(self.users.find(given.users), self.items.find(given.items), given.values)

    def _measured(self, users: Batch, items: Batch, values: np.ndarray) -> dict[str, float]:
        return steps.errors_of(self._predicted(users, items), values)

    # --- keep ----------------------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a folder, as `Retrieval.save` does. Of the ratings only who rated what is kept."""
        from hotrow.models import saving

        saving.save(cast("Any", self), Path(path))  # it asks for nothing but what both models have

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Ratings:
        """The model saved at `path`. CorruptError for what isn't one."""
        from hotrow.models import saving

        return cast("Ratings", saving.load(cast("Any", cls), Path(path)))

    def forget(self, ids: Any, *, side: str = "user") -> Receipt:
        """Take users, or with side="item" items, out: vectors, biases, ids, and the pairs they are in.

        An id that no fit has seen is no error. `save` writes what is left; `hotrow forget … --rewrite` removes what was
        saved before, too. What others have learned beside them stays, as do the mean and the scale.
        """
        table = self._side(side)
        check_whole(table)
        receipt, _, pairs = forget(table, ids, self._pairs, users=side == "user")
        self.remember(pairs)
        return receipt

    def _side(self, side: str) -> Table:
        if side not in {"item", "user"}:
            raise ArgumentError(f"side must be 'item' or 'user'; got {side!r}")
        return self.items if side == "item" else self.users

    def pairs_in_order(self) -> np.ndarray:
        """The rated pairs as uint64, user << 32 | item, ascending, numbered as `users.ids()` and `items.ids()` are."""
        return self._pairs

    def remember(self, pairs: np.ndarray) -> None:
        """Let these, in the form of `pairs_in_order`, be the rated pairs."""
        self._pairs = pairs


def _seen(table: Table, batch: Batch) -> np.ndarray:
    """Vectors and biases, 0 for ids that have no row: float32 (n, dim + 1)."""
    vectors = table.lookup(batch)
    vectors[batch.rows < 0] = 0
    return vectors


def is_ratings(folder: Path) -> bool:
    """Whether the model in a folder is of ratings. CorruptError for a model.json that is broken."""
    from hotrow.models import saving

    return (folder / saving.NAME).is_file() and "between" in saving.read_description(folder)["config"]
