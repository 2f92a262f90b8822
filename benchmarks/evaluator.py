"""Our metrics beside ranx's (github.com/AmenRa/ranx), on random lists.

ranx isn't among the requirements: it brings a plotting library and some fifteen packages more.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.harness import UnequalError
from hotrow.models import metrics

LENGTHS = (1, 3, 10, 20)


def check(rounds: int = 3) -> str:
    """Compare them, and say so in a sentence; UnequalError if one differs by more than 1e-9."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ranx  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        return f"The metrics weren't compared with ranx's ({error}). To have that: pip install ranx."
    for seed in range(rounds):
        ranked, users, items = random_lists(seed)
        names = [f"{kind}@{k}" for kind in ("recall", "ndcg", "hit_rate", "mrr", "precision") for k in LENGTHS]
        held_out = {f"u{u}": {f"i{i}": 1 for i in items[users == u]} for u in range(len(ranked))}
        lists = {
            f"u{u}": {f"i{i}": 1.0 - place / 100 for place, i in enumerate(row) if i >= 0}
            for u, row in enumerate(ranked)
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Numba's, about ranx
            theirs: Any = ranx.evaluate(ranx.Qrels(held_out), ranx.Run(lists), names)
        compare(ours(ranked, users, items, names), {name: float(theirs[name]) for name in names})
    return f"Recall, NDCG, hit rate, MRR and precision at {', '.join(map(str, LENGTHS))} are those of ranx: compared."


def compare(ours: dict[str, float], theirs: dict[str, float]) -> None:
    """UnequalError with the first metric that differs."""
    for name, value in theirs.items():
        if not abs(ours[name] - value) <= 1e-9:
            raise UnequalError(f"{name} is {ours[name]:.9f} here, and {value:.9f} by ranx")


def ours(ranked: np.ndarray, users: np.ndarray, items: np.ndarray, names: list[str]) -> dict[str, float]:
    """The metrics of lists int (users, k), −1 for no item, by `hotrow.models.metrics`."""
    found, counts = metrics.hits(ranked, users, items, 1000)
    values = dict[str, float]()
    for name in names:
        kind, k = name.split("@")
        counted = (counts,) if kind in {"recall", "ndcg"} else ()
        values[name] = getattr(metrics, kind)(found, *counted, int(k))
    return values


def random_lists(seed: int, users: int = 200, items: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists of 20 of 60 items, some of them shorter, and one to nine held-out pairs of each user."""
    rng = np.random.default_rng(seed)
    ranked = np.stack([rng.permutation(items)[:20] for _ in range(users)])
    ranked[::7, 12:] = -1
    held_out = [rng.permutation(items)[: rng.integers(1, 10)] for _ in range(users)]
    return ranked, np.repeat(np.arange(users), [len(one) for one in held_out]), np.concatenate(held_out)
