"""UMAP, of neighbours that are known: it runs in a process of its own, see `unfold.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hotrow.errors import HotrowError, MissingExtraError

_WORDS = 500  # letters of what a process that failed has said last
_ONE = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def check_umap() -> None:
    """MissingExtraError unless there is UMAP."""
    if find_spec("umap") is None:
        raise MissingExtraError('UMAP isn\'t installed; pip install "hotrow[umap]", or take method="pca"')


def unfolded(
    start: np.ndarray, rows: np.ndarray, scores: np.ndarray, progress: Callable[[int, int], None]
) -> np.ndarray:
    """Points that are near each other where vectors are: float32 (n, 2), the same again for the same arguments.

    start     float32 (n, 2), where to begin
    rows      int64 (n, k), each one's nearest without itself, −1 for none; scores: their cosines, float32 (n, k)
    progress  told epochs done, and epochs in all; if it raises, the process is ended

    HotrowError, with its last words, if UMAP fails.
    """
    check_umap()
    n = len(start)
    itself = np.arange(n)[:, None]
    known = rows >= 0  # a place without a neighbour counts as the farthest that there can be
    distances = np.where(known, np.clip(1 - scores, 0, 2), 2)
    with TemporaryDirectory(prefix="hotrow-umap-") as made:
        folder = Path(made)
        for name, array in {
            "points": np.asarray(start, np.float32),
            "indices": np.concatenate([itself, np.where(known, rows, itself)], 1).astype(np.int32),
            "distances": np.concatenate([np.zeros((n, 1)), distances], 1).astype(np.float32),
        }.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        with resources.as_file(resources.files(__package__ or "") / "unfold.py") as program:
            _run(program, folder, progress)
        return np.load(folder / "points.npy", allow_pickle=False)


def _run(program: Path, folder: Path, progress: Callable[[int, int], None]) -> None:
    # -P: the folder of the program isn't one to import from. The errors go to a file: a full pipe would stop it.
    command = [sys.executable, "-P", str(program), str(folder)]
    environment = os.environ | dict.fromkeys(_ONE, "1")
    said = folder / "errors.txt"
    with (
        said.open("wb") as errors,
        subprocess.Popen(  # noqa: S603  # a program of ours, on a folder of ours
            command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, env=environment, text=True
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                done, total = map(int, line.split())
                progress(done, total)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        lines = said.read_text("utf-8", "replace").split("\n")
        words = next((line for line in reversed(lines) if line.strip()), "no word of why")
        raise HotrowError(f"UMAP ended with code {process.returncode}: {words[:_WORDS]}")
