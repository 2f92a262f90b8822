"""What one asks of what is on disk: inspect, verify."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hotrow.apps.console import Output, printable
from hotrow.errors import DataError

REPORT = "report.json"


def inspect(options: argparse.Namespace, output: Output) -> None:
    """Rows, bytes and generations of each table, and how the model did when it was trained."""
    folder = Path(options.model)
    facts = {name: _table_facts(path) for name, path in tables_of(folder).items()}
    report = _report(folder)
    output.result({"tables": facts, "report": report})
    if output.as_json:
        return
    columns = ["table", "rows", "dim", "ids", "optimizer", "steps", "bytes on disk", "generations"]
    rows = [[name, *_shown(table)] for name, table in facts.items()]
    output.table("", columns, rows)
    if report:
        output.say()
        output.say(f"trained on {printable(report['data'])} in {report['seconds']:.1f} s, measured on held-out pairs:")
        show_metrics(output, report)


def verify(options: argparse.Namespace, output: Output) -> int:
    """Every byte of every generation against its checksum; exit code 1 if something is wrong."""
    from hotrow.models import saving
    from hotrow.store import snapshot

    problems: list[str] = []
    tables = tables_of(Path(options.model))
    with output.bar("reading", lambda facts: str(facts.get("file", ""))) as progress:
        for path in tables.values():
            problems += snapshot.verify(path, progress=progress)
    if "items" in tables:
        problems += saving.verify(Path(options.model))
    output.result({"tables": list(tables), "problems": problems})
    for problem in problems:
        output.errors.print(f"hotrow: {printable(problem)}", markup=False)
    if not problems and not output.as_json:
        output.say(f"all is as it was written: {', '.join(tables)}")
    return 1 if problems else 0


def tables_of(folder: Path) -> dict[str, Path]:
    """The tables in a model's folder, or the one that the folder is."""
    from hotrow.store import snapshot

    if (folder / "model.json").is_file():
        return {"users": folder / "users", "items": folder / "items"}
    if folder.is_dir() and snapshot.generations(folder):
        return {"table": folder}
    raise DataError(
        f"{folder} holds neither a model nor a table; `hotrow train … --out {folder}` or table.save() make one"
    )


def show_metrics(output: Output, report: dict[str, Any]) -> None:
    """The model's metrics beside those of popularity."""
    rows = [[name, *(f"{report[which][name]:.4f}" for which in ("model", "popularity"))] for name in report["model"]]
    output.table("", ["", "model", "popularity"], rows)


def _table_facts(path: Path) -> dict[str, Any]:
    from hotrow.store import snapshot

    numbers = snapshot.generations(path)
    state = snapshot.open_mapped(path)
    size = sum(file.stat().st_size for file in path.glob(f"*{numbers[-1]:06d}/*"))
    config = state.config
    return {
        "rows": len(state.keys),
        "dim": config["dim"],
        "ids": config["ids"],
        "optimizer": config["optimizer"]["name"],
        "steps": config["steps"],
        "bytes": size,
        "generations": numbers,
    }


def _shown(facts: dict[str, Any]) -> list[str]:
    generations = ", ".join(map(str, facts["generations"]))
    counts = f"{facts['rows']:,}", str(facts["dim"]), str(facts["ids"]), facts["optimizer"], f"{facts['steps']:,}"
    return [*counts, f"{facts['bytes']:,}", generations]


def _report(folder: Path) -> dict[str, Any] | None:
    """What `hotrow train` wrote beside the model, if it did."""
    path = folder / REPORT
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path} isn't the JSON that `hotrow train` wrote: {error}") from error
