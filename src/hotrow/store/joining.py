"""Shards become one table, and one table shards: rows by their numbers, nothing calculated, every bit kept.

shard 0  number 0 3 4 ─┐
                       ├─ join ─▶ row 0 1 2 3 4 5 ─ split ─▶ by `place` of each key, with the row as its number
shard 1  number 1 2 7 ─┘

Numbers that no row has are closed up, as a save closes up rows that are free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hotrow.errors import ArgumentError
from hotrow.table.ids import to_keys
from hotrow.table.index import MOST_ROWS, cells_of
from hotrow.table.placing import ALIASES, place
from hotrow.table.state import State
from hotrow.table.strings import Aliases

if TYPE_CHECKING:
    import pyarrow as pa

NUMBER, WIDTH = "number", 2
"""The slot of a shard's rows in which their numbers are, an int64 in the place of so many float32."""
_PIECE = 1 << 20  # floats copied at a time
_SAME = ("dim", "seed", "optimizer", "initializer")


def join(states: list[State]) -> State:
    """The table whose shards these states are, in their order: rows by number, without the slot "number".

    Steps are the most that a shard has taken. ArgumentError for states that can't be shards of one table.

    >>> import hotrow
    >>> from hotrow.store.sharded import join, split
    >>> table = hotrow.Table(4)
    >>> vectors = table.lookup(["lantern", "cup", "mug"], grow=True)
    >>> again = hotrow.Table.from_state(join(split(table.state(), 5)))
    >>> again.ids().to_pylist(), bool((again.lookup(["lantern", "cup", "mug"]) == vectors).all())
    (['lantern', 'cup', 'mug'], True)
    """
    state = weave([[one] for one in states])
    slots = {name: _whole(slot) for name, slot in state.slots.items()}
    return replace(state, weights=_whole(state.weights), slots=slots)


def split(state: State, shards: int) -> list[State]:
    """The states of so many shards of a table, copied: each row where `place` says, its number the row it had.

    Strings that share a fingerprint with another are on its shard: one whose alias, of an older version, is elsewhere
    gets another. ArgumentError for what is no whole table, or shards below 1.
    """
    if type(shards) is not int or shards < 1:
        raise ArgumentError(f"shards = {shards!r}: expected a whole number from 1 on")
    if state.gone is not None or NUMBER in state.slots:
        raise ArgumentError("expected the state of a whole table, and no change of one nor a shard's")
    kind, n = state.config["ids"], len(state.keys)
    fingerprints = to_keys(state.strings, "string").keys if state.config.get("aliases") and n else state.keys
    keys = _with_near_aliases(state.keys, fingerprints)
    where = place(keys, kind, shards)
    order = np.argsort(where, kind="stable")
    bounds = np.searchsorted(where[order], np.arange(shards + 1))
    found: list[State] = []
    for start, stop in zip(bounds.tolist(), bounds[1:].tolist(), strict=False):
        rows = order[start:stop]
        slots = {name: slot[rows] for name, slot in state.slots.items()}
        slots[NUMBER] = slot_of(rows)
        config = state.config | {"aliases": int(np.count_nonzero(keys[rows] != fingerprints[rows]))}
        strings = None if state.strings is None else _taken(state.strings, rows)
        found.append(State(config, keys[rows], state.weights[rows], cells_of(keys[rows]), slots, strings))
    return found


def _with_near_aliases(keys: np.ndarray, fingerprints: np.ndarray) -> np.ndarray:
    """The keys, with other aliases for those that aren't in the block of their fingerprint: uint64 (n,)."""
    far = np.flatnonzero((keys >> ALIASES) != (fingerprints >> ALIASES))
    if not len(far):
        return keys
    keys, aliases = keys.copy(), Aliases()
    blocks = np.isin(keys >> ALIASES, fingerprints[far] >> ALIASES)
    taken = set(keys[blocks].tolist())
    for i in far.tolist():
        alias = aliases.propose(int(fingerprints[i]), taken.__contains__)
        taken.add(alias)
        keys[i] = alias
    return keys


# --- of shards, which may be chains, one table ------------------------------------------------------------------------


@dataclass(frozen=True)
class Woven:
    """A float32 matrix whose rows come from several, with the face of an array as far as tables need it.

    Row to[i] of all is row at[i] of its source, and `to` rises. So a table is filled with no other copy of it.
    """

    sources: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    """Of each: its rows float32 (k, width), `at` int64 (m,), `to` int64 (m,)."""
    shape: tuple[int, int]

    def pour(self, data: np.ndarray, stride: int, column: int, start: int, stop: int) -> None:
        """Rows start to stop to data, row r at data[r · stride + column]."""
        matrix, step = data[: stop * stride].reshape(stop, stride), max(1, _PIECE // self.shape[1])
        for source, at, to in self.sources:
            first, last = np.searchsorted(to, [start, stop]).tolist()
            for begin in range(first, last, step):
                end = min(begin + step, last)
                matrix[to[begin:end], column : column + self.shape[1]] = source[at[begin:end]]


def _whole(woven: np.ndarray) -> np.ndarray:
    """What `weave` gives in the place of an array, as one."""
    given = cast("Woven", woven)
    out = np.empty(given.shape, np.float32)
    given.pour(out.reshape(-1), given.shape[1], 0, 0, given.shape[0])
    return out


@dataclass(frozen=True)
class _Piece:
    """The rows `live` (int64 (m,)) of a state, and where they come in the whole: `to` int64 (m,)."""

    state: State
    live: np.ndarray
    to: np.ndarray

    def source(self, array: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        order = np.argsort(self.to)
        return array, self.live[order], self.to[order]


def weave(shards: Sequence[Sequence[State]], steps: int | None = None) -> State:
    """One table of its shards, each a whole state and the changes to it: weights and slots are `Woven`.

    steps: how many the table has taken, by default the most of a shard. The arrays of the states are used as they are.
    Raises as `join`.
    """
    config = config_of([shard[-1].config for shard in shards])
    states = [state for shard in shards for state in shard]
    live = [rows for shard in shards for rows in live_rows(shard)]
    check_places(shards, live, config["ids"])
    numbers = numbers_of(states, live)
    order = np.argsort(numbers)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    ends = np.cumsum([0, *map(len, live)])
    pieces = [
        _Piece(*one, ranks[a:b]) for one, a, b in zip(zip(states, live, strict=True), ends, ends[1:], strict=False)
    ]
    n, keys = len(order), np.empty(len(order), np.uint64)
    for piece in pieces:
        keys[piece.to] = piece.state.keys[piece.live]

    def woven(arrays: Iterable[np.ndarray]) -> Any:
        sources = [piece.source(array) for piece, array in zip(pieces, arrays, strict=True)]
        return Woven(sources, (n, _width([array for array, _, _ in sources])))

    names = [list(state.slots) for state in states]
    if any(set(other) != set(names[0]) for other in names):
        raise ArgumentError(f"these aren't shards of one table, for they have the slots {names!s:.500}")
    slots = {name: woven(state.slots[name] for state in states) for name in names[0] if name != NUMBER}
    strings = _strings(pieces, order) if config["ids"] == "string" else None
    config |= {} if steps is None else {"steps": steps}
    return State(config, keys, woven(state.weights for state in states), cells_of(keys), slots, strings)


def _width(arrays: list[np.ndarray]) -> int:
    widths = {array.shape[1] for array in arrays}
    if len(widths) > 1:
        raise ArgumentError(f"shards have rows of {sorted(widths)} floats; expected the same in all")
    return widths.pop()


def config_of(configs: list[dict[str, Any]]) -> dict[str, Any]:
    """That of the whole table: what must be the same in all is; a shard without ids may not know their kind.

    ArgumentError if it isn't, or there are none.
    """
    if not configs:
        raise ArgumentError("expected the states of at least one shard")
    first = configs[0]
    kinds = {config["ids"] for config in configs} - {None}
    other = [name for name in _SAME if any(config[name] != first[name] for config in configs)]
    if other or len(kinds) > 1:
        told = [{name: config[name] for name in [*other, *(["ids"] if len(kinds) > 1 else [])]} for config in configs]
        raise ArgumentError(f"these aren't shards of one table, for they have {told!s:.500}")
    counts = {
        "ids": next(iter(kinds), None),
        "steps": max(config["steps"] for config in configs),
        "aliases": sum(config.get("aliases", 0) for config in configs),
    }
    return first | counts


def live_rows(chain: Sequence[State]) -> list[np.ndarray]:
    """Of a whole state and the changes to it, which rows of each are in the table: int64, rising."""
    found: list[np.ndarray] = []
    dead = np.zeros(0, np.uint64)
    for state in reversed(chain):
        found.append(np.flatnonzero(~np.isin(state.keys, dead)) if len(dead) else np.arange(len(state.keys)))
        if state is not chain[0]:
            gone = np.zeros(0, np.uint64) if state.gone is None else state.gone
            dead = np.unique(np.concatenate([dead, gone, state.keys]))
    return found[::-1]


def check_places(shards: Sequence[Sequence[State]], live: list[np.ndarray], kind: str | None) -> None:
    """ArgumentError unless each row (those of `live` alone) is on the shard where it is looked for."""
    rows = iter(live)
    for at, shard in enumerate(shards):
        for state in shard:
            keys = state.keys[next(rows)]
            wrong = np.flatnonzero(place(keys, kind, len(shards)) != at)
            if len(wrong):
                raise ArgumentError(
                    f"the row of key {keys[wrong[0]]} is in shard {at} of {len(shards)}, where nobody looks for it"
                )


def slot_of(numbers: np.ndarray) -> np.ndarray:
    """Numbers of rows, int (n,), as their slot: float32 (n, WIDTH)."""
    return numbers.astype("<i8").view(np.float32).reshape(-1, WIDTH)


def numbers_in(state: State) -> np.ndarray:
    """The numbers of a shard's rows: int64 (n,)."""
    slot = state.slots.get(NUMBER)
    if slot is None or slot.shape != (len(state.keys), WIDTH):
        raise ArgumentError(
            f"expected a shard's state, with a slot {NUMBER!r} of {WIDTH} floats a row; got {sorted(state.slots)}"
        )
    return np.ascontiguousarray(slot, np.float32).view("<i8").reshape(-1)


def numbers_of(states: Sequence[State], live: Sequence[np.ndarray]) -> np.ndarray:
    """The numbers of the rows that are `live` in each state, one state after the other: int64 (n,).

    ArgumentError if one is below 0 or there twice, or there are no numbers.
    """
    numbers = np.concatenate([numbers_in(state)[rows] for state, rows in zip(states, live, strict=True)])
    if len(numbers) > MOST_ROWS:
        raise ArgumentError(f"one table holds at most {MOST_ROWS:,} rows; these shards have {len(numbers):,}")
    if len(numbers) and (numbers.min() < 0 or len(np.unique(numbers)) < len(numbers)):
        raise ArgumentError("some rows of these shards have no number, or the same as another")
    return numbers


def _strings(pieces: list[_Piece], order: np.ndarray) -> pa.LargeStringArray:
    import pyarrow as pa

    def some() -> Iterator[pa.LargeStringArray]:
        for piece in pieces:
            if piece.state.strings is not None:
                yield _taken(piece.state.strings, piece.live)
            elif len(piece.live):
                raise ArgumentError("a shard of a table of strings has rows and no strings")

    found = list(some())
    return _taken(pa.concat_arrays(found), order) if found else pa.array([], pa.large_string())


def _taken(strings: pa.LargeStringArray, rows: np.ndarray) -> pa.LargeStringArray:
    import pyarrow as pa

    return cast("pa.LargeStringArray", strings.take(pa.array(rows)))
