"""Every pair once, and some held out: what is promised of the split, for any pairs."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotrow.apps.pairs import load_pairs, split
from hotrow.errors import ArgumentError
from hotrow.models import cuts

DATA = Path(os.environ.get("HOTROW_DATA", Path(__file__).parents[2] / "shared" / "data"))

FEW = st.integers(0, 5)
MANY = st.integers(0, 2**31 - 1)  # too many for user, item and place in one number
TIMES = st.integers(-3, 3) | st.floats(-3, 3)


@st.composite
def columns(draw, timed=None):
    """user and item int32 (n,), time or None: few codes, so that pairs are repeated and times tie."""
    codes = draw(st.sampled_from([FEW, FEW | st.integers(0, 2**31 - 2)]))
    codes = codes if draw(st.booleans()) else FEW
    rows = draw(st.lists(st.tuples(FEW, codes, st.integers(-3, 3)), max_size=40))
    user, item, time = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0),) * 3
    timed = draw(st.booleans()) if timed is None else timed
    dtype = draw(st.sampled_from([np.int64, np.float64]))
    return user.astype(np.int32), item.astype(np.int32) % 50, time.astype(dtype) if timed else None


def train_and_test(parts):
    return (
        list(zip(parts.train_user.tolist(), parts.train_item.tolist(), strict=True)),
        list(zip(parts.test_user.tolist(), parts.test_item.tolist(), strict=True)),
    )


def counts(data):
    """What became of the rows of a Dataset."""
    read = {"read": data.report.rows, "nulls": data.report.rows - data.report.kept}
    return read | data.split.counts() | {"users": len(data.users), "items": len(data.items)}


def naive_rows(user, item, time):
    """The row of each distinct pair that counts, one time after the other: the obvious way."""
    order = sorted(range(len(user)), key=lambda row: 0 if time is None else time[row])
    first = {}
    for row in order:
        first.setdefault((int(user[row]), int(item[row])), row)
    return first


@given(given_columns=columns(), seed=st.integers(0, 2**64 - 1))
def test_every_pair_is_in_one_part_once_in_the_order_of_the_file(given_columns, seed):
    user, item, time = given_columns
    parts = split(user, item, time, seed)
    train, test = train_and_test(parts)
    first = naive_rows(user, item, time)
    assert sorted(train + test) == sorted(first)
    for part in (train, test):
        assert part == sorted(part, key=first.__getitem__)
    assert parts.repeated == len(user) - len(first)
    assert {array.dtype for array in (parts.train_user, parts.train_item, parts.test_user, parts.test_item)} == {
        np.dtype(np.int32)
    }


@given(given_columns=columns(), seed=st.integers(0, 2**64 - 1))
def test_every_user_keeps_a_pair_to_train_on(given_columns, seed):
    user, item, time = given_columns
    parts = split(user, item, time, seed)
    assert set(parts.train_user.tolist()) == set(user.tolist())


@given(given_columns=columns(), seed=st.integers(0, 2**64 - 1))
def test_held_out_items_that_are_in_no_training_pair_are_counted_and_kept(given_columns, seed):
    parts = split(*given_columns, seed)
    train, test = train_and_test(parts)
    assert parts.unreachable == sum(item not in {item for _, item in train} for _, item in test)


@given(given_columns=columns(timed=True))
def test_with_times_the_last_pair_of_each_user_that_has_several_is_held_out(given_columns):
    user, item, time = given_columns
    first = naive_rows(user, item, time)
    pairs_of = Counter(user for user, _ in first)
    last = {user: (user, item) for user, item in first}  # first is in the order of time, ties as in the file
    train, test = train_and_test(split(user, item, time, 0))
    assert sorted(test) == sorted(last[user] for user, count in pairs_of.items() if count > 1)
    for pair in test:
        assert all(time[first[pair]] >= time[first[other]] for other in train if other[0] == pair[0])


@given(given_columns=columns(timed=False), seed=st.integers(0, 2**64 - 1))
def test_without_times_a_tenth_is_held_out_or_as_much_as_users_can_spare(given_columns, seed):
    user, item, _ = given_columns
    first = naive_rows(user, item, None)
    spare = len(first) - len(set(user.tolist()))
    _, test = train_and_test(split(user, item, None, seed))
    assert len(test) == min(-(-len(first) // 10), spare)


@given(given_columns=columns(), seed=st.integers())
def test_the_same_seed_makes_the_same_split(given_columns, seed):
    assert train_and_test(split(*given_columns, seed)) == train_and_test(split(*given_columns, seed))


@given(given_columns=columns(timed=True), way=st.sampled_from(cuts.WAYS), seed=st.integers(0, 9))
def test_no_pair_is_on_both_sides_of_a_cut_whatever_its_repetitions(given_columns, way, seed):
    user, item, time = given_columns
    try:
        train, test = train_and_test(split(user, item, time, seed, way))
    except ArgumentError:  # all at one time, see below
        assert way == "latest"
        return
    assert not set(train) & set(test)
    assert sorted(train + test) == sorted(naive_rows(user, item, time))


@given(given_columns=columns(timed=True))
def test_no_pair_to_train_on_is_as_late_as_any_of_the_latest(given_columns):
    user, item, time = given_columns
    first = naive_rows(user, item, time)
    when = sorted(time[row] for row in first.values())
    begin = when[-(-len(when) // 10) * -1] if when else 0
    if when and begin == when[0]:
        with pytest.raises(ArgumentError, match="at the same time"):
            split(user, item, time, 0, "latest")
        return
    train, test = train_and_test(split(user, item, time, 0, "latest"))
    assert sorted(test) == sorted(pair for pair, row in first.items() if time[row] >= begin)
    assert all(time[first[pair]] < begin for pair in train)


def test_times_to_train_on_are_those_of_its_pairs():
    parts = split(np.zeros(4, np.int32), np.array([0, 1, 0, 2], np.int32), np.array([4, 9, 1, 2]), 0)
    assert train_and_test(parts) == ([(0, 0), (0, 2)], [(0, 1)])
    assert parts.train_time.tolist() == [1, 2]


def test_how_pairs_are_held_out_must_be_known_and_last_ones_need_times():
    table = pa.table({"user": ["a", "a"], "item": ["x", "y"]})
    with pytest.raises(ArgumentError, match="'last', 'latest', 'random'; got 'first'"):
        load_pairs(table, way="first")
    with pytest.raises(ArgumentError, match="latest is known by their times"):
        load_pairs(table, way="latest")


def test_another_seed_makes_another_split():
    user, item = np.repeat(np.arange(20, dtype=np.int32), 20), np.tile(np.arange(20, dtype=np.int32), 20)
    tests = {tuple(train_and_test(split(user, item, None, seed))[1]) for seed in range(5)}
    assert len(tests) == 5
    held_out = Counter(pair for seed in range(300) for pair in train_and_test(split(user, item, None, seed))[1])
    assert len(held_out) == 400
    assert max(held_out.values()) < 60  # 30 is what chance gives each


@given(rows=st.lists(st.tuples(MANY | FEW, MANY | FEW), min_size=1, max_size=30))
def test_pairs_of_enormous_codes_are_told_apart_as_well(rows):
    user, item = (np.array(column, np.int32) for column in zip(*(rows + rows[::-1]), strict=True))
    first = cuts._first(user, item)
    assert first.tolist() == sorted({pair: i for i, pair in reversed(list(enumerate(rows)))}.values())


def test_a_repeated_pair_counts_at_its_first_time_before_the_split():
    # a buys x at 1, y at 2, and x again at 9: y is the last thing that was new
    parts = split(np.zeros(3, np.int32), np.array([0, 1, 0], np.int32), np.array([1, 2, 9]), 0)
    assert train_and_test(parts) == ([(0, 0)], [(0, 1)])
    # the same, where the file begins with the last time
    parts = split(np.zeros(3, np.int32), np.array([0, 1, 0], np.int32), np.array([9, 2, 1]), 0)
    assert train_and_test(parts) == ([(0, 0)], [(0, 1)])


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_at_one_time_the_row_that_comes_last_in_the_file_is_later(dtype):
    parts = split(np.zeros(3, np.int32), np.array([2, 0, 1], np.int32), np.array([5, 5, 5], dtype), 0)
    assert train_and_test(parts)[1] == [(0, 1)]


def test_the_report_counts_what_became_of_every_row():
    table = pa.table(
        {"user": ["a", "a", "a", "b", None, "a"], "item": ["x", "y", "x", "z", "x", "w"], "time": [1, 2, 3, 4, 5, 6]}
    )
    data = load_pairs(table, "user", "item", "time")
    assert counts(data) == {
        "read": 6, "nulls": 1, "repeated": 1, "training": 3, "held_out": 1, "unreachable": 1, "users": 2, "items": 4,
    }  # fmt: skip
    lines = "\n".join(data.sentences())
    assert "1 row skipped for nulls: 1 in user" in lines
    assert "1 row skipped: the pair is in another" in lines
    assert "2 users, 4 items" in lines
    assert "3 pairs to train on, 1 held out: the last pair of each user" in lines
    assert "1 held-out pair that nothing can find" in lines


def test_ids_of_rows_that_are_skipped_are_no_users_or_items():
    table = pa.table({"user": ["a", None], "item": ["x", "only here"]})
    assert load_pairs(table).items.to_pylist() == ["x"]


def test_without_a_path_the_debian_packages_are_read():
    data = load_pairs()
    assert (len(data.users), len(data.items)) == (55_848, 34_776)
    assert counts(data)["training"] + counts(data)["held_out"] == 274_858
    assert counts(data)["held_out"] == 27_486
    assert data.report.columns["user"].name == "package"
    assert "random" in data.split.sentences()[0]


def test_online_retail_is_split_by_time():
    path = DATA / "online_retail" / "online_retail.parquet"
    if not path.exists():
        pytest.skip(f"{path} isn't there")
    data = load_pairs(path, "CustomerID", "Description", "InvoiceDate")
    assert counts(data) == {
        "read": 541_909, "nulls": 135_080, "repeated": 137_672, "training": 264_887, "held_out": 4_270,
        "unreachable": 3, "users": 4_372, "items": 3_896,
    }  # fmt: skip


def test_movielens_is_split_by_time():
    path = DATA / "ml100k" / "ml-100k.inter"
    if not path.exists():
        pytest.skip(f"{path} isn't there")
    data = load_pairs(path, "user_id", "item_id", "timestamp")
    assert (counts(data)["training"], counts(data)["held_out"], counts(data)["repeated"]) == (99_057, 943, 0)
