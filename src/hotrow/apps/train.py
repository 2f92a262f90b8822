"""`hotrow train`: a file of pairs in, a model and its honest metrics out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from hotrow.apps import endings
from hotrow.apps.care import REPORT, show_metrics
from hotrow.apps.console import Output, printable
from hotrow.apps.pairs import Dataset, load_pairs
from hotrow.errors import DataError
from hotrow.models.retrieval import Retrieval


def train(options: argparse.Namespace, output: Output) -> int:
    """Read, split, train, measure, save. Ctrl-C during training saves the model so far, and exits with 130."""
    folder = _check_out(Path(options.out))
    data = _read(options, output)
    model = Retrieval(
        options.dim or 128, loss=options.loss or "softmax", epochs=options.epochs, seed=options.seed, **_chosen(options)
    )
    started = time.perf_counter()
    interrupted = _fit(model, data, output)
    seconds = time.perf_counter() - started
    if interrupted:
        return endings.stopped(model, folder, seconds, output)
    report = _measure(model, data, output) | {"rows": _counts(data), "seconds": round(seconds, 3)}
    report["data"] = ", ".join(data.report.sources)
    endings.save(model, folder)
    return endings.done(report, folder, seconds, output, show_metrics)


def _check_out(folder: Path) -> Path:
    """A folder that is new, empty or a model's: nothing else is written into."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out {folder} is a file; give the name of a folder")
    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder):
        raise DataError(f"--out {folder} holds something else than a model; give another folder, or a new one")
    return folder


def _is_ours(folder: Path) -> bool:
    ours = {"users", "items", "lock", *(name + end for name in ("model.json", REPORT) for end in ("", ".tmp"))}
    return all(path.name in ours or path.name.startswith("pairs-") for path in folder.iterdir())


def _read(options: argparse.Namespace, output: Output) -> Dataset:
    with output.bar("reading", lambda facts: f"{facts.get('rows', 0):,} rows") as progress:
        data = load_pairs(
            options.path, options.user, options.item, options.time, options.time_format, options.seed,
            skip_bad_lines=options.skip_bad_lines, progress=progress,
        )  # fmt: skip
    for sentence in data.sentences():
        output.say(printable(sentence))
    output.say()
    return data


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    return {} if options.learning_rate is None else {"learning_rate": options.learning_rate}


def _fit(model: Retrieval, data: Dataset, output: Output) -> bool:
    """Train; whether Ctrl-C ended it."""
    split = data.split
    pairs = data.users.take(split.train_user), data.items.take(split.train_item)
    try:
        with output.bar("training", _facts) as progress:
            model.fit(pairs, progress=progress)
    except KeyboardInterrupt:
        if not len(model.items):
            raise
        return True
    return False


def _facts(facts: dict[str, Any]) -> str:
    return (
        f"epoch {facts['epoch']}  loss {facts['loss']:.3f}  {facts['pairs_per_second']:,.0f} pairs/s" if facts else ""
    )


def _measure(model: Retrieval, data: Dataset, output: Output) -> dict[str, Any]:
    split = data.split
    if not len(split.test_user):
        raise DataError("nothing could be held out: every user has but one item, and needs it to train on")
    held_out = data.users.take(split.test_user), data.items.take(split.test_item)
    with output.errors.status("measuring on the held-out pairs"):
        return {"model": model.evaluate(held_out), "popularity": model.popularity(held_out)}


def _counts(data: Dataset) -> dict[str, Any]:
    """How many rows and pairs there are of what."""
    read = data.report
    return {
        "read": read.rows,
        "nulls": read.nulls,
        "kept": read.kept,
        "bad_lines": read.bad_lines,
        "users": len(data.users),
        "items": len(data.items),
        **data.split.counts(),
    }
