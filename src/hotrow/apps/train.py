"""`hotrow train`: a file of pairs in, a model and its honest metrics out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.apps import endings, settings
from hotrow.apps.clustered import ALONE, Alone, opened
from hotrow.apps.console import Output, printable
from hotrow.apps.endings import TRIALS
from hotrow.apps.fitting import Course, fitted
from hotrow.apps.measured import show_metrics
from hotrow.apps.pairs import HOW, Dataset, load_pairs
from hotrow.apps.traits import Traits, check_asked, load_traits
from hotrow.errors import DataError
from hotrow.models import saving
from hotrow.models.retrieval import Retrieval


def train(options: argparse.Namespace, output: Output) -> int:
    """Read, split, train, measure, save. Ctrl-C during training saves the model so far, and exits with 130."""
    folder = check_out(Path(options.out))
    with opened(options, output) as cluster:
        data = read(options, output, cluster)
        features = _features(options, data, output)
        tables = cluster.tables(2 + sum(len(each) for each in features.values()))
        model = Retrieval(**settings.chosen(options), seed=options.seed, **tables)
        return finish(model, data, folder, output, features=features, cluster=cluster)


def check_out(folder: Path) -> Path:
    """A folder that is new, empty or a model's: nothing else is written into."""
    return endings.check_out(folder, "a model", {"lock", TRIALS, f"{TRIALS}.tmp"}, saving.is_ours)


def read(options: argparse.Namespace, output: Output, cluster: Alone = ALONE) -> Dataset:
    """The pairs of the file, some held out; what was read is said. DataError if none can be."""
    with output.bar("reading", lambda facts: f"{facts.get('rows', 0):,} rows") as progress:
        data = cluster.read(lambda reading: load_pairs(
            options.path, options.user, options.item, options.time, options.time_format, options.seed,
            way=options.hold_out, skip_bad_lines=options.skip_bad_lines, progress=progress, reading=reading,
        ))  # fmt: skip
    if not np.isin(data.split.test_user, data.split.train_user).any():
        why = "no user of theirs has an earlier pair" if data.split.way == "latest" else "every user has but one item"
        raise DataError(f"nothing could be held out to measure with: {why}, and needs it to train on")
    for sentence in data.sentences():
        output.say(printable(sentence))
    output.say()
    return data


def finish(
    model: Retrieval,
    data: Dataset,
    folder: Path,
    output: Output,
    trials: dict[str, Any] | None = None,
    features: dict[str, Any] | None = None,
    cluster: Alone = ALONE,
) -> int:
    """Train a new model, measure it on the held-out pairs, save it with a report, and with trials that led to it."""
    started = time.perf_counter()
    split = data.split
    pairs = data.users.take(split.train_user), data.items.take(split.train_item)
    course = Course()
    interrupted = fitted(model, pairs, output, course, **(features or {}), **cluster.crew())
    cluster.gather(model)
    seconds = time.perf_counter() - started
    if interrupted:
        return endings.stopped(model, folder, seconds, output, trials)
    with output.errors.status("measuring on the held-out pairs"):
        report = model.report((data.users.take(split.test_user), data.items.take(split.test_item)))
    report |= {"rows": _counts(data), "seconds": round(seconds, 3), "data": ", ".join(data.report.sources)}
    report |= {"columns": data.report.names(), "protocol": {"held_out": HOW[split.way], "seed": model.config["seed"]}}
    report |= course.told() | cluster.told()
    if trials is not None:
        report["tuned"] = {key: value for key, value in trials.items() if key != "trials"}
    endings.save(model, folder, trials)
    return endings.done(report, folder, seconds, output, show_metrics)


def _features(options: argparse.Namespace, data: Dataset, output: Output) -> dict[str, Any]:
    """What `fit` is given as features, by the names of its arguments."""
    read: dict[str, Traits] = {}
    for side, path, ids in (
        ("user", options.user_features, data.users),
        ("item", options.item_features, data.items),
    ):
        if path is not None:
            read[side] = load_traits(path, side, getattr(options, side), ids, options)
    if read:
        check_asked(options, list(read.values()))
        for traits in read.values():
            for sentence in traits.sentences:
                output.say(printable(sentence))
        output.say()
    return {f"{side}_features": traits.features for side, traits in read.items()}


def _counts(data: Dataset) -> dict[str, Any]:
    """How many rows and pairs there are of what."""
    return {**data.report.counts(), "users": len(data.users), "items": len(data.items), **data.split.counts()}
