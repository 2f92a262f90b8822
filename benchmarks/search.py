"""The ten nearest of a batch of queries among a million vectors: hotrow's index and its exact search, NumPy, usearch.

Trained vectors lie in clusters, as those that are drawn here; uniform ones, of which there are fewer, are the hardest
that there can be. Queries are drawn as the vectors are, and aren't among them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import hotrow
from benchmarks.harness import Result, UnequalError, race, results
from benchmarks.workload import Sizes
from hotrow.models import Vectors
from hotrow.search import Search

log = logging.getLogger("benchmarks")

ROWS, UNIFORM, DIM, K = 1_000_000, 100_000, 64, 10
QUERIES = 100
"""In a batch; recall is of five batches. A server is asked one at a time."""
INDEX, EXACT, NUMPY, USEARCH = "hotrow, usearch", "hotrow, exact", "NumPy product + argpartition", "usearch, exact"
OF_CLUSTER = 200
"""Vectors in a cluster on average."""


def run(sizes: Sizes) -> Iterator[Result]:
    """Milliseconds, recall, and how long an index takes to be built and updated."""
    try:
        import usearch
    except ImportError as error:
        log.warning("search is left out: %s. To have it: pip install usearch", error)
        return
    log.info("search: usearch %s", usearch.__version__)
    hotrow.set_threads(sizes.threads)
    for kind, rows in (("clustered", ROWS), ("uniform", UNIFORM)):
        yield from _measure(kind, 2_000 if sizes.quick else rows, sizes)


def _measure(kind: str, rows: int, sizes: Sizes) -> Iterator[Result]:
    vectors, queries = drawn(kind, rows, np.random.default_rng(0))
    side = Vectors.of(np.arange(rows), vectors)
    case = {"vectors": kind, "rows": f"{rows:,} × {DIM}"}
    exact = Search(side, method="exact")
    begin = time.perf_counter()
    indexed = Search(side, method="usearch", progress=_say)
    built = time.perf_counter() - begin
    truth, found = exact.near(queries, K)[0], indexed.near(queries, K)[0]
    recall = float(np.mean([len(np.intersect1d(t, f)) / K for t, f in zip(truth, found, strict=True)]))
    held = kind == "clustered" and not sizes.quick
    yield Result("Recall of the 10 nearest", case, INDEX, "%", 100 * recall, least=98.0 if held else None)
    sides = _sides(exact, indexed, vectors, sizes.threads)
    for name in (NUMPY, USEARCH):
        _check(name, sides[name](queries[:QUERIES]), truth[:QUERIES])
    for count in (1, QUERIES):
        batches = np.array_split(queries, len(queries) // count)
        asked = {name: ask for name, ask in sides.items() if count > 1 or name != USEARCH}
        turns = {name: lambda i, ask=ask, of=batches: ask(of[i % len(of)]) and None for name, ask in asked.items()}
        medians = race(turns, sizes.rounds, 5, warm=1)
        title = f"The 10 nearest, by cosine, {'one query' if count == 1 else f'{count} queries'} at a time"
        yield from results(title, case, medians, least={EXACT: 10.0} if held else None)
    yield from _updates(indexed, vectors, case, built)


def drawn(kind: str, rows: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 (rows, DIM), and queries."""
    n = rows + 5 * QUERIES
    made = random.standard_normal((n, DIM), np.float32)
    if kind == "clustered":
        centres = random.standard_normal((max(1, rows // OF_CLUSTER), DIM), np.float32)
        made *= np.float32(0.6)
        made += centres[random.integers(0, len(centres), n)]
    return made[:rows], made[rows:]


def _sides(exact: Search, indexed: Search, vectors: np.ndarray, threads: int) -> dict[str, Any]:
    from usearch.index import search

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def product(queries: np.ndarray) -> np.ndarray:
        scores = queries @ unit.T
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)

    return {
        INDEX: lambda queries: indexed.near(queries, K),
        EXACT: lambda queries: exact.near(queries, K),
        NUMPY: lambda queries: (product(queries),),
        USEARCH: lambda queries: (search(unit, queries, K, "cos", exact=True, threads=threads).keys.astype(np.int64),),
    }


def _check(name: str, found: tuple[np.ndarray, ...], truth: np.ndarray) -> None:
    """The same rows, but for those that float32 takes for equal."""
    same = float((found[0] == truth).mean())
    if same < 0.99:
        raise UnequalError(f"{name} finds {same:.1%} of what {EXACT} finds")


def _updates(indexed: Search, vectors: np.ndarray, case: dict[str, Any], built: float) -> Iterator[Result]:
    """A hundredth of all moves."""
    moved, random = vectors.copy(), np.random.default_rng(1)
    rows = random.choice(len(moved), max(1, len(moved) // 100), replace=False)
    moved[rows] += np.float32(0.3) * random.standard_normal((len(rows), DIM), np.float32)
    side = Vectors.of(np.arange(len(moved)), moved)
    begin = time.perf_counter()
    after = indexed.updated(side)
    seconds = time.perf_counter() - begin
    table = "An index after 1 % of its vectors have moved"
    yield Result(table, case, "updated", "s", seconds)
    yield Result(table, case, "built anew", "s", built, ratio=built / seconds)
    yield Result(
        "Recall after the update, 256 old rows and 256 moved ones", case, INDEX, "%", 100 * (after.recall or 0.0)
    )


def _say(done: int, total: int, facts: dict[str, Any]) -> None:
    if done == total or done * 10 // total != (done - 4096) * 10 // total:
        log.info("search: %s of %s in the index %s", f"{done:,}", f"{total:,}", facts or "")
