"""A lookup over HTTP beside an endpoint of bare Starlette that returns the same bytes; three minutes of all at once."""

from __future__ import annotations

import json
import logging
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import hotrow
from benchmarks import serve_soak
from benchmarks.harness import Result
from benchmarks.serve_client import ARROW, Connection, child, latencies, load, request
from benchmarks.workload import Sizes, raw_ids

log = logging.getLogger("benchmarks")

PLACE = Path(__file__).parents[1] / "build" / "serve"
ROWS, IDS = 1_000_000, 100
DIMS = (32, 64)
LEAST = 0.5
"""Of the throughput of the bare endpoint."""
TAIL = 5.0
"""How many times the median the 99th percentile may be."""
SOAK = 180.0
_CONNECTIONS, _DRAWN = 4, 200
_FEW = 10
"""Files that saves which are no longer served may still have open: none is one a save."""


def run(sizes: Sizes) -> Iterator[Result]:
    """A million rows, a hundred ids a request; both servers at once, their rounds in turns."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    try:
        for dim in DIMS:
            yield from _lookups(dim, sizes)
        yield from _soaked(sizes)
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)


def _lookups(dim: int, sizes: Sizes) -> Iterator[Result]:
    rows, requests = (sizes.rows, 20) if sizes.quick else (ROWS, 2000)
    log.info("serve: %s rows, D = %s", f"{rows:,}", dim)
    folder, ids = PLACE / f"table-{dim}", raw_ids(rows)
    table = hotrow.Table(dim)
    table.find(ids, grow=True)
    table.save(folder)
    del table
    random = np.random.default_rng(0)
    drawn = [ids[random.integers(0, rows, IDS)].tolist() for _ in range(_DRAWN)]
    with child({"path": str(folder), "method": "exact"}) as ours:  # an index would be built beside what is measured
        for way, asked in _ways(drawn).items():
            yield from _beside(dim, way, asked, ours.port, requests, sizes)
    shutil.rmtree(folder)


def _ways(drawn: list[list[int]]) -> dict[str, list[bytes]]:
    bodies = [json.dumps({"ids": ids}, separators=(",", ":")).encode() for ids in drawn]
    kind = {"Content_Type": "application/json"}
    return {
        "GET": [request("GET", "/v1/lookup?" + "&".join(f"id={id}" for id in ids)) for ids in drawn],
        "POST": [request("POST", "/v1/lookup", body, **kind) for body in bodies],
        "POST, Arrow": [request("POST", "/v1/lookup", body, **kind, Accept=ARROW) for body in bodies],
    }


def _beside(dim: int, way: str, asked: list[bytes], port: int, count: int, sizes: Sizes) -> Iterator[Result]:
    """Throughput in turns, then the latency of ours at 80 % of its own."""
    connection = Connection(port)
    answers = [connection.ask(one) for one in asked]  # every page of the table that is asked for is in memory by now
    connection.close()
    _, head, body = answers[0]
    (PLACE / "body").write_bytes(body)
    kind = next(line[14:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-type: ")).decode()
    rates: dict[str, list[float]] = {"bare Starlette, the same bytes": [], "hotrow serve": []}
    with child({"body": str(PLACE / "body"), "type": kind}) as bare:
        for turn in range(sizes.rounds):
            sides = list(zip(rates, (bare.port, port), strict=True))
            for name, at in sides if turn % 2 else sides[::-1]:
                rates[name].append(load(at, asked, count, _CONNECTIONS))
    (_, theirs), (name, ours) = rates.items()
    case = {"D": dim, "asked by": way, "kB": f"{len(body) / 1e3:.0f}"}
    title = f"Lookups of {IDS} ids of {ROWS:,} over HTTP, {_CONNECTIONS} connections"
    least = None if sizes.quick else LEAST
    yield Result(title, case, "bare Starlette, the same bytes", "requests/s", max(theirs), theirs)
    yield Result(title, case, name, "requests/s", max(ours), ours, max(ours) / max(theirs), least=least)
    taken = latencies(port, asked, count, 0.8 * statistics.median(ours), 2 * _CONNECTIONS)
    median, last = np.quantile(taken, [0.5, 0.99]).tolist()
    title, most = "Latency of hotrow serve at 80 % of that load", None if sizes.quick else TAIL
    yield Result(title, case, "median", "ms", median)
    yield Result(title, case, "99th percentile", "ms", last, ratio=last / median, most=most)


def _soaked(sizes: Sizes) -> Iterator[Result]:
    seconds = 3.0 if sizes.quick else SOAK
    log.info("serve: %.0f seconds of mixed load", seconds)
    found = serve_soak.soak(PLACE / "soak", seconds)
    title = f"{seconds:.0f} s of mixed load, saves that are swapped, and a hostile client"
    case = {"answers": f"{found.answers:,}", "saves": found.saves, "hostile": f"{found.hostile:,}"}
    yield Result(title, case, "wrong or failed", "", len(found.wrong), most=0)
    yield Result(title, case, "memory after, of before", "", found.memory, most=None if sizes.quick else 1.1)
    yield Result(title, case, "files open after, more than before", "", found.files, most=_FEW)
