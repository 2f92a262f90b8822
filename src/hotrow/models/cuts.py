"""Which pairs are held out, to measure with: every pair once, and never one in two parts.

    user  a a a b a          last                             random
    item  x y x x z          repeated  a x, the second time   repeated  the same
    time  1 2 3 1 3          held out  a z, a's last          held out  a random tenth

A pair that comes several times counts once, at its first time; so no repetition stands on both sides of a cut.

last     the last pair of each user that has several; of several at one time the one that comes last is later. No pair
         to learn from is later than its own user's held-out one; those of others may be.
latest   the latest tenth of all pairs in time. No pair to learn from is as late as any that is held out, whoever's: as
         in life, where nobody's future is known. Users who come that late can't be measured.
random   a tenth of all pairs, drawn by the seed.

But for `latest` every user keeps a pair to learn from, so users with a single pair aren't measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hotrow.errors import ArgumentError

WAYS = ("last", "latest", "random")
_SHARE = 10  # one in so many is held out


@dataclass(frozen=True)
class Cut:
    """Which of n pairs are in which part.

    train, test  bool (n,): a pair that says again what another said is in neither
    way          "last", "latest" or "random"
    repeated     how many such there are
    """

    train: np.ndarray
    test: np.ndarray
    way: str
    repeated: int


def check_way(way: str | None, *, timed: bool) -> str:
    """The way to hold pairs out: as asked for, else "last" if there are times. ArgumentError for what can't be done."""
    if way is None:
        return "last" if timed else "random"
    if way not in WAYS:
        raise ArgumentError(f"pairs are held out by one of {', '.join(map(repr, WAYS))}; got {way!r}")
    if way != "random" and not timed:
        raise ArgumentError(f"which pairs are {way} is known by their times: give those as well, or take 'random'")
    return way


def cut(user: np.ndarray, item: np.ndarray, time: np.ndarray | None, seed: int, way: str | None = None) -> Cut:
    """Drop repeated pairs and hold some of the others out: int32 codes (n,) from 0 on, times (n,) or None.

    way: None is "last" with times, else "random". Raises ArgumentError if all pairs are at one time, for "latest".
    """
    way = check_way(way, timed=time is not None)
    rows = distinct(user, item, time)
    if way == "latest" and time is not None:
        held_out = _latest(time[rows])
    else:
        held_out = _last(user[rows]) if way == "last" else _random(user[rows], seed)
    train, test = np.zeros(len(user), bool), np.zeros(len(user), bool)
    train[rows] = True
    train[rows[held_out]] = False
    test[rows[held_out]] = True
    return Cut(train, test, way, len(user) - len(rows))


def distinct(user: np.ndarray, item: np.ndarray, time: np.ndarray | None) -> np.ndarray:
    """Where each distinct pair is first, one time after the other, or without times as they come: int64 (m,)."""
    order = None if time is None else _order(time)
    first = _first(_take(user, order), _take(item, order))
    return first if order is None else order[first]


def _order(time: np.ndarray) -> np.ndarray | None:
    """The rows one time after the other, those of one time as in the file; None if that is how they are."""
    if (time[1:] >= time[:-1]).all():
        return None
    return np.argsort(time, kind="stable")


def _take(codes: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    return codes if order is None else codes[order]


def _first(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Where each distinct pair is first, ascending: int64 (m,)."""
    users, items, rows = (int(most).bit_length() for most in (user.max(initial=0), item.max(initial=0), len(user)))
    if users + items + rows <= 64:
        # User, item and place in one number: sorted in place, and much quicker than by way of an order.
        keys = user.astype(np.uint64)
        keys <<= np.uint64(items)
        keys |= item.astype(np.uint64)
        keys <<= np.uint64(rows)
        keys |= np.arange(len(user), dtype=np.uint64)
        keys.sort()
        places = (keys & np.uint64((1 << rows) - 1)).astype(np.int64)
        keys >>= np.uint64(rows)
        new = _changes(keys)
    else:
        places = np.lexsort((item, user))
        new = _changes(user[places]) | _changes(item[places])
    first = places[new]
    first.sort()
    return first


def _changes(values: np.ndarray) -> np.ndarray:
    """Whether a value isn't the one before it."""
    new = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return new


def _last(user: np.ndarray) -> np.ndarray:
    """Where the last pair of each user is that has several."""
    last = _last_places(user)
    return last[np.bincount(user) > 1]


def _last_places(user: np.ndarray) -> np.ndarray:
    last = np.full(int(user.max(initial=-1)) + 1, -1)
    np.maximum.at(last, user, np.arange(len(user)))
    return last


def _random(user: np.ndarray, seed: int) -> np.ndarray:
    """The places of a tenth of the pairs, rounded up; of each user one that is drawn is left out."""
    drawn = np.random.default_rng(seed % 2**64).permutation(len(user))
    keeps = np.zeros(len(user), bool)
    last = _last_places(user[drawn])
    keeps[last[last >= 0]] = True
    return drawn[~keeps][: -(-len(user) // _SHARE)]


def _latest(time: np.ndarray) -> np.ndarray:
    """The places of a tenth, rounded up, of ascending times; more, where those before are at the same time."""
    begin = int(np.searchsorted(time, time[-(-len(time) // _SHARE) * -1])) if len(time) else 0
    if len(time) and not begin:
        raise ArgumentError("the latest tenth of the pairs is at the same time as all others: hold out 'last' instead")
    return np.arange(begin, len(time))
