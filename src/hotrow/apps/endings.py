"""How `hotrow train` ends, whatever it trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hotrow.apps.card import CARD, write_card
from hotrow.apps.console import Output
from hotrow.errors import DataError
from hotrow.models.folders import REPORT
from hotrow.store import derived
from hotrow.store.files import write_durably

TRIALS = "tune.json"  # what `hotrow tune` tried


def check_out(folder: Path, what: str, others: set[str], is_ours: Callable[[str], bool]) -> Path:
    """A folder that is new, empty or what a training of this kind has made: nothing else is written into.

    others, is_ours: the names there that are nobody else's, beside those of a report.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out {folder} is a file; give the name of a folder")
    ours = others | {REPORT, f"{REPORT}.tmp", CARD, f"{CARD}.tmp"}
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    strange = [name for name in names if name not in ours and not is_ours(name) and not derived.is_ours(name)]
    if strange:
        raise DataError(
            f"--out {folder} holds something else than {what} ({strange[0]}); give another folder, or a new one"
        )
    return folder


def stopped(model: Any, folder: Path, seconds: float, output: Output, trials: dict[str, Any] | None = None) -> int:
    """Ctrl-C: save the model so far, and return the exit code."""
    save(model, folder, trials)
    write_card(folder, output)
    output.say(f"stopped by Ctrl-C after {seconds:.1f} s; the model so far is in {folder}, not measured")
    return 130


def save(model: Any, folder: Path, trials: dict[str, Any] | None = None) -> None:
    """Save a model, with the trials that led to it; what is there of another's, or was made from it, goes."""
    for name in (REPORT, TRIALS):
        (folder / name).unlink(missing_ok=True)
    derived.remove(folder)
    model.save(folder)
    if trials is not None:
        _write(folder / TRIALS, trials)


def done(
    report: dict[str, Any], folder: Path, seconds: float, output: Output, show: Callable[[Output, dict[str, Any]], None]
) -> int:
    """Write the report and the card of a saved model, show the report, and return the exit code."""
    _write(folder / REPORT, report)
    write_card(folder, output)
    show(output, report)
    output.say()
    output.say(f"trained in {seconds:.1f} s; the model is in {folder}/")
    output.result(report)
    return 0


def _write(path: Path, value: dict[str, Any]) -> None:
    write_durably(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())
