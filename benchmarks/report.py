"""Results as tables in the terminal, as JSON lines, and as docs/performance.md and its pictures, which no hand makes.

python -m benchmarks.report        # docs/performance.md and docs/performance/ anew from benchmarks/results
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Result
from hotrow.apps import charts
from hotrow.apps.charts import Curve, Series
from hotrow.apps.phases import PHASES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
FOLDER = "performance"
"""Of the pictures, beside the page."""
ORDER = (
    *("step", "phases", "sweeps", "small", "lookup", "raw", "strings", "insert"),
    *("growth", "scaling", "memory", "bigger", "durability", "startup", "serve", "cluster", "simulate", "staleness"),
    *("fit", "features", "click", "jax_step", "retrieval", "quality", "two_towers", "ratings", "frappe", "search"),
    "page",
)

INTRODUCTION = """\
<!-- Written by `python -m benchmarks.report` from benchmarks/results: run `make bench` again in place of editing. -->

# Performance

`make bench` measures hotrow beside its peers, in one process, on the same ids, first weights and gradients. Before a
side is timed, it must compute the same vectors as all others. Then rounds take turns, A B C, B C A, …; a round is the
median of its steps, and each side is judged by its fastest round. TensorFlow Recommenders Addons (TFRA) needs an old
TensorFlow: it takes its turns in a process of its own, and keeps the clock there (`make bench-tfra` brings it in).

A number in parentheses is how many times as long that side takes as the first one of its table. ✓ and ✗ say whether
it is where the project wants it.

hotrow is given **raw ids**, random 64-bit integers that it has to find. torch and FBGEMM have no way from an id to a
row: they are given **ready-made rows**, 0 to V − 1, and FBGEMM raw ids once more, behind the quickest map that we found
to put before it. Their OpenMP threads sleep while they wait, for on a machine that does anything else that is faster;
what was set stands in the list of facts below each benchmark.

`hotrow bench` shows where a step's time goes on your own machine, in some ten seconds.
"""


def tables(results: Iterable[Result], text: Callable[[Result], str]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, columns, rows) of each table: a row for each case, a column for each side.

    A result without a side is a sentence: it has a title and nothing else.
    """
    return [(_title(group), *_pivot(group, text)) for group in _grouped(results)]


def _grouped(results: Iterable[Result]) -> list[list[Result]]:
    grouped: dict[str, list[Result]] = {}
    for result in results:
        grouped.setdefault(result.table, []).append(result)
    return list(grouped.values())


def _title(group: list[Result]) -> str:
    unit = group[0].unit
    return f"{group[0].table}, {unit}" if unit else group[0].table


def _pivot(group: list[Result], text: Callable[[Result], str]) -> tuple[list[str], list[list[str]]]:
    if not group[0].side:
        return [], []
    sides = list(dict.fromkeys(result.side for result in group))
    cases: dict[tuple, dict[str, str]] = {}
    for result in group:
        cases.setdefault(tuple(result.case.values()), {})[result.side] = text(result)
    rows = [[*map(str, case), *(cells.get(side, "–") for side in sides)] for case, cells in cases.items()]
    return [*group[0].case, *sides], rows


def cell(result: Result) -> str:
    """A result as text: its best round, its ratio, and whether it is where it must be."""
    ratio = "" if result.ratio is None else f" ({result.ratio:.2f}×)"
    return _number(result.best, result.unit) + ratio + {None: "", True: " ✓", False: " ✗"}[result.holds]


def _number(value: float, unit: str) -> str:
    places = 4 if unit == "stars" else 0 if unit in {"", "B"} or value >= 1000 else 1 if value >= 100 else 2
    return f"{value:,.{places}f}"


def _with_median(result: Result) -> str:
    if result.unit != "ms" or not result.rounds:
        return cell(result)
    return f"{cell(result)}\n[dim]median {_number(statistics.median(result.rounds), result.unit)}[/dim]"


def show(results: Iterable[Result]) -> None:
    """Print the tables; below the best round of a side the median of its rounds, which shows how calm it was."""
    console = Console()
    for title, columns, rows in tables(results, _with_median):
        console.print(title, style="bold")
        if not rows:
            continue
        table = Table()
        for column in columns:
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def to_lines(facts: dict[str, Any], results: Iterable[Result]) -> str:
    """JSON, a line each: first the facts of the machine, then the results."""
    lines = [{"machine": facts}, *({**asdict(result), "holds": result.holds} for result in results)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def from_lines(text: str) -> tuple[dict[str, Any], list[Result]]:
    """The inverse of `to_lines`."""
    first, *rest = map(json.loads, text.splitlines())
    return first["machine"], [Result(**{k: v for k, v in line.items() if k != "holds"}) for line in rest]


def to_markdown(name: str, facts: dict[str, Any], results: Iterable[Result]) -> tuple[str, dict[str, str]]:
    """A section of the page: the tables of a benchmark, then where it ran. And its pictures, by the names of files."""
    parts, pictures = [f"## {name.capitalize().replace('_', ' ')}\n"], dict[str, str]()
    for group in _grouped(results):
        title, (columns, rows) = _title(group), _pivot(group, cell)
        if not rows:
            parts.append(f"{title}\n")
            continue
        parts.append(f"**{title}**\n")
        picture = PICTURES[name](group) if name in PICTURES else None
        if picture:
            file = f"{name}-{len(pictures) + 1}.svg"
            pictures[file] = picture
            parts.append(f"![{title}]({FOLDER}/{file})\n")
        cells = [columns, ["---"] * len(columns), *rows]
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in cells) + "\n")
    parts.append("Measured with: " + " · ".join(f"{key} {value}" for key, value in facts.items()) + "\n")
    return "\n".join(parts), pictures


def _bars(group: list[Result]) -> str | None:
    """A step's phases as the parts of bars, one for each case, and the limit as a mark across each."""
    names, sides = _by_side(group)
    parts = [Series(phase, sides[phase]) for phase in PHASES if phase in sides]
    limit = Series("the limit", sides["the limit"]) if "the limit" in sides else None
    return charts.bars(group[0].table, names, parts, group[0].unit, limit) if parts else None


def _lines(group: list[Result]) -> str:
    """A line for each side, over the cases."""
    names, sides = _by_side(group)
    series = [Series(side, values) for side, values in sides.items()]
    axis = next(iter(group[0].case))
    return charts.lines(
        group[0].table, [name.removeprefix(f"{axis} = ") for name in names], series, axis, group[0].unit
    )


def _curves(group: list[Result]) -> str | None:
    """A curve for each side of a case, its two columns across and up."""
    if list(group[0].case) != ["side", "with"]:
        return None
    across, up = dict.fromkeys(result.side for result in group)
    found = {(result.case["side"], result.case["with"], result.side): result.best for result in group}
    curves = [
        Curve(
            side,
            [(found[s, point, across], found[s, point, up]) for s, point, name in found if (s, name) == (side, up)],
        )
        for side in dict.fromkeys(result.case["side"] for result in group)
    ]
    return charts.curves(group[0].table, curves, across, up)


def _simulated(group: list[Result]) -> str | None:
    """A row's bytes as the parts of bars, and rates as lines over shards."""
    names, sides = _by_side(group)
    if group[0].unit == "B":
        short = [name.removeprefix(" = ") for name in names]
        return charts.bars(group[0].table, short, [Series(side, values) for side, values in sides.items()], "B")
    return _lines(group) if list(group[0].case) == ["shards"] else None


PICTURES: dict[str, Callable[[list[Result]], str | None]] = {
    "phases": _bars,
    "sweeps": _lines,
    "quality": _curves,
    "simulate": _simulated,
}
"""Benchmark → the picture of one of its tables, if it has one."""


def _by_side(group: list[Result]) -> tuple[list[str], dict[str, list[float | None]]]:
    """The names of the cases, and side → a number for each."""
    names = {}
    for result in group:
        names[tuple(result.case.items())] = ", ".join(v if k == "ids" else f"{k} = {v}" for k, v in result.case.items())
    found = {(tuple(result.case.items()), result.side): result.best for result in group}
    sides = dict.fromkeys(result.side for result in group)
    return list(names.values()), {side: [found.get((case, side)) for case in names] for side in sides}


def write_page(results: Path = RESULTS, page: Path = PAGE) -> None:
    """The page of all that is in the folder of results, and its pictures in a folder beside it."""
    found = [results / f"{name}.jsonl" for name in ORDER]
    sections = [to_markdown(path.stem, *from_lines(path.read_text("utf-8"))) for path in found if path.exists()]
    folder = page.parent / FOLDER
    folder.mkdir(exist_ok=True)
    for _, pictures in sections:
        for name, picture in pictures.items():
            (folder / name).write_text(picture, "utf-8")
    page.write_text("\n".join([INTRODUCTION, *(text for text, _ in sections)]), "utf-8")


if __name__ == "__main__":
    write_page()
