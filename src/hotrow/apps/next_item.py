"""`hotrow train … --next`: which item comes next, from a file of users, items and times."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.apps import clustered_arguments, endings, settings
from hotrow.apps.clustered import Alone, opened
from hotrow.apps.console import Output, printable
from hotrow.apps.fitting import Course, fitted, read_roles
from hotrow.apps.measured import show_metrics
from hotrow.apps.reading import Columns, counted
from hotrow.errors import DataError
from hotrow.models import next_files
from hotrow.models.cuts import distinct
from hotrow.models.next_item import NextItem
from hotrow.models.sequences import hold_out

_HOW = "the last of each user with two or more"


def check_usage(options: argparse.Namespace) -> str | None:
    """What is wrong with the options of `--next`, or None."""
    if options.path is None or options.time is None:
        return "--next is about order: hotrow train FILE --user COLUMN --item COLUMN --time COLUMN --next"
    wrong = clustered_arguments.without_workers(options, "--next")
    if wrong:
        return wrong
    others = sorted({"loss", "margin", "weight"} & set(settings.chosen(options)))
    if options.rating is not None:
        return "--next is about order and --rating about ratings: leave one of them out"
    if others:
        flags = ", ".join(settings.words(dict.fromkeys(others, "…"))[::2])
        return f"{flags}: of user and item vectors; --next has its own loss"
    return None


def train(options: argparse.Namespace, output: Output) -> int:
    """Read, hold out each user's last item, train, measure, save. Ctrl-C saves the model so far, and exits with 130."""
    folder = endings.check_out(Path(options.out), "a next-item model", {"lock", "items"}, next_files.is_ours)
    with opened(options, output) as cluster:
        return _train(options, output, folder, cluster)


def _train(options: argparse.Namespace, output: Output, folder: Path, cluster: Alone) -> int:
    columns = _read(options, output, cluster)
    first = distinct(columns.user.codes, columns.item.codes, columns.time)
    user, item = columns.user.codes[first].astype(np.int64), columns.item.codes[first].astype(np.int64)
    repeated = len(columns.user.codes) - len(first)
    (places, users), histories, wanted = hold_out((user, item))
    if not len(wanted) or np.bincount(users).max() < 2:
        raise DataError("no user has three items: one is held out, and something must come after something in the rest")
    output.say(f"{counted(len(places), 'pair')} to train on, {len(wanted):,} held out: {_HOW}")
    if repeated:
        output.say(f"{counted(repeated, 'row')} skipped: the pair is in another, and counts at its first time")
    output.say()
    model = NextItem(seed=options.seed, **settings.chosen(options), **cluster.tables(1))
    ids = columns.item.values
    started = time.perf_counter()
    course = Course()
    interrupted = fitted(model, (users, ids.take(item[places])), output, course, of="items")
    cluster.gather(model)
    seconds = time.perf_counter() - started
    if interrupted:
        return endings.stopped(model, folder, seconds, output)
    asked = (ids.take(item[histories.items]), histories.offsets), ids.take(item[wanted])
    with output.errors.status("measuring on the held-out items"):
        report: dict[str, Any] = {
            "model": model.evaluate(*asked),
            "popularity": model.popularity(*asked, ids.take(item[places])),
        }
    counts = {**columns.report.counts(), "users": len(columns.user.values), "items": len(ids), "repeated": repeated}
    counts |= {"training": len(places), "held_out": len(wanted)}
    report |= {"rows": counts, "seconds": round(seconds, 3), "data": ", ".join(columns.report.sources), **course.told()}
    report |= cluster.told()
    report |= {"columns": columns.report.names(), "protocol": {"held_out": _HOW, "seed": options.seed}}
    endings.save(model, folder)
    return endings.done(report, folder, seconds, output, show_metrics)


def _read(options: argparse.Namespace, output: Output, cluster: Alone) -> Columns:
    columns = read_roles(options, ("user", "item", "time"), output, cluster)
    users, items = counted(len(columns.user.values), "user"), counted(len(columns.item.values), "item")
    for sentence in [*columns.report.sentences(), f"{users}, {items}"]:
        output.say(printable(sentence))
    return columns
