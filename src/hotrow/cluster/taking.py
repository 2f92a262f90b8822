"""A shard's part of what was saved, by however many shards or by none: read by the shard itself, one part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hotrow.cluster.keyed import Keyed
from hotrow.store import load_as, sharded
from hotrow.store.joining import NUMBER, numbers_in, slot_of, split
from hotrow.store.shards import Shards
from hotrow.table.index import cells_of
from hotrow.table.placing import place
from hotrow.table.state import State
from hotrow.table.table import Table
from hotrow.table.utf8 import pyarrow


def part_of(path: str, number: int | None, index: int, shards: int) -> State:
    """The state of shard `index` of so many, of the save at `path`; rows that are free are closed up.

    At most one part of what was saved is in memory at a time, beside what is taken of it.
    """
    parts = [_only(state, index, shards) for state in _saved(Path(path), number)]
    whole = parts[0] if len(parts) == 1 else _together(parts)
    return replace(whole, cells=cells_of(whole.keys))


def _saved(path: Path, number: int | None) -> Iterator[State]:
    """What was saved, part by part, with numbers."""
    if not sharded.is_sharded(path):
        yield split(load_as(Table, path, number).state(), 1)[0]
        return
    described = sharded.read(path, number)
    free = np.sort(Shards.open(path.absolute(), described.number).free())
    for at, (generation, _) in enumerate(described.shards):
        state = load_as(Keyed, sharded.shard_folder(path, at), generation).state()
        numbers = numbers_in(state)
        slots = {**state.slots, NUMBER: slot_of(numbers - np.searchsorted(free, numbers))}
        yield replace(state, slots=slots, config={**state.config, "steps": described.facts["steps"]})


def _only(state: State, index: int, shards: int) -> State:
    """The rows of a state that are on a shard, copied."""
    here = np.flatnonzero(place(state.keys, state.config["ids"], shards) == index)
    strings = None if state.strings is None else state.strings.take(here)
    slots = {name: np.array(slot[here]) for name, slot in state.slots.items()}
    return replace(state, keys=state.keys[here], weights=np.array(state.weights[here]), slots=slots, strings=strings)


def _together(parts: list[State]) -> State:
    """States, one after the other."""
    first = next((part for part in parts if part.config["ids"] is not None), parts[0])
    strings: Any = None
    if first.strings is not None:
        strings = pyarrow().concat_arrays([part.strings for part in parts if part.strings is not None])
    return replace(
        first,
        keys=np.concatenate([part.keys for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        slots={name: np.concatenate([part.slots[name] for part in parts]) for name in first.slots},
        strings=strings,
        config={**first.config, "aliases": sum(part.config["aliases"] for part in parts)},
    )
