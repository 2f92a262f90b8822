"""The conformance suite for hotrow.Table itself, which the specification in naive.py is held against, too."""

from __future__ import annotations

import conformance
import naive
import numpy as np
import pytest
from conformance import BAD, DIM, OPTIMIZERS, POOLS

import hotrow


class Direct:
    """A table, by NumPy."""

    def __init__(self, optimizer=None):
        self.table = hotrow.Table(DIM, optimizer=optimizer or hotrow.SGD(0.1), seed=5)

    def lookup(self, ids):
        return self.table.lookup(ids)

    def step(self, ids, gradients):
        if self.table.kind is None and getattr(ids, "dtype", None) == np.uint64:
            self.table.kind = "uint64"
        self.table.update(self.table.find(ids, grow=True), gradients)


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_the_trained_table_is_the_same(optimizer, kind):
    conformance.check_trained(Direct(optimizer), kind)


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam"])
def test_the_trained_table_is_that_of_the_specification(name):
    plain = naive.Table(DIM, name, seed=5)
    for ids, gradients in conformance.batches("64 bits"):
        flat = ids.reshape(-1).tolist()
        plain.grow(flat)
        plain.update(flat, list(gradients.reshape(-1, DIM)))
    kind = {"SGD": hotrow.SGD(), "Adagrad": hotrow.Adagrad(), "Adam": hotrow.Adam()}[name]
    table = conformance.reference(kind, "64 bits")
    ids = table.ids().tolist()
    np.testing.assert_allclose(table.lookup(ids), np.array(plain.lookup(ids)), rtol=1e-5, atol=1e-6)


def test_unknown_ids_have_their_first_value():
    conformance.check_unknown(Direct())


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_can_not_be_ids_is_refused_alike(bad):
    conformance.check_refused(Direct(), bad)
