"""`hotrow train … --next`: which item comes next, from a file of users, items and times."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.apps import endings, settings
from hotrow.apps.care import REPORT
from hotrow.apps.console import Output, printable
from hotrow.apps.fitting import fitted
from hotrow.apps.measured import show_metrics
from hotrow.apps.reading import Columns, counted, read_columns
from hotrow.errors import DataError
from hotrow.models.next_item import NextItem
from hotrow.models.sequences import hold_out


def check_usage(options: argparse.Namespace) -> str | None:
    """What is wrong with the options of `--next`, or None."""
    if options.path is None or options.time is None:
        return "--next is about order: hotrow train FILE --user COLUMN --item COLUMN --time COLUMN --next"
    others = sorted({"loss", "margin", "weight"} & set(settings.chosen(options)))
    if options.rating is not None:
        return "--next is about order and --rating about ratings: leave one of them out"
    if others:
        flags = ", ".join(settings.words(dict.fromkeys(others, "…"))[::2])
        return f"{flags}: of user and item vectors; --next has its own loss"
    return None


def train(options: argparse.Namespace, output: Output) -> int:
    """Read, hold out each user's last item, train, measure, save. Ctrl-C saves the model so far, and exits with 130."""
    folder = _check_out(Path(options.out))
    columns = _read(options, output)
    user, item, repeated = _once(columns)
    (places, users), histories, wanted = hold_out((user, item))
    if not len(wanted) or np.bincount(users).max() < 2:
        raise DataError("no user has three items: one is held out, and something must come after something in the rest")
    output.say(
        f"{counted(len(places), 'pair')} to train on, {len(wanted):,} held out: the last of each user with two or more"
    )
    if repeated:
        output.say(f"{counted(repeated, 'row')} skipped: the pair is in another, and counts at its first time")
    output.say()
    model = NextItem(seed=options.seed, **settings.chosen(options))
    ids = columns.item.values
    started = time.perf_counter()
    interrupted = fitted(model, (users, ids.take(item[places])), output, of="items")
    seconds = time.perf_counter() - started
    if interrupted:
        return endings.stopped(model, folder, seconds, output)
    asked = (ids.take(item[histories.items]), histories.offsets), ids.take(item[wanted])
    with output.errors.status("measuring on the held-out items"):
        report: dict[str, Any] = {
            "model": model.evaluate(*asked),
            "popularity": model.popularity(*asked, ids.take(item[places])),
        }
    read = columns.report
    counts = {"read": read.rows, "nulls": read.nulls, "kept": read.kept, "bad_lines": read.bad_lines}
    counts |= {"users": len(columns.user.values), "items": len(ids), "repeated": repeated}
    counts |= {"training": len(places), "held_out": len(wanted)}
    report |= {"rows": counts, "seconds": round(seconds, 3), "data": ", ".join(read.sources)}
    endings.save(model, folder)
    return endings.done(report, folder, seconds, output, show_metrics)


def _check_out(folder: Path) -> Path:
    """A folder that is new, empty or a next-item model's: nothing else is written into."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out {folder} is a file; give the name of a folder")
    ours = {"items", "lock", *(name + end for name in ("next.json", REPORT) for end in ("", ".tmp"))}
    if folder.is_dir() and any(path.name not in ours for path in folder.iterdir()):
        raise DataError(
            f"--out {folder} holds something else than a next-item model; give another folder, or a new one"
        )
    return folder


def _read(options: argparse.Namespace, output: Output) -> Columns:
    roles = {"user": options.user, "item": options.item, "time": options.time}
    with output.bar("reading", lambda facts: f"{facts.get('rows', 0):,} rows") as progress:
        columns = read_columns(
            options.path, roles, time_format=options.time_format, skip_bad_lines=options.skip_bad_lines,
            progress=progress,
        )  # fmt: skip
    users, items = counted(len(columns.user.values), "user"), counted(len(columns.item.values), "item")
    for sentence in [*columns.report.sentences(), f"{users}, {items}"]:
        output.say(printable(sentence))
    return columns


def _once(columns: Columns) -> tuple[np.ndarray, np.ndarray, int]:
    """The codes of each pair at its first time, in the order of time, and how many rows say a pair again."""
    assert columns.time is not None  # check_usage saw to it
    order = np.argsort(columns.time, kind="stable")
    user, item = columns.user.codes[order].astype(np.int64), columns.item.codes[order].astype(np.int64)
    first = np.sort(np.unique(user << 32 | item, return_index=True)[1])
    return user[first], item[first], len(user) - len(first)
