"""Which inputs of a model are ids, found out by trial, where its graph can't be read.

Two samples go through the model, with codes for whatever could be ids, while hotrow layers only say what has come to
them. What has come is ids. But a column may go to a hotrow layer and also be calculated with, and then codes would be
numbers there. So it goes through as other numbers too, large and small, below 0 and not: what comes out mustn't change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras.src.random.seed_generator import global_seed_generator

from hotrow.bridges.codes import Words
from hotrow.errors import ArgumentError
from hotrow.keras import modes
from hotrow.keras.forms import Leaves, Path, to_numbers

_SAMPLES = 2
Shape = Callable[[Path, Any], Any]
Encoded = Callable[[Path, Any], tuple[np.ndarray, Any]]


def kinds(
    model: Any, leaves: Leaves, known: dict[Path, bool], shape: Shape, encoded: Encoded
) -> dict[Path, tuple[bool, list[Any]]]:
    """For each leaf that isn't known, whether it is ids, and the layers that get all of it.

    shape    what the model does with an array for a leaf before it is used
    encoded  the codes of a leaf, and what they stand for
    Raises ArgumentError for one that is used as ids and calculated with.
    """
    trial = _Trial(model, leaves, known, shape, encoded)
    came = trial.came(trial.unsure)
    trial.refuse_numbers(came)
    unknown = [path for path in leaves.of if path not in known]
    return {path: (path in came or trial.sure.get(path, False), trial.whole.get(path, [])) for path in unknown}


class _Trial:
    """codes: of each leaf that could be ids, with their Words. sure: whether it can't be numbers. ids: those found."""

    def __init__(self, model: Any, leaves: Leaves, known: dict[Path, bool], shape: Shape, encoded: Encoded) -> None:
        self.model, self.leaves, self._shape, self._encoded = model, leaves, shape, encoded
        self.codes: dict[Path, tuple[np.ndarray, Words]] = {}
        self.sure: dict[Path, bool] = {}
        self.ids: list[Path] = []
        self.whole: dict[Path, list[Any]] = {}
        for path, leaf in leaves.of.items():
            if known.get(path, True):
                self._encode(path, _head(leaf), path in known)
        self.unsure = [path for path, sure in self.sure.items() if not sure]

    def _encode(self, path: Path, head: Any, known: bool) -> None:
        try:
            codes, words = self._encoded(path, head)
        except Exception:  # noqa: BLE001 — then it isn't ids
            return
        if known or getattr(words, "kind", None) == "string" or not _is_float(head):
            self.codes[path], self.sure[path] = (codes, words), known or getattr(words, "kind", None) == "string"

    def came(self, candidates: list[Path]) -> list[Path]:
        """Those of the candidates whose codes come to a hotrow layer."""
        try:
            return self._arrived(candidates)
        except Exception:  # noqa: BLE001 — numbers that must be small, say: each by itself, then
            return [path for path in candidates if self._alone(path)]

    def _alone(self, path: Path) -> bool:
        try:
            return bool(self._arrived([path]))
        except Exception:  # noqa: BLE001 — if it isn't about this leaf, the model itself will raise it
            return False

    def _arrived(self, candidates: list[Path]) -> list[Path]:
        seen, _ = self._run({path: self.codes[path][0] for path in candidates})
        for path, (codes, _) in self.codes.items():
            self.whole[path] = [layer for layer, came in seen if np.array_equal(came.reshape(-1), codes.reshape(-1))]
        every = np.concatenate([np.zeros(0), *(came.reshape(-1) for _, came in seen)])

        def has_come(words: Words) -> bool:
            return bool(((every >= words.base) & (every < words.base + len(words))).any())

        return [path for path in candidates if has_come(self.codes[path][1])]

    def refuse_numbers(self, ids: list[Path]) -> None:
        """ArgumentError for one of these that is calculated with."""
        self.ids = ids
        if not ids or self._same(ids):
            return
        for path in ids:
            if not self._same([path]):
                where = f"input {path[-1]!r}" if path else "the input"
                raise ArgumentError(
                    f"{where} comes to a hotrow layer, as ids, and is calculated with elsewhere in the model, as "
                    "numbers; expected one or the other: give the numbers an input of their own"
                )

    def _same(self, paths: list[Path]) -> bool:
        """Whether the model gives the same, whatever numbers these leaves are."""
        zeros = {path: np.zeros_like(self.codes[path][0]) for path in paths}
        _, first = self._run(zeros)
        if not _equal(first, self._run(zeros)[1]):
            return True  # it gives something else each time, so this can't tell
        for change in (np.positive, np.negative, np.ones_like):
            try:
                _, out = self._run({path: change(self.codes[path][0]) for path in paths})
            except Exception:  # noqa: BLE001 — then it matters what they are
                return False
            if not _equal(first, out):
                return False
        return True

    def _run(self, values: dict[Path, np.ndarray]) -> tuple[modes.Seen, list[np.ndarray]]:
        """What comes to hotrow layers, and what comes out, for these values; others are what they are taken for."""

        def leaf(path: Path, value: Any) -> Any:
            if path in values:
                value = values[path]
            elif path in self.codes:
                codes, words = self.codes[path]
                value = codes if self.sure[path] or path in self.ids else _numbers(codes, words)
            else:
                value = to_numbers(_head(value))
            return keras.ops.convert_to_tensor(self._shape(path, value))

        model, x = self.model, self.leaves.map(leaf)
        before = _state(model)
        with modes.probe() as seen:
            out = model(x, **({"training": False} if model._call_has_training_arg else {}))
        results = [np.asarray(keras.ops.convert_to_numpy(o)) for o in keras.tree.flatten([out, model.losses])]
        for variable, value in before:
            variable.assign(value)
        return seen, results


def _head(leaf: Any) -> Any:
    return getattr(leaf, "iloc", leaf)[:_SAMPLES]


def _numbers(codes: np.ndarray, words: Words) -> np.ndarray:
    """The ids that codes stand for, as the numbers that they would be in a framework."""
    ids = words.take(codes.reshape(-1).astype(np.int64) - words.base)
    return np.clip(ids, 0 if words.kind == "uint64" else -(2**31), 2**31 - 1).astype(np.int32).reshape(codes.shape)


def _is_float(leaf: Any) -> bool:
    kind = str(getattr(leaf, "dtype", getattr(leaf, "type", "object"))).lower()  # Arrow has a type
    if kind == "object":
        return any(isinstance(item, (float, np.floating)) for item in np.asarray(leaf, object).reshape(-1).tolist())
    return "float" in kind or "double" in kind


def _state(model: Any) -> list[tuple[Any, np.ndarray]]:
    """What a call may change in a model that is built: seeds, statistics."""
    variables = [*model.non_trainable_variables, global_seed_generator().state]
    return [(variable, np.array(keras.ops.convert_to_numpy(variable.value))) for variable in variables]


def _equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(a, b, strict=True)
    )
