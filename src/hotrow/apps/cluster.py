"""`hotrow cluster status`: the shards of a cluster's tables, looked at once, again and again, or for Prometheus."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live

from hotrow.apps.cluster_view import Seen, lines, view
from hotrow.apps.console import Output
from hotrow.apps.keys import keys

if TYPE_CHECKING:
    from hotrow.cluster import Watcher
    from hotrow.cluster.status import ShardStatus, TableStatus
    from hotrow.serve.program import Server

_EVERY = 2.0
"""Seconds between two looks on a terminal."""
_OVER = 1.0
"""Seconds over which rates are measured for a single look."""


def status(options: argparse.Namespace, output: Output) -> None:
    """Show the tables of a cluster in the way that is asked for."""
    from hotrow.cluster import Watcher

    text = None
    if (
        options.prometheus or options.port is not None
    ):  # an extra that is missing is told before a cluster is looked for
        from hotrow.serve import shards_text as text
    watcher = Watcher(options.cluster, patience=options.patience)
    stays = output.as_json or not output.console.is_terminal  # what is written can't be written over
    if options.port is not None:
        _answer(options, output, watcher)
    elif text is not None:
        sys.stdout.write(text(watcher.look()))
    elif options.once or (stays and options.watch is None):
        watcher.look()
        time.sleep(_OVER)
        _show(watcher, output)
    else:
        (_tell if stays else _watch)(watcher, output, options.watch or _EVERY)


def _seen(watcher: Watcher, every: float | None) -> Seen:
    return Seen(watcher.address, watcher.look(), time.time(), every)


def _show(watcher: Watcher, output: Output) -> None:
    """One look, for people or for programs."""
    seen = _seen(watcher, None)
    output.result(to_json(seen))
    if not output.as_json:
        console = output.console
        if not console.is_terminal:  # a file has no end of its lines
            console = Console(file=console.file, width=max(console.width, 200), highlight=False)
        console.print(view(seen, console), soft_wrap=False)


def _tell(watcher: Watcher, output: Output, every: float) -> None:
    """Look after look, as lines that stay: of JSON, or for people."""
    with _ended_by_ctrl_c():
        while True:
            seen = _seen(watcher, every)
            output.result(to_json(seen))
            for line in [] if output.as_json else lines(seen):
                output.say(line)
            sys.stdout.flush()  # whoever reads it wants to know now
            time.sleep(every)


def _watch(watcher: Watcher, output: Output, every: float) -> None:
    """Look after look in place, until q or Ctrl-C; the last one stays."""
    console = Console(file=output.console.file, highlight=False)
    with _ended_by_ctrl_c(), keys() as pressed, Live(console=console, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            live.update(view(_seen(watcher, every), console), refresh=True)
            if pressed(until=began + every) == "q":
                return


@contextmanager
def _ended_by_ctrl_c() -> Generator[None]:
    """Whoever watches ends it by Ctrl-C: that is no failure."""
    try:
        yield
    except KeyboardInterrupt:
        return


# --- for programs ----------------------------------------------------------------------------------------------------


def to_json(seen: Seen) -> dict[str, Any]:
    """What `--json` prints of a look: rates a second, bytes, seconds; null is what isn't known."""
    return {"cluster": seen.address, "time": seen.time, "tables": [_table(table) for table in seen.tables]}


def _table(table: TableStatus) -> dict[str, Any]:
    told, parts = table.told, table.bytes_of
    return {
        "name": table.name,
        "dim": told and told.dim,
        "ids": told and told.ids,
        "optimizer": told and told.optimizer,
        "steps": table.steps,
        "rows": table.rows,
        "bytes": sum(parts.values()),
        "bytes_of": parts,
        "shards": [_shard(shard) for shard in table.shards],
    }


_OF_TABLE = ("dim", "ids", "optimizer", "node", "pid")  # of a shard what its table, or Ray, has told already


def _shard(shard: ShardStatus) -> dict[str, Any]:
    told = None if shard.told is None else {k: v for k, v in asdict(shard.told).items() if k not in _OF_TABLE}
    more = {} if shard.told is None else {"lag": shard.told.lag, "not_on_disk": shard.told.not_on_disk}
    return {**asdict(shard), "told": told and {**told, **more}}


def _answer(options: argparse.Namespace, output: Output, watcher: Watcher) -> None:
    """Answer Prometheus until SIGTERM or Ctrl-C."""
    from pathlib import Path

    from hotrow.apps.serve import log_to, read_token
    from hotrow.serve import serve, shards_app
    from hotrow.serve.app import LOCAL

    log_to(output)
    host = options.host or "127.0.0.1"
    token = None if options.token_file is None else read_token(Path(options.token_file))
    app = shards_app(watcher.look, token=token, hosts=(*LOCAL, host))

    def started(server: Server) -> None:
        output.result({"url": f"{server.url}metrics", "cluster": watcher.address})
        sys.stdout.flush()
        if not output.as_json:
            output.say(f"Answering Prometheus at {server.url}metrics of {watcher.address}   Ctrl-C ends it")

    with _ended_by_ctrl_c():
        serve(app, host, options.port, started=started)
