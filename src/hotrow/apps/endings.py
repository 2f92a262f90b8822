"""How `hotrow train` ends, whatever it trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hotrow.apps.care import REPORT
from hotrow.apps.console import Output
from hotrow.store.files import write_durably

TRIALS = "tune.json"  # what `hotrow tune` tried


def stopped(model: Any, folder: Path, seconds: float, output: Output, trials: dict[str, Any] | None = None) -> int:
    """Ctrl-C: save the model so far, and return the exit code."""
    save(model, folder, trials)
    output.say(f"stopped by Ctrl-C after {seconds:.1f} s; the model so far is in {folder}, not measured")
    return 130


def save(model: Any, folder: Path, trials: dict[str, Any] | None = None) -> None:
    """Save a model, with the trials that led to it; a report or trials that are there would be another model's."""
    for name in (REPORT, TRIALS):
        (folder / name).unlink(missing_ok=True)
    model.save(folder)
    if trials is not None:
        _write(folder / TRIALS, trials)


def done(
    report: dict[str, Any], folder: Path, seconds: float, output: Output, show: Callable[[Output, dict[str, Any]], None]
) -> int:
    """Write the report of a saved model, show it, and return the exit code."""
    _write(folder / REPORT, report)
    show(output, report)
    output.say()
    output.say(f"trained in {seconds:.1f} s; the model is in {folder}/")
    output.result(report)
    return 0


def _write(path: Path, value: dict[str, Any]) -> None:
    write_durably(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())
