"""A file of features beside a file of pairs: which of its columns are features, and of whom.

item        tags            price
mug         kitchen|gift     4.50     feature "tags": (mug, kitchen), (mug, gift); price, a number, is none
cake stand  kitchen         12.00
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from hotrow.apps.arrow import Array, compute, is_text, pa
from hotrow.apps.distinct import to_integers
from hotrow.apps.frame import Frame, read_frame
from hotrow.apps.kinds import BAG, DISCRETE, OUT, Told, forced_kinds, made, tell
from hotrow.apps.naming import position_of
from hotrow.apps.reading import counted
from hotrow.errors import DataError


@dataclass(frozen=True)
class Traits:
    """The features of a side, as `Retrieval.fit` takes them, the columns of the file, and what to say of them."""

    features: dict[str, tuple[Array, Array]]
    columns: list[str]
    sentences: list[str]


def load_traits(path: str, side: str, name: str | None, like: Array, options: argparse.Namespace) -> Traits:
    """Read a file whose column of this name, or else its first, has ids of the side, "user" or "item".

    like: the side's ids in the pairs, whose kind those of the file must be. DataError for a file without a feature.
    """
    frame = read_frame(path, [], skip_bad_lines=options.skip_bad_lines)
    names = list(frame.columns)
    place = (0 if name is None else position_of(name, names)) or 0
    ids = _ids(frame, names[place], side, like)
    here = {kind: [one for one in given if _is_here(one, names)] for kind, given in _asked(options).items()}
    forced = forced_kinds(here, names)
    features: dict[str, tuple[Array, Array]] = {}
    left_out: list[str] = []
    for column in names[:place] + names[place + 1 :]:
        kind, sep = forced.get(column, ("", ""))
        told = tell(column, frame.columns[column], text=frame.text, forced=kind, sep=sep)
        if told.kind in (BAG, DISCRETE):
            features[column] = _pairs(ids, told, frame.columns[column])
        else:
            left_out.append(f"{column!r} ({told.why})")
    if not features:
        raise DataError(
            f"{frame.sources[0]} has no column that is a feature of --{side}: {', '.join(left_out) or 'only ids'}. "
            "--discrete COLUMN or --bag COLUMN takes one as it is"
        )
    shown = ", ".join(f"{feature!r} of {counted(len(values), 'value')}" for feature, (_, values) in features.items())
    sentences = [f"features of {side}s, by {names[place]!r}: {shown}"]
    if left_out:
        sentences.append(f"no features: {', '.join(left_out)}")
    return Traits(features, names, sentences)


def check_asked(options: argparse.Namespace, read: list[Traits]) -> None:
    """DataError for a --bag, --discrete or --ignore of a column that no file of features has."""
    forced_kinds(_asked(options), [name for traits in read for name in traits.columns])


def _asked(options: argparse.Namespace) -> dict[str, list[str]]:
    return {BAG: options.bag, DISCRETE: options.discrete, OUT: options.ignore}


def _is_here(asked: str, names: list[str]) -> bool:
    return position_of(asked, names) is not None or position_of(asked.partition("=")[0], names) is not None


def _ids(frame: Frame, name: str, side: str, like: Array) -> Array:
    """The ids of each row, null where there is none, of the kind of those in the pairs."""
    ids = frame.columns[name]
    where = f"column {name!r} of {frame.sources[0]}"
    if frame.text and pa.types.is_integer(like.type):
        made_of, why = to_integers(compute.unique(ids.drop_null()))
        if why:
            raise DataError(f"{where}: {why}, and the ids of {side}s in the pairs are integers")
        ids = ids.cast(made_of.type)
    if is_text(ids.type) != is_text(like.type):
        raise DataError(f"{where} is {ids.type}, and the ids of {side}s in the pairs are {like.type}")
    if not compute.any(compute.is_in(like.cast(ids.type), ids)).as_py():
        raise DataError(
            f"{where} has no {side} of the pairs, such as {like[0].as_py()!r}. The ids are the column that is named as "
            f"--{side}, or else the first"
        )
    return ids


def _pairs(ids: Array, told: Told, column: Array) -> tuple[Array, Array]:
    """Each id with each of its values; nulls are none."""
    kind, values = made(told, column)[told.name]
    rows = np.arange(len(ids))
    if kind == "bag":
        rows = compute.list_parent_indices(values).to_numpy()
        values = compute.list_flatten(values)
    ids = ids.take(pa.array(rows))
    there = compute.and_(ids.is_valid(), values.is_valid())
    if is_text(values.type):
        there = compute.and_(there, compute.not_equal(values, ""))
    return ids.filter(there), values.filter(there)
