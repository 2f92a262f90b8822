"""Which row numbers are in use: given out as by a plain table, in order of arrival, freed ones again, latest first."""

from __future__ import annotations

import numpy as np


class Numbers:
    """Of a table that has `rows` rows, all in use."""

    def __init__(self, rows: int = 0) -> None:
        self.most = rows
        """How many were ever used."""
        self._free: list[int] = []

    def __len__(self) -> int:
        return self.most - len(self._free)

    @property
    def has_holes(self) -> bool:
        """Whether some number below `most` is free."""
        return bool(self._free)

    @property
    def free(self) -> list[int]:
        """Those that are free, in the order in which they became so."""
        return list(self._free)

    def following(self, count: int) -> np.ndarray:
        """The next so many, in the order in which they are given out, which `take` will take: int64 (count,)."""
        again = self._free[: -count - 1 : -1] if count else []
        fresh = np.arange(self.most, self.most + count - len(again), dtype=np.int64)
        return np.concatenate([np.array(again, np.int64), fresh])

    def take(self, count: int) -> np.ndarray:
        """So many, in the order in which they are given out: int64 (count,)."""
        numbers, again = self.following(count), min(count, len(self._free))
        del self._free[len(self._free) - again :]
        self.most += count - again
        return numbers

    def give_back(self, numbers: np.ndarray) -> None:
        """These (int64 (n,)) are free."""
        self._free.extend(numbers.tolist())
