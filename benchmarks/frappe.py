"""Frappe, which app was used where and when: the AUC of `Classifier` at its defaults, beside two simple models.

The protocol is that of He and Chua 2017, "Neural factorization machines", on a split of our own: all columns but `cnt`
are features; each row has two negatives, items drawn uniformly that its user has in no row of any part; 7 : 2 : 1 to
train, validate and test; the AUC is over all test rows. The epoch is chosen on the validation rows.

The published negatives have all eight columns of context of their positive. One of them, `cost`, is the same in all
rows of an item: copied, it gives away each negative of another cost, one in eight. `copied=True` is that protocol.
Without it a negative has its own item's cost, as `hotrow train` draws it, which is harder.

The data isn't ours to give: $HOTROW_DATA, else ../shared/data.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from statistics import mean
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Result
from benchmarks.protocols import FOLDER
from benchmarks.workload import Sizes
from hotrow.apps import backends, negatives
from hotrow.apps.frame import Frame, read_frame

log = logging.getLogger("benchmarks")

SEEDS = 3
LEAST = 98.3
"""What BARS reports of a plain network (DNN), 98.33, in percent; of a factorisation machine 96.71."""
FILE = FOLDER / "frappe" / "Mobile_Frappe.zip"
MEMBER = "Mobile_Frappe/frappe/frappe.csv"
NEGATIVES = 2
_PAIR = ("user", "item")
_OWN = "cost"
_LOGISTIC: dict[str, Any] = {"hidden": (), "learning_rate": 0.02, "l2": 0.0, "batch_size": 4096}

Part = tuple[dict[str, Any], np.ndarray]


def run_seed(seed: int, *, copied: bool = False) -> dict[str, float]:
    """{"auc", "log_loss", "seconds"} of one split, drawing and training; FileNotFoundError without the data."""
    return _fitted(seed, copied=copied)


def baselines(seed: int, *, copied: bool = False) -> dict[str, float]:
    """AUC on the same rows of logistic regression, and of how often an item was used in training."""
    from hotrow.models import metrics

    train, _, (columns, labels) = parts(seed, copied=copied)
    used = train[0]["item"].filter(train[1] == 1).value_counts()
    counts = dict(zip(used.field(0).to_pylist(), used.field(1).to_pylist(), strict=True))
    score = np.array([counts.get(item, 0) for item in columns["item"].to_pylist()]) / len(train[1])
    popularity = metrics.of_classes(labels, np.stack([1 - score, score], axis=1))["auc"]
    return {"logistic": _fitted(seed, copied=copied, **_LOGISTIC)["auc"], "popularity": popularity}


def parts(seed: int, *, copied: bool) -> list[Part]:
    """Columns and labels to train on, to validate with, to test; the same as `hotrow train --negatives 2` draws."""
    frame = _frame()
    users, items = (negatives.codes_of(frame.columns[name]) for name in _PAIR)
    order = np.random.default_rng(seed).permutation(frame.rows)
    test, validation = round(frame.rows * 0.1), round(frame.rows * 0.2)
    cut = np.split(order, [frame.rows - test - validation, frame.rows - test])
    drawn, missing = negatives.draw(users, items, cut, NEGATIVES, seed)
    assert not missing
    of_item = {"item"} if copied else {"item", _OWN}
    names = [name for name in frame.columns if name != "cnt"]
    return [
        ({n: negatives.taken(frame.columns[n], part, of_item=n in of_item) for n in names}, part.labels)
        for part in drawn
    ]


def _fitted(seed: int, *, copied: bool, **options: Any) -> dict[str, float]:
    backends.prepare()
    from hotrow.models.classify import Classifier

    train, validation, test = parts(seed, copied=copied)
    begin = time.perf_counter()
    model = Classifier(seed=seed, **options).fit(*train, validation=validation)
    seconds = time.perf_counter() - begin
    measured = model.evaluate(*test)
    return {"auc": measured["auc"], "log_loss": measured["log_loss"], "seconds": seconds}


@lru_cache(maxsize=1)
def _frame() -> Frame:
    if not FILE.is_file():
        raise FileNotFoundError(f"there is no {FILE}; set HOTROW_DATA to the folder that has frappe/{FILE.name}")
    with zipfile.ZipFile(FILE) as archive, tempfile.TemporaryDirectory() as folder:
        return read_frame(archive.extract(MEMBER, folder), list(_PAIR))


def run(sizes: Sizes) -> Iterator[Result]:
    """The AUC of three seeds, each with a process of its own, of both ways to draw a negative's context."""
    if sizes.quick or not FILE.is_file():
        log.warning("frappe is left out: %s", "it has no quick form" if sizes.quick else f"there is no {FILE}")
        return
    for copied in (False, True):
        case = {"negatives": "all context copied, as published" if copied else "the cost of their own item"}
        found: dict[str, list[dict[str, float]]] = {}
        for seed in range(SEEDS):
            for side in ("classifier", "baselines") if seed == 0 else ("classifier",):
                log.info("frappe: %s, %s, seed %d", case["negatives"], side, seed)
                given = {"side": side, "seed": seed, "copied": copied}
                found.setdefault(side, []).append(harness.in_a_child("benchmarks.frappe", given))
        aucs = [100 * one["auc"] for one in found["classifier"]]
        table = f"Frappe, AUC, mean of {SEEDS} seeds"
        yield Result(table, case, "hotrow Classifier, no option", "%", mean(aucs), aucs, least=LEAST)
        for name, value in found["baselines"][0].items():
            yield Result(table, case, f"{name}, one seed", "%", 100 * value)
        seconds = [one["seconds"] for one in found["classifier"]]
        yield Result("Frappe, training", case, "hotrow Classifier, no option", "s", mean(seconds), seconds)


def main(side: str, seed: int, copied: bool) -> dict[str, float]:
    """What one side comes to."""
    return (run_seed if side == "classifier" else baselines)(seed, copied=copied)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
