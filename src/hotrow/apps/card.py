"""`hotrow card`, and the card at the end of a training: README.md in the folder of a model or a saved table."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hotrow.apps.care import as_written, table_facts, tables_of
from hotrow.apps.console import Output, printable
from hotrow.errors import DataError
from hotrow.exchange import card as cards
from hotrow.models import classifier_files, next_files, saving
from hotrow.models.folders import REPORT, kind_of, report_of
from hotrow.store.files import write_durably

CARD = cards.NAME


def card(options: argparse.Namespace, output: Output) -> int:
    """Write the card anew, to the folder or to another file; a README.md of somebody's own stays as it is."""
    folder = Path(options.model)
    path = folder / CARD if options.out is None else Path(options.out)
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the name of a file, as {path / CARD}")
    text = _text(folder)
    if not cards.is_ours(path):
        raise DataError(
            f"{path} isn't a card that hotrow has written, so it stays as it is. Give another name: "
            f"hotrow card {folder} -o card.md"
        )
    _write(path, text)
    output.result({"card": str(path), "bytes": len(text.encode())})
    if not output.as_json:
        output.say(f"the card is in {printable(path)}")
    return 0


def write_card(folder: Path, output: Output) -> None:
    """Write the card of what was just saved; if somebody's own README.md is there, say that it stays."""
    path = folder / CARD
    if not cards.is_ours(path):
        output.say(
            f"{printable(path)} isn't hotrow's own and stays as it is: hotrow card {printable(folder)} -o FILE "
            "writes another"
        )
        return
    _write(path, _text(folder))


def renew_card(folder: Path) -> None:
    """Write the card anew where there is one of hotrow's: what it says of sizes isn't so any more."""
    path = folder / CARD
    if path.is_file() and cards.is_ours(path):
        _write(path, _text(folder))


def _write(path: Path, text: str) -> None:
    write_durably(path, text.encode("utf-8", "replace"))


def _text(folder: Path) -> str:
    kind, report = kind_of(folder), report_of(folder)
    config: dict[str, Any] = {}
    classes: list[Any] = []
    if kind == "classifier":
        described, _ = classifier_files.read(folder)
        with as_written(folder / classifier_files.NAME):
            tables, classes, config = _tables_in_net(described), described["classes"], described["config"]
    else:
        tables = [_table(name, path) for name, path in tables_of(folder).items()]
        if kind == "next":
            config = next_files.read_description(folder)["config"]
        elif kind != "table":
            config = saving.read_description(folder)["config"]
    name = folder.resolve().name or "model"
    facts = cards.Facts(name, kind, version("hotrow"), tables, report, config, classes)
    with as_written(folder / REPORT):
        return cards.card(facts)


def _table(name: str, path: Path) -> cards.Table:
    facts = table_facts(path)
    return cards.Table(name, facts["rows"], facts["dim"], facts["ids"], facts["optimizer"], facts["bytes"])


def _tables_in_net(described: dict[str, Any]) -> list[cards.Table]:
    """Those of a classifier, as its notes tell of them."""
    tables: dict[str, Any] = described["notes"].get("tables", {})
    return [
        cards.Table(name, int(told["rows"]), int(told["dim"]), told["ids"], "Adam", None)
        for name, told in tables.items()
    ]
