"""What is told of the ids of a side beside their vectors: to colour a map by, and to filter with.

a file             what the caller gives: a row an id, and what its columns are is told as for training
features           those that a model was trained with; of a bag the value that most others have, too
section            of Debian's packages, for the model that `hotrow train` makes of nothing else
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.apps import dates, kinds
from hotrow.apps.arrow import Array, compute, is_text, pa
from hotrow.apps.frame import Frame, read_frame
from hotrow.apps.naming import listed, position_of
from hotrow.apps.pairs import DEBIAN
from hotrow.errors import DataError
from hotrow.models.features import Feature
from hotrow.models.retrieval import Retrieval

if TYPE_CHECKING:
    from hotrow.models.folders import Folder
    from hotrow.models.sides import Vectors
    from hotrow.search import Metadata

_INTEGER = r"^(0|-?[1-9][0-9]{0,18}|1[0-9]{19})$"
_YEAR = 365.2425 * 86_400_000_000  # microseconds


def metadata_of(folder: Folder, side: str | None = None, path: str | PathLike[str] | None = None) -> Metadata | None:
    """What is told of the ids of a side: by the file at `path`, else by what the model was trained with; None: nothing.

    path: CSV, TSV, Parquet or Arrow IPC. The column named as the side, or else the first, has the ids. Text and whole
    numbers of which there are few are categories, other numbers are numbers, of dates the year with its fraction; of a
    bag the value that is in most bags. A column that says nothing is left out. DataError for a file without an id of
    the side, or without a column that says something.
    """
    from hotrow.search import Metadata

    vectors = folder.side(side)
    if path is not None:
        columns = _of_file(path, vectors)
    else:
        columns = _of_features(folder, vectors) or _of_debian(folder, vectors)
    return None if columns is None else Metadata.of(pa.table(columns), vectors, id=next(iter(columns)))


def _of_file(path: str | PathLike[str], vectors: Vectors) -> dict[str, Array]:
    frame = read_frame(str(path), [vectors.name])
    names = list(frame.columns)
    place = position_of(vectors.name, names) or 0
    ids = _ids(frame, names[place], vectors)
    there = ids.is_valid()
    columns = {names[place]: ids.filter(there)}
    for name in names[:place] + names[place + 1 :]:
        values = _values(name, frame.columns[name], text=frame.text)
        if values is not None:
            columns[name] = values.filter(there)
    if len(columns) == 1:
        raise DataError(
            f"{frame.sources[0]} has no column that says something of its {vectors.name}s: it has {listed(names)}, and "
            f"{names[place]!r} has the ids"
        )
    return columns


def _ids(frame: Frame, name: str, vectors: Vectors) -> Array:
    """The ids of each row in the kind of the side's, null where there is none. DataError if no row has one."""
    ids, kind = frame.columns[name], vectors.kind
    if kind == "string":
        ids = ids.cast(pa.large_string()) if is_text(ids.type) or pa.types.is_integer(ids.type) else None
    elif is_text(ids.type):
        whole = compute.match_substring_regex(ids, _INTEGER)
        ids = _as_integers(compute.if_else(whole, ids, pa.scalar(None, ids.type)), kind)
    else:
        ids = _as_integers(ids, kind)
    if ids is None or not (vectors.rows(ids.drop_null()) >= 0).any():
        example = f", such as {vectors.ids()[:1].tolist()[0]!r:.80}" if len(vectors) else ""
        raise DataError(
            f"column {name!r} of {frame.sources[0]} is {frame.columns[name].type} and has no {vectors.name} of the "
            f"model{example}. The ids are the column that is named {vectors.name!r}, or else the first"
        )
    return ids


def _as_integers(ids: Array, kind: str) -> Array | None:
    try:
        return ids.cast(pa.uint64() if kind == "uint64" else pa.int64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _values(name: str, column: Array, *, text: bool) -> Array | None:
    """A column as text or as numbers, null where there is nothing; None for one that says nothing."""
    told = kinds.tell(name, column, text=text)
    if told.kind == kinds.DATE:
        return pa.array(1970 + dates.micros(column, told.form) / _YEAR, from_pandas=True)
    for kind, values in kinds.made(told, column).values():
        if kind == "bag":
            return _most_frequent(values)
        return values if kind == "number" else values.cast(pa.large_string())
    return None


def _most_frequent(lists: Array) -> Array:
    """Of each list the value that is in most of them, as text; null for an empty one."""
    values = compute.list_flatten(lists).dictionary_encode()
    rows = compute.list_parent_indices(lists).to_numpy()
    first = _first_of_each(rows, values.indices.to_numpy(), len(lists))
    return _taken(values.dictionary, first)


def _first_of_each(rows: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Of each row's values the most frequent one, of several the lowest: int64 (count,), −1 for a row without any."""
    often = np.bincount(values)[values] if len(values) else values
    order = np.lexsort((values, -often, rows))
    found, at = np.unique(rows[order], return_index=True)
    first = np.full(count, -1)
    first[found] = values[order][at]
    return first


def _taken(values: Any, at: np.ndarray) -> Array:
    """values[at] as text, null where `at` is negative."""
    return pa.array(values).cast(pa.large_string()).take(pa.array(np.maximum(at, 0), mask=at < 0))


def _of_features(folder: Folder, vectors: Vectors) -> dict[str, Array] | None:
    """The features that a model of users and items has of this side."""
    if not isinstance(folder.model, Retrieval) or not folder.model.parts[vectors.name]:
        return None
    columns: dict[str, Array] = {vectors.name: pa.array(vectors.ids())}
    for name, feature in folder.model.parts[vectors.name].items():
        columns[name if name != vectors.name else f"{name} (feature)"] = _of_feature(feature, vectors)
    return columns


def _of_feature(feature: Feature, vectors: Vectors) -> Array:
    known = feature.known()
    entities = np.repeat(np.arange(len(known.starts) - 1), np.diff(known.starts))
    first = _first_of_each(entities, known.items, len(known.starts) - 1)
    values = np.empty(len(feature.table), np.int64)  # where the value of each row is in the list of values
    ids = feature.table.ids()
    values[feature.table.find(ids).rows] = np.arange(len(ids))
    own = first[feature.entities.find(vectors.ids()).rows]
    return _taken(ids, np.where(own < 0, -1, values[np.maximum(own, 0)]))


def _of_debian(folder: Folder, vectors: Vectors) -> dict[str, Array] | None:
    report = folder.report()
    if report is None or report.get("data") != DEBIAN or vectors.kind != "string":
        return None
    from hotrow.data import debian_packages

    packages = debian_packages().combine_chunks()
    return {name: packages[name].combine_chunks().cast(pa.large_string()) for name in ("package", "section")}
