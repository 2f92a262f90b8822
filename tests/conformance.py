"""What every way into a table must do alike: same vectors, gradients, error texts, trained table. NumPy is the middle.

A subject is a way in. It has a `table`, and

    lookup(ids)            vectors, float32 (*ids.shape, DIM); no id gets a row
    step(ids, gradients)   one training step, in which the gradient of the loss by each vector is exactly this

The same cases run for hotrow.Table itself (test_conformance.py) and for each backend of Keras
(in_keras/test_conformance.py). Gradients are given and not calculated, so a trained table must be equal to the bit.
"""

from __future__ import annotations

import numpy as np

import hotrow

DIM = 4
RNG = np.random.default_rng(7)

OPTIMIZERS = {
    "SGD": hotrow.SGD(0.1),
    "momentum": hotrow.SGD(0.1, momentum=0.9, nesterov=True),
    "Adagrad": hotrow.Adagrad(0.1),
    "RowwiseAdagrad": hotrow.RowwiseAdagrad(0.1),
    "RMSprop": hotrow.RMSprop(0.01, momentum=0.5, centered=True),
    "Adadelta": hotrow.Adadelta(1.0),
    "Adam": hotrow.Adam(0.01),
    "amsgrad": hotrow.Adam(0.01, amsgrad=True),
    "AdamW": hotrow.AdamW(0.01),
    "Adamax": hotrow.Adamax(0.01),
    "Nadam": hotrow.Nadam(0.01),
    "Lion": hotrow.Lion(0.01),
    "Ftrl": hotrow.Ftrl(0.1, l1=0.01),
}

POOLS = {
    "small": np.arange(9),
    "64 bits": RNG.integers(-(2**63), 2**63 - 1, 9),
    "unsigned": RNG.integers(2**63, 2**64 - 1, 9, dtype=np.uint64),
    "strings": np.array([f"user {i} é" for i in range(9)], object),
}
"""Ids of each kind, of which a batch is drawn."""

BAD = {
    "NaN": [[float("nan")]],
    "not whole": [[0.5]],
    "too large a float": np.array([[2.0**24]], np.float32),
    "bool": [[True]],
    "none": [[None]],
    "mixed": [["a", 1]],
    "beyond 64 bits": [[2**64]],
    "both signs beyond int64": [[-1, 2**63]],
    "ragged": [[1, 2], [3]],
    "a date": np.array([["2026-01-01"]], "datetime64[D]"),
    "not UTF-8": [[b"\xff"]],
    "a lone surrogate": [["\ud800"]],
}
"""What can't be ids, whatever the table."""


def batches(kind: str, n: int = 12) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ids (6, 3), gradients float32 (6, 3, DIM)), with ids that come again in a batch, and new ones as it goes on."""
    rng = np.random.default_rng(3)
    pool = POOLS[kind]
    return [
        (
            pool[rng.integers(0, min(len(pool), 4 + i), (6, 3))],
            rng.normal(size=(6, 3, DIM)).astype(np.float32),
        )
        for i in range(n)
    ]


def reference(optimizer: hotrow.table.optimizers.Optimizer, kind: str) -> hotrow.Table:
    """The table that these batches make, by NumPy alone."""
    table = hotrow.Table(DIM, optimizer=optimizer, seed=5)
    if kind == "unsigned":
        table.kind = "uint64"
    for ids, gradients in batches(kind):
        table.update(table.find(ids, grow=True), gradients)
    return table


def check_trained(subject, kind: str) -> None:
    """Train the subject on the batches, and compare its table with the reference, bit for bit."""
    for ids, gradients in batches(kind):
        subject.step(ids, gradients)
    expected = reference(subject.table.optimizer, kind)
    ids = expected.ids()
    assert len(subject.table) == len(expected)
    assert subject.table.steps == expected.steps
    np.testing.assert_array_equal(subject.table.lookup(ids, unknown="error"), expected.lookup(ids))
    np.testing.assert_array_equal(subject.lookup(batches(kind)[0][0]), expected.lookup(batches(kind)[0][0]))


def check_unknown(subject) -> None:
    """Unknown ids have their first value, and get no row by being looked at."""
    ids = np.array([[2**40, -5], [7, 7]])
    np.testing.assert_array_equal(subject.lookup(ids), hotrow.Table(DIM, seed=5).lookup(ids))
    assert len(subject.table) == 0


def error_of(call, *args) -> str:
    """The text of the error that a call must raise."""
    try:
        call(*args)
    except Exception as error:
        return str(error)
    raise AssertionError("no error")


def check_refused(subject, bad) -> None:
    """What can't be ids is refused with the very text that the table itself has, and nothing has changed."""
    expected = error_of(hotrow.Table(DIM).lookup, bad)
    assert expected in error_of(subject.lookup, bad)
    assert expected in error_of(subject.step, bad, np.zeros((1, 1, DIM), np.float32))
    assert len(subject.table) == 0
    assert subject.table.steps == 0
