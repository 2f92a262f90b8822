"""What a model ranks by, as plain vectors: whoever has no hotrow ranks the same with one matrix product."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models.ratings import Ratings
from hotrow.models.retrieval import Retrieval
from hotrow.models.sides import Vectors

if TYPE_CHECKING:
    from hotrow.models.folders import Folder


def factors_of(folder: Folder, side: str | None = None) -> Vectors:
    """The factors of a side: the product of a user's and an item's is the score that `recommend` orders by.

    Of a model of pairs they have a column more than vectors, in which a user has 1 and an item its bias, and are of
    length 1 or scaled where its loss has it so. Of ratings they have two more, and the product is the rating, not
    clipped. ArgumentError for a folder of something else.

    >>> from hotrow.models import Retrieval, open_folder
    >>> model = Retrieval(8, epochs=5).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"]))
    >>> model.save("cups")
    >>> folder = open_folder("cups")
    >>> user, items = factors_of(folder, "user").lookup(["bob"]), factors_of(folder, "item").lookup(["tea", "mug"])
    >>> bool(abs((user @ items.T)[0, 1] - model.recommend(["bob"])[1][0][0]) < 1e-4)
    True
    """
    vectors, model = folder.side(side), folder.model
    if isinstance(model, Retrieval):
        return _Factors(vectors, model.dim + 1, _of_pairs(model, vectors.name))
    if isinstance(model, Ratings):
        return _Factors(vectors, model.dim + 2, _of_ratings(model, vectors.name))
    raise ArgumentError(
        f"{folder.path} holds a {folder.kind}, of which there are no factors of users and items: export its vectors"
    )


class _Factors(Vectors):
    """The ids of a side, with factors."""

    def __init__(self, vectors: Vectors, dim: int, make: Callable[[Any], np.ndarray]) -> None:
        super().__init__(vectors.name, vectors.kind, dim)
        self._vectors, self._make = vectors, make

    def lookup(self, ids: Any) -> np.ndarray:
        return self._make(ids)

    def listed_ids(self) -> Any:
        return self._vectors.listed_ids()

    def _list(self) -> tuple[Any, np.ndarray]:
        ids = self.listed_ids()
        return ids, self._make(ids)


def _of_pairs(model: Retrieval, side: str) -> Callable[[Any], np.ndarray]:
    def of_items(ids: Any) -> np.ndarray:
        vectors = model.vectors(ids, side="item")
        return model.loss.item_factors(vectors[:, :-1], vectors[:, -1])

    def of_users(ids: Any) -> np.ndarray:
        return model.loss.user_factors(model.vectors(ids, side="user"))

    return of_items if side == "item" else of_users


def _of_ratings(model: Ratings, side: str) -> Callable[[Any], np.ndarray]:
    """Of a user scale · (vector, bias + centre / scale, 1), of an item (vector, 1, bias)."""
    scale, center = np.float32(model.unit), np.float32(model.center or 0.0)

    def of_items(ids: Any) -> np.ndarray:
        rows = model.items.lookup(ids, unknown="error")
        return np.column_stack([rows[:, :-1], np.ones(len(rows), np.float32), rows[:, -1]])

    def of_users(ids: Any) -> np.ndarray:
        rows = model.users.lookup(ids, unknown="error") * scale
        rows[:, -1] += center
        return np.column_stack([rows, np.full(len(rows), scale)])

    return of_items if side == "item" else of_users
