"""What a program says: tables and bars for people, one JSON object for machines, one line for an error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Container, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_WIDE = 200  # columns of text in a file, which has no end of its lines


class Output:
    """Where a program's words go. With `as_json`, stdout gets nothing but the result, and words go to stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.errors = Console(stderr=True, highlight=False, soft_wrap=True)
        self.console = self.errors if as_json else Console(highlight=False, soft_wrap=True)
        _announce_to(self.errors)

    def say(self, words: str = "") -> None:
        """One line for people; ids in it are shown by `printable`."""
        self.console.print(Text(words))

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Container[int] = (0,)
    ) -> None:
        """Columns of text; those that aren't in `left` are aligned to the right. Wide ones go beyond 80 in a file."""
        table = Table(
            box=None, title=Text(title) if title else None, title_justify="left", pad_edge=False, padding=(0, 2, 0, 0)
        )
        for i, column in enumerate(columns):
            table.add_column(
                Text(column),
                justify="left" if i in left else "right",
                header_style="dim",
                no_wrap=i == 0 or i not in left,
            )
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        console = self.console
        if not console.is_terminal:
            console = Console(file=console.file, width=max(console.width, _WIDE), highlight=False)
        console.print(table)

    def result(self, value: dict[str, Any]) -> None:
        """The JSON object of `--json`: the last line of stdout, and all there is on it."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")

    @contextmanager
    def bar(
        self, what: str, facts: Callable[[dict[str, Any]], str]
    ) -> Generator[Callable[[int, int, dict[str, Any]], None]]:
        """A progress bar on stderr, with time left; yields what long calls take as `progress=`."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}"),
        )
        shown = self.errors.is_terminal  # in a file a bar would be an empty line
        with Progress(
            *columns,
            TimeRemainingColumn(),
            console=self.errors,
            transient=True,
            disable=not shown,
            redirect_stdout=sys.stdout.isatty(),  # else what is said to a file meanwhile would go to stderr
        ) as progress:
            task = progress.add_task(what, total=None, facts="")

            def advance(done: int, total: int, said: dict[str, Any]) -> None:
                progress.update(task, completed=done, total=total, facts=facts(said))

            yield advance


def _announce_to(console: Console) -> None:
    """Show the library's log, which tells of the one-time compilation."""
    handler = logging.Handler()
    handler.emit = lambda record: console.print(Text(f"hotrow: {record.getMessage()}", style="dim"))
    log = logging.getLogger("hotrow")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def printable(id: object) -> str:
    """An id for the screen: control characters are shown escaped, so that no id can move the cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(id))
