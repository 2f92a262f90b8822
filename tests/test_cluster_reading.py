"""Ray Data reads: the same rows in the same order, the same ids, the same report and the same errors as one process."""

from __future__ import annotations

import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hotrow.apps import read_apart
from hotrow.apps.frame import read_frame
from hotrow.apps.pairs import load_pairs
from hotrow.apps.reading import read_columns
from hotrow.apps.sources import one_by_one, open_sources
from hotrow.errors import ClusterError, HotrowError

pytest_plugins = ["ray_local"]
pytestmark = [
    pytest.mark.compiled,
    pytest.mark.usefixtures("ray_local"),
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # of its own settings
]

SIZE = 1 << 20
ROLES = {"user": "user", "item": "item", "time": None, "rating": None}


def outcome(path, how, roles, **options):
    """What comes of a file, or the error that it ends with; how: in this process, or apart."""
    try:
        found = how(lambda reading: read_columns(path, {**ROLES, **roles}, reading=reading, **options))
    except HotrowError as error:
        return type(error), str(error)
    ids = [(str(one.values.type), one.values.to_pylist(), one.codes.tobytes()) for one in (found.user, found.item)]
    numbers = [None if one is None else (one.dtype, one.tobytes()) for one in (found.time, found.rating)]
    return ids, numbers, found.report


def alone(what):
    return what(one_by_one)


def apart(what):
    return read_apart.read(what, size=SIZE, at_once=2)


def same(path, roles=None, **options):
    """The outcome of one process, once it is proved that workers come to the same."""
    expected = outcome(path, alone, roles or {}, **options)
    assert outcome(path, apart, roles or {}, **options) == expected
    return expected


def numbered(count, row):
    return "".join(row(i) for i in range(count))


def a_text(count=60_000, **rows):
    """Quotes, line ends within them, nulls, strange names; `rows` at their numbers are others."""
    others = {int(name[1:]): row for name, row in rows.items()}

    def row(i):
        item = ['"tea, green"', '"a ""big""\nmug"', "", 'pipe 5"', f"thing {i % 700}"][i % 5]
        return others.get(i, f"{i * i % 5003},{item},{1_600_000_000 + i},{i % 9 / 2}\n")

    return "user,item,when,stars\n" + numbered(count, row)


def test_a_long_text_with_quotes_nulls_times_and_ratings(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(a_text())
    assert len(open_sources(path, [])[0].spans(SIZE, lambda source, asked, inside: [
        source.quote_is_open(span, inside=inside) for span in asked])) > 1  # fmt: skip
    ids, numbers, report = same(path, {"time": "when", "rating": "stars"})
    assert (ids[0][0], ids[1][0]) == ("int64", "large_string")
    assert None not in numbers
    assert report.nulls["item"] == 12_000


def test_one_leading_zero_at_the_very_end_keeps_all_of_a_column_text(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(a_text(r59999="007,tea,1,1\n"))
    ids, _, report = same(path)
    assert ids[0][0] == "large_string"
    assert "'007' isn't how an integer is written" in report.columns["user"].why


def test_bad_lines_are_counted_or_refused_with_their_number(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(a_text(r10="alone\n", r40000="a,b,c,d,e,f\n", r59998="alone\n"))
    assert same(path, skip_bad_lines=True)[2].bad_lines == 3
    _, message = same(path)
    assert "row 12 (the header is row 1) has 1 field, not 4" in message


@pytest.mark.parametrize(
    ("text", "roles", "message"),
    [
        (a_text() + "1,caf\udce9,1,1\n", {}, "isn't UTF-8"),
        (a_text() + '1,"never closed,1,1\n' + a_text(), {}, "can't be read"),
        (a_text(r50000="1,tea,soon,1\n"), {"time": "when"}, "'soon', while others are numbers"),
        (a_text(r50000="1,tea,1,inf\n"), {"rating": "stars"}, "row 50,001"),
    ],
    ids=["no utf-8", "an open quote", "a strange time", "a strange rating"],
)
def test_what_one_process_refuses_is_refused_in_the_same_words(tmp_path, text, roles, message):
    path = tmp_path / "pairs.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert message in same(path, roles)[1]


def test_parquet_in_row_groups_with_large_ids_dictionaries_and_nulls(tmp_path):
    n = 600_000
    users = pa.array(np.arange(n, dtype=np.uint64) % 1009 + np.uint64(2**63))
    items = pa.array([None if i % 11 == 0 else f"item {i % 97}" for i in range(n)]).dictionary_encode()
    times = pa.array(np.arange(n)[::-1] * 10**9, pa.timestamp("ns"))
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"user": users, "item": items, "when": times}), path, row_group_size=70_000)
    ids, _, report = same(path, {"time": "when"})
    assert (ids[0][0], report.rows, report.nulls["item"]) == ("uint64", n, 54_546)


def test_a_float_that_is_no_id_late_in_a_parquet_file_is_refused_with_its_row(tmp_path):
    users = np.zeros(600_000)
    users[555_554] = 1.5
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"user": users, "item": np.arange(600_000)}), path, row_group_size=70_000)
    assert "row 555555: 1.5 is not whole" in same(path)[1]


def test_a_folder_and_a_pattern_are_their_files_in_order(tmp_path):
    import gzip

    (tmp_path / "day-1.csv").write_text("user,item\nann,1\nbob,2\n")
    (tmp_path / "day-0.csv.gz").write_bytes(gzip.compress(b"item;user\n3;carl\n;nobody\n"))
    pq.write_table(pa.table({"user": ["dora"], "item": ["4"]}), tmp_path / "day-2.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    ids, _, report = same(tmp_path)
    assert ids[0][1] == ["carl", "ann", "bob", "dora"]
    assert len(report.sources) == 3
    assert same(str(tmp_path / "day-[01]*"))[0][0][1] == ["carl", "ann", "bob"]


def test_the_split_and_the_pairs_are_the_same(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(a_text())
    expected, found = (
        how(lambda reading: load_pairs(path, "user", "item", "when", seed=3, reading=reading)) for how in (alone, apart)
    )
    assert found.sentences() == expected.sentences()
    assert found.users.equals(expected.users)
    for name in ("train_user", "train_item", "test_user", "test_item", "train_time"):
        assert np.array_equal(getattr(found.split, name), getattr(expected.split, name))


def test_all_columns_of_a_classifier_are_the_same(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(a_text())
    assert apart(lambda reading: read_frame(path, [], reading=reading)) == read_frame(path, [])


def test_what_is_in_memory_is_read_where_it_is():
    assert same(pa.table({"user": [1, 2], "item": ["tea", "mug"]}))[0][0][1] == [1, 2]


def test_a_file_that_a_node_does_not_see_is_refused_with_the_node(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("user,item\nann,tea\n")

    def gone(reading):
        def read(sources, places):
            path.unlink(missing_ok=True)
            return reading(sources, places)

        return read_columns(path, ROLES, reading=read)

    with pytest.raises(ClusterError, match=r"isn't there .* folder that all of them share"):
        apart(gone)


def slowly(part):
    """A table of its number, the first ones last."""
    time.sleep(0.3 / (1 + part))
    for turn in range(3):
        yield pa.table({"part": [part], "turn": [turn]})


def refusing(part):
    yield pa.table({"part": [part]})
    raise ValueError(f"part {part} is no good")


@pytest.fixture
def by_value(ray_local):
    """Functions of this file are sent to workers, who can't import it."""
    module = sys.modules[__name__]
    ray_local.cloudpickle.register_pickle_by_value(module)
    yield
    ray_local.cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.usefixtures("by_value")
def test_parts_come_in_order_whichever_is_done_first():
    from hotrow.cluster.reading import in_order

    found = [tuple(row.values()) for table in in_order(slowly, range(9), at_once=3) for row in table.to_pylist()]
    assert found == [(part, turn) for part in range(9) for turn in range(3)]
    assert list(in_order(slowly, [])) == []


@pytest.mark.usefixtures("by_value")
def test_what_fails_on_a_worker_ends_it_here():
    from hotrow.cluster.reading import in_order

    with pytest.raises(ClusterError, match="it can't be read on the cluster"):
        list(in_order(refusing, range(3), what="it", at_once=2))
