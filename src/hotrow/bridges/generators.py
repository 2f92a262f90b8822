"""The random generators that a training loop draws from without saying so: Python's, NumPy's and torch's global ones.

random.python  float64 (626,)   624 words and a position, and a normal number that waits, or NaN
random.numpy   float64 (627,)   the same, and before the last whether one waits
random.torch   uint8 (n,)       as torch gives it, if torch is loaded
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from hotrow.errors import CorruptError

PREFIX = "random."
_WORDS = 624
_PYTHON, _NUMPY, _TORCH = PREFIX + "python", PREFIX + "numpy", PREFIX + "torch"
_VERSION = 3  # of Python's state


def capture() -> dict[str, np.ndarray]:
    """Where they are now, by name."""
    _, words, gauss = random.getstate()
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 — the global one is meant
    found = {_PYTHON: np.array([*words, math.nan if gauss is None else gauss])}
    if state["bit_generator"] == "MT19937":
        own = state["state"]
        found[_NUMPY] = np.array([*own["key"], own["pos"], state["has_gauss"], state["gauss"]], np.float64)
    torch = sys.modules.get("torch")
    if torch is not None:
        found[_TORCH] = torch.get_rng_state().numpy().copy()
    return found


def check(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """CorruptError for numbers that no such generator has."""
    for name, length in ((_PYTHON, _WORDS + 2), (_NUMPY, _WORDS + 3)):
        array = arrays.get(name)
        if array is None:
            continue
        words = array[: _WORDS + 1] if array.shape == (length,) and array.dtype == np.float64 else np.array([-1.0])
        if not ((words >= 0) & (words < 1 << 32) & (words == np.floor(words))).all() or words[-1] > _WORDS:
            raise CorruptError(f"{where}: {name} isn't the state of a random generator")


def put_back(arrays: Mapping[str, np.ndarray]) -> None:
    """Let them go on from there. What another version of torch has another state for is left as it is."""
    if _PYTHON in arrays:
        *words, gauss = arrays[_PYTHON].tolist()
        random.setstate((_VERSION, tuple(map(int, words)), None if math.isnan(gauss) else gauss))
    if _NUMPY in arrays:
        *key, pos, has_gauss, gauss = arrays[_NUMPY].tolist()
        own = {"key": np.array(key).astype(np.uint32), "pos": int(pos)}
        state = {"bit_generator": "MT19937", "state": own, "has_gauss": int(has_gauss == 1), "gauss": gauss}
        np.random.set_state(state)  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None and _TORCH in arrays:
        saved = arrays[_TORCH]
        if saved.dtype == np.uint8 and saved.shape == tuple(torch.get_rng_state().shape):
            torch.set_rng_state(torch.from_numpy(saved))
