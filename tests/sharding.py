"""A table in shards as its owner would save it: a plain table, whose rows are the numbers, split at each save."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

import hotrow
from hotrow.store.joining import NUMBER
from hotrow.store.sharded import join, split
from hotrow.store.writing import ShardedWriter, Still, Writer
from hotrow.table.kept import Saved
from hotrow.table.placing import place
from hotrow.table.state import State


def shards_of(table: hotrow.Table, shards: int) -> list[State]:
    """The states of a table's shards, whose numbers have the table's holes."""
    rows = table._index.rows().astype(np.int64)
    return [renumbered(one, rows) for one in split(table.state(), shards)]


def renumbered(state: State, rows: np.ndarray) -> State:
    at = np.ascontiguousarray(state.slots[NUMBER]).view(np.int64).ravel()
    return replace(state, slots=state.slots | {NUMBER: rows[at].view(np.float32).reshape(-1, 2)})


def change(before: State, after: State) -> State:
    """What a delta has of a shard that was `before`: rows that are new or other, and keys that went."""
    old, new = by_key(before), by_key(after)
    rows = np.array([i for i, key in enumerate(after.keys.tolist()) if old.get(key) != new[key]], np.int64)
    other = [
        key for key in old if key not in new or old[key][0] != new[key][0] or old[key][1][NUMBER] != new[key][1][NUMBER]
    ]
    return State(
        after.config,
        after.keys[rows],
        after.weights[rows],
        np.zeros(0, np.uint64),
        {name: slot[rows] for name, slot in after.slots.items()},
        None if after.strings is None else after.strings.take(pa.array(rows)),
        np.array(sorted(other), np.uint64),
    )


def by_key(state: State) -> dict:
    """All that a state has of each key, to the bit."""
    strings = [None] * len(state.keys) if state.strings is None else state.strings.to_pylist()
    return {
        key: (strings[i], {name: a[i].tobytes() for name, a in [("weights", state.weights), *state.slots.items()]})
        for i, key in enumerate(state.keys.tolist())
    }


class Owner:
    """Who saves a table in shards: `save` and `save_delta` as of a table."""

    def __init__(self, table: hotrow.Table, shards: int) -> None:
        self.table, self.shards = table, shards
        self.saved: Saved | None = None
        self.states: list[State] = []
        self.of_shards: list[Saved] = []

    def save(self, path: Path, keep: int = 2) -> int:
        return self._save(ShardedWriter(path, keep=keep), whole=True)

    def save_delta(self) -> int:
        assert self.saved is not None
        return self._save(ShardedWriter(self.saved.path, keep=1, parent=self.saved.sha256), whole=False)

    def _save(self, writer: ShardedWriter, *, whole: bool) -> int:
        try:
            states, saved = shards_of(self.table, self.shards), []
            for at, state in enumerate(states):
                parent = None if whole else self.of_shards[at].sha256
                shard = Writer(writer.folder(at), keep=sys.maxsize, parent=parent)
                try:
                    what = state if whole else change(self.states[at], state)
                    number, sha256 = shard.write(Still(what))
                finally:
                    shard.close()
                saved.append(Saved(shard.root, number, sha256))
            free = self.table._index.free_rows().tolist()
            number, sha256 = writer.write(saved, {"shards": self.shards, "steps": self.table.steps, "free": free})
        finally:
            writer.close()
        self.states, self.of_shards, self.saved = states, saved, Saved(writer.root, number, sha256)
        return number


def held(table_or_state):
    """What a table holds, to be compared: its config, and by key all that is kept of an id, to the bit."""
    state = table_or_state if isinstance(table_or_state, State) else table_or_state.state()
    return state.config, list(state.slots), by_key(state)


__all__ = ["Owner", "by_key", "change", "held", "join", "place", "renumbered", "shards_of", "split"]
