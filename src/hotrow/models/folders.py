"""What a folder on disk has to be looked up, whatever wrote it: sides of ids with a vector each.

```
model of users and items    item, user        own rows, with what features add to them
next-item model             item
classifier                  a side for each column of ids
saved table                 id
```
Search, maps, exports and the server go by this; only what asks for recommendations needs to know which model it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hotrow.errors import ArgumentError, CorruptError, DataError, HotrowError
from hotrow.models import classifier_files, next_files
from hotrow.models.descriptions import CLASSIFIER, NEXT, PAIRS
from hotrow.models.ratings import Ratings, is_ratings
from hotrow.models.retrieval import Retrieval
from hotrow.models.sides import Vectors, of_folder, of_model, of_table
from hotrow.models.viewed import NextItemView, RatingsView, RetrievalView
from hotrow.store import derived, snapshot, view
from hotrow.store.files import open_part, reading
from hotrow.store.opened import stamp_of
from hotrow.store.sealed import LIMIT, read_whole

if TYPE_CHECKING:
    from os import PathLike

    from hotrow.models.classify import Classifier
    from hotrow.models.next_item import NextItem

REPORT = "report.json"
"""What `hotrow train` writes beside a model: where it comes from, and how it was measured."""
_DESCRIPTIONS = {"next": NEXT, "classifier": CLASSIFIER, "retrieval": PAIRS, "ratings": PAIRS}
_TRIES = 20  # each of which somebody else saved in between


def open_folder(path: str | PathLike[str]) -> Folder:
    """What is in the folder of a model or of a saved table, to be asked: its tables are views.

    DataError, saying what makes one, where there is none; CorruptError, naming the file, for one that is broken. A
    classifier needs Keras, and MissingExtraError says how to get it.

    >>> import hotrow
    >>> from hotrow.models import open_folder
    >>> table = hotrow.Table(4)
    >>> vector = table.lookup(["lantern", "cup"], grow=True)
    >>> table.save("lamps")
    1
    >>> folder = open_folder("lamps")
    >>> folder.kind, list(folder.sides), len(folder.side())
    ('table', ['id'], 2)
    """
    folder = Path(path)
    for _ in range(_TRIES):
        kind = kind_of(folder)
        stamp = _stamp(folder, kind)
        try:
            opened = Folder(folder, kind, stamp, *_OPENERS[kind](folder))
            if _stamp(folder, kind) == stamp:
                return opened
        except (HotrowError, OSError):
            if _stamp(folder, kind) == stamp:
                raise  # nobody has saved meanwhile, and removed what was being read
    raise CorruptError(f"{folder}: is saved so often that none of {_TRIES} tries could read one save")


class Folder:
    """What a folder holds, of one save: many threads may ask it. `open_folder(path)` opens one.

    path    the folder
    kind    "retrieval", "ratings", "next", "classifier" or "table"
    model   the model, to be asked; None for a saved table
    sides   the vectors of each side by its name; the first is the default
    stamp   hexadecimal digits that are others whenever something newer is looked up
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        stamp: str,
        model: Retrieval | Ratings | NextItem | Classifier | None,
        sides: dict[str, Vectors],
    ) -> None:
        self.path, self.kind, self.stamp, self.model, self.sides = path, kind, stamp, model, sides

    def __repr__(self) -> str:
        return f"<{self.kind} at {self.path}: {', '.join(f'{name} {len(s):,}' for name, s in self.sides.items())}>"

    def side(self, name: str | None = None) -> Vectors:
        """The vectors of a side; of the first for None. ArgumentError that lists the sides."""
        if name is None:
            return next(iter(self.sides.values()))
        if name not in self.sides:
            shown = ", ".join(map(repr, self.sides))
            raise ArgumentError(
                f"{self.path} has the side{'s' * (len(self.sides) > 1)} {shown}; got side={name!r:.100}"
            )
        return self.sides[name]

    def refreshed(self) -> Folder:
        """The folder as it is on disk now: itself, if nothing is newer. This one can be asked as before.

        It is opened anew, which maps a snapshot at once and reads a chain of deltas into memory; `moved_on` reads only
        what is new. Raises as `open_folder`; what is newer and broken leaves this as it was.
        """
        return self if self._is_newest() else open_folder(self.path)

    def moved_on(self) -> Folder:
        """As `refreshed`, but the view of a saved table moves on, at the cost of what a delta holds.

        `lookup` of this one is then of the newer save as well; what it has listed stays.
        """
        if self._is_newest():
            return self
        if self.kind != "table" or kind_of(self.path) != "table":
            return open_folder(self.path)
        table = cast("Any", self.side()).table
        table.refresh()
        return Folder(self.path, self.kind, table.stamp, None, of_folder(table))

    def _is_newest(self) -> bool:
        """Whether nothing newer is there: asked each second by a server, so one small file is read and no more."""
        try:
            return _stamp(self.path, self.kind) == self.stamp
        except (HotrowError, OSError):
            return False  # what is there by now is another kind of folder, or broken, as opening it will say

    def report(self) -> dict[str, Any] | None:
        """What `hotrow train` wrote beside the model, if it did. DataError for what isn't that."""
        return report_of(self.path)

    def derived(self) -> Path:
        """The folder of what is made from the tables and can be made anew; it needn't be there yet."""
        return derived.folder_of(self.path)


def kind_of(folder: Path) -> str:
    """What is in a folder: see `Folder.kind`. DataError, saying what makes one, where there is nothing."""
    if classifier_files.is_classifier(folder):
        return "classifier"
    if next_files.is_next_item(folder):
        return "next"
    if (folder / PAIRS).is_file():
        return "ratings" if is_ratings(folder) else "retrieval"
    if folder.is_dir() and snapshot.generations(folder):
        return "table"
    raise DataError(
        f"{folder} holds neither a model nor a table; `hotrow train … --out {folder}` or table.save() make one"
    )


def report_of(folder: Path) -> dict[str, Any] | None:
    """What `hotrow train` wrote beside the model, if it did. DataError for what isn't that."""
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        return dict(json.loads(read_whole(path, LIMIT)))
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, HotrowError):
            raise
        raise DataError(f"{path} isn't what `hotrow train` wrote: {error!s:.200}") from error


def _stamp(folder: Path, kind: str) -> str:
    """Which save is the newest."""
    if kind == "table":
        return snapshot.use(folder, None, lambda chain: stamp_of(chain.names()))
    path = folder / _DESCRIPTIONS[kind]
    with open_part(path) as file, reading(path):
        return hashlib.sha256(file.read(LIMIT)).hexdigest()[:16]


def _retrieval(folder: Path) -> tuple[Retrieval, dict[str, Vectors]]:
    model = RetrievalView.open(folder)
    return model, of_model(model)


def _ratings(folder: Path) -> tuple[Ratings, dict[str, Vectors]]:
    model = RatingsView.open(folder)
    return model, {
        name: of_table(name, table, model.dim) for name, table in (("item", model.items), ("user", model.users))
    }


def _next(folder: Path) -> tuple[NextItem, dict[str, Vectors]]:
    model = NextItemView.open(folder)
    return model, {"item": of_table("item", model.items, model.dim)}


def _classifier(folder: Path) -> tuple[Classifier, dict[str, Vectors]]:
    from hotrow.models.classify import Classifier

    model = Classifier.load(folder)
    columns = [name for name, told in model.inputs.columns.items() if told["kind"] != "number"]
    return model, {name: of_table(name, model.table(name)) for name in columns}


def _table(folder: Path) -> tuple[None, dict[str, Vectors]]:
    return None, of_folder(view(folder))


_OPENERS: dict[str, Callable[[Path], tuple[Any, dict[str, Vectors]]]] = {
    "retrieval": _retrieval, "ratings": _ratings, "next": _next, "classifier": _classifier, "table": _table
}  # fmt: skip
