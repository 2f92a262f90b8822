"""Reading and training with a bar, whatever is trained, and Ctrl-C that ends it and keeps what was learned."""

from __future__ import annotations

import argparse
from typing import Any

from hotrow.apps.console import Output
from hotrow.apps.reading import Columns, read_columns


def read_roles(options: argparse.Namespace, roles: tuple[str, ...], output: Output) -> Columns:
    """The columns of the file that the options name for these roles."""
    with output.bar("reading", lambda facts: f"{facts.get('rows', 0):,} rows") as progress:
        return read_columns(
            options.path, {role: getattr(options, role) for role in roles}, time_format=options.time_format,
            skip_bad_lines=options.skip_bad_lines, progress=progress,
        )  # fmt: skip


def fitted(model: Any, given: Any, output: Output, *, error: str = "loss", of: str = "pairs", **more: Any) -> bool:
    """Train; whether Ctrl-C ended it, with something learned.

    error, of: what is shown of the progress, and what its speed counts; more: what `fit` takes besides.
    """

    def said(facts: dict[str, Any]) -> str:
        if not facts:
            return ""
        shown = error.upper() if error == "rmse" else error
        return f"epoch {facts['epoch']}  {shown} {facts[error]:.3f}  {facts['pairs_per_second']:,.0f} {of}/s"

    try:
        with output.bar("training", said) as progress:
            model.fit(given, progress=progress, **more)
    except KeyboardInterrupt:
        if not len(model.items):
            raise
        return True
    return False
