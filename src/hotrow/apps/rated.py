"""`hotrow train --rating`: a file of ratings in, a model out, measured beside what the mean and biases alone come to.

Of a pair that is rated several times the last rating counts: by time, and among equal times by its place in the file.
Held out is what `hotrow.apps.pairs` holds out: with times each user's last rating, else a random tenth.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.apps import clustered_arguments, endings, settings
from hotrow.apps.care import show_ratings
from hotrow.apps.clustered import Alone, opened
from hotrow.apps.console import Output, printable
from hotrow.apps.fitting import Course, fitted, read_roles
from hotrow.apps.pairs import split
from hotrow.apps.reading import Columns, counted
from hotrow.apps.train import check_out
from hotrow.errors import DataError
from hotrow.models.pairs import join, last_of_each
from hotrow.models.rating_steps import baseline
from hotrow.models.ratings import Ratings

_SETTINGS = {"batch_size", "dim", "epochs", "learning_rate", "l2"}
_WAYS = {"last": "the last rating of each user that has two or more", "latest": "the latest tenth"}

Rated = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Cut:
    """Ratings in codes, (users, items, ratings) each; `repeated` of the rows said what a later one said anew."""

    train: Rated
    test: Rated
    repeated: int


def check_usage(options: argparse.Namespace) -> str | None:
    """What is wrong with the options, if anything."""
    for name in settings.chosen(options):
        if name not in _SETTINGS:
            return f"{name} is a setting for pairs that happened; ratings take {', '.join(sorted(_SETTINGS))}"
    wrong = clustered_arguments.without_workers(options, "--rating")
    if wrong:
        return wrong
    if options.path is None:
        return "--rating needs a file: hotrow train FILE --user COLUMN --item COLUMN --rating COLUMN"
    return None


def train(options: argparse.Namespace, output: Output) -> int:
    """Read, split, train, measure, save. Ctrl-C during training saves the model so far, and exits with 130."""
    folder = check_out(Path(options.out))
    with opened(options, output) as cluster:
        return _train(options, output, folder, cluster)


def _train(options: argparse.Namespace, output: Output, folder: Path, cluster: Alone) -> int:
    columns = read_roles(options, ("user", "item", "time", "rating"), output, cluster)
    cut = cut_ratings(columns, options.seed, options.hold_out)
    for sentence in _sentences(columns, cut, options.hold_out):
        output.say(printable(sentence))
    output.say()
    if not len(cut.test[0]):
        raise DataError("nothing could be held out: every user has but one item, and needs it to train on")
    model = Ratings(**settings.chosen(options), seed=options.seed, **cluster.tables(2))
    started = time.perf_counter()
    course = Course()
    interrupted = fitted(model, _named(columns, cut.train), output, course, error="rmse", of="ratings")
    cluster.gather(model)
    seconds = time.perf_counter() - started
    if interrupted:
        return endings.stopped(model, folder, seconds, output)
    report: dict[str, Any] = {
        "model": model.evaluate(_named(columns, cut.test)),
        "baseline": baseline(cut.train, cut.test),
        "rows": _counts(columns, cut),
        "seconds": round(seconds, 3),
        "data": ", ".join(columns.report.sources),
        "columns": columns.report.names(),
        "protocol": {"held_out": _how(columns, options.hold_out), "seed": options.seed},
        **course.told(),
        **cluster.told(),
    }
    endings.save(model, folder)
    return endings.done(report, folder, seconds, output, show_ratings)


def cut_ratings(columns: Columns, seed: int, way: str | None = None) -> Cut:
    """Keep the last rating of each pair, and hold some out, by the `way` of `hotrow.apps.pairs.split`."""
    if columns.rating is None:
        raise DataError("there is no column of ratings: give --rating COLUMN")
    user, item = columns.user.codes, columns.item.codes
    when = np.arange(len(user)) if columns.time is None else np.argsort(columns.time, kind="stable")
    codes = join(user, item)
    distinct, last = last_of_each(codes[when])
    last = when[last]  # of each distinct pair, in the order of their codes
    rows = np.sort(last)
    parts = split(user[rows], item[rows], None if columns.time is None else columns.time[rows], seed, way)

    def rated(users: np.ndarray, items: np.ndarray) -> Rated:
        assert columns.rating is not None
        return users, items, columns.rating[last[np.searchsorted(distinct, join(users, items))]]

    train, test = rated(parts.train_user, parts.train_item), rated(parts.test_user, parts.test_item)
    return Cut(train, test, len(user) - len(rows))


def _named(columns: Columns, rated: Rated) -> tuple[Any, Any, np.ndarray]:
    """In ids as they were."""
    users, items, ratings = rated
    return columns.user.values.take(users), columns.item.values.take(items), ratings


def _sentences(columns: Columns, cut: Cut, way: str | None) -> list[str]:
    lines = [*columns.report.sentences()]
    lines.append(f"{counted(len(columns.user.values), 'user')}, {counted(len(columns.item.values), 'item')}")
    if cut.repeated:
        lines.append(f"{counted(cut.repeated, 'row')} skipped: the pair is rated again, and its last rating counts")
    lines.append(
        f"{counted(len(cut.train[0]), 'rating')} to train on, {len(cut.test[0]):,} held out: {_how(columns, way)}"
    )
    return lines


def _how(columns: Columns, way: str | None) -> str:
    return _WAYS.get(way or ("random" if columns.time is None else "last"), "a random tenth")


def _counts(columns: Columns, cut: Cut) -> dict[str, Any]:
    """How many rows and ratings there are of what."""
    return {
        **columns.report.counts(),
        "users": len(columns.user.values),
        "items": len(columns.item.values),
        "repeated": cut.repeated,
        "training": len(cut.train[0]),
        "held_out": len(cut.test[0]),
    }
