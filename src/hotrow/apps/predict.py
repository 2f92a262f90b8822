"""`hotrow predict`: the probability of each class for each row of a file, some rows at a time, or its rating."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.apps import backends
from hotrow.apps.console import Output
from hotrow.apps.frame import decoded, places_of
from hotrow.apps.kinds import OUT, Told, made
from hotrow.apps.reading import read_columns
from hotrow.apps.sources import open_sources
from hotrow.errors import CorruptError, DataError
from hotrow.models import classifier_files
from hotrow.models.folders import report_of
from hotrow.models.ratings import Ratings, is_ratings

if TYPE_CHECKING:
    from hotrow.models.classify import Classifier


def predict(options: argparse.Namespace, output: Output) -> None:
    """Write a line a row: its number, the likeliest class and the probability of each, or its rating."""
    if is_ratings(Path(options.model)):
        _predict_ratings(options, output)
        return
    model = open_classifier(options.model)
    told = columns_of(model)
    header = ["row", "prediction", *(f"p({label})" for label in model.classes)]
    if options.out is not None:
        count = _to_file(Path(options.out), header, _lines(model, told, options.path))
        output.say(f"{count:,} rows written to {options.out}")
        output.result({"rows": count, "classes": model.classes, "out": options.out})
    elif options.json:
        lines = list(_lines(model, told, options.path))
        output.result(
            {
                "rows": len(lines),
                "classes": model.classes,
                "predictions": [line[1] for line in lines],
                "probabilities": [[float(p) for p in line[2:]] for line in lines],
            }
        )
    else:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        lines = _lines(model, told, options.path)
        first = next(lines, None)  # a file that can't be read gets no header
        writer.writerow(header)
        writer.writerows([] if first is None else [first])
        writer.writerows(lines)


def _predict_ratings(options: argparse.Namespace, output: Output) -> None:
    """The file's user and item columns are called as in training; without a report it must have just the two."""
    model = Ratings.load(options.model)
    names: dict[str, str] = (report_of(Path(options.model)) or {}).get("columns", {})
    columns = read_columns(options.path, {role: names.get(role) for role in ("user", "item")})
    if columns.report.kept < columns.report.rows:
        raise DataError(f"{options.path} has rows without a user or an item, which no rating can be predicted for")
    sides = (model.users, columns.user), (model.items, columns.item)
    ids = [
        (ids.values.cast("string") if table.kind == "string" else ids.values).take(ids.codes) for table, ids in sides
    ]
    found = model.predict((ids[0], ids[1]))
    header, lines = ["row", "rating"], ([row, f"{x:.4f}"] for row, x in enumerate(found.tolist(), 1))
    if options.out is not None:
        count = _to_file(Path(options.out), header, lines)
        output.say(f"{count:,} rows written to {options.out}")
        output.result({"rows": count, "out": options.out})
    elif options.json:
        output.result({"rows": len(found), "ratings": found.tolist()})
    else:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def open_classifier(path: str | Path) -> Classifier:
    """The classifier in a folder; DataError, saying how one is made, where there is none."""
    folder = Path(path)
    if not classifier_files.is_classifier(folder):
        raise DataError(f"{folder} holds no classifier; `hotrow train FILE --label COLUMN --out {folder}` makes one")
    backends.prepare()
    from hotrow.models.classify import Classifier

    return Classifier.load(folder)


def columns_of(model: Classifier) -> list[Told]:
    """How the columns of training were told, of those that are learned from."""
    try:
        told = [Told(**values) for values in model.notes["columns"]]
    except (KeyError, TypeError) as error:
        raise CorruptError(
            "this classifier doesn't say how a file's columns are read, for it was saved by Classifier.save; in "
            "Python, Classifier.load(path).predict_proba(columns) works"
        ) from error
    return [one for one in told if one.kind != OUT]


def _lines(model: Classifier, told: list[Told], path: str) -> Iterator[list[Any]]:
    names = [one.name for one in told]
    row = 0
    for source in open_sources(path, names):
        for arrays, _ in source.read(places_of(names, source)):
            columns: dict[str, Any] = {}
            for one, array in zip(told, arrays, strict=True):
                columns |= {name: column for name, (_, column) in made(one, decoded(array)).items()}
            for p in model.predict_proba(columns):
                row += 1
                yield [row, model.classes[int(np.argmax(p))], *(f"{x:.6f}" for x in p)]


def _to_file(path: Path, header: list[str], lines: Iterator[list[Any]]) -> int:
    """All lines or, after an error, what was there before."""
    draft = path.with_name(path.name + ".tmp")
    count = 0
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for line in lines:
                writer.writerow(line)
                count += 1
        os.replace(draft, path)  # noqa: PTH105, as store/files.py has it
    finally:
        draft.unlink(missing_ok=True)
    return count
