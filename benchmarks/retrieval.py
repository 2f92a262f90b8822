"""Recommendations beside `implicit`'s ALS and BPR, and popularity: the same split, the same masking, the same metrics.

The Debian pairs come with hotrow. MovieLens 100K and Online Retail are taken from the folder $HOTROW_DATA, else from
../shared/data; what isn't there is left out. hotrow has no option set; of its peers the best of some settings is shown,
chosen on the held-out pairs themselves, in their favour.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

import hotrow
from benchmarks.harness import Result
from benchmarks.protocols import FOLDER
from benchmarks.workload import Sizes
from hotrow.apps.pairs import Dataset, load_pairs
from hotrow.data import debian_pairs
from hotrow.models import Retrieval, metrics
from hotrow.models.ranking import Known, rank

log = logging.getLogger("benchmarks")

FILES = {
    "MovieLens 100K": ("ml100k/ml-100k.inter", "user_id", "item_id"),
    "Online Retail": ("online_retail/online_retail.parquet", "CustomerID", "Description"),
}
"""The file in the folder, and its columns of users and of items."""
HUBS = ("libc6", "libstdc++6", "python3", "libgcc-s1", "perl")
DIM, K = 64, 20
OURS, ALS, BPR = "hotrow, no option", "implicit ALS", "implicit BPR"
SETTINGS: dict[str, tuple[dict[str, float], ...]] = {
    ALS: (
        {"regularization": 0.01, "alpha": 1.0},
        {"regularization": 0.1, "alpha": 10.0},
        {"regularization": 1.0, "alpha": 10.0},
        {"regularization": 10.0, "alpha": 40.0},
    ),
    BPR: (
        {"learning_rate": 0.01, "regularization": 0.01},
        {"learning_rate": 0.01, "regularization": 0.001},
        {"learning_rate": 0.1, "regularization": 0.001},
    ),
}
_ROUNDS = {ALS: 15, BPR: 100}
"""implicit's own defaults."""
_QUICK = 3_000


@dataclass(frozen=True)
class Outcome:
    """A model's metrics, the seconds of its training, and the setting that it had."""

    metrics: Mapping[str, float]
    seconds: float
    setting: str = ""


def run(sizes: Sizes) -> Iterator[Result]:
    """Recall, NDCG and seconds on each set of pairs. hotrow's recall is to be that of its peers at least."""
    try:
        import implicit
    except ImportError as error:
        log.warning("retrieval is left out: %s. To have it: pip install implicit", error)
        return
    log.info("retrieval: implicit %s", implicit.__version__)
    hotrow.set_threads(sizes.threads)
    for name, data in _datasets(sizes.quick):
        log.info("retrieval: %s", name)
        yield from _results(name, _compare(data, sizes), sizes)


def _results(name: str, outcomes: Mapping[str, Outcome], sizes: Sizes) -> Iterator[Result]:
    best = max(100 * outcomes[peer].metrics[f"recall@{K}"] for peer in (ALS, BPR))
    for metric in (f"Recall@{K}", f"NDCG@{K}"):
        for side, outcome in outcomes.items():
            wanted = best if side == OURS and "Recall" in metric and not sizes.quick else None
            value = 100 * outcome.metrics[metric.lower()]
            yield Result(f"{metric} on held-out pairs", {"pairs": name}, side, "%", value, least=wanted)
    case = {"pairs": name, **{peer: outcomes[peer].setting for peer in (ALS, BPR)}}
    for side in (OURS, ALS, BPR):
        yield Result(f"Training, {DIM} floats a vector", case, f"{side}, training", "s", outcomes[side].seconds)


def _datasets(quick: bool) -> Iterator[tuple[str, Dataset]]:
    pairs = debian_pairs()
    if quick:
        yield "Debian, the first pairs", load_pairs(pairs.slice(0, _QUICK))
        return
    yield "Debian", load_pairs()
    hubs = pc.is_in(pairs["dependency"], pa.array(HUBS))
    yield "Debian without its five hubs", load_pairs(pairs.filter(pc.invert(hubs)))
    for name, (file, user, item) in FILES.items():
        if (FOLDER / file).is_file():
            yield name, load_pairs(FOLDER / file, user, item)
        else:
            log.warning("%s is left out: there is no %s", name, FOLDER / file)


def _compare(data: Dataset, sizes: Sizes) -> dict[str, Outcome]:
    """Each model's outcome; ours first."""
    split = data.split
    train = data.users.take(split.train_user), data.items.take(split.train_item)
    held_out = data.users.take(split.test_user), data.items.take(split.test_item)
    Retrieval(DIM, epochs=1).fit(tuple(side.slice(0, 5000) for side in train))  # compiled, once
    begin = time.perf_counter()
    model = Retrieval(DIM, epochs=1 if sizes.quick else None).fit(train)
    seconds = time.perf_counter() - begin
    outcomes = {OURS: Outcome(model.evaluate(held_out, ks=(K,)), seconds)}
    for name, settings in SETTINGS.items():
        tried = [_implicit(name, data, setting, sizes) for setting in (settings[:1] if sizes.quick else settings)]
        outcomes[name] = max(tried, key=lambda outcome: outcome.metrics[f"recall@{K}"])
    return outcomes | {"popularity": Outcome(model.popularity(held_out, ks=(K,)), 0.0)}


def _implicit(name: str, data: Dataset, setting: dict[str, Any], sizes: Sizes) -> Outcome:
    """One of implicit's models with DIM factors, ranked and measured as hotrow's own."""
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from scipy.sparse import csr_matrix

    split = data.split
    shape = len(data.users), len(data.items)
    ones = np.ones(len(split.train_user), np.float32)
    matrix = csr_matrix((ones, (split.train_user, split.train_item)), shape)
    kind = {ALS: AlternatingLeastSquares, BPR: BayesianPersonalizedRanking}[name]
    more = {"iterations": 1 if sizes.quick else _ROUNDS[name], "num_threads": sizes.threads, "random_state": 0}
    with threadpool_limits(1, "blas"):  # as implicit asks for
        model = kind(factors=DIM, **setting, **more)
        begin = time.perf_counter()
        model.fit(matrix, show_progress=False)
        seconds = time.perf_counter() - begin
    asked, place = np.unique(split.test_user, return_inverse=True)
    known = Known(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32))
    # BPR's last factor of an item is its bias, and of a user 1: the product is the score of both models
    ranked, _ = rank(model.user_factors[asked], model.item_factors, asked, known, K)
    found, counts = metrics.hits(ranked, place, split.test_item, shape[1])
    result = {f"recall@{K}": metrics.recall(found, counts, K), f"ndcg@{K}": metrics.ndcg(found, counts, K)}
    return Outcome(result, seconds, ", ".join(f"{key} {value:g}" for key, value in setting.items()))
