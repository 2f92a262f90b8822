"""The tables of a cluster on a screen: a line a shard, with bars for how even they are, and what is wrong in words.

127.0.0.1:6379 · 1 table · 14:25:07 · every 2 s, q ends it

clicks: 1,204,331 rows, D 32, string ids, Adam, step 18,211; 512.3 MB: rows 462.1, index 15.7, strings 34.5
  shard  state       rows              MB  pulls/s …
 1 of 2  up       602,166  ████████ 256.1     24.9 …
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from hotrow.apps.console import printable

if TYPE_CHECKING:
    from hotrow.cluster.status import ShardStatus, TableStatus

_BAR = 8  # cells
_STYLES = {"up": "green", "starting": "yellow", "restarting": "yellow", "silent": "red", "dead": "bold red"}
_NONE = "–"
_GAP = 2  # cells between columns


@dataclass(frozen=True)
class Seen:
    """What a look has shown of the cluster at this address; when, in seconds since the epoch; seconds to the next."""

    address: str
    tables: Sequence[TableStatus]
    time: float
    every: float | None = None


@dataclass(frozen=True)
class _Column:
    """A column: what is in it for a shard of a table, and how much it is missed where there is no room for all.

    missed  0: never left out
    """

    name: str
    missed: int
    cell: Callable[[TableStatus, ShardStatus], str]


def _rate(name: str, unit: float = 1.0) -> Callable[[TableStatus, ShardStatus], str]:
    def cell(_: TableStatus, shard: ShardStatus) -> str:
        return _NONE if shard.rates is None else brief(getattr(shard.rates, name) / unit)

    return cell


def _said(name: str) -> Callable[[TableStatus, ShardStatus], str]:
    def cell(_: TableStatus, shard: ShardStatus) -> str:
        return _NONE if shard.told is None else f"{getattr(shard.told, name):,}"

    return cell


def _megabytes(_: TableStatus, shard: ShardStatus) -> str:
    return _NONE if shard.told is None else f"{shard.told.bytes / 1e6:,.1f}"


def _busy(_: TableStatus, shard: ShardStatus) -> str:
    return _NONE if shard.rates is None else f"{shard.rates.busy:.0%}"


def _kept(_: TableStatus, shard: ShardStatus) -> str:
    if shard.told is None:
        return _NONE
    since = shard.told.seconds_since_keep
    return "never" if since is None else duration(since + (shard.seconds or 0.0))


def _of_ray(name: str) -> Callable[[TableStatus, ShardStatus], str]:
    def cell(_: TableStatus, shard: ShardStatus) -> str:
        value = getattr(shard, name)
        return _NONE if value is None else str(value)

    return cell


_COLUMNS = (
    _Column("shard", 0, lambda table, shard: f"{shard.index + 1} of {len(table.shards)}"),
    _Column("state", 0, lambda _, shard: shard.state),
    _Column("rows", 0, _said("rows")),
    _Column("", 7, lambda _, __: " " * _BAR),  # how even they are
    _Column("MB", 6, _megabytes),
    _Column("pulls/s", 3, _rate("pulls")),
    _Column("pushes/s", 3, _rate("pushes")),
    _Column("rows/s out", 4, _rate("rows_pulled")),
    _Column("in", 4, _rate("rows_pushed")),
    _Column("MB/s out", 2, _rate("bytes_out", 1e6)),
    _Column("in", 2, _rate("bytes_in", 1e6)),
    _Column("busy", 1, _busy),
    _Column("", 7, lambda _, __: " " * _BAR),
    _Column("lag", 2, _said("lag")),
    _Column("not on disk", 5, _said("not_on_disk")),
    _Column("kept", 8, _kept),
    _Column("waiting", 5, _said("waiting")),
    _Column("restarts", 2, _of_ray("restarts")),
    _Column("pid", 9, _of_ray("pid")),
    _Column("node", 9, _of_ray("address")),
)
_ROWS_BAR, _BUSY_BAR = 3, 12


def view(seen: Seen, console: Console) -> RenderableType:
    """All tables, as wide as the console is."""
    parts: list[RenderableType] = [_headline(seen, keys=console.is_terminal)]
    if not seen.tables:
        parts.append(Text(nothing(seen.address)))
    left_out: list[str] = []
    for table in seen.tables:
        columns, missing = _that_fit(table, console.width)
        left_out += [name for name in missing if name not in left_out]
        parts += [Text(), _about(table), _shards(table, columns, console), *_remarks(table)]
    if left_out:
        parts += [Text(), Text(f"a wider terminal shows also: {', '.join(left_out)}", style="dim")]
    return Group(*parts)


def lines(seen: Seen) -> list[str]:
    """A line a shard, for a file or a pipe."""
    at = time.strftime("%H:%M:%S", time.localtime(seen.time))
    if not seen.tables:
        return [f"{at}  {nothing(seen.address)}"]
    return [
        f"{at}  {printable(table.name)}  " + "  ".join(_in_a_line(table, shard))
        for table in seen.tables
        for shard in table.shards
    ]


def _in_a_line(table: TableStatus, shard: ShardStatus) -> list[str]:
    words, what = [], ""
    for column in _COLUMNS:
        value = column.cell(table, shard)
        if value.strip():
            what = f"{what.partition(' ')[0]} {column.name}" if column.name == "in" else column.name
            words.append(value if column.name in {"shard", "state"} else f"{what} {value}")
    return words + ([printable(shard.problem)] if shard.problem else [])


def nothing(address: str) -> str:
    """What is said where there is no table, and how one comes there."""
    return (
        f"no table is in this cluster: `hotrow train FILE --cluster {address}` makes some, and so does "
        "hotrow.cluster.Table(…, name=…); they end with the process that made them"
    )


# --- the parts -------------------------------------------------------------------------------------------------------


def _headline(seen: Seen, *, keys: bool) -> Text:
    count = len(seen.tables)
    words = [seen.address, f"{count} table{'' if count == 1 else 's'}"]
    words.append(time.strftime("%H:%M:%S", time.localtime(seen.time)))
    if seen.every is not None and keys:
        words.append(f"every {seen.every:g} s, q ends it")
    return Text(" · ".join(words), style="dim")


def _about(table: TableStatus) -> Text:
    told, parts = table.told, table.bytes_of
    text = Text(printable(table.name), style="bold")
    if told is None:
        return text.append(": no shard has answered yet", style="not bold")
    optimizer = str(told.optimizer.get("name", ""))
    ids = f"{told.ids} ids" if told.ids else "no ids yet"
    answered = sum(shard.told is not None for shard in table.shards)
    of = "" if answered == len(table.shards) else f" on the {answered} of {len(table.shards)} shards that have answered"
    words = f": {table.rows:,} rows{of}, D {told.dim}, {ids}, {optimizer}, step {table.steps:,}; "
    words += f"{sum(parts.values()) / 1e6:,.1f} MB: " + ", ".join(f"{k} {v / 1e6:,.1f}" for k, v in parts.items())
    return text.append(words, style="not bold")


def _that_fit(table: TableStatus, width: int) -> tuple[list[int], list[str]]:
    """The places of the columns for which there is room, and the names of those that are left out."""
    sizes = [
        max(len(column.name), *(len(column.cell(table, shard)) for shard in table.shards)) + _GAP for column in _COLUMNS
    ]
    chosen = list(range(len(_COLUMNS)))
    while sum(sizes[i] for i in chosen) - _GAP > width:
        most = max(_COLUMNS[i].missed for i in chosen)
        if not most:
            break
        chosen = [i for i in chosen if _COLUMNS[i].missed != most]
    names: list[str] = []
    for i, column in enumerate(_COLUMNS):
        if i not in chosen and column.name not in {"", "in", *names}:
            names.append(column.name)
    return chosen, names


def _shards(table: TableStatus, columns: list[int], console: Console) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for i in columns:
        left = i in {1, _ROWS_BAR, _BUSY_BAR, len(_COLUMNS) - 1}
        made.add_column(Text(_COLUMNS[i].name), justify="left" if left else "right", no_wrap=True)
    full = max((shard.told.rows for shard in table.shards if shard.told is not None), default=0)
    for shard in table.shards:
        cells: list[Text] = []
        for i in columns:
            if i == _ROWS_BAR:
                cells.append(_bar(shard.told.rows / full if shard.told and full else 0.0, console))
            elif i == _BUSY_BAR:
                cells.append(_bar(shard.rates.busy if shard.rates else 0.0, console))
            else:
                cells.append(Text(_COLUMNS[i].cell(table, shard), style=_STYLES[shard.state] if i == 1 else ""))
        made.add_row(*cells, style="" if shard.alive else "dim")
    return made


def _bar(share: float, console: Console) -> Text:
    """A share of 1 as a bar, in eighths of a cell where the terminal can."""
    if not console.encoding.startswith("utf"):
        return Text("#" * round(_BAR * share))
    eighths = round(8 * _BAR * share)
    return Text("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip(), style="cyan")


def _remarks(table: TableStatus) -> list[Text]:
    """What is uneven, and which shards aren't up, in sentences."""
    told = [shard.told for shard in table.shards if shard.told is not None]
    busy = [shard.rates.busy for shard in table.shards if shard.rates is not None]
    remarks: list[Text] = []
    mean = table.rows / len(table.shards)
    if len(told) == len(table.shards) > 1 and table.rows:
        words = f"the fullest shard has {max(one.rows for one in told) / mean:.2f} × the mean of rows"
        if len(busy) == len(told):
            words += f"; the busiest is busy {max(busy):.0%} of the time, the mean {sum(busy) / len(busy):.0%}"
        remarks.append(Text(words, style="dim"))
    remarks += [
        Text(f"{shard.index + 1} of {len(table.shards)}: {_trouble(shard)}", style=_STYLES[shard.state])
        for shard in table.shards
        if not shard.alive
    ]
    return remarks


def _trouble(shard: ShardStatus) -> str:
    """What a state other than "up" means, and what is seen of the shard meanwhile."""
    since = "" if shard.seconds is None else f" for {duration(shard.seconds)}"
    words = {
        "silent": f"no answer{since}; {_process(shard)} is stopped, stuck or very busy",
        "restarting": "it has died; Ray starts it again, and its owner sends it what it hasn't on disk",
        "starting": "Ray starts it, or waits for a node with a processor that is free: `ray status` says",
        "dead": "",
    }[shard.state]
    shown = "; its figures are the last that it told" if shard.told is not None else ""
    return f"{printable('; '.join(word for word in (words, shard.problem) if word))}{shown}"


def _process(shard: ShardStatus) -> str:
    return "its process" if shard.pid is None else f"process {shard.pid} on {shard.address}"


def brief(number: float) -> str:
    """A number in few cells: 24.9, 1,250, 1.2 M."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if number >= size:
            return f"{number / (1e3 if letter == ' k' else size):,.1f}{letter}"
    return f"{number:,.0f}" if number >= 100 or number == 0 else f"{number:,.1f}"


def duration(seconds: float) -> str:
    """A time in few cells: 12 s, 3 min, 2 h, 4 d."""
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
