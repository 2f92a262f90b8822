"""How good a ranking or a prediction is. Ranking metrics take hits; `hits` finds them."""

from __future__ import annotations

import numpy as np

from hotrow.errors import ArgumentError


def hits(ranked: np.ndarray, users: np.ndarray, items: np.ndarray, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Which places of each user's ranking hold a held-out item, and how many of those the user has.

    ranked int (users, k), −1 for none; users, items int (n,): distinct held-out pairs, users numbering the rows of
    `ranked`; n_items more than any item. → bool (users, k) and int64 (users,).

    >>> import numpy as np
    >>> hits(np.array([[3, 1]]), np.array([0, 0]), np.array([1, 2]), 4)
    (array([[False,  True]]), array([2]))
    """
    pairs = np.sort(users.astype(np.int64) * n_items + items)
    wanted = np.arange(len(ranked), dtype=np.int64)[:, None] * n_items + ranked
    found = np.isin(wanted, pairs) & (ranked >= 0)
    return found, np.bincount(users, minlength=len(ranked)).astype(np.int64)


def recall(found: np.ndarray, held_out: np.ndarray, k: int) -> float:
    """Recall@K: of each user's held-out items the share among its first k; the mean over users."""
    return float(of_users(found, held_out, k)["recall"].mean())


def precision(found: np.ndarray, k: int) -> float:
    """Precision@K: the share of the first k places that hold a held-out item; the mean over users."""
    return float(_precision(found, k).mean())


def hit_rate(found: np.ndarray, k: int) -> float:
    """HitRate@K: the share of users with at least one held-out item among their first k."""
    return float(_hit(found, k).mean())


def ndcg(found: np.ndarray, held_out: np.ndarray, k: int) -> float:
    """NDCG@K with gains of 0 and 1 (Järvelin, Kekäläinen 2002); the mean over users.

    Σ 1/log2(place + 1) over the hits, divided by that of a ranking with all the user's held-out items, or k of them,
    in front.
    """
    return float(of_users(found, held_out, k)["ndcg"].mean())


def mrr(found: np.ndarray, k: int) -> float:
    """Mean reciprocal rank: 1 / the place of the first hit among the first k, 0 without one; the mean over users."""
    return float(_reciprocal(found, k).mean())


def of_users(found: np.ndarray, held_out: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """{"recall", "ndcg", "hit_rate", "precision", "mrr"} at k of each user alone: float64 (users,) each.

    found bool (users, k or more) and held_out int (users,), from 1 on, are what `hits` returns.

    >>> import numpy as np
    >>> of_users(np.array([[False, True]]), np.array([2]), 2)["recall"]
    array([0.5])
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(held_out, k) - 1]
    return {
        "recall": found[:, :k].sum(1) / held_out,
        "ndcg": (found[:, :k] * discounts[: found.shape[1]]).sum(1) / ideal,
        "hit_rate": _hit(found, k),
        "precision": _precision(found, k),
        "mrr": _reciprocal(found, k),
    }


def _hit(found: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(found[:, :k].any(1), np.float64)


def _precision(found: np.ndarray, k: int) -> np.ndarray:
    return np.asarray(found[:, :k].sum(1) / k)


def _reciprocal(found: np.ndarray, k: int) -> np.ndarray:
    first = np.argmax(found[:, :k], 1)
    return np.where(found[:, :k].any(1), 1 / (first + 1), 0.0)


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The area under the ROC curve: how often a positive scores above a negative, ties counting half.

    labels of 0 and 1, scores of any scale, both (n,). Raises ArgumentError unless both labels are there.

    >>> import numpy as np
    >>> auc(np.array([0, 1, 1, 0]), np.array([0.1, 0.4, 0.35, 0.4]))
    0.625
    """
    positive = _labels(labels, scores)
    if positive.all() or not positive.any():
        raise ArgumentError("AUC compares positives with negatives; all labels are the same")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # from 1, the mean one for ties
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean −log of the probability given to what happened; probabilities are kept 1e-15 from 0 and 1."""
    positive = _labels(labels, probabilities)
    p = np.clip(np.asarray(probabilities, np.float64), 1e-15, 1 - 1e-15)
    return float(-np.where(positive, np.log(p), np.log1p(-p)).mean())


def rmse(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The root of the mean squared error."""
    error = np.asarray(truth, np.float64) - np.asarray(predicted, np.float64)
    if not error.size:
        raise ArgumentError("RMSE of nothing: both arrays are empty")
    return float(np.sqrt((error * error).mean()))


def _labels(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    given = np.asarray(labels)
    if given.shape != np.shape(scores) or given.ndim != 1 or not given.size:
        raise ArgumentError(
            f"expected a label for each score, in one dimension; got {given.shape} and {np.shape(scores)}"
        )
    if not np.isin(given, (0, 1)).all():
        raise ArgumentError("labels must be 0 or 1")
    if np.isnan(scores).any():
        raise ArgumentError(f"expected a number for each label; got {int(np.isnan(scores).sum()):,} times NaN")
    return given.astype(bool)


def accuracy(classes: np.ndarray, probabilities: np.ndarray) -> float:
    """The share of rows whose class, int (n,), has the highest probability, (n, classes)."""
    given = _classes(classes, probabilities)
    return float((np.asarray(probabilities).argmax(1) == given).mean())


def of_classes(classes: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """{"auc", "log_loss", "accuracy"} of the classes of rows, int (n,), and their probabilities, (n, classes).

    With two classes the AUC is that of the second; with more it is the mean over classes, each against all others, of
    those that some rows have and some haven't. Raises ArgumentError if there is none such.

    >>> import numpy as np
    >>> of_classes(np.array([0, 1]), np.array([[0.75, 0.25], [0.5, 0.5]]))["auc"]
    1.0
    """
    given, p = _classes(classes, probabilities), np.asarray(probabilities, np.float64)
    if p.shape[1] == 2:
        area, loss = auc(given, p[:, 1]), log_loss(given, p[:, 1])
    else:
        there = np.unique(given)
        if len(there) < 2:
            raise ArgumentError("AUC compares classes; all rows are of the same one")
        area = float(np.mean([auc((given == k).astype(int), p[:, k]) for k in there]))
        loss = float(-np.log(np.clip(p[np.arange(len(given)), given], 1e-15, 1)).mean())
    return {"auc": area, "log_loss": loss, "accuracy": accuracy(given, p)}


def _classes(classes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    given, shape = np.asarray(classes), np.shape(probabilities)
    if given.ndim != 1 or not given.size or len(shape) != 2 or shape[0] != len(given) or shape[1] < 2:
        raise ArgumentError(f"expected classes (n,) and probabilities (n, classes); got {given.shape} and {shape}")
    if given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= shape[1]:
        raise ArgumentError(
            f"classes must be whole numbers from 0 to {shape[1] - 1}, one for each probability of a row"
        )
    if np.isnan(probabilities).any():
        raise ArgumentError("a probability is NaN: the training went astray; a smaller learning_rate may keep it")
    return given
