"""`hotrow train FILE --label COLUMN`, or `--negatives N`: columns in, a classifier and its honest metrics out."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.apps import backends, endings, kinds
from hotrow.apps import rows as rows_
from hotrow.apps.care import show_classifier_metrics
from hotrow.apps.clustered import Alone, opened
from hotrow.apps.console import Output, printable
from hotrow.apps.fitting import Course
from hotrow.apps.frame import Frame, read_frame
from hotrow.apps.kinds import BAG, DISCRETE, NUMBER, OUT, Told
from hotrow.apps.reading import counted
from hotrow.apps.rows import Rows
from hotrow.apps.settings import SETTINGS
from hotrow.errors import DataError
from hotrow.models import classifier_files

if TYPE_CHECKING:
    from hotrow.models.classify import Classifier

_LOGISTIC: dict[str, Any] = {"hidden": (), "learning_rate": 0.02, "l2": 0.0, "epochs": 60}


def train(options: argparse.Namespace, output: Output) -> int:
    """Read, tell columns apart, split, train, measure, save. Ctrl-C saves the model so far, and exits with 130."""
    folder = endings.check_out(Path(options.out), "a classifier", set(), classifier_files.is_ours)
    backends.choose()  # before a long file is read
    with opened(options, output) as cluster:
        return _train(options, output, folder, cluster)


def _train(options: argparse.Namespace, output: Output, folder: Path, cluster: Alone) -> int:
    frame, told, rows = _read(options, output, cluster)
    with output.errors.status("loading Keras"):
        backend = backends.prepare()
    from hotrow.models.classify import Classifier

    output.say(f"Keras runs on {backend}")
    output.say()
    model = Classifier(rows.kinds, seed=options.seed, **_chosen(options))
    started = time.perf_counter()
    course = Course()
    interrupted = _fit(model, rows, output, "training", course, cluster.tables(len(rows.kinds)) | cluster.crew())
    seconds = time.perf_counter() - started
    model.notes = {"columns": [one.to_json() for one in told], "label": options.label, "tables": _tables(model)}
    if interrupted:
        return endings.stopped(model, folder, seconds, output)
    endings.save(model, folder)
    cluster.rated()
    report = _measure(model, rows, output) | {"rows": rows.counts, "columns": [one.to_json() for one in told]}
    report |= {"classes": model.classes, "backend": backend, "seconds": round(seconds, 3)}
    report |= {"data": ", ".join(frame.sources), **course.told(), **cluster.told()}
    how = next(sentence for sentence in rows.sentences if " to test" in sentence)
    report |= {"protocol": {"held_out": how, "seed": options.seed}}
    return endings.done(report, folder, seconds, output, show_classifier_metrics)


def check_usage(options: argparse.Namespace) -> str | None:
    """What is wrong with these options together, and the call that would be right; None if nothing is."""
    call = f"hotrow train {options.path or 'FILE'}"
    if options.label is not None and options.negatives is not None:
        return f"--negatives draws the labels, and --label {options.label} gives them: leave one of them out"
    if options.negatives is not None and (options.user is None or options.item is None):
        return f"--negatives needs a pair: {call} --user USER --item ITEM --negatives {options.negatives}"
    if options.path is None:
        return "a classifier needs a file: hotrow train FILE --label COLUMN"
    vectors = [one.flag for one in SETTINGS if not one.classifier and getattr(options, one.attribute) is not None]
    vectors += ["--hold-out"] * (options.hold_out is not None)
    vectors += [f"--{side}-features" for side in ("user", "item") if getattr(options, f"{side}_features") is not None]
    if vectors:
        return f"{vectors[0]} is of user and item vectors; a classifier has its own: leave it out"
    if options.time_format is not None and options.time is None:
        return f"--time-format {options.time_format!r} needs --time COLUMN"
    return None


# --- data ------------------------------------------------------------------------------------------------------------


def _read(options: argparse.Namespace, output: Output, cluster: Alone) -> tuple[Frame, list[Told], Rows]:
    roles = {role: getattr(options, role) for role in ("label", "user", "item", "time")}
    with output.bar("reading", lambda facts: f"{facts.get('rows', 0):,} rows") as progress:
        asked = [name for name in roles.values() if name is not None]
        frame = cluster.read(lambda reading: read_frame(
            options.path, asked, skip_bad_lines=options.skip_bad_lines, progress=progress, reading=reading
        ))  # fmt: skip
    found = {role: rows_.find(frame, name, role) for role, name in roles.items() if name is not None}
    rows_.check_roles(found)
    forced = _forced(options, frame, found)
    told = [
        kinds.tell(name, column, text=frame.text, forced=kind, sep=sep)
        for name, column in frame.columns.items()
        if name != found.get("label")
        for kind, sep in [forced.get(name, ("", ""))]
    ]
    by = {name: f"by --{role}" for role, name in found.items() if role != "label"}
    told = [replace(one, why=by[one.name]) if one.name in by and one.why == "as asked for" else one for one in told]
    order = rows_.times(frame, found["time"], options.time_format) if "time" in found else None
    if options.negatives is None:
        rows = rows_.labelled(frame, told, found["label"], order, options.seed)
    else:
        pair = found["user"], found["item"]
        told = rows_.known_before(told, pair, forced)
        own = rows_.items_own(frame, told, pair)
        told = [replace(one, why=f"{one.why}; the item's own") if one.name in own else one for one in told]
        rows = rows_.drawn(frame, told, pair, options.negatives, order, options.seed)
    later = {"kind": OUT, "why": "no value in any row to train on", "gets": "nothing"}
    told = [replace(one, **later) if one.name in rows.out else one for one in told]
    _show(output, frame, told, rows, found)
    return frame, told, rows


def _forced(options: argparse.Namespace, frame: Frame, found: dict[str, str]) -> dict[str, tuple[str, str]]:
    asked = {BAG: options.bag, DISCRETE: options.discrete, NUMBER: options.numeric, OUT: options.ignore}
    forced = kinds.forced_kinds(asked, list(frame.columns))
    if found.get("label") in forced:
        raise DataError(
            f"column {found['label']!r} is the label, which is no column to learn from: leave out its option"
        )
    for role in ("user", "item"):
        if role in found:
            forced.setdefault(found[role], (DISCRETE, ""))
    if "time" in found:  # what is later than all training rows is like nothing that they have
        forced.setdefault(found["time"], (OUT, ""))
    return forced


def _show(output: Output, frame: Frame, told: list[Told], rows: Rows, found: dict[str, str]) -> None:
    first, *others = frame.sources
    more = f" and {len(others)} more" if others else ""
    output.say(printable(f"{first}{more} ({frame.form}): {counted(frame.rows, 'row')}"))
    if frame.bad_lines:
        output.say(f"{counted(frame.bad_lines, 'line')} skipped that hasn't as many fields as there are columns")
    output.say()
    cells = [[printable(one.name), one.kind, printable(one.why), f"{one.nulls:,}", one.gets] for one in told]
    output.table("", ["column", "kind", "why", "nulls", "the model gets"], cells, left={0, 1, 2, 4})
    output.say()
    for sentence in rows.sentences:
        output.say(printable(sentence))
    if "label" in found:
        output.say(printable(f"label: {found['label']}"))


# --- training and measuring ------------------------------------------------------------------------------------------


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    names = {"dim": options.dim, "epochs": options.epochs, "learning_rate": options.learning_rate}
    return {name: value for name, value in names.items() if value is not None}


def _fit(
    model: Classifier, rows: Rows, output: Output, what: str, course: Course, more: dict[str, Any] | None = None
) -> bool:
    """Train; whether Ctrl-C ended it. more: what `fit` is given besides."""
    training, validation = rows.parts["train"], rows.parts["validation"]
    try:
        with output.bar(what, _facts) as progress:
            checked = validation.columns, validation.labels
            model.fit(
                training.columns, training.labels, validation=checked, progress=course.beside(progress), **(more or {})
            )
    except KeyboardInterrupt:
        if not model.classes:
            raise
        return True
    return False


def _facts(facts: dict[str, Any]) -> str:
    return f"epoch {facts['epoch']}  loss {facts['loss']:.4f}" if facts else ""


def _measure(model: Classifier, rows: Rows, output: Output) -> dict[str, Any]:
    """The metrics of the model, of logistic regression on the same columns, and of the classes' shares."""
    from hotrow.models import metrics
    from hotrow.models.classes import encode

    test = rows.parts["test"]
    measured: dict[str, Any] = {"model": model.evaluate(test.columns, test.labels)}
    measured["logistic"] = logistic(rows, model.config["seed"], output).evaluate(test.columns, test.labels)
    training = encode(rows.parts["train"].labels, model.classes, len(rows.parts["train"]))
    shares = np.bincount(training, minlength=len(model.classes)) / len(training)
    codes = encode(test.labels, model.classes, len(test))
    measured["majority"] = metrics.of_classes(codes, np.tile(shares, (len(codes), 1)))
    return measured


def logistic(rows: Rows, seed: int, output: Output) -> Classifier:
    """Logistic regression on the same rows and columns, stopped by the same validation rows; or KeyboardInterrupt."""
    from hotrow.models.classify import Classifier

    model = Classifier(rows.kinds, seed=seed, batch_size=_batch(rows), **_LOGISTIC)
    if _fit(model, rows, output, "logistic regression, to compare", Course()):
        raise KeyboardInterrupt
    return model


def _batch(rows: Rows) -> int:
    """Some hundred steps an epoch, or fewer: it is convex, and would take as well to any."""
    return int(min(4096, max(64, len(rows.parts["train"]) // 50)))


def _tables(model: Classifier) -> dict[str, dict[str, Any]]:
    """What tables of ids there are, for `hotrow inspect`, which does without Keras."""
    facts: dict[str, dict[str, Any]] = {}
    for name, told in model.inputs.columns.items():
        if told["kind"] != "number":
            table = model.table(name)
            facts[name] = {"rows": len(table), "dim": table.dim, "ids": table.kind, "steps": table.steps}
    return facts
