"""UMAP in a process of its own: `python unfold.py FOLDER` reads arrays from files there and writes points.npy.

In a thread of a server it would hold all others up for seconds, for its loops keep Python's lock, and its warnings
would be switched off for everyone. Here it has one thread and gives way to others. Nothing of hotrow is imported.

points.npy before: float32 (n, 2), where to begin; indices.npy int32 (n, k) and distances.npy float32 (n, k): each one's
nearest, itself first. After: where they are. Lines of "done total" on stdout tell of the way.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np


class _Ears:
    """The file that UMAP's progress bar is written to."""

    def write(self, text: str) -> None:
        for done, total in re.findall(r"(\d+)/(\d+)", text):
            sys.stdout.write(f"{done} {total}\n")
            sys.stdout.flush()

    def flush(self) -> None:
        pass


def unfold(folder: Path) -> None:
    """Lay out what is in the files of the folder."""
    warnings.simplefilter("ignore")  # of what it can't do later, with one thread and neighbours that it hasn't found
    sys.modules["umap.parametric_umap"] = None  # type: ignore[assignment]  # would load TensorFlow where there is one
    from umap import UMAP  # pyright: ignore[reportMissingImports]

    start, indices, distances = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("points", "indices", "distances")
    )
    bar: dict[str, Any] = {"disable": False, "file": _Ears(), "bar_format": "{n_fmt}/{total_fmt}", "mininterval": 0.2}
    umap = UMAP(
        n_neighbors=indices.shape[1], metric="cosine", init=start, random_state=0, n_jobs=1, tqdm_kwds=bar,
        precomputed_knn=(indices, distances),
    )  # fmt: skip
    # With the neighbours given, the vectors themselves aren't looked at; their number is.
    np.save(folder / "points.npy", np.ascontiguousarray(umap.fit_transform(start), np.float32), allow_pickle=False)


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(10)
    unfold(Path(sys.argv[1]))
