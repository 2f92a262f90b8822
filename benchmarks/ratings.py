"""Explicit ratings: RMSE over five random folds of MovieLens 100K, at the defaults, beside mean and biases alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from statistics import mean

import numpy as np

import hotrow
from benchmarks.harness import Result
from benchmarks.protocols import MOVIES, folds, movies
from benchmarks.workload import Sizes
from hotrow.models import Ratings
from hotrow.models.rating_steps import baseline

log = logging.getLogger("benchmarks")

MOST = 0.92
"""SVD++ has .919 there, by Surprise (github.com/NicolasHug/Surprise)."""


def run(sizes: Sizes) -> Iterator[Result]:
    """RMSE of each fold's test part, by a model of the other four; and seconds."""
    hotrow.set_threads(sizes.threads)
    if not sizes.quick and not MOVIES.is_file():
        log.warning("ratings is left out: there is no %s", MOVIES)
        return
    users, items, ratings = _made_up() if sizes.quick else movies()
    parts = np.array_split(np.random.default_rng(0).permutation(len(users)), 5) if sizes.quick else None
    cuts = [(np.setdiff1d(np.arange(len(users)), part), part) for part in parts[:1]] if parts else folds(0)
    rmse, others, seconds = list[float](), list[float](), list[float]()
    Ratings(epochs=1).fit((users[:500], items[:500], ratings[:500]))  # compiled, once
    for train, test in cuts:
        learned, asked = ((users[rows], items[rows], ratings[rows]) for rows in (train, test))
        begin = time.perf_counter()
        model = Ratings(**({"epochs": 2} if sizes.quick else {})).fit(learned)
        seconds.append(time.perf_counter() - begin)
        rmse.append(model.evaluate(asked)["rmse"])
        others.append(baseline(learned, asked)["rmse"])
    table, case = "RMSE of ratings held out, MovieLens 100K", {"": f"mean of {len(rmse)} folds"}
    yield Result(
        table, case, "hotrow Ratings, no option", "stars", mean(rmse), rmse, most=None if sizes.quick else MOST
    )
    yield Result(table, case, "mean and biases", "stars", mean(others), others)
    yield Result("Training on four folds", case, "hotrow Ratings, no option", "s", mean(seconds), seconds)


def _made_up() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 50, 1000), rng.integers(0, 30, 1000)
    return users, items, (3 + np.sign((users % 2 - 0.5) * (items % 2 - 0.5))).astype(np.float32)
