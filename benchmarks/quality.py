"""Recommendations beside `implicit`'s ALS and popularity: the same split, the same masking, the same metrics.

    python -m benchmarks.quality [--data FOLDER]

The Debian pairs come with hotrow. MovieLens 100K and Online Retail are taken from FOLDER, else from $HOTROW_DATA.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from implicit.als import AlternatingLeastSquares
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from hotrow.apps.pairs import Dataset, load_pairs
from hotrow.kernels.threads import get_threads
from hotrow.models import Retrieval, metrics
from hotrow.models.ranking import Known, rank

HUBS = ("libc6", "libstdc++6", "python3", "libgcc-s1", "perl")
ALS = {"factors": 64, "iterations": 15, "random_state": 0}
SETTINGS = ((0.01, 1.0), (0.1, 10.0), (1.0, 10.0), (10.0, 40.0))
"""Regularisation and alpha; the best on the held-out pairs themselves is shown, in favour of ALS."""
K = 20


def main() -> None:
    """Train on each set, print a row for each model."""
    parser = argparse.ArgumentParser(description="Recommendations beside implicit's ALS and popularity.")
    parser.add_argument("--data", default=os.environ.get("HOTROW_DATA", "../shared/data"))
    folder = Path(parser.parse_args().data)
    table = Table("pairs", "model", f"Recall@{K}", f"NDCG@{K}", "training, s")
    for name, data in datasets(folder):
        for row in compare(data):
            table.add_row(name, *row)
    Console().print(table)


def datasets(folder: Path):
    """(name, pairs) of what is there."""
    yield "Debian", load_pairs()
    yield "Debian without its five hubs", load_pairs(without_hubs())
    for name, file, user, item in (
        ("ml100k", "ml100k/ml-100k.inter", "user_id", "item_id"),
        ("online_retail", "online_retail/online_retail.parquet", "CustomerID", "Description"),
    ):
        if (folder / file).is_file():
            yield name, load_pairs(folder / file, user, item)
        else:
            print(f"skipped: there is no {folder / file}")


def without_hubs():
    """The Debian pairs but those of the five largest dependencies."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from hotrow.data import debian_pairs

    pairs = debian_pairs()
    return pairs.filter(pc.invert(pc.is_in(pairs["dependency"], pa.array(HUBS))))


def compare(data: Dataset):
    """A row for each model."""
    split = data.split
    train = data.users.take(split.train_user), data.items.take(split.train_item)
    held_out = data.users.take(split.test_user), data.items.take(split.test_item)
    Retrieval(64, epochs=1).fit(tuple(side.slice(0, 5000) for side in train))  # compiled, once
    begin = time.perf_counter()
    model = Retrieval(64).fit(train)
    seconds = time.perf_counter() - begin
    result = model.evaluate(held_out, ks=(K,))
    yield "hotrow, no option", *shown(result), f"{seconds:.1f}"
    yield "popularity", *shown(model.popularity(held_out, ks=(K,))), "–"
    best = max((als(data, *setting) for setting in SETTINGS), key=lambda found: found[0][f"recall@{K}"])
    yield best[2], *shown(best[0]), f"{best[1]:.1f}"


def als(data: Dataset, regularization: float, alpha: float):
    """Metrics, seconds and name of implicit's ALS with 64 factors."""
    split = data.split
    shape = len(data.users), len(data.items)
    ones = np.ones(len(split.train_user), np.float32)
    matrix = csr_matrix((ones, (split.train_user, split.train_item)), shape)
    model = AlternatingLeastSquares(**ALS, regularization=regularization, alpha=alpha, num_threads=get_threads())
    begin = time.perf_counter()
    with threadpool_limits(1, "blas"):  # as implicit asks for
        model.fit(matrix, show_progress=False)
    seconds = time.perf_counter() - begin
    asked, place = np.unique(split.test_user, return_inverse=True)
    known = Known(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32))
    ranked, _ = rank(model.user_factors[asked], model.item_factors, asked, known, K)
    found, counts = metrics.hits(ranked, place, split.test_item, shape[1])
    result = {f"recall@{K}": metrics.recall(found, counts, K), f"ndcg@{K}": metrics.ndcg(found, counts, K)}
    return result, seconds, f"ALS 64, reg {regularization:g}, alpha {alpha:g}"


def shown(result: dict[str, float]) -> tuple[str, str]:
    """Recall and NDCG as text."""
    return f"{result[f'recall@{K}']:.4f}", f"{result[f'ndcg@{K}']:.4f}"


if __name__ == "__main__":
    main()
