"""The hash index against a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hotrow.kernels import probing
from hotrow.table import index as index_module
from hotrow.table.index import Index, cells_of


def unmix(h: int) -> int:
    """The key that `probing.mix` sends to h: each of its steps can be undone."""
    word, inverse = 2**64 - 1, pow(0xD6E8FEB86659FD93, -1, 2**64)
    h ^= h >> 32
    for _ in range(2):
        h = h * inverse & word
        h ^= h >> 32
    return h


# Keys whose hashes meet: many in one bucket, in its neighbour, and in the last one, from which a run wraps around.
CROWDED = [unmix(home | (other << 32)) for home in (0, 1, 1022, 1023) for other in range(12)]
KEYS = st.sampled_from(CROWDED) | st.integers(0, 2**64 - 1) | st.integers(0, 30)


def entries(cells: np.ndarray) -> dict[int, int]:
    """What the cells hold, key → row + 1, after a look at their form."""
    found = {}
    for bucket in cells.reshape(-1, 8):
        numbers = bucket.view(np.uint32)[10:].tolist()
        assert numbers[5] == 0
        assert sorted(numbers[:5], key=lambda n: n == 0) == numbers[:5]  # filled from the left
        assert not bucket[:5][np.array(numbers[:5]) == 0].any()
        found |= {int(key): number for key, number in zip(bucket[:5], numbers[:5], strict=True) if number}
    return found


class IndexMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.index = Index()
        self.rows: dict[int, int] = {}

    @rule(keys=st.lists(KEYS, unique=True, max_size=60))
    def insert(self, keys):
        array = np.array(keys, np.uint64)
        rows, missing = self.index.find(array)
        assert missing == np.count_nonzero(rows < 0)
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
        self.index.erase(array, self.index.find(array)[0])
        for key in keys:
            del self.rows[key]

    @rule(keys=st.lists(KEYS, max_size=20))
    def find(self, keys):
        rows = self.index.find(np.array(keys, np.uint64))[0].tolist()
        assert rows == [self.rows.get(key, -1) for key in keys]

    @invariant()
    def rows_and_keys_agree(self):
        assert len(self.index) == len(self.rows)
        rows = self.index.rows()
        assert rows.tolist() == sorted(self.rows.values())
        array = self.index.keys()
        keys = array.tolist()
        assert dict(zip(keys, rows.tolist(), strict=True)) == self.rows
        assert self.index.find(np.array(keys, np.uint64))[0].tolist() == rows.tolist()
        assert entries(self.index.cells(array)) == {key: i + 1 for i, key in enumerate(keys)}

    @invariant()
    def no_row_number_is_wasted(self):
        assert self.index.has_holes == (self.index.n_rows > len(self.rows))


class GrowingMachine(IndexMachine):
    """The same while buckets are on the move nearly always: as few as possible at each insertion."""

    def __init__(self):
        super().__init__()
        self.usual = index_module._PACE, index_module._STEP
        index_module._PACE, index_module._STEP = 1, 1

    def teardown(self):
        index_module._PACE, index_module._STEP = self.usual

    @rule()
    def settle(self):
        self.index.settle()


TestIndex = IndexMachine.TestCase
TestGrowingIndex = GrowingMachine.TestCase


def test_buckets_move_a_few_at_a_time_and_every_key_is_found_meanwhile(monkeypatch):
    monkeypatch.setattr(index_module, "_PACE", 1)
    monkeypatch.setattr(index_module, "_STEP", 1)
    index, keys = Index(), np.random.default_rng(1).integers(0, 2**64, 2000, dtype=np.uint64)
    moving = 0
    for n, key in enumerate(keys, 1):
        index.insert(keys[n - 1 : n], np.full(1, -1, np.int32))
        moving += index._is_moving
        if n % 50 == 0:
            assert index.find(keys[:n])[0].tolist() == list(range(n)), key
            assert index.keys().tolist() == keys[:n].tolist()
    assert moving > 100  # of 2,000 insertions


@pytest.mark.compiled  # of a million keys, for pieces are given back of a large index alone
def test_what_a_smaller_size_took_is_given_back_on_the_way(monkeypatch):
    given = []

    def release(space, start, stop):
        assert not space.array[start:stop].any()
        given.append((start, stop, index._is_moving))

    monkeypatch.setattr(index_module.Growable, "release", release)
    index, keys = Index(), np.arange(1_200_000, dtype=np.uint64)
    for part in np.array_split(keys, 60):
        index.insert(part, np.full(len(part), -1, np.int32))
    index.settle()
    assert index._frame[1] == 2**19
    taken = {start // 8 // 2**16 for start, _, moving in given if moving}
    assert taken >= {5, 6}  # of the size that lies at 2**18: four pieces, the first of which waits for the end
    released = np.zeros(2**19, bool)
    for start, stop, _ in given:
        released[start // 8 : stop // 8] = True
    assert released[2**13 :].all()  # the first of those that 20,000 keys take


def test_unmix_undoes_mix():
    for key in (0, 1, 2**63, 2**64 - 1, 0x123456789ABCDEF):
        with np.errstate(over="ignore"):  # interpreted, it is quiet in a kernel alone
            assert unmix(int(probing.mix(np.uint64(key)))) == key


def test_it_grows_through_many_sizes_and_finds_every_key():
    index, keys = Index(), np.random.default_rng(0).integers(0, 2**64, 3000, dtype=np.uint64)
    for part in np.array_split(keys, 100):
        index.insert(part, index.find(part)[0])
    assert index.find(keys)[0].tolist() == list(range(3000))
    assert (index.find(keys + np.uint64(1))[0] == -1).all()


def test_at_most_four_fifths_of_the_cells_are_used():
    for n in (0, 1, 32, 33, 1000, 65536, 65537):
        cells = cells_of(np.arange(n, dtype=np.uint64))
        assert len(cells) & (len(cells) - 1) == 0
        assert n <= 4 * (len(cells) // 8)


def test_cells_begin_with_a_cache_line():
    assert cells_of(np.arange(10_000, dtype=np.uint64)).ctypes.data % 64 == 0


def test_a_full_index_or_one_with_rows_that_are_not_there_ends_every_search():
    full = np.zeros(64, np.uint64)
    full[:] = 1
    full.view(np.uint32).reshape(8, 16)[:, 10:15] = 7
    index = Index.over(full, np.arange(3, dtype=np.uint64), writable=False)
    assert index.find(np.array([0, 1, 2], np.uint64))[0].tolist() == [-1, -1, -1]


def test_an_index_made_of_its_keys_finds_them_all():
    keys = np.array(CROWDED + list(range(1, 500)), np.uint64)
    index = Index.over(cells_of(keys), keys, writable=False)
    assert index.find(keys)[0].tolist() == list(range(len(keys)))


def test_a_read_only_index_and_a_copy_of_it_find_the_same():
    keys = np.arange(100, dtype=np.uint64)
    cells = cells_of(keys)
    for array in (keys, cells):
        array.flags.writeable = False
    reading, writing = (Index.over(cells, keys, writable=writable) for writable in (False, True))
    writing.insert(np.array([500], np.uint64), np.array([-1], np.int32))
    assert reading.find(keys)[0].tolist() == writing.find(keys)[0].tolist()
    assert len(writing) == 101
    assert len(reading) == 100
