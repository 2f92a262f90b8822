"""Sides beside each other in one process: checked for the same numbers first, then timed in rounds that take turns.

On a machine that does other things too, a time alone says little: only sides whose rounds alternate compare, and each
is judged by its fastest round, the one that was least disturbed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Peer

Side = Callable[[int], float | None]
"""Does step i. Returns the seconds it took if it keeps its own clock (another process does), else None."""

_ENOUGH = 1.5  # seconds after which a round of a slow side ends early


@dataclass(frozen=True)
class Result:
    """One number of one side, and what it must hold. A table of the report is all the results with its title."""

    table: str
    case: dict[str, Any]
    side: str
    unit: str
    best: float
    rounds: list[float] = field(default_factory=list)
    ratio: float | None = None  # to the side that the table is about
    least: float | None = None
    most: float | None = None
    difference: float | None = None  # the largest, of any number, to the side that the table is about

    @property
    def holds(self) -> bool | None:
        """Whether the ratio, or without one the number itself, is where it must be; None if nothing is asked."""
        if self.least is None and self.most is None:
            return None
        value = self.best if self.ratio is None else self.ratio
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def race(sides: Mapping[str, Side], rounds: int, steps: int, warm: int = 2) -> dict[str, list[float]]:
    """The median milliseconds of a step in each round of each side; the sides take turns: A B C, B C A, C A B.

    The first `warm` steps of a round aren't timed: caches and thread pools change hands.
    """
    names, medians = list(sides), {name: list[float]() for name in sides}
    for r in range(rounds):
        turn = r % len(names)
        for name in names[turn:] + names[:turn]:
            medians[name].append(1e3 * statistics.median(_round(sides[name], r * steps, steps, warm)))
    return medians


def _round(side: Side, first: int, steps: int, warm: int) -> list[float]:
    taken, begin = [], time.perf_counter()
    for i in range(-warm, steps):
        seconds = _timed(side, first + i + warm)
        if i >= 0:
            taken.append(seconds)
        if len(taken) >= 2 and time.perf_counter() - begin > _ENOUGH:
            break
    return taken


def _timed(side: Side, i: int) -> float:
    begin = time.perf_counter()
    own = side(i)
    return time.perf_counter() - begin if own is None else own


def results(
    table: str,
    case: dict[str, Any],
    medians: Mapping[str, list[float]],
    *,
    least: Mapping[str, float] | None = None,
    most: Mapping[str, float] | None = None,
    differences: Mapping[str, float] | None = None,
) -> list[Result]:
    """The results of a race. Ratios are to its first side: how many times as long the others take.

    least and most are bounds of that ratio, by the name of a side.
    """
    best = {name: min(rounds) for name, rounds in medians.items()}
    about = next(iter(best))
    return [
        Result(
            table,
            case,
            name,
            "ms",
            best[name],
            medians[name],
            None if name == about else best[name] / best[about],
            (least or {}).get(name),
            (most or {}).get(name),
            (differences or {}).get(name),
        )
        for name in best
    ]


class UnequalError(AssertionError):
    """Two sides were given the same and computed something else: there is nothing to time."""


def label(peer: Peer) -> str:
    """How a side is called in a table: its name, and what it is given."""
    return f"{peer.name}, {peer.given}"


def check_equal(
    peers: Sequence[Peer], batches: Sequence[np.ndarray], gradients: np.ndarray | None, tolerance: float = 1e-5
) -> dict[str, float]:
    """Look the batches up, take a step with each if there are gradients, look them up again; all sides must agree.

    Returns the largest difference of each side to the first one; raises UnequalError beyond the tolerance.
    """
    differences = {label(peer): 0.0 for peer in peers}
    _compare(peers, batches, differences, tolerance)
    if gradients is not None:
        for peer in peers:
            _step_small_and_large(peer, batches, gradients)
        _compare(peers, batches, differences, tolerance)
    return differences


def _step_small_and_large(peer: Peer, batches: Sequence[np.ndarray], gradients: np.ndarray) -> None:
    """From gradients as small as epsilon to full ones.

    A large gradient of Adam or Adagrad may be any multiple of itself: only beside epsilon does its size show.
    """
    for power, rows in zip(np.linspace(-28, 0, len(batches)), batches, strict=True):
        peer.step(peer.ids(rows), peer.gradients(gradients * np.float32(2.0 ** round(power))))


def _compare(
    peers: Sequence[Peer], batches: Sequence[np.ndarray], differences: dict[str, float], tolerance: float
) -> None:
    for rows in batches:
        expected = np.asarray(peers[0].lookup(peers[0].ids(rows)))
        for peer in peers[1:]:
            # NaN is no number: a difference that is one must not pass for a small one
            difference = float(
                np.nan_to_num(np.abs(np.asarray(peer.lookup(peer.ids(rows))) - expected), nan=np.inf).max()
            )
            differences[label(peer)] = max(differences[label(peer)], difference)
            if difference > tolerance:
                raise UnequalError(
                    f"{peer.name} is {difference:.3g} away from {peers[0].name}; at most {tolerance:g} is allowed"
                )


def steps_of(peers: Sequence[Peer], batches: Sequence[np.ndarray], gradients: np.ndarray) -> dict[str, Side]:
    """The sides of a race of training steps; what each is given is made here, before the clock starts."""

    def side(peer: Peer) -> Side:
        given, back = [peer.ids(rows) for rows in batches], peer.gradients(gradients)
        return lambda i: peer.step(given[i % len(given)], back)

    return {label(peer): side(peer) for peer in peers}


def lookups_of(peers: Sequence[Peer], batches: Sequence[np.ndarray], out: np.ndarray | None) -> dict[str, Side]:
    """The sides of a race of lookups, into new memory or into `out`."""

    def side(peer: Peer) -> Side:
        given = [peer.ids(rows) for rows in batches]

        return lambda i: peer.look(given[i % len(given)], out)

    return {label(peer): side(peer) for peer in peers}


def in_a_child(module: str, case: Mapping[str, Any]) -> Any:
    """What `python -m module CASE` prints, both as JSON: for what must have a process of its own."""
    command = [sys.executable, "-m", module, json.dumps(case)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)
