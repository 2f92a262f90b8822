"""The hash index against a dict."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hotrow.kernels import probing
from hotrow.table.index import Index, cells_for, cells_of


def unmix(h: int) -> int:
    """The key that `probing.mix` sends to h: each of its steps can be undone."""
    word, inverse = 2**64 - 1, pow(0xD6E8FEB86659FD93, -1, 2**64)
    h ^= h >> 32
    for _ in range(2):
        h = h * inverse & word
        h ^= h >> 32
    return h


# Keys whose hashes meet: the same home cell, the last cell (a run that wraps), the same tag.
CROWDED = [unmix(home | (tag << 32)) for home in (0, 1, 62, 63) for tag in (0, 1, 2, 2**32 - 1)]
KEYS = st.sampled_from(CROWDED) | st.integers(0, 2**64 - 1) | st.integers(0, 30)


class IndexMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.index = Index()
        self.rows: dict[int, int] = {}

    @rule(keys=st.lists(KEYS, unique=True, max_size=60))
    def insert(self, keys):
        array = np.array(keys, np.uint64)
        rows = self.index.find(array)
        known = [key for key in keys if key in self.rows]
        self.index.insert(array, rows)
        taken = set(self.rows.values())
        for key, row in zip(keys, rows.tolist(), strict=True):
            if key in known:
                assert self.rows[key] == row
            else:
                assert row not in taken
                taken.add(row)
                self.rows[key] = row

    @rule(data=st.data())
    def erase(self, data):
        if not self.rows:
            return
        keys = data.draw(st.lists(st.sampled_from(sorted(self.rows)), unique=True))
        array = np.array(keys, np.uint64)
        self.index.erase(array, self.index.find(array))
        for key in keys:
            del self.rows[key]

    @rule(keys=st.lists(KEYS, max_size=20))
    def find(self, keys):
        rows = self.index.find(np.array(keys, np.uint64)).tolist()
        assert rows == [self.rows.get(key, -1) for key in keys]

    @invariant()
    def rows_and_keys_agree(self):
        assert len(self.index) == len(self.rows)
        rows = self.index.rows()
        assert rows.tolist() == sorted(self.rows.values())
        assert {int(k): int(r) for k, r in zip(self.index.row_keys[rows], rows, strict=True)} == self.rows
        assert np.count_nonzero(self.index.cells) == len(self.rows)

    @invariant()
    def no_row_number_is_wasted(self):
        assert self.index.has_holes == (self.index.n_rows > len(self.rows))


TestIndex = IndexMachine.TestCase


def test_unmix_undoes_mix():
    for key in (0, 1, 2**63, 2**64 - 1, 0x123456789ABCDEF):
        assert unmix(int(probing.mix(np.uint64(key)))) == key


def test_it_grows_through_many_sizes_and_finds_every_key():
    index, keys = Index(), np.random.default_rng(0).integers(0, 2**64, 3000, dtype=np.uint64)
    for part in np.array_split(keys, 100):
        index.insert(part, index.find(part))
    assert index.find(keys).tolist() == list(range(3000))
    assert (index.find(keys + np.uint64(1)) == -1).all()


def test_cells_are_at_most_three_quarters_full():
    for n in (0, 1, 48, 49, 1000, 98304, 98305):
        size = cells_for(n)
        assert size & (size - 1) == 0
        assert 4 * n <= 3 * size


def test_an_index_made_of_its_keys_finds_them_all():
    keys = np.array(CROWDED + list(range(1, 500)), np.uint64)
    index = Index.over(cells_of(keys), keys, writable=False)
    assert index.find(keys).tolist() == list(range(len(keys)))


def test_a_read_only_index_and_a_copy_of_it_find_the_same():
    keys = np.arange(100, dtype=np.uint64)
    cells = cells_of(keys)
    for array in (keys, cells):
        array.flags.writeable = False
    reading, writing = (Index.over(cells, keys, writable=writable) for writable in (False, True))
    writing.insert(np.array([500], np.uint64), np.array([-1], np.int32))
    assert reading.find(keys).tolist() == writing.find(keys).tolist()
    assert len(writing) == 101
    assert len(reading) == 100
