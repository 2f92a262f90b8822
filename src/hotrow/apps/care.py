"""What one asks of what is on disk: inspect, verify."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hotrow.apps.console import Output, printable
from hotrow.apps.measured import show_metrics
from hotrow.errors import DataError, HotrowError
from hotrow.models import classifier_files, next_files
from hotrow.models.folders import REPORT, report_of


def inspect(options: argparse.Namespace, output: Output) -> None:
    """Rows, bytes and generations of each table, and how the model did when it was trained."""
    folder = Path(options.model)
    if classifier_files.is_classifier(folder):
        _inspect_classifier(folder, output)
        return
    facts = {name: table_facts(path) for name, path in tables_of(folder).items()}
    report = report_of(folder)
    names = _feature_names(folder) if "items" in facts and not next_files.is_next_item(folder) else {}
    output.result({"tables": facts, "features": names, "report": report})
    if output.as_json:
        return
    columns = ["table", "rows", "dim", "ids", "optimizer", "steps", "bytes on disk", "generations"]
    shown = {table: f"{table} ({name})" for table, name in names.items()}
    rows = [[printable(shown.get(name, name)), *_shown(table)] for name, table in facts.items()]
    output.table("", columns, rows)
    if report:
        output.say()
        with as_written(folder / REPORT):
            data, seconds = printable(report["data"]), report["seconds"]
            output.say(f"trained on {data} in {seconds:.1f} s, measured on held-out pairs:")
            (show_ratings if "baseline" in report else show_metrics)(output, report)


def _feature_names(folder: Path) -> dict[str, str]:
    """The tables of features by their folders, and the name that was given to each."""
    from hotrow.models import saving

    return saving.names_of(folder)


def verify(options: argparse.Namespace, output: Output) -> int:
    """Every byte of every generation against its checksum; exit code 1 if something is wrong."""
    from hotrow.models import saving
    from hotrow.store import snapshot

    problems: list[str] = []
    if classifier_files.is_classifier(Path(options.model)):
        return _say_problems(output, ["classifier"], classifier_files.verify(Path(options.model)))
    tables = tables_of(Path(options.model))
    with output.bar("reading", lambda facts: str(facts.get("file", ""))) as progress:
        for path in tables.values():
            problems += snapshot.verify(path, progress=progress)
    if next_files.is_next_item(Path(options.model)):
        problems += next_files.verify(Path(options.model))
    elif "items" in tables:
        problems += saving.verify(Path(options.model))
    return _say_problems(output, list(tables), problems)


def _say_problems(output: Output, what: list[str], problems: list[str]) -> int:
    output.result({"tables": what, "problems": problems})
    for problem in problems:
        output.errors.print(f"hotrow: {printable(problem)}", markup=False)
    if not problems and not output.as_json:
        output.say(f"all is as it was written: {', '.join(what)}")
    return 1 if problems else 0


def _inspect_classifier(folder: Path, output: Output) -> None:
    from hotrow.models.inputs import Inputs

    described, net = classifier_files.read(folder)
    classifier_files.checked(folder / classifier_files.NAME, lambda: Inputs.from_config(described["columns"]))
    report = report_of(folder)
    tables: dict[str, Any] = described["notes"].get("tables", {})
    facts: dict[str, Any] = {
        "classes": described["classes"],
        "bytes": net.stat().st_size,
        "config": described["config"],
    }
    output.result({"classifier": facts, "columns": described["columns"], "tables": tables, "report": report})
    if output.as_json:
        return
    shown_rows: list[list[str]] = []
    with as_written(folder / classifier_files.NAME):  # notes may be anything
        for name, told in described["columns"].items():
            table: dict[str, Any] = tables.get(name, {})
            cells: list[str] = [str(table.get(key, "")) for key in ("ids", "rows", "dim", "steps")]
            shown_rows.append([printable(name), str(told["kind"]), *cells])
    output.table("", ["column", "kind", "ids", "rows", "dim", "steps"], shown_rows, left={0, 1, 2})
    output.say()
    shown = ", ".join(printable(repr(label)) for label in described["classes"][:10])
    output.say(f"{len(described['classes'])} classes: {shown}; {facts['bytes']:,} bytes on disk")
    if report:
        with as_written(folder / REPORT):
            data, seconds = printable(report["data"]), report["seconds"]
            output.say(f"trained on {data} in {seconds:.1f} s with Keras on {report['backend']}")
            show_classifier_metrics(output, report)


def tables_of(folder: Path) -> dict[str, Path]:
    """The tables in a model's folder, or the one that the folder is."""
    from hotrow.models import saving
    from hotrow.store import snapshot

    if next_files.is_next_item(folder):
        return {"items": saving.table_folder(folder, "items")}
    if (folder / saving.NAME).is_file():
        return saving.tables(folder)
    if folder.is_dir() and snapshot.generations(folder):
        return {"table": folder}
    raise DataError(
        f"{folder} holds neither a model nor a table; `hotrow train … --out {folder}` or table.save() make one"
    )


def show_classifier_metrics(output: Output, report: dict[str, Any]) -> None:
    """The model's metrics beside those of logistic regression and of the classes' shares."""
    several = len(report["classes"]) > 2
    names = {"auc": "AUC, mean of each class against the others" if several else "AUC", "log_loss": "log loss"}
    table = [
        [names.get(str(name), str(name)), *(f"{report[w][name]:.4f}" for w in ("model", "logistic", "majority"))]
        for name in report["model"]
    ]
    output.say("on the test rows:")
    output.table("", ["", "model", "logistic regression", "majority"], table)
    if not several:
        output.say(f"AUC is that of {printable(repr(report['classes'][1]))}")


def show_ratings(output: Output, report: dict[str, Any]) -> None:
    """A model's errors beside those of the mean and biases alone."""
    rows = [[name, *(f"{report[which][name]:.4f}" for which in ("model", "baseline"))] for name in report["model"]]
    output.table("", ["", "model", "baseline"], rows)


def table_facts(path: Path) -> dict[str, Any]:
    """Rows, floats a row, kind of ids, optimizer, steps, bytes and generations of a saved table."""
    from hotrow.store import snapshot

    chain, rows = snapshot.use(path, None, lambda chain: (chain, chain.rows()))
    config, links = chain.config(), chain.links
    return {
        "rows": rows,
        "shards": len(chain.chains) if isinstance(chain, snapshot.Shards) else None,
        "dim": config["dim"],
        "ids": config["ids"],
        "optimizer": config["optimizer"]["name"],
        "steps": config["steps"],
        "bytes": sum(file.stat().st_size for folder, _ in links for file in folder.iterdir()),
        "generations": snapshot.generations(path),
        "deltas": snapshot.deltas(path),
    }


def _shown(facts: dict[str, Any]) -> list[str]:
    deltas = facts["deltas"]
    generations = ", ".join(f"{number}{' (delta)' if number in deltas else ''}" for number in facts["generations"])
    if facts["shards"]:
        generations += f", in {facts['shards']} shards"
    counts = f"{facts['rows']:,}", str(facts["dim"]), str(facts["ids"]), facts["optimizer"], f"{facts['steps']:,}"
    return [*counts, f"{facts['bytes']:,}", generations]


@contextmanager
def as_written(path: Path) -> Generator[None]:
    """Within, what a file without a checksum says is taken for what hotrow wrote; DataError where it can't be."""
    try:
        yield
    except HotrowError:
        raise
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DataError(f"{path} isn't what `hotrow train` wrote: {error!s:.200}") from error
