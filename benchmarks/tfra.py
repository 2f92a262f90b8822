"""TensorFlow Recommenders Addons as a side: in a Python of its own, for its last wheel is for TensorFlow 2.16 alone.

tfra_child.py keeps the clock there. Arrays go to it as files, questions and answers through pipes, a JSON line each.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import weakref
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.peers import Peer
from benchmarks.workload import EPSILON, RATES, Workload

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / "build" / "tfra" / "bin" / "python"


class Child:
    """A process that holds one table of TFRA's: `dynamic_embedding.get_variable` on the CPU.

    expected is the number of ids that it is told of beforehand, 0 for a table that grows.
    """

    def __init__(self, dim: int, expected: int, threads: int, optimizer: str | None = None, rate: float = 0.0) -> None:
        folder = tempfile.TemporaryDirectory()
        self._folder, self._numbers = Path(folder.name), count()
        case = {"dim": dim, "expected": expected, "threads": threads}
        case |= {"optimizer": optimizer, "rate": rate, "epsilon": EPSILON}
        self._said = self._folder / "said"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [PYTHON, ROOT / "benchmarks" / "tfra_child.py", json.dumps(case)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        self.close = weakref.finalize(self, _end, self._process, folder)
        self._answer()  # it is there

    def keep(self, array: np.ndarray) -> str:
        """Write an array to where the child reads it, and keeps it; returns its name."""
        path = self._folder / f"{next(self._numbers)}.npy"
        np.save(path, array)
        return str(path)

    def insert(self, ids: np.ndarray, vectors: np.ndarray) -> float:
        """Give ids these vectors; returns the seconds that it took."""
        given = {"ids": self.keep(ids), "vectors": self.keep(vectors)}
        seconds = self.ask("insert", **given)["seconds"]
        for name in given.values():
            Path(name).unlink()
        return seconds

    def lookup(self, ids: str) -> np.ndarray:
        """The vectors of ids that were kept: float32 (n, dim)."""
        out = self._folder / "out.npy"
        self.ask("lookup", ids=ids, out=str(out))
        return np.load(out)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have the child do something; returns its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):  # printed by an import
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"TFRA's process ended; it said:\n{self._said.read_text('utf-8', 'replace')[-3000:]}")
        return json.loads(line)


def _end(process: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str]) -> None:
    with process:  # closes the pipe, at which it ends by itself, and waits
        pass
    folder.cleanup()


class Tfra(Peer):
    """A dynamic_embedding.Variable of the cuckoo hash table, trained by DynamicEmbeddingOptimizer.

    At its best: told the number of ids beforehand; a lookup is the variable's own, called eagerly, which was no slower
    than in a tf.function; a step is its `embedding_lookup_unique` and the optimizer in one tf.function.
    """

    name, given = "TFRA 0.8.1", "raw ids"
    optimizers: ClassVar = {"adam": "Adam", "adagrad": "Adagrad"}
    needs = ("tensorflow_recommenders_addons", "make bench-tfra, with Python 3.11")
    takes_out = False
    widths = (32,)

    def __init__(self, work: Workload, threads: int) -> None:
        rate = RATES[work.optimizer]
        self._ids = work.ids
        self._child = Child(work.dim, work.rows, threads, self.optimizers[work.optimizer], rate)
        for rows, weights in work.weights():
            self._child.insert(self._ids[rows], weights)

    def ids(self, rows: np.ndarray) -> str:
        return self._child.keep(self._ids[rows])

    def gradients(self, array: np.ndarray) -> str:
        return self._child.keep(array)

    def lookup(self, ids: str, out: Any = None) -> np.ndarray:
        return self._child.lookup(ids)

    def look(self, ids: str, out: Any = None) -> float:
        return self._child.ask("lookup", ids=ids)["seconds"]

    def step(self, ids: str, gradients: str) -> float:
        return self._child.ask("step", ids=ids, gradients=gradients)["seconds"]

    @classmethod
    def missing(cls) -> str | None:
        return None if PYTHON.exists() else f"there is no {PYTHON.relative_to(ROOT)}"
