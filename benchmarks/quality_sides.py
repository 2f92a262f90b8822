"""Who takes part in the benchmark `quality`: each is given a cut, a seed and a setting; it answers with lists of items.

A side is a function (protocol, cut, seed, setting, quick) → (seconds of training, lists int (asked users, k)). A new
one goes into SIDES, and its settings to be tried into SEARCH. The seconds are without imports and compiling.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np

from benchmarks.protocols import Cut, Pairs, Protocol
from hotrow import models
from hotrow.kernels import threads
from hotrow.models.ranking import Known, rank

OURS, TUNED_SIDE, NEXT = "hotrow, no option", "hotrow, tuned", "hotrow.NextItem, no option"
ALS, BPR, POPULARITY = "implicit ALS", "implicit BPR", "popularity"

Setting = Mapping[str, Any]
Side = Callable[[Protocol, Cut, int, Setting, bool], tuple[float, np.ndarray]]

ALS_AND_BPR: dict[str, list[dict[str, Any]]] = {
    ALS: [
        {"factors": factors, "regularization": reg, "alpha": alpha, "iterations": 15}
        for factors, (reg, alpha) in product((64, 128, 256), ((0.01, 1.0), (0.1, 10.0), (10.0, 10.0), (10.0, 40.0)))
    ],
    BPR: [
        {"factors": factors, "learning_rate": rate, "regularization": reg, "iterations": 100}
        for factors, rate, reg in product((128,), (0.01, 0.05), (0.01, 0.001))
    ],
}
TUNED: dict[str, list[dict[str, Any]]] = {
    "gowalla": [{"epochs": 12}, {"epochs": 12, "negatives": 1024}, {"epochs": 8, "dim": 256}],
    "ml75": [{"epochs": epochs, "temperature": heat} for epochs, heat in product((5, 10), (0.2, 0.25, 0.3))],
    "tfrs": [{"epochs": epochs, "temperature": heat} for epochs, heat in product((5, 10), (0.2, 0.3, 0.4))],
    "beauty": [{"epochs": 15}, {"epochs": 20, "temperature": 0.15}, {"epochs": 15, "dim": 256}],
    "made_up": [{"epochs": 1}, {"epochs": 2}],
}
"""Protocol → what Retrieval is given. `hotrow tune` would draw such settings at random, and take longer."""


def searched(name: str) -> dict[str, list[dict[str, Any]]]:
    """Side → settings, all of which are tried on the validation cut; the best one is then run on the test."""
    return ALS_AND_BPR | {TUNED_SIDE: TUNED[name]}


CURVES: dict[str, list[dict[str, Any]]] = {
    OURS: [{"epochs": epochs} for epochs in (1, 2, 3, 5, 8, 12)],
    ALS: [{"factors": factors} for factors in (16, 32, 64, 128, 256)],
}
"""What is varied along a side's curve of quality against time; all else is as chosen."""


def retrieval(protocol: Protocol, cut: Cut, seed: int, setting: Setting, quick: bool) -> tuple[float, np.ndarray]:
    """`hotrow.models.Retrieval`, with this setting and nothing else."""
    shorter: Setting = {"epochs": 2, "dim": 16} if quick else {}
    models.Retrieval(16, epochs=1).fit(tuple(side[:3000] for side in cut.train))  # compiled, once
    begin = time.perf_counter()
    model = models.Retrieval(**{**setting, **shorter}, seed=seed).fit(cut.train)
    seconds = time.perf_counter() - begin
    users, _ = cut.asked()
    familiar = np.isin(users, cut.train[0])  # a user of nothing but held-out pairs gets no list
    best = np.full((len(users), protocol.longest), -1, np.int64)
    ids, _ = model.recommend(users[familiar], protocol.longest, exclude_known=not protocol.seen_kept)
    best[familiar] = _lists(ids, protocol.longest)
    return seconds, best


def next_item(protocol: Protocol, cut: Cut, seed: int, setting: Setting, quick: bool) -> tuple[float, np.ndarray]:
    """`hotrow.models.NextItem`: pairs of a user are in time order, and the user is what it had."""
    models.NextItem(16, epochs=1).fit(tuple(side[:3000] for side in cut.train))  # compiled, once
    begin = time.perf_counter()
    model = models.NextItem(**{**setting, **({"epochs": 1} if quick else {})}, seed=seed).fit(cut.train)
    seconds = time.perf_counter() - begin
    users, _ = cut.asked()
    order = np.argsort(cut.train[0], kind="stable")
    had = Known.of(cut.train[0][order], cut.train[1][order], cut.users)
    histories = [had.items[had.starts[u] : had.starts[u + 1]].tolist() for u in users]
    ids, _ = model.recommend(histories, k=protocol.longest)
    return seconds, _lists(ids, protocol.longest)


def popularity(protocol: Protocol, cut: Cut, _seed: int, _setting: Setting, _quick: bool) -> tuple[float, np.ndarray]:
    """The items that come most often in training."""
    users, _ = cut.asked()
    counts = np.bincount(cut.train[1], minlength=cut.items).astype(np.float32)[:, None]
    return 0.0, _ranked(protocol, cut, np.ones((len(users), 1), np.float32), counts)


def als(protocol: Protocol, cut: Cut, seed: int, setting: Setting, quick: bool) -> tuple[float, np.ndarray]:
    """implicit's alternating least squares."""
    from implicit.als import AlternatingLeastSquares

    return _implicit(AlternatingLeastSquares, protocol, cut, seed, setting, quick)


def bpr(protocol: Protocol, cut: Cut, seed: int, setting: Setting, quick: bool) -> tuple[float, np.ndarray]:
    """implicit's Bayesian personalized ranking."""
    from implicit.bpr import BayesianPersonalizedRanking

    return _implicit(BayesianPersonalizedRanking, protocol, cut, seed, setting, quick)


SIDES: dict[str, Side] = {
    OURS: retrieval,
    TUNED_SIDE: retrieval,
    NEXT: next_item,
    ALS: als,
    BPR: bpr,
    POPULARITY: popularity,
}


def taking_part(name: str) -> list[str]:
    """The sides of a protocol, ours first: NextItem where the order is told."""
    return [side for side in SIDES if side != NEXT or name == "beauty"]


def _implicit(
    kind: Any, protocol: Protocol, cut: Cut, seed: int, setting: Setting, quick: bool
) -> tuple[float, np.ndarray]:
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    def matrix(pairs: Pairs) -> Any:
        return csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), (cut.users, cut.items))

    more: dict[str, Any] = {"random_state": seed + 1, "num_threads": threads.get_threads()}
    if quick:
        more["iterations"] = 2
    with threadpool_limits(1, "blas"):  # as implicit asks for
        model = kind(**{**setting, **more})
        given = matrix(cut.train)
        begin = time.perf_counter()
        model.fit(given, show_progress=False)
        seconds = time.perf_counter() - begin
    users, _ = cut.asked()
    # BPR's last factor of an item is its bias, and of a user 1: the product is the score of both models
    return seconds, _ranked(protocol, cut, model.user_factors[users], model.item_factors)


def _ranked(protocol: Protocol, cut: Cut, user_factors: np.ndarray, item_factors: np.ndarray) -> np.ndarray:
    users, _ = cut.asked()
    known = cut.known(seen_kept=protocol.seen_kept)
    return rank(user_factors, item_factors, users, known, min(protocol.longest, cut.items))[0]


def _lists(ids: list[list[int]], k: int) -> np.ndarray:
    """Lists of several lengths as int (n, k), −1 where one ends."""
    out = np.full((len(ids), k), -1, np.int64)
    for row, items in zip(out, ids, strict=True):
        row[: len(items)] = items
    return out
