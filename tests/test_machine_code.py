"""What the steps of optimizers are compiled to."""

from __future__ import annotations

import platform
import re

import numpy as np
import pytest
from numba import njit

import hotrow
from hotrow.table.optimizers import OPTIMIZERS

OPTIONS = {"SGD": {"momentum": 0.9}, "RMSprop": {"centered": True, "momentum": 0.9}, "Adam": {"amsgrad": True}}
ROOTLESS = {"SGD", "Adamax", "Lion"}
UNDIVIDED = {"SGD", "Lion"}
X86 = platform.machine().lower() in {"x86_64", "amd64"}


def assembly(name: str) -> str:
    """The machine code of an optimizer's kernel, compiled anew: Numba keeps no text of what it has from its cache."""
    optimizer = OPTIMIZERS[name](**OPTIONS.get(name, {}))
    table = hotrow.Table(4, optimizer=optimizer)
    table.update(table.find([1, 2, 1], grow=True), np.ones((3, 4), np.float32))
    kernel = optimizer.kernel
    fresh = njit(nogil=True, error_model="numpy", fastmath=kernel.targetoptions["fastmath"])(kernel.py_func)
    fresh.compile(kernel.signatures[0])
    return next(iter(fresh.inspect_asm().values()))


def count(text: str, instruction: str) -> int:
    return len(re.findall(rf"^\s+{instruction}\b", text, re.MULTILINE))


@pytest.mark.compiled
@pytest.mark.skipif(not X86, reason="instructions have other names here")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_takes_many_numbers_with_an_instruction(name):
    text = assembly(name)
    packed = sum(count(text, rf"v?{operation}\w*ps") for operation in ("mul", "add", "sub", "fmadd", "fnmadd", "fmsub"))
    assert packed >= 4
    assert name in ROOTLESS | {"RowwiseAdagrad"} or count(text, "v?sqrtps")
    assert name in UNDIVIDED | {"RowwiseAdagrad"} or count(text, "v?divps")
    single = count(text, "v?sqrtss") + count(text, "v?divss")
    # Row-wise Adagrad has one root a row.
    assert single <= {"RowwiseAdagrad": 3}.get(name, 0), single
