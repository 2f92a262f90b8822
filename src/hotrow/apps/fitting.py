"""Reading and training with a bar, whatever is trained, and Ctrl-C that ends it and keeps what was learned."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hotrow.apps.clustered import Alone
from hotrow.apps.console import Output
from hotrow.apps.reading import Columns, read_columns


def read_roles(options: argparse.Namespace, roles: tuple[str, ...], output: Output, cluster: Alone) -> Columns:
    """The columns of the file that the options name for these roles."""
    with output.bar("reading", lambda facts: f"{facts.get('rows', 0):,} rows") as progress:
        return cluster.read(lambda reading: read_columns(
            options.path, {role: getattr(options, role) for role in roles}, time_format=options.time_format,
            skip_bad_lines=options.skip_bad_lines, progress=progress, reading=reading,
        ))  # fmt: skip


_POINTS = 200  # of a course: what a picture can show


@dataclass
class Course:
    """The way a training took, for its report: some 200 points of {"done", "epoch", "loss", …}, in steps done."""

    points: list[dict[str, Any]] = field(default_factory=list)

    def beside(
        self, progress: Callable[[int, int, dict[str, Any]], None]
    ) -> Callable[[int, int, dict[str, Any]], None]:
        """What `fit` takes as progress: it is noted here, too."""

        def advance(done: int, total: int, facts: dict[str, Any]) -> None:
            progress(done, total, facts)
            every = max(1, total // _POINTS)
            if done % every == 0 or done == total:
                self.points.append({"done": done} | {key: _finite(facts[key]) for key in facts if key not in _PASSING})

        return advance

    def told(self) -> dict[str, Any]:
        """The part of a report that tells of it."""
        return {"course": self.points}


_PASSING = {"pairs_per_second"}  # of the machine and the hour, not of the model


def _finite(value: Any) -> Any:
    """A number that JSON can say; None for what isn't one yet."""
    return value if isinstance(value, int) else round(value, 6) if math.isfinite(value) else None


def fitted(
    model: Any, given: Any, output: Output, course: Course, *, error: str = "loss", of: str = "pairs", **more: Any
) -> bool:
    """Train; whether Ctrl-C ended it, with something learned. The course of it is noted in `course`.

    error, of: what is shown of the progress, and what its speed counts; more: what `fit` takes besides.
    """

    def said(facts: dict[str, Any]) -> str:
        if not facts:
            return ""
        shown = error.upper() if error == "rmse" else error
        return f"epoch {facts['epoch']}  {shown} {facts[error]:.3f}  {facts['pairs_per_second']:,.0f} {of}/s"

    try:
        with output.bar("training", said) as progress:
            model.fit(given, progress=course.beside(progress), **more)
    except KeyboardInterrupt:
        if not len(model.items):
            raise
        return True
    return False
