"""`hotrow evaluate`: how a saved model does on a file of pairs that it was not trained on."""

from __future__ import annotations

import argparse

from hotrow.apps.arrow import Array, is_text, pa
from hotrow.apps.console import Output, printable
from hotrow.apps.measured import show_left_out, show_metrics
from hotrow.apps.questions import open_model
from hotrow.apps.reading import Ids, read_columns
from hotrow.errors import DataError
from hotrow.models.ratings import Ratings
from hotrow.table.view import View


def evaluate(options: argparse.Namespace, output: Output) -> None:
    """Read the pairs and measure those that are new to the model, beside popularity."""
    model = open_model(options.model)
    if isinstance(model, Ratings):
        raise DataError(
            f"{options.model} is a model of ratings; its errors are in its report (hotrow inspect {options.model}); "
            "in Python, Ratings.load(path).evaluate((users, items, ratings)) measures others"
        )
    with output.bar("reading", lambda facts: f"{facts.get('rows', 0):,} rows") as progress:
        columns = read_columns(
            options.path,
            {"user": options.user, "item": options.item},
            skip_bad_lines=options.skip_bad_lines,
            progress=progress,
        )
    for sentence in columns.report.sentences():
        output.say(printable(sentence))
    pairs = _as_ids(columns.user, model.users), _as_ids(columns.item, model.items)
    with output.errors.status("measuring"):
        report = model.report(pairs, seed=options.seed)
    report["data"] = ", ".join(columns.report.sources)
    show_left_out(output, report["measured"])
    show_metrics(output, report)
    output.result(report)


def _as_ids(column: Ids, table: View) -> Array:
    """The ids of each row; a short file of texts may have only digits where the model's had others, too."""
    values = column.values
    if table.kind == "string" and not is_text(values.type):
        values = values.cast(pa.large_string())
    return values.take(pa.array(column.codes))
