"""The run that is to check bounds does so."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hotrow.kernels import INTERPRETED, jit, simd

pytestmark = pytest.mark.skipif(
    INTERPRETED or os.environ.get("NUMBA_BOUNDSCHECK") != "1", reason="bounds aren't checked in this run"
)


@jit
def peek(array, i):
    """What lies there."""
    return array[i]


def test_this_run_really_checks_bounds():
    with pytest.raises(IndexError):
        peek(np.zeros(3), 3)


@jit
def copy_from(array, i, out):
    """Eight numbers from there on."""
    simd.copy(array, i, out, 0, 8)


@pytest.mark.parametrize(("i", "n"), [(1, 8), (-1, 8), (0, 7)])
def test_this_run_checks_the_bounds_of_blocks_too(i, n):
    array, out = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    copy_from(array, 0, out)
    assert out.tolist() == array.tolist()
    with pytest.raises(IndexError):
        copy_from(array, i, out[:n])
