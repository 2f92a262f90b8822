"""Models to ask and not to train: their tables are views, and what every question needs is made once.

Several threads may ask one of these at a time.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models import next_files, saving
from hotrow.models.folding import Folder
from hotrow.models.next_item import NextItem
from hotrow.models.ratings import Ratings
from hotrow.models.retrieval import Retrieval
from hotrow.store.opened import SnapshotView


class StillView(SnapshotView):
    """A generation that is looked up and never moves on: its ids and its vectors are listed once, and shared."""

    @cached_property
    def _ids(self) -> Any:
        return super().ids()

    @cached_property
    def _vectors(self) -> np.ndarray:
        vectors = super().vectors()
        vectors.flags.writeable = False
        return vectors

    def ids(self) -> Any:
        """As `View.ids`."""
        return self._ids

    def vectors(self) -> np.ndarray:
        """As `View.vectors`, and read-only."""
        return self._vectors


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    name = type(self).__name__.removesuffix("View")
    raise ArgumentError(f"this model was opened to be asked; to train or save it, use hotrow.models.{name}.load(path)")


class RetrievalView(Retrieval):
    """A Retrieval to ask."""

    fit = save = forget = _refuse

    @classmethod
    def open(cls, path: Path) -> RetrievalView:
        """The model saved at `path`, mapped. Raises as `Retrieval.load` does."""
        return saving.load(cls, path, StillView.open)

    @cached_property
    def _kept_item_factors(self) -> np.ndarray:
        return super()._item_factors()

    @cached_property
    def _kept_folder(self) -> Folder:
        return super()._folder()

    def _item_factors(self) -> np.ndarray:
        return self._kept_item_factors

    def _folder(self) -> Folder:
        return self._kept_folder


class NextItemView(NextItem):
    """A NextItem to ask."""

    fit = save = _refuse

    @classmethod
    def open(cls, path: Path) -> NextItemView:
        """The model saved at `path`, mapped. Raises as `NextItem.load` does."""
        return next_files.load(cls, path, StillView.open)

    @cached_property
    def _kept_item_factors(self) -> np.ndarray:
        return super()._item_factors(self.items.vectors())

    def _item_factors(self, table: np.ndarray) -> np.ndarray:
        return self._kept_item_factors


class RatingsView(Ratings):
    """A Ratings to ask."""

    fit = save = forget = _refuse

    @classmethod
    def open(cls, path: Path) -> RatingsView:
        """The model saved at `path`, mapped. Raises as `Ratings.load` does."""
        return cast("RatingsView", saving.load(cast("Any", cls), path, StillView.open))
