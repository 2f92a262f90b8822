"""Tables in two shards for tests of what takes a table: made once, and empty again for each test."""

from __future__ import annotations

import numpy as np
import pytest

import hotrow


@pytest.fixture(scope="session")
def sharded_tables(ray_local):
    """By their dim, those that there are."""
    made = {}
    yield made
    for table in [table for tables in made.values() for table in tables]:
        table.close()


@pytest.fixture
def sharded(sharded_tables):
    """sharded(dim, …) → a hotrow.cluster.Table, else as hotrow.Table with these arguments."""
    from hotrow import cluster

    free = {dim: list(tables) for dim, tables in sharded_tables.items()}

    def make(dim, **how):
        plain = hotrow.Table(dim, **how)
        if free.get(dim):
            table = free[dim].pop()
        else:
            table = cluster.Table(dim)
            sharded_tables.setdefault(dim, []).append(table)
        table.pending = None  # whoever trained it before
        table.restore(plain.state())
        return table

    return make


def assert_equal(table, other):
    """Two tables are equal to the bit: ids in their order, vectors, slots and steps."""
    one, two = table.state(), other.state()
    assert one.config == two.config
    np.testing.assert_array_equal(one.keys, two.keys)
    np.testing.assert_array_equal(one.weights, two.weights)
    assert one.slots.keys() == two.slots.keys()
    for name, slot in one.slots.items():
        np.testing.assert_array_equal(slot, two.slots[name])
    assert (one.strings is None and two.strings is None) or one.strings.equals(two.strings)
