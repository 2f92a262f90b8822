"""What a framework's lookup calls on the host, and its face: `lookup(ids, hooks, rate, crossing)` in each bridge.

    lookup([user, tags], [hook, hook], rate, crossing) → [vectors of user, vectors of tags, mask, …, penalty]
                                                      or [vectors of both side by side, penalty]

ids, hooks (float32 ()) and rate (float32 (); NaN for one that the host knows) are the framework's tensors. All features
cross at once: forward calls `crossing.pull`, backward `crossing.push`, whose values are the hooks' gradients. And
`on_host(function, ids, dtype)` is a function of NumPy arrays, of the same shape, for tensors that may be symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hotrow.bridges.rounds import Hook
from hotrow.bridges.stage import Stage
from hotrow.kernels import threads
from hotrow.table.batch import Batch

Shape = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Way:
    """One feature's way into its table.

    find   the Batch of what the framework brought: ids, or codes
    rate   the learning rate of a step, None for the table's own; its argument is that of the graph
    inner  the shape of a vector, or of a sequence of them: (dim,) or (length, dim)
    """

    stage: Stage
    hook: Hook
    find: Callable[[np.ndarray, bool], Batch]
    rate: Callable[[float], float | None]
    inner: tuple[int, ...]

    @property
    def is_sequence(self) -> bool:
        """Whether there is a mask beside the vectors."""
        return len(self.inner) > 1


@dataclass(frozen=True, eq=False)
class Crossing:
    """The two calls of a lookup, for one feature or many. Each table has one hook, whatever has a way into it.

    abreast  whether the vectors of an example stand side by side: float32 (batch, sum of dims), of no sequences
    """

    ways: tuple[Way, ...]
    training: bool
    abreast: bool = False

    @cached_property
    def hooks(self) -> tuple[Hook, ...]:
        """The hooks, in the order of the features that first have them."""
        return tuple(dict.fromkeys(way.hook for way in self.ways))

    @cached_property
    def _groups(self) -> list[list[int]]:
        """Which ways are into one table: these go one after the other, and tables side by side."""
        return [[i for i, way in enumerate(self.ways) if way.hook is hook] for hook in self.hooks]

    @cached_property
    def _columns(self) -> list[slice]:
        """Where the vectors of each feature stand, abreast."""
        ends = [sum(way.inner[0] for way in self.ways[: i + 1]) for i in range(len(self.ways))]
        return [slice(end - way.inner[0], end) for way, end in zip(self.ways, ends, strict=True)]

    def _apart(self, wide: np.ndarray) -> list[np.ndarray]:
        """The vectors of each feature, float32 (batch, dim), of those of all of them."""
        return [wide[:, columns] for columns in self._columns]

    def shapes(self, ids: Sequence[Shape]) -> list[Shape]:
        """Of what `pull` gives for ids of these shapes: vectors, masks of sequences, the penalty. All is float32."""
        if self.abreast:
            return [(*ids[0], self._columns[-1].stop), ()]
        vectors = [(*shape, *way.inner) for way, shape in zip(self.ways, ids, strict=True)]
        masks = [shape[:-1] for way, shape in zip(self.ways, vectors, strict=True) if way.is_sequence]
        return [*vectors, *masks, ()]

    def pull(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Forward: of the features' ids, then the hooks' values, to what `shapes` tells of."""
        ids, values = arrays[: len(self.ways)], arrays[len(self.ways) :]
        wide = np.empty((len(ids[0]), self._columns[-1].stop), np.float32) if self.abreast else None
        vectors: list[Any] = [None] * len(self.ways) if wide is None else self._apart(wide)
        masks: list[Any] = [None] * len(self.ways)

        def group(g: int) -> float:
            penalty = 0.0
            for i in self._groups[g]:
                way = self.ways[i]
                with way.stage.working():  # from here on: `find` mustn't ask for the value that this call waits for
                    batch = way.find(ids[i], self.training)
                    vectors[i], more = way.stage.pull(
                        way.hook, (way, ids[i]), batch, float(values[g]), training=self.training, out=vectors[i]
                    )
                    masks[i] = _mask_of(batch) if way.is_sequence else None
                penalty += more
            return penalty

        penalty = sum(threads.each(group, range(len(self._groups))))
        if wide is not None:
            return [wide, np.asarray(penalty, np.float32)]
        return [*vectors, *(mask for mask in masks if mask is not None), np.asarray(penalty, np.float32)]

    def push(
        self, *arrays: np.ndarray, hooks: Sequence[np.ndarray] = (), carried: Sequence[bool] = ()
    ) -> list[np.ndarray]:
        """Backward: of the features' ids, the gradients of what `pull` gave, and the rate, to the hooks' gradients.

        hooks    the hooks' values, where forward may be left out or run later
        carried  for each hook, whether the framework adds up gradients, and there is one that no step has taken

        Whoever asks for gradients trains, also where the layer was called for inference: new ids get their row.
        """
        n = len(self.ways)
        ids, penalty, rate = arrays[:n], float(arrays[-2]), float(arrays[-1])
        gradients = self._apart(arrays[n]) if self.abreast else arrays[n : 2 * n]
        rates = [way.rate(rate) for way in self.ways]  # raises before anything has changed

        def group(g: int) -> np.ndarray:
            number = np.float32(0)
            for i in self._groups[g]:
                way = self.ways[i]
                with way.stage.working():
                    if hooks:
                        way.stage.look(way.hook, float(hooks[g]))
                    batch = way.stage.recall(way.hook, (way, ids[i])) or way.find(ids[i], True)
                    number += way.stage.push(
                        way.hook, batch, gradients[i], penalty, rates[i], carried=bool(carried and carried[g])
                    )
            return np.asarray(number, np.float32)

        return threads.each(group, range(len(self._groups)))


def _mask_of(batch: Batch) -> np.ndarray:
    """Which places of a batch aren't padding: float32 (*shape,)."""
    padding = batch.places_of_padding()
    return np.ones(batch.shape, np.float32) if padding is None else (~padding).astype(np.float32).reshape(batch.shape)
