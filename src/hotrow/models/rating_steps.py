"""The arithmetic of ratings, on arrays: a prediction, how a step moves it, and what biases alone come to.

a row        vector p (dim floats), bias b
prediction   b_user + b_item + p_user · p_item      in units, around the centre
step         of half its squared error, and of half of l2 · what is squared of both rows
"""

from __future__ import annotations

import numpy as np

MOST = 8  # pairs of one row whose gradients a step adds up; of more, their mean times as many
_SHRINK_ITEM, _SHRINK_USER, _ROUNDS = 10.0, 15.0, 10  # of the baseline, as published by Koren 2010 and in Surprise


def predicted(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """float32 (n, dim + 1) twice → float32 (n,)."""
    return users[:, -1] + items[:, -1] + np.einsum("ij,ij->i", users[:, :-1], items[:, :-1])


def gradients(
    users: np.ndarray, items: np.ndarray, targets: np.ndarray, l2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of ½ (prediction − target)² + ½ Σ l2 · (user² + item²), for each pair on its own.

    users, items float32 (n, dim + 1), targets float32 (n,), l2 float32 (dim + 1,)
    → errors (n,), and the gradients of users and items, float32 (n, dim + 1).
    """
    errors = predicted(users, items) - targets
    g_users, g_items = l2 * users, l2 * items
    for gradient, other in ((g_users, items), (g_items, users)):
        gradient[:, :-1] += errors[:, None] * other[:, :-1]
        gradient[:, -1] += errors
    return errors, g_users, g_items


def limit(gradients: np.ndarray, inverse: np.ndarray) -> None:
    """Make the gradients of rows that a step has more than MOST times smaller, in place.

    Their sum would overshoot: with two items, each is in half of the pairs of a step.
    """
    often = np.bincount(inverse)
    if often.max(initial=0) > MOST:
        gradients *= np.minimum(1, MOST / np.maximum(often, 1)).astype(np.float32)[inverse][:, None]


def errors_of(predictions: np.ndarray, ratings: np.ndarray) -> dict[str, float]:
    """{"rmse": …, "mae": …}."""
    off = predictions.astype(np.float64) - ratings
    return {"rmse": float(np.sqrt(np.mean(off * off))), "mae": float(np.mean(np.abs(off)))}


def baseline(
    train: tuple[np.ndarray, np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> dict[str, float]:
    """What the mean and a bias for each user and item come to on held-out ratings: {"rmse", "mae"}.

    Each is users and items as numbers from 0, and ratings. A bias is the mean of what the other biases leave, shrunk
    to 0 where there are few ratings, by turns until it stays; it is 0 for who isn't in `train`. Clipped as a model's
    predictions are.
    """
    users, items, ratings = train
    n_users = int(max(users.max(initial=0), held_out[0].max(initial=0))) + 1
    n_items = int(max(items.max(initial=0), held_out[1].max(initial=0))) + 1
    mean = float(ratings.mean())
    of_user, of_item = np.zeros(n_users), np.zeros(n_items)
    for _ in range(_ROUNDS):
        left = np.bincount(items, ratings - mean - of_user[users], n_items)
        of_item = left / (_SHRINK_ITEM + np.bincount(items, minlength=n_items))
        left = np.bincount(users, ratings - mean - of_item[items], n_users)
        of_user = left / (_SHRINK_USER + np.bincount(users, minlength=n_users))
    guessed = mean + of_user[held_out[0]] + of_item[held_out[1]]
    return errors_of(np.clip(guessed, ratings.min(), ratings.max()), held_out[2])
