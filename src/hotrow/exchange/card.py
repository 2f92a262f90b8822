"""The model card: README.md in a model's folder, as model hubs show it, of what hotrow knows about the model.

    ---                          YAML: library, tags, metrics; no licence, which is the owner's to give
    library_name: hotrow
    ---
    <!-- MARK -->                what tells it from somebody's own README.md, which is never written over
    # name                       data, protocol, metrics beside popularity, sizes, how to ask, limits

It has no id of a side in it, so nothing of it needs to be forgotten; names of files and columns are escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME = "README.md"
MARK = "<!-- Written by hotrow. `hotrow card` writes it anew, as long as this line is in it. -->"
_READ = 1 << 16
_LONGEST = 200  # characters of a name
_PUNCTUATION = frozenset("\\`*_[]()#!|<>&~$")
_LINKS = re.compile(r"www\.|@.*\.|[a-z]:/", re.IGNORECASE)  # what becomes a link without being marked as one


@dataclass(frozen=True)
class Table:
    """What is told of a table: rows, floats a vector, kind of ids, bytes on disk (None where they are in a net)."""

    name: str
    rows: int
    dim: int
    ids: str | None
    optimizer: str
    bytes: int | None


@dataclass(frozen=True)
class Facts:
    """What a card is made of.

    kind     "retrieval", "ratings", "next", "classifier" or "table"
    report   what `hotrow train` wrote beside the model, or None
    config   the settings of the model
    classes  of a classifier
    """

    name: str
    kind: str
    version: str
    tables: list[Table]
    report: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    classes: list[Any] = field(default_factory=list[Any])


def is_ours(path: Path) -> bool:
    """Whether a README.md is a card of hotrow's, or isn't there: else it is somebody's own."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return False
    if not path.exists():
        return True
    with path.open("rb") as file:
        return MARK.encode() in file.read(_READ).splitlines()


def card(facts: Facts) -> str:
    """The card, in Markdown; KeyError or TypeError for a report that isn't what `hotrow train` writes.

    >>> text = card(Facts("lamps", "table", "0.1", [Table("id", 2, 4, "string", "Adam", 100)]))
    >>> text.splitlines()[:3], "2 ids" in text
    (['---', 'library_name: hotrow', 'tags:'], True)
    """
    sections = [_KINDS[facts.kind].what(facts)]
    if facts.report is not None:
        sections += [_data(facts.report), _protocol(facts), _metrics(facts)]
    elif facts.kind != "table":
        sections.append("## Metrics\n\nNot measured: the training was stopped, or there is no report of it.")
    sections += [_sizes(facts), _KINDS[facts.kind].use(facts), _limits(facts)]
    body = "\n\n".join(sections)
    return f"---\n{_front(facts)}---\n\n{MARK}\n\n# {plain(facts.name)}\n\n{body}\n"


# --- text ------------------------------------------------------------------------------------------------------------


def plain(text: Any) -> str:
    r"""A name as plain Markdown, whatever is in it: punctuation loses its meaning, control characters are shown.

    >>> plain("a|b<script>")
    'a\\|b\\<script\\>'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
    marks = _PUNCTUATION | {".", "@", ":"} if _LINKS.search(shown) else _PUNCTUATION
    return "".join("\\" + c if c in marks else c for c in shown)


def quoted(text: Any) -> str:
    r"""A name as a YAML string.

    >>> quoted('a"b')
    '"a\\"b"'
    """
    shown = str(text)[:_LONGEST]
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else _yaml_escape(c) for c in shown) + '"'


def _yaml_escape(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    code = 0xFFFD if 0xD800 <= ord(c) < 0xE000 else ord(c)  # half a surrogate pair is no character of YAML's
    return f"\\U{code:08X}"


def _number(value: Any) -> str:
    """A number as YAML has it: `nan`, and `1e-05` without a point, would be text."""
    number = float(value)
    if math.isfinite(number):
        digits, e, exponent = f"{number:.6g}".partition("e")
        return digits + (".0" if e and "." not in digits else "") + e + exponent
    return ".nan" if math.isnan(number) else ".inf" if number > 0 else "-.inf"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- YAML ------------------------------------------------------------------------------------------------------------


def _front(facts: Facts) -> str:
    lines = ["library_name: hotrow", "tags:", *(f"- {tag}" for tag in ["embeddings", *_KINDS[facts.kind].tags])]
    if facts.report is not None:
        lines += [
            "model-index:", f"- name: {quoted(facts.name)}", "  results:", "  - task:",
            f"      type: {_KINDS[facts.kind].task}", "    dataset:", "      type: file",
            f"      name: {quoted(facts.report['data'])}", "    metrics:",
        ]  # fmt: skip
        for name, value in facts.report["model"].items():
            lines += [f"    - type: {quoted(name)}", f"      value: {_number(value)}"]
    return "\n".join(lines) + "\n"


# --- sections --------------------------------------------------------------------------------------------------------


def _data(report: dict[str, Any]) -> str:
    rows = [[plain(name.replace("_", " ")), _count(value)] for name, value in report["rows"].items()]
    words = [f"Trained on {plain(report['data'])}."]
    columns = report.get("columns")
    if isinstance(columns, dict):
        words.append("Columns: " + ", ".join(f"{role} {plain(name)}" for role, name in columns.items()) + ".")
    if isinstance(columns, list):
        shown = ", ".join(f"{plain(one['name'])} ({plain(one['kind'])})" for one in columns)
        words.append(f"Columns: {shown}.")
    return f"## Data\n\n{' '.join(words)}\n\n{_table(['', 'rows'], rows)}"


def _count(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{plain(name)} {number:,}" for name, number in value.items())
    return f"{value:,}" if isinstance(value, int) else plain(value)


def _protocol(facts: Facts) -> str:
    assert facts.report is not None
    told = facts.report.get("protocol", {})
    lines = [f"Held out to measure with: {plain(told['held_out'])}."] if "held_out" in told else []
    if "seed" in told:
        lines.append(f"Seed of the split and of the training: {told['seed']}.")
    settings = ", ".join(
        f"{plain(name)} {plain(value)}" for name, value in facts.config.items() if value is not None and name != "seed"
    )
    if settings:
        lines.append(f"Settings: {settings}.")
    lines.append(f"Trained in {facts.report['seconds']:.0f} s with hotrow {plain(facts.version)}.")
    return "## Protocol\n\n" + "\n".join(lines)


def _metrics(facts: Facts) -> str:
    report = facts.report
    assert report is not None
    sides = {"model": "model", **{key: shown for key, shown in _BESIDE.items() if key in report}}
    bounds = report.get("intervals", {})
    columns = ["held-out"]
    for key, shown in sides.items():
        columns += [shown, "95 %"] if key in bounds else [shown]
    rows: list[list[str]] = []
    for name in report["model"]:
        row = [plain(name)]
        for key in sides:
            row.append(f"{report[key][name]:.4f}")
            if key in bounds:
                low, high = bounds[key][name]
                row.append(f"{low:.4f} to {high:.4f}")
        rows.append(row)
    words = "Intervals are of users drawn anew, 19 times of 20.\n\n" if bounds else ""
    return f"## Metrics\n\n{words}{_table(columns, rows)}"


_BESIDE = {
    "popularity": "popularity",
    "baseline": "means and biases alone",
    "logistic": "logistic regression",
    "majority": "shares of the classes",
}


def _sizes(facts: Facts) -> str:
    rows = [
        [plain(one.name), f"{one.rows:,}", str(one.dim), str(one.ids), plain(one.optimizer), _bytes(one.bytes)]
        for one in facts.tables
    ]
    return "## Sizes\n\n" + _table(["table", "rows", "floats a row", "ids", "optimizer", "bytes on disk"], rows)


def _bytes(count: int | None) -> str:
    return "in the net" if count is None else f"{count:,}"


def _limits(facts: Facts) -> str:
    lines = [
        *_KINDS[facts.kind].limits,
        "What it learned is what is in its data: where that is one-sided, so are its answers.",
        "A checksum tells that a file is as it was written, and not by whom: sign what you pass on.",
    ]
    lines.append("No licence is given here: the owner of the data and of the model adds `license:` at the top.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


# --- kinds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """What is said of one kind of model."""

    task: str
    tags: list[str]
    what: Callable[[Facts], str]
    use: Callable[[Facts], str]
    limits: list[str]


_INSTALL = "`pip install hotrow`; in the folder that this file is in:"


def _use(code: str, *commands: str, install: str = _INSTALL) -> str:
    console = "\n".join(f"$ hotrow {command}" for command in ("inspect .", *commands))
    return f"## Use\n\n{install}\n\n```python\n{code}```\n\n```console\n{console}\n```"


def _rows_of(facts: Facts, name: str) -> str:
    return next((f"{one.rows:,}" for one in facts.tables if one.name == name), "no")


def _of_pairs(facts: Facts) -> str:
    users, items = _rows_of(facts, "users"), _rows_of(facts, "items")
    return (
        f"Vectors of {users} users and {items} items, trained by hotrow on pairs that "
        "happened. It recommends items to users, also to somebody new by what they have, and tells which are alike."
    )


def _of_ratings(facts: Facts) -> str:
    users, items = _rows_of(facts, "users"), _rows_of(facts, "items")
    return (
        f"Vectors and biases of {users} users and {items} items, trained by hotrow on "
        "ratings. It predicts how a user rates an item."
    )


def _of_next(facts: Facts) -> str:
    return (
        f"Vectors of {_rows_of(facts, 'items')} items, trained by hotrow on the order "
        "of users' items. It tells what comes next after a history; it keeps no users."
    )


def _of_classes(facts: Facts) -> str:
    classes = ", ".join(plain(label) for label in facts.classes[:20])
    more = f" and {len(facts.classes) - 20} more" if len(facts.classes) > 20 else ""
    return f"A classifier into {classes}{more}: vectors of ids under a small Keras net, trained by hotrow."


def _of_table(facts: Facts) -> str:
    (one,) = facts.tables
    return f"A table of {one.rows:,} ids with a vector of {one.dim} floats each, of hotrow."


def _use_pairs(_: Facts) -> str:
    return _use(
        "from hotrow.models import Retrieval\n\n"
        'model = Retrieval.load(".")\n'
        "user = model.users.ids()[:1].tolist()\n"
        "items = model.items.ids()[:2].tolist()\n"
        "ids, scores = model.recommend(user, k=5)            # what this user doesn't have yet\n"
        "ids, scores = model.similar(items, k=5)             # by cosine\n"
        "ids, scores = model.recommend_for([items], k=5)     # for somebody that no fit has seen, by what they have\n",
        "recommend . USER", "similar . ITEM", "serve .",
    )  # fmt: skip


def _use_ratings(_: Facts) -> str:
    return _use(
        "from hotrow.models import Ratings\n\n"
        'model = Ratings.load(".")\n'
        "user = model.users.ids()[:1].tolist()\n"
        "item = model.items.ids()[:1].tolist()\n"
        "model.predict((user, item))                         # the rating\n"
        "ids, ratings = model.recommend(user, k=5)\n",
        "recommend . USER", "similar . ITEM", "serve .",
    )  # fmt: skip


def _use_next(_: Facts) -> str:
    return _use(
        "from hotrow.models import NextItem\n\n"
        'model = NextItem.load(".")\n'
        "items = model.items.ids()[:2].tolist()\n"
        "ids, scores = model.recommend([items], k=5)         # after a history, oldest first\n"
        "ids, scores = model.similar(items, k=5)\n",
        "recommend . --after ITEM", "similar . ITEM", "serve .",
    )  # fmt: skip


def _use_classes(facts: Facts) -> str:
    asked = "".join(
        f"table = model.table({one.name!r})\nvector = table.lookup(table.ids()[:1])              # of a value\n"
        for one in facts.tables[:1]
    )
    return _use(
        f'from hotrow.models import Classifier\n\nmodel = Classifier.load(".")\nmodel.classes\n{asked}',
        "predict . FILE", "serve .",
        install='`pip install "hotrow[torch]"`, or `[jax]` or `[tensorflow]`; in the folder that this file is in:',
    )  # fmt: skip


def _use_table(_: Facts) -> str:
    return _use(
        "import hotrow\n\n"
        'view = hotrow.view(".")                             # mapped from disk, to look up\n'
        "vectors = view.lookup(view.ids()[:2])\n"
        'table = hotrow.load(".")                            # in memory, to train on\n',
        "lookup . --id ID", "similar . ID", "serve .",
    )  # fmt: skip


_NEW = "An item in no training pair can't be recommended, unless the model has features of it."
_KINDS = {
    "retrieval": _Kind("recommendation", ["recommender"], _of_pairs, _use_pairs, [
        _NEW, "Scores order the items for one user; they are no probabilities, and users' aren't to be compared.",
    ]),
    "ratings": _Kind("tabular-regression", ["recommender", "ratings"], _of_ratings, _use_ratings, [
        "A user or an item in no rating has the others' mean alone.",
        "Ratings are of those who chose to rate: of all others it knows nothing.",
    ]),
    "next": _Kind("recommendation", ["recommender", "sequential"], _of_next, _use_next, [
        "An item that no fit has seen is never recommended, and says nothing in a history.",
    ]),
    "classifier": _Kind("tabular-classification", ["tabular-classification"], _of_classes, _use_classes, [
        "Probabilities are those of rows like its training rows; a value that it hasn't seen means nothing to it.",
    ]),
    "table": _Kind("feature-extraction", [], _of_table, _use_table, [
        "An id without a row has its first value, a function of the id alone, which means nothing.",
    ]),
}  # fmt: skip
