"""How good a ranking is on held-out pairs, and how sure one can be of it. All of it on rows; `Retrieval` brings ids.

```
held-out pairs  ──HeldOut──▶  users to be asked, their pairs
rankings of those users  ──measured──▶  means over users
a ranking beside popularity  ──compared──▶  means, intervals, buckets, cold users, coverage: plain values
```
A pair that a model was trained on tells nothing of what it has learned, so those that are known already are left out
before anything is measured, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.models import metrics
from hotrow.models.pairs import join, split
from hotrow.models.ranking import Known, blas_on_one_thread, rank

COLD = 5  # a user with at most so many pairs to learn from is cold
RESAMPLES = 1000
NOTHING = "there is nothing to measure: held-out pairs are pairs that no fit had, of users that one has seen"
_BUCKETS = ("head", "middle", "tail")
_NUMBERS = 1 << 22  # drawn at a time: 32 MB


@dataclass(frozen=True)
class HeldOut:
    """The pairs to be measured, by user.

    users    int64 (u,)  rows of the users to be asked, ascending
    place    int64 (n,)  which of those each pair is of
    items    int64 (n,)  its item; one that no pair to learn from has may be any number that no item has
    left_out             how many of the given pairs aren't measured, and why: "known", "strangers"

    >>> import numpy as np
    >>> HeldOut.of(np.array([3, 3, -1]), np.array([0, 1, 1]), np.array([3 << 32], np.uint64)).left_out
    {'known': 1, 'strangers': 1}
    """

    users: np.ndarray
    place: np.ndarray
    items: np.ndarray
    left_out: dict[str, int]

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, known: np.ndarray) -> HeldOut:
        """From pairs as rows, users without one as −1; known: codes of the pairs that were learned from, ascending.

        Pairs given twice count once. Raises ArgumentError if none is left.
        """
        seen = users >= 0
        codes = np.unique(join(users[seen], items[seen]))
        fresh = np.setdiff1d(codes, known, assume_unique=True)
        if not len(fresh):
            raise ArgumentError(NOTHING)
        asked, place = np.unique(fresh >> np.uint64(32), return_inverse=True)
        left_out = {"known": len(codes) - len(fresh), "strangers": int((~seen).sum())}
        return cls(asked.astype(np.int64), place, split(fresh)[1], left_out)

    def hits(self, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `metrics.hits`, of the rankings of the users, int (u, k)."""
        return metrics.hits(best, self.place, self.items, int(self.items.max()) + 1 + int(best.max(initial=0)))


def most_popular(known: Known, items: int, users: np.ndarray, k: int) -> np.ndarray:
    """The items that come most often among the known pairs, without the user's own: int32 (users, k), as `rank`."""
    counts = np.bincount(known.items, minlength=items).astype(np.float32)[:, None]
    return rank(np.ones((len(users), 1), np.float32), counts, users, known, k)[0]


def measured(best: np.ndarray, held_out: HeldOut, ks: tuple[int, ...]) -> dict[str, float]:
    """Recall, NDCG and hit rate at each k of the rankings of the users, int (u, max(ks)): means over users."""
    values = _of_users(best, held_out, ks)
    return {name: float(values[name].mean()) for name in values if not name.startswith(("precision", "mrr"))}


def of_each_user(best: np.ndarray, held_out: HeldOut, metric: str) -> np.ndarray:
    """One metric, such as "ndcg@20", of each of the users: float64 (u,)."""
    return _of_users(best, held_out, (metric_and_k(metric)[1],))[metric]


def metric_and_k(metric: str) -> tuple[str, int]:
    """What "ndcg@20" is made of; ArgumentError for what is no metric.

    >>> metric_and_k("ndcg@20")
    ('ndcg', 20)
    """
    names = list(metrics.of_users(np.zeros((1, 1), bool), np.ones(1, np.int64), 1))
    name, _, k = metric.partition("@")
    if name not in names or not k.isdecimal() or int(k) < 1:
        raise ArgumentError(f"metric must be one of {', '.join(names)} at a length, such as 'ndcg@20'; got {metric!r}")
    return name, int(k)


def _of_users(best: np.ndarray, held_out: HeldOut, ks: tuple[int, ...]) -> dict[str, np.ndarray]:
    found, counts = held_out.hits(best)
    return {f"{name}@{k}": values for k in ks for name, values in metrics.of_users(found, counts, k).items()}


# --- how sure --------------------------------------------------------------------------------------------------------


def intervals(values: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """95 % intervals for the means of columns, by bootstrap over rows: float64 (users, m) → (m, 2).

    Users are drawn again and again, as many as there are, with repetition, and all columns are averaged over the same
    ones; an interval leaves out the lowest and the highest 2.5 % of such means (Efron 1979). The same seed draws the
    same users. It says what other users of the same kind might have given, not what another seed of training would.

    >>> import numpy as np
    >>> intervals(np.array([[0.0], [1.0], [1.0], [0.0]]), seed=1).tolist()
    [[0.0, 1.0]]
    """
    n = len(values)
    random = np.random.default_rng(seed % 2**64)
    means = np.empty((resamples, values.shape[1]))
    together = max(1, _NUMBERS // n)
    with blas_on_one_thread:
        for start in range(0, resamples, together):
            count = min(together, resamples - start)
            drawn = random.integers(0, n, (count, n)) + np.arange(count)[:, None] * n
            often = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
            np.matmul(often.astype(np.float64), values, out=means[start : start + count])
    return np.percentile(means / n, (2.5, 97.5), axis=0).T


# --- side by side ----------------------------------------------------------------------------------------------------


def compared(
    best: np.ndarray, held_out: HeldOut, known: Known, items: int, ks: tuple[int, ...], *, seed: int = 0
) -> dict[str, Any]:
    """A model's ranking of the users, int32 (u, max(ks)), beside that by popularity, as plain values ready for JSON.

    model, popularity  recall, ndcg, hit_rate, precision and mrr at each k: means over users
    intervals          of each of those, [low, high], 95 % by bootstrap over users, and of their "difference"
    measured           users, pairs; how many of those given weren't: "known", and of "strangers" that no fit saw
    buckets            recall of the held-out pairs by how popular their items are: a third of the known pairs each
    cold_users         the metrics over users "at_most" 5 of whose pairs are known; without them if there are none
    coverage           coverage@k, the share of items in anybody's first k; gini@k, 0 if all are there as often
    """
    rankings = {"model": best, "popularity": most_popular(known, items, held_out.users, max(ks))}
    values = {name: _of_users(of, held_out, ks) for name, of in rankings.items()}
    columns = {name: np.stack(list(of.values()), 1) for name, of in values.items()}
    columns["difference"] = columns["model"] - columns["popularity"]
    found = np.split(intervals(np.hstack(list(columns.values())), seed=seed), len(columns))
    bounds = {
        name: dict(zip(values["model"], part.tolist(), strict=True)) for name, part in zip(columns, found, strict=True)
    }
    means = {name: {key: float(v.mean()) for key, v in of.items()} for name, of in values.items()}
    return means | {
        "intervals": bounds,
        "measured": {"users": len(held_out.users), "pairs": len(held_out.items), **held_out.left_out},
        "buckets": _by_popularity(rankings, held_out, known, items, ks),
        "cold_users": _of_cold(values, held_out, known),
        "coverage": {name: _coverage(of, items, ks) for name, of in rankings.items()},
    }


def buckets(known: Known, items: int) -> np.ndarray:
    """Which bucket each item is in: 0 head, 1 middle, 2 tail, or 3 if no known pair has it. int64 (items,).

    The head are the most popular items, as many as make up a third of the known pairs, the middle those that make up
    the next third. An item at a border is in the bucket in which its pairs begin.

    >>> import numpy as np
    >>> buckets(Known(np.array([0, 6]), np.array([0, 0, 1, 1, 2, 3])), 5)
    array([0, 1, 2, 2, 3])
    """
    counts = np.bincount(known.items, minlength=items)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    out = np.empty(items, np.int64)
    out[order] = before * 3 // max(1, counts.sum())
    out[counts == 0] = 3
    return out


def _by_popularity(
    rankings: Mapping[str, np.ndarray], held_out: HeldOut, known: Known, items: int, ks: tuple[int, ...]
) -> list[dict[str, Any]]:
    """For each bucket of items: of the held-out pairs in it, the share that each ranking has among its first k."""
    bucket = buckets(known, items)
    reached = {name: _places(best, held_out) for name, best in rankings.items()}
    of_pair = np.append(bucket, 3)[np.minimum(held_out.items, items)]
    counts = np.bincount(known.items, minlength=items)
    out: list[dict[str, Any]] = []
    for number, name in enumerate((*_BUCKETS, "new")):
        pairs, inside = of_pair == number, bucket == number
        if number == 3 and not pairs.any():
            continue
        row: dict[str, Any] = {
            "bucket": name, "items": int(inside.sum()), "training_pairs": int(counts[inside].sum()),
            "pairs": int(pairs.sum()),
        }  # fmt: skip
        for which, places in reached.items():
            row[which] = {f"recall@{k}": float((places[pairs] < k).mean()) if pairs.any() else None for k in ks}
        out.append(row)
    return out


def _places(best: np.ndarray, held_out: HeldOut) -> np.ndarray:
    """Where in its user's ranking each held-out pair is, from 0; as many as there are places where it isn't."""
    out = np.full(len(held_out.items), best.shape[1])
    for k in range(best.shape[1]):
        out[best[held_out.place, k] == held_out.items] = k
    return out


def _of_cold(values: Mapping[str, dict[str, np.ndarray]], held_out: HeldOut, known: Known) -> dict[str, Any]:
    """Means over the users with at most COLD known pairs, and how many those are."""
    cold = known.starts[held_out.users + 1] - known.starts[held_out.users] <= COLD
    out: dict[str, Any] = {"at_most": COLD, "users": int(cold.sum())}
    if cold.any():
        out |= {name: {key: float(v[cold].mean()) for key, v in of.items()} for name, of in values.items()}
    return out


def _coverage(best: np.ndarray, items: int, ks: tuple[int, ...]) -> dict[str, float]:
    """coverage@k, the share of all items that are in anybody's first k, and gini@k, how unevenly they are.

    Gini's coefficient is 0 where all items are recommended as often, and near 1 where a few are to everybody.
    """
    out: dict[str, float] = {}
    for k in ks:
        listed = best[:, :k]
        often = np.sort(np.bincount(listed[listed >= 0], minlength=items))
        out[f"coverage@{k}"] = float((often > 0).mean())
        share = np.cumsum(often) / max(1, often.sum())
        out[f"gini@{k}"] = float(max(0.0, 1 - (2 * share.sum() - share[-1]) / items))
    return out
