"""From a file to the rows of a classifier: which columns it gets, and which rows train, validate and test it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hotrow.apps import negatives
from hotrow.apps.arrow import Array, compute, pa
from hotrow.apps.frame import Frame
from hotrow.apps.kinds import DATE, NUMBER, OUT, Told, made
from hotrow.apps.naming import listed, position_of
from hotrow.apps.reading import counted
from hotrow.apps.times import Times
from hotrow.errors import ArgumentError, DataError
from hotrow.models import classes

PARTS = ("train", "validation", "test")
_AFTERWARDS = re.compile(
    r"(?i)(.*[_\- ])?"
    r"(ratings?|stars|score|cnt|counts?|clicks|clicked|quantity|qty|amount|revenue|duration|views)"
)


@dataclass(frozen=True)
class Part:
    """Rows with their labels: columns by name, and as many labels."""

    columns: dict[str, Any]
    labels: Any

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Rows:
    """What a classifier trains on and is measured by.

    kinds      {"column": "id", "bag" or "number"}, of the columns that it gets
    out        columns of the file that had a use, had they a value in a training row
    counts     how many rows are where
    sentences  how they came there, for people
    """

    parts: dict[str, Part]
    kinds: dict[str, str]
    counts: dict[str, int]
    sentences: list[str]
    out: set[str] = field(default_factory=set[str])


def check_roles(found: Mapping[str, str]) -> None:
    """DataError if two of --label, --user, --item and --time are the same column."""
    for role, name in found.items():
        twin = next(other for other in found if found[other] == name)
        if twin != role:
            raise DataError(f"--{twin} and --{role} are both column {name!r}; give them two columns, or leave one out")


def find(frame: Frame, name: str, role: str) -> str:
    """The column that is meant by a name; DataError if there is none."""
    names = list(frame.columns)
    place = position_of(name, names)
    if place is None:
        raise DataError(f"{frame.sources[0]} has no column {name!r} for --{role}. It has {listed(names)}")
    return names[place]


def labelled(frame: Frame, told: list[Told], label: str, order: np.ndarray | None, seed: int) -> Rows:
    """Of the rows with a label 70 % to train on, 10 % to validate with, 20 % to test; by time if there is an order."""
    there = np.flatnonzero(frame.columns[label].is_valid().to_numpy(zero_copy_only=False))
    if len(there) < 20:
        raise DataError(f"{counted(len(there), 'row')} with a label in {label!r}; expected 20 or more")
    labels = _labels(label, frame)
    cut, strange = _known(_cut(there, order, seed, (0.1, 0.2)), negatives.codes_of(labels))
    _check_classes(label, labels, cut)
    out = _only_later(frame, told, cut[0])
    columns, kinds, _ = _made(frame, [one for one in told if one.name not in out])
    parts = {
        name: Part({n: c.take(pa.array(rows)) for n, c in columns.items()}, labels.take(pa.array(rows)))
        for name, rows in zip(PARTS, cut, strict=True)
    }
    missing = frame.rows - len(there)
    sentences = [_said(cut, order)]
    if strange:
        sentences.append(f"{counted(strange, 'row')} left out whose class no training row has")
    if missing:
        sentences.insert(0, f"{counted(missing, 'row')} without a label skipped")
    counts = {"read": frame.rows, "without_label": missing, "of_no_class": strange, "bad_lines": frame.bad_lines}
    return Rows(parts, kinds, counts | {name: len(part) for name, part in parts.items()}, sentences, out)


def _known(cut: list[np.ndarray], codes: np.ndarray) -> tuple[list[np.ndarray], int]:
    """The cut without rows to validate and to test whose class the model can't know; and how many those are."""
    kept = [cut[0], *(rows[np.isin(codes[rows], codes[cut[0]])] for rows in cut[1:])]
    return kept, sum(map(len, cut)) - sum(map(len, kept))


def _check_classes(name: str, labels: Array, cut: list[np.ndarray]) -> None:
    """DataError, before anything is trained, for labels that can't be learned or couldn't be measured."""
    try:
        classes.learn(labels.take(pa.array(cut[0])), len(cut[0]))
    except ArgumentError as error:
        raise DataError(f"--label {name}: {error}") from error
    found = labels.take(pa.array(cut[2])).unique()
    if len(cut[1]) == 0 or len(found) < 2:
        has = f"all have the label {found[0].as_py()!r}" if len(found) else "have no label that a training row has"
        raise DataError(
            f"--label {name}: the {counted(len(cut[2]), 'row')} to test {has}, and AUC needs two; give more rows, or "
            "another --seed"
        )


def _only_later(frame: Frame, told: list[Told], rows: np.ndarray) -> set[str]:
    """Numbers and dates that no training row has."""
    found = (one.name for one in told if one.kind in {NUMBER, DATE})
    return {name for name in found if not frame.columns[name].is_valid().take(pa.array(rows)).true_count}


def drawn(
    frame: Frame, told: list[Told], pair: tuple[str, str], count: int, order: np.ndarray | None, seed: int
) -> Rows:
    """Positives 7 : 2 : 1 to train, to validate and to test, as published for Frappe; negatives drawn for each part."""
    user, item = (frame.columns[name] for name in pair)
    there = np.flatnonzero(compute.and_(user.is_valid(), item.is_valid()).to_numpy(zero_copy_only=False))
    if len(there) < 20:
        raise DataError(f"{counted(len(there), 'row')} with a {pair[0]} and a {pair[1]}; expected 20 or more")
    cut = _cut(np.arange(len(there)), order if order is None else order[there], seed, (0.2, 0.1))
    users, items = (negatives.codes_of(column.take(pa.array(there))) for column in (user, item))
    if items.max() == 0:
        raise DataError(f"there is but one value in {pair[1]!r}, so no other can be drawn")
    made_parts, missing = negatives.draw(users, items, cut, count, seed)
    own = items_own(frame, told, pair)
    out = _only_later(frame, told, there[cut[0]])
    columns, kinds, source = _made(frame, [one for one in told if one.name not in out])
    parts = {}
    for name, drawn_rows in zip(PARTS, made_parts, strict=True):
        taken = {
            n: negatives.taken(c.take(pa.array(there)), drawn_rows, of_item=source[n] in own or n == pair[1])
            for n, c in columns.items()
        }
        parts[name] = Part(taken, drawn_rows.labels)
    negatives_said = (
        f"{count} other items drawn for each, that its user has in no row: label 0; the rows of the file: 1"
    )
    sentences = [_said(cut, order), negatives_said]
    if missing:
        sentences.append(f"{counted(missing, 'negative')} not drawn: a user has nearly every item")
    counts = {"read": frame.rows, "without_pair": frame.rows - len(there), "bad_lines": frame.bad_lines}
    positives = {f"{name}_positives": len(rows) for name, rows in zip(PARTS, cut, strict=True)}
    return Rows(parts, kinds, counts | positives | {name: len(part) for name, part in parts.items()}, sentences, out)


def known_before(told: list[Told], pair: tuple[str, str], forced: Mapping[str, Any]) -> list[Told]:
    """With drawn negatives, columns that tell how it went are left out: no item that wasn't chosen has them."""
    return [
        Told(one.name, OUT, _why_out(one), one.nulls, "nothing")
        if one.name not in (*pair, *forced) and _why_out(one)
        else one
        for one in told
    ]


def _why_out(one: Told) -> str:
    if one.kind == NUMBER:
        return f"a number may tell how it went; to keep it: --numeric {one.name}"
    if one.kind != OUT and _AFTERWARDS.fullmatch(one.name.partition(":")[0]):
        return f"by its name it tells how it went; to keep it: --discrete {one.name}"
    return ""


def items_own(frame: Frame, told: list[Told], pair: tuple[str, str]) -> set[str]:
    """The columns that belong to the item."""
    both = compute.and_(*(frame.columns[name].is_valid() for name in pair)).to_numpy(zero_copy_only=False)
    users, items = (negatives.codes_of(frame.columns[name])[both] for name in pair)
    names = [one.name for one in told if one.kind != OUT and one.name not in pair]
    return {
        name for name in names if negatives.is_items_own(users, items, negatives.codes_of(frame.columns[name])[both])
    }


def times(frame: Frame, name: str, form: str | None) -> np.ndarray:
    """When each row was; DataError for nulls, and for what isn't times."""
    column = frame.columns[name]
    if column.null_count:
        raise DataError(
            f"--time {name}: {counted(column.null_count, 'row')} without a value; give a column that has all"
        )
    found = Times(name, form)
    found.add(column)
    return found.finish()[0]


def _cut(rows: np.ndarray, order: np.ndarray | None, seed: int, shares: tuple[float, float]) -> list[np.ndarray]:
    """Rows to train on, to validate with and to test; shares are those of the last two."""
    if order is None:
        drawn = rows[np.random.default_rng(seed % 2**64).permutation(len(rows))]
    else:
        drawn = rows[np.argsort(order[rows], kind="stable")]
    test = max(1, round(len(rows) * shares[1]))
    validation = max(1, round(len(rows) * shares[0]))
    begin, end = len(rows) - test - validation, len(rows) - test
    return [drawn[:begin], drawn[begin:end], drawn[end:]]


def _said(cut: list[np.ndarray], order: np.ndarray | None) -> str:
    how = "at random" if order is None else "by time, the latest to test"
    train, validation, test = (len(rows) for rows in cut)
    return f"{train:,} rows to train on, {validation:,} to stop by, {test:,} to test: {how}"


def _made(frame: Frame, told: list[Told]) -> tuple[dict[str, Array], dict[str, str], dict[str, str]]:
    """What the model gets by name: columns, their kinds, and which column of the file each is of."""
    columns: dict[str, Array] = {}
    kinds: dict[str, str] = {}
    source: dict[str, str] = {}
    for one in told:
        for name, (kind, column) in made(one, frame.columns[one.name]).items():
            if name in columns:
                raise DataError(
                    f"column {name!r} has the name of a part of {source[name]!r} or {one.name!r}; rename one of them, "
                    f"or leave one out: --ignore {shlex.quote(name)}"
                )
            columns[name], kinds[name], source[name] = column, kind, one.name
    if not columns:
        raise DataError(f"no column of {frame.sources[0]} is left to learn from")
    return columns, kinds, source


def _labels(name: str, frame: Frame) -> Array:
    """Labels as text, bool or integers; text of CSV that is integers becomes those."""
    column = frame.columns[name]
    if pa.types.is_nested(column.type):
        raise DataError(f"--label {name}: expected text, bool or whole numbers; it is {column.type}")
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    if frame.text and compute.all(compute.match_substring_regex(column, r"^(0|-?[1-9][0-9]{0,17})$")).as_py():
        return column.cast(pa.int64())
    return column
