"""Arrays that owner and shards share on one machine: blocks are used again, and a table is the same to the bit."""

from __future__ import annotations

import gc
import mmap
import os
import signal
from typing import Any

import numpy as np
import pytest

import hotrow
from hotrow.cluster.arena import _KEPT, SMALL, Arena, Arenas
from hotrow.cluster.wire import decode, encode
from hotrow.errors import ClusterError

pytest_plugins = ["ray_local"]
ray_tests = pytest.mark.xdist_group("ray")

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files without a name")


def arena_of() -> Arena:
    arena = Arena.made()
    assert arena is not None
    return arena


def test_a_block_is_used_again_once_nobody_holds_an_array_of_it() -> None:
    arena = arena_of()
    first = arena.empty((SMALL // 8,), np.int64)
    place, part = arena.place(first), first[3:5]
    del first
    other = arena.empty((SMALL // 8,), np.int64)
    assert arena.place(other) != place  # a part of the first is still there
    del part
    gc.collect()
    assert arena.place(arena.empty((SMALL // 8,), np.int64)) == place


def test_what_is_lost_is_never_used_again() -> None:
    arena = arena_of()
    first = arena.empty((SMALL,), np.uint8)
    place = arena.place(first)
    arena.lose([first])
    del first
    assert arena.place(arena.empty((SMALL,), np.uint8)) != place


def test_small_arrays_and_others_memory_are_no_part_of_an_arena() -> None:
    arena = arena_of()
    assert arena.place(arena.empty((4,), np.float32)) is None
    assert arena.place(np.zeros(SMALL, np.float32)) is None
    assert arena.place(arena.empty((SMALL, 0), np.float32)) is None


def test_an_arena_that_is_full_gives_ordinary_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    from hotrow.cluster import arena as module

    monkeypatch.setattr(module, "_ROOM", 1 << 17)
    arena = arena_of()
    held = [arena.empty((SMALL,), np.uint8) for _ in range(6)]
    assert [arena.place(one) is not None for one in held] == [True] * 3 + [False] * 3
    assert _KEPT >= module._ROOM


def test_idle_blocks_beyond_a_bound_go_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    from hotrow.cluster import arena as module

    monkeypatch.setattr(module, "_KEPT", 0)
    arena = arena_of()
    array = arena.empty((4 * SMALL,), np.uint8)
    array[:] = 7
    before = os.fstat(arena.name[1]).st_blocks
    del array
    again = arena.empty((4 * SMALL,), np.uint8)
    assert os.fstat(arena.name[1]).st_blocks < before
    assert not again.any()


def test_a_message_says_where_arrays_lie_and_room_is_written_by_who_gets_it() -> None:
    ours, theirs = arena_of(), Arenas()
    assert theirs.know(ours.name)
    assert theirs.know(ours.name)  # it may be told again
    shared, sent, room = ours.empty((SMALL // 4,), np.float32), np.arange(3), ours.empty((SMALL // 8,), np.int64)
    shared[:] = np.arange(len(shared))
    parts = encode({"what": "pull"}, [shared, sent], ours, [room])
    assert sum(map(len, parts[1:])) == sent.nbytes
    told, (one, two) = decode(parts, theirs)
    assert np.array_equal(one, shared)
    assert np.array_equal(two, sent)
    assert not one.flags.writeable
    told["room"][0][:] = 5
    assert (room == 5).all()


def test_an_arena_that_is_not_known_or_has_no_such_place_is_refused() -> None:
    ours, theirs = arena_of(), Arenas()
    shared = ours.empty((SMALL,), np.uint8)
    with pytest.raises(ClusterError, match="arena"):
        decode(encode({}, [shared], ours), theirs)
    assert not theirs.know([*ours.name[:3], "00" * 16])  # another file has taken its number
    assert not theirs.know([2**30, 0, mmap.PAGESIZE, ours.name[3]])
    assert theirs.know(ours.name)
    with pytest.raises(ClusterError, match="no such place"):
        theirs.array(ours.name[3], ours.name[2] - 4, np.uint8, [8])


def test_an_arena_that_has_ended_is_let_go_of_when_the_next_one_comes() -> None:
    theirs, first, second = Arenas(), arena_of(), arena_of()
    token = first.name[3]
    assert theirs.know(first.name)
    assert theirs.array(token, 0, np.uint8, [8]).size == 8
    del first
    gc.collect()
    assert theirs.know(second.name)
    with pytest.raises(ClusterError, match="isn't known"):
        theirs.array(token, 0, np.uint8, [8])


def test_a_forked_child_takes_nothing_of_its_parents_arena() -> None:
    arena = arena_of()
    arena.name[0] += 1  # as it looks from another process
    assert arena.place(arena.empty((SMALL,), np.uint8)) is None


# --- with Ray --------------------------------------------------------------------------------------------------------


def train(table: Any, ids: np.ndarray, steps: int, kill: int | None = None) -> None:
    rng = np.random.default_rng(3)
    for step in range(steps):
        if step == kill:
            os.kill(table.shards_.call("facts")[0]["pid"], signal.SIGKILL)
        batch = table.find(rng.choice(ids, 6_000), grow=True)
        table.update(batch, np.tanh(table.lookup(batch)) + rng.standard_normal((6_000, 16), np.float32))
        if step % 3 == 2:
            table.forget(rng.choice(ids, 50))


@ray_tests
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "sent"])
@pytest.mark.parametrize("strings", [False, True], ids=["integers", "strings"])
def test_large_batches_are_the_same_bits_through_an_arena_and_without(
    ray_local: Any, monkeypatch: pytest.MonkeyPatch, shared: bool, strings: bool
) -> None:
    from hotrow import cluster

    if not shared:
        monkeypatch.setattr(Arena, "made", classmethod(lambda cls: None))
    ids = np.array([f"id {i}" for i in range(9_000)]) if strings else np.arange(9_000)
    plain, parts = hotrow.Table(16), cluster.Table(16, shards=3)
    assert (parts.shards_._arena is not None) == shared
    try:
        train(plain, ids, 8)
        train(parts, ids, 8)
        mine, theirs = plain.state(), parts.state()
        assert np.array_equal(mine.keys, theirs.keys)
        assert np.array_equal(mine.weights, theirs.weights)
        assert all(np.array_equal(mine.slots[name], theirs.slots[name]) for name in mine.slots)
    finally:
        parts.close()


@ray_tests
def test_a_killed_shard_is_sent_what_lies_in_the_arena_again(ray_local: Any) -> None:
    from hotrow import cluster

    ids = np.arange(9_000)
    plain, parts = hotrow.Table(16), cluster.Table(16, shards=2)
    try:
        train(plain, ids, 6)
        train(parts, ids, 6, kill=3)
        assert np.array_equal(plain.state().weights, parts.state().weights)
        assert parts.shards_.links[0].revivals == 1
    finally:
        parts.close()
