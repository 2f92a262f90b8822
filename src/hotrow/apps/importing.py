"""`hotrow import`: another program's file of vectors in, a saved table out."""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from hotrow.apps import endings
from hotrow.apps.bench import optimizer_of
from hotrow.apps.card import CARD, write_card
from hotrow.apps.console import Output, printable
from hotrow.apps.reading import counted
from hotrow.errors import DataError
from hotrow.exchange.reading import read_table
from hotrow.models.descriptions import beside
from hotrow.store import derived

_OURS = re.compile(r"generation-[0-9]{6,18}|slot-.*")


def import_(options: argparse.Namespace, output: Output) -> int:
    """Read, check, save; what was left out is said. The folder is new, empty, or that of a saved table, in no model."""
    folder = endings.check_out(
        Path(options.out), "a saved table", {"lock", CARD}, lambda name: bool(_OURS.fullmatch(name))
    )
    model = beside(folder)
    if model is not None:
        raise DataError(
            f"--out {folder} is in a model's folder (of {model}), whose parts are its own; give another folder"
        )
    optimizer = optimizer_of(options.optimizer)
    if options.learning_rate is not None:
        optimizer = replace(optimizer, learning_rate=options.learning_rate)
    started = time.perf_counter()
    with output.bar("reading", lambda facts: f"{facts['rows']:,} rows" if facts.get("rows") else "") as progress:
        made = read_table(
            options.path, options.format, ids=options.kind, duplicates=options.duplicates, optimizer=optimizer,
            seed=options.seed, scratch=options.scratch, progress=progress, ids_from=options.ids,
            number_rows=options.number_rows, skip=options.skip_row, id=options.id, vector=tuple(options.vector),
            tensor=options.tensor, layer=options.layer, lookup=options.lookup, unescaped=options.unescape,
        )  # fmt: skip
    derived.remove(folder)
    with output.bar("saving", lambda facts: str(facts.get("file", ""))) as progress:
        generation = made.table.save(folder, progress=progress)
    write_card(folder, output)
    seconds = time.perf_counter() - started
    table = made.table
    facts: dict[str, Any] = {
        "form": made.form, "rows": len(table), "dim": table.dim, "ids": table.kind, "repeated": made.repeated,
        "notes": made.notes, "generation": generation, "out": str(folder), "seconds": round(seconds, 3),
    }  # fmt: skip
    output.result(facts)
    if not output.as_json:
        _show(facts, options, output)
    return 0


def _show(facts: dict[str, Any], options: argparse.Namespace, output: Output) -> None:
    output.say(f"{printable(options.path)}: {printable(facts['form'])}")
    output.say(f"{counted(facts['rows'], 'id')} ({facts['ids'] or 'none'}), each with {facts['dim']} floats")
    if facts["repeated"]:
        output.say(f"{counted(facts['repeated'], 'row')} left out, whose id had come before")
    for note in facts["notes"]:
        output.say(printable(note))
    output.say(f"read and saved in {facts['seconds']:.1f} s; the table is in {printable(facts['out'])}/")
