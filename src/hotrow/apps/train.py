"""`hotrow train`: a file of pairs in, a model and its honest metrics out."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from hotrow.apps.care import REPORT, show_metrics
from hotrow.apps.console import Output, printable
from hotrow.apps.pairs import Dataset, load_pairs
from hotrow.errors import DataError
from hotrow.models.retrieval import Retrieval

KS = (10, 20)


def train(options: argparse.Namespace, output: Output) -> int:
    """Read, split, train, measure, save. Ctrl-C during training saves the model so far, and exits with 130."""
    folder = _check_out(Path(options.out))
    data = _read(options, output)
    model = Retrieval(dim=options.dim, loss=options.loss, seed=options.seed, **_given(options))
    started = time.perf_counter()
    interrupted = _fit(model, data, options, output)
    seconds = time.perf_counter() - started
    report = {"data": data.name, "rows": data.counts, "seconds": round(seconds, 3)}
    if not interrupted:
        report = _measure(model, data, output) | report
    model.save(folder)
    _write_report(folder, None if interrupted else report)
    if interrupted:
        output.say(f"stopped by Ctrl-C after {seconds:.1f} s; the model so far is in {folder}, not measured")
        return 130
    _show(report, folder, output)
    output.result(report)
    return 0
