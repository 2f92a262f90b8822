"""What a user waits for before the first vector: the import, and once the compilation."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Result
from benchmarks.workload import Sizes

log = logging.getLogger("benchmarks")

IMPORT_MOST = 1.5
"""How many times as long as `import numba` the import of hotrow may take."""
COMPILE_MOST = 20.0
"""Seconds that a first session may take, compilation and all."""
FILES = {"matplotlib", "pandas", "polars", "pyarrow", "rich", "safetensors", "scipy", "sklearn"}
FRAMEWORKS = {"fbgemm_gpu", "jax", "keras", "tensorflow", "torch"}
HEAVY = FILES | FRAMEWORKS
"""What `import hotrow` must not bring in. (Numba brings SciPy in where it is installed.)"""

IMPORT = """
import json, sys, time
begin = time.perf_counter()
import {module}
print(json.dumps([time.perf_counter() - begin, sorted({heavy!r} & sys.modules.keys())]))
"""

SESSION = """
import time
begin = time.perf_counter()
import numpy as np
import hotrow
hotrow.set_threads({threads})
table = hotrow.Table(16, optimizer=hotrow.Adam(1e-3))
ids = np.arange(40_000) % 9_973 * 1_000_003
batch = table.find(ids, grow=True)
table.lookup(batch)
table.update(batch, np.ones((len(ids), 16), np.float32))
table.lookup(ids, out=np.empty((len(ids), 16), np.float32))
offsets = np.arange(0, len(ids) + 1, 10)
for pooling in ("sum", "mean", "sqrtn", "max"):
    bags = table.find(ids, grow=True, offsets=offsets, pooling=pooling)
    table.lookup(bags)
    table.update(bags, np.ones((len(offsets) - 1, 16), np.float32))
print(time.perf_counter() - begin)
"""


def run(sizes: Sizes) -> Iterator[Result]:
    """The import beside numba's, what it brings in, and a first and a second session."""
    yield from _imports(sizes)
    yield from _sessions(sizes)


def _imports(sizes: Sizes) -> Iterator[Result]:
    log.info("startup: import")

    codes = {module: IMPORT.format(module=module, heavy=HEAVY) for module in ("numba", "hotrow")}
    sides = {f"import {module}": lambda i, code=code: _child(code)[0] for module, code in codes.items()}
    medians = harness.race(sides, sizes.rounds, 1 if sizes.quick else 3, warm=1)
    most = None if sizes.quick else {"import hotrow": IMPORT_MOST}
    yield from harness.results("Import", {"in": "a new process"}, medians, most=most)
    brought = {module: set(_child(code)[1]) for module, code in codes.items()}
    more = brought["hotrow"] - brought["numba"]
    title = "Frameworks and file formats that the import brings in, beside Numba's own"
    yield Result(title, {"which": ", ".join(sorted(more)) or "none"}, "import hotrow", "", len(more), most=0)


def _sessions(sizes: Sizes) -> Iterator[Result]:
    log.info("startup: first and second session")
    code = SESSION.format(threads=sizes.threads)
    with tempfile.TemporaryDirectory() as empty:
        # A smoke run takes the machine code that is there, for compiling it all would be most of the run.
        cache = {} if sizes.quick else {"NUMBA_CACHE_DIR": empty}
        first, second = _child(code, cache), _child(code, cache)
    title = "A session of integer ids: import, find, lookup, Adam's update, bags pooled in four ways"
    most = None if sizes.quick else COMPILE_MOST
    yield Result(title, {"threads": sizes.threads}, "the first, which compiles", "s", first, most=most)
    yield Result(title, {"threads": sizes.threads}, "the second, from the cache", "s", second)


def _child(code: str, environment: dict[str, str] | None = None) -> list:
    command = [sys.executable, "-c", code]
    where = Path(__file__).parents[1]
    variables = os.environ | (environment or {})
    done = subprocess.run(command, cwd=where, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)
