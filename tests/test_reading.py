"""Reading pairs: which file, which columns, which ids, and what is said of all that was decided."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from hotrow.apps import distinct, sources
from hotrow.apps.reading import Columns, read_columns
from hotrow.errors import DataError, IdError, KindError

DATA = Path(os.environ.get("HOTROW_DATA", Path(__file__).parents[2] / "shared" / "data"))
PAIRS = pa.table({"user": ["ann", "bob", "ann"], "item": pa.array([7, -1, 8], pa.int64())})


def write(folder, content, name="pairs.csv"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pairs(columns: Columns):
    """The rows as Python has them, in the order of the file."""
    assert columns.user.codes.dtype == columns.item.codes.dtype == np.int32
    users, items = (ids.values.take(pa.array(ids.codes)).to_pylist() for ids in (columns.user, columns.item))
    return list(zip(users, items, strict=True))


def read(path, user=None, item=None, time=None, **options):
    return read_columns(path, {"user": user, "item": item, "time": time}, **options)


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_delimiter_and_header_are_found(tmp_path, delimiter, end, last):
    lines = [delimiter.join(line) for line in [("who", "what"), ("ann", "7"), ("bob", "8")]]
    path = write(tmp_path, end.join(lines) + end * last)
    columns = read(path)
    assert pairs(columns) == [("ann", 7), ("bob", 8)]
    assert [column.name for column in columns.report.columns.values()] == ["who", "what"]
    assert "the first line is the header" in columns.report.form


def test_a_file_without_a_header_has_columns_with_numbers_and_the_report_says_so(tmp_path):
    path = write(tmp_path, "196 242 3\n186 302 3\n")
    columns = read(path, "column2", "column1")
    assert pairs(columns) == [(242, 196), (302, 186)]
    assert "no header" in columns.report.sentences()[0]
    with pytest.raises(DataError, match="'column1', 'column2', 'column3'"):
        read(path)


def test_asking_for_column1_says_that_there_is_no_header(tmp_path):
    path = write(tmp_path, "ann,lantern\nbob,cup\n")
    assert len(pairs(read(path))) == 1
    assert pairs(read(path, "column1", "column2")) == [("ann", "lantern"), ("bob", "cup")]


def test_asking_for_names_that_look_like_numbers_says_that_there_is_a_header(tmp_path):
    path = write(tmp_path, "2019,2020\n1,2\n")
    assert pairs(read(path)) == [(2019, 2020), (1, 2)]
    assert pairs(read(path, "2019", "2020")) == [(1, 2)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user;price;item\n1;2,5;9\n2;3,5;8\n", [(1, 9), (2, 8)]),  # decimal commas
        ("user,item\n1,a b\n2,c d\n", [(1, "a b"), (2, "c d")]),  # spaces in text
        ("user\titem\n1\tHeat, The; a|b\n", [(1, "Heat, The; a|b")]),
        ('user,item\n1,"Heat, The"\n2,"say ""so"""\n3,5" pipe\n', [(1, "Heat, The"), (2, 'say "so"'), (3, '5" pipe')]),
        ('user,item\n1,"two\nlines"\n2,b\n', [(1, "two\nlines"), (2, "b")]),
        ("\n\nuser,item\n\n1,b\n\n", [(1, "b")]),
    ],
)
def test_quotes_and_other_delimiters_inside_text_do_no_harm(tmp_path, text, expected):
    assert pairs(read(write(tmp_path, text), "user", "item")) == expected


def test_the_columns_that_are_asked_for_decide_between_delimiters(tmp_path):
    path = write(tmp_path, "a;user,b;item,c;d\n" + "1;2,3;4,5;6\n")
    assert read(path, "a", "user,b").user.values.to_pylist() == [1]
    assert pairs(read(path, "a;user", "c;d")) == [("1;2", "5;6")]


@pytest.mark.parametrize("header", ["user,item\n", ""])
def test_a_byte_order_mark_is_no_text(tmp_path, header):
    path = write(tmp_path, b"\xef\xbb\xbf" + header.encode() + b"1,2\n3,4\n")
    assert pairs(read(path)) == [(1, 2), (3, 4)]


@pytest.mark.parametrize("codec", ["gzip", "bz2", "zstd", "lz4"])
def test_compressed_text_is_read_whatever_its_name(tmp_path, codec):
    path = tmp_path / "pairs"
    with pa.CompressedOutputStream(str(path), codec) as file:
        file.write(b"user,item\n1,2\n")
    columns = read(path)
    assert pairs(columns) == [(1, 2)]
    assert columns.report.form.startswith(codec)


def test_a_compressed_file_that_was_cut_short_is_refused(tmp_path):
    whole = gzip.compress(b"user,item\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(100_000)))
    with pytest.raises(DataError, match="can't be read"):
        read(write(tmp_path, whole[: len(whole) // 2]))


def test_text_is_read_by_blocks_and_ids_keep_the_order_in_which_they_are_first_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 64)
    monkeypatch.setattr(distinct, "_MERGE", 5)
    rows = [(f"u{i % 7}", i * 31 % 11) for i in range(200)]
    columns = read(write(tmp_path, "user,item\n" + "".join(f"{user},{item}\n" for user, item in rows)))
    assert pairs(columns) == rows
    assert columns.user.values.to_pylist() == list(dict.fromkeys(user for user, _ in rows))
    assert columns.item.values.to_pylist() == list(dict.fromkeys(item for _, item in rows))


def test_a_line_with_too_many_or_too_few_fields_is_refused_with_its_number(tmp_path):
    path = write(tmp_path, "user,item\n1,2\n3,4,5\n6\n7,8\n")
    with pytest.raises(
        DataError, match=r"row 3 \(the header is row 1\) has 3 fields, not 2: '3,4,5'.*--skip-bad-lines"
    ):
        read(path)
    columns = read(path, skip_bad_lines=True)
    assert pairs(columns) == [(1, 2), (7, 8)]
    assert columns.report.bad_lines == 2
    assert "2 lines skipped" in "\n".join(columns.report.sentences())


def test_a_quote_that_is_never_closed_is_refused(tmp_path):
    with pytest.raises(DataError, match="row 3"):
        read(write(tmp_path, 'user,item\n1,2\n"3,4\n5,6\n'))
    with pytest.raises(DataError, match="a quote may never be closed"):
        read(write(tmp_path, 'user,item\n1,2\n"3,4\n' + "5,6\n" * 600_000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"user\n1\n2\n", "has one column, as its first line is 'user'"),
        (b"user,item\n", "no pairs.*0 rows"),
        (b"user,item\n,1\n2,\n", "no pairs.*2 rows, 1 null in 'user', 1 null in 'item'"),
        (b"user,item\n1,caf\xe9\n", "isn't UTF-8.*iconv"),
        ("user,item\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"\x7fELF\0\0\0\0", "is no text; expected CSV"),
    ],
)
def test_what_is_no_file_of_pairs_is_refused_with_what_is_wrong(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, content))


def test_a_column_that_is_not_wanted_may_be_in_any_encoding(tmp_path):
    path = write(tmp_path, b"user,item,name\n1,2,caf\xe9\n")
    assert pairs(read(path, "user", "item")) == [(1, 2)]


# --- which column ----------------------------------------------------------------------------------------------------


def test_a_missing_column_names_the_columns_there_are_and_the_closest(tmp_path):
    path = write(tmp_path, "CustomerID,Description,Quantity\n1,a,2\n")
    with pytest.raises(DataError) as raised:
        read(path, "customerid", "Description")
    assert f"{path} has no column 'customerid'. It has 'CustomerID', 'Description', 'Quantity'." in str(raised.value)
    assert "Did you mean --user CustomerID?" in str(raised.value)
    with pytest.raises(DataError, match=r"It has 'CustomerID', 'Description', 'Quantity'\.$"):
        read(path, "CustomerID", "zzz")


def test_typed_headers_are_found_by_the_part_before_the_colon(tmp_path):
    path = write(tmp_path, "user_id:token\titem_id:token\trating:float\n1\t2\t3\n")
    columns = read(path, "user_id", "item_id:token")
    assert pairs(columns) == [(1, 2)]
    assert columns.report.columns["user"].name == "user_id:token"


def test_a_name_that_several_columns_have_is_refused(tmp_path):
    with pytest.raises(DataError, match="has 2 columns 'id': 'id:token', 'id:float'; rename"):
        read(write(tmp_path, "id:token\tid:float\titem\n1\t2\t3\n"), "id", "item")
    with pytest.raises(DataError, match="has 2 columns 'id'"):
        read(write(tmp_path, "id\tid\titem\n1\t2\t3\n"), "id", "item")
    assert pairs(read(write(tmp_path, "id\tid:x\titem\n1\t2\t3\n"), "id", "item")) == [(1, 3)]


def test_two_columns_are_users_and_items_and_a_single_one_left_is_what_is_missing(tmp_path):
    assert pairs(read(write(tmp_path, "a,b\n1,2\n"))) == [(1, 2)]
    assert pairs(read(write(tmp_path, "a,b\n1,2\n"), item="a")) == [(2, 1)]
    columns = read(write(tmp_path, "a,when,b\n1,3,2\n"), time="when")
    assert pairs(columns) == [(1, 2)]
    assert columns.time.tolist() == [3]


def test_more_columns_without_names_are_refused_with_the_call_that_would_be_right(tmp_path):
    path = write(tmp_path, "Customer ID,Description,Quantity\nx,y,z\n")
    with pytest.raises(DataError) as raised:
        read(path)
    assert "has 3 columns: 'Customer ID', 'Description', 'Quantity'" in str(raised.value)
    assert str(raised.value).endswith(f"hotrow train {path} --user 'Customer ID' --item Description")
    with pytest.raises(DataError, match="Users and items need a column each, beside the time"):
        read(write(tmp_path, "Customer ID,Description\nx,y\n", "two.csv"), time="Description")
    with pytest.raises(DataError, match=r"which of them holds the items, .* --item 'Customer ID' --user Quantity$"):
        read(path, "Quantity")


def test_one_column_cannot_be_two_things(tmp_path):
    with pytest.raises(DataError, match="--user and --item are both"):
        read(write(tmp_path, "a,b\n1,2\n"), "a", "a")


def test_a_format_of_times_needs_a_column_of_times(tmp_path):
    with pytest.raises(DataError, match="give --time COLUMN"):
        read(write(tmp_path, "a,b\n1,2\n"), time_format="%Y")


# --- ids of text files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["7", "0", "-12"], "int64"),
        ([str(-(2**63)), str(2**63 - 1)], "int64"),
        (["0", str(2**63), str(2**64 - 1)], "uint64"),
    ],
)
def test_text_becomes_integers_if_every_value_is_written_as_one(tmp_path, cells, kind):
    path = write(tmp_path, "user,item\n" + "".join(f"{cell},x\n" for cell in cells))
    columns = read(path)
    assert columns.user.values.type == kind
    assert columns.user.values.to_pylist() == [int(cell) for cell in cells]
    assert columns.report.columns["user"].kind == kind
    assert columns.report.columns["item"].kind == "string"


@pytest.mark.parametrize(
    "odd", ["007", "+7", "-0", "-07", "7.0", "1e3", " 7", "7 ", "0x7", "٣", str(2**64), "9" * 5000, "NaN", "1_000"]
)
def test_one_value_that_is_no_canonical_integer_keeps_all_of_them_text(tmp_path, odd):
    columns = read(write(tmp_path, f"user,item\n7,x\n{odd},x\n8,x\nodd,y\n"))
    assert columns.user.values.to_pylist() == ["7", odd, "8", "odd"]
    assert columns.report.columns["user"].kind == "string"
    columns = read(write(tmp_path, f"user,item\n7,x\n{odd},x\n8,x\n"))
    assert columns.user.values.to_pylist() == ["7", odd, "8"]
    assert repr(odd[:80]) in columns.report.columns["user"].why


def test_negative_ids_beside_those_beyond_int64_stay_text(tmp_path):
    columns = read(write(tmp_path, f"user,item\n-1,x\n{2**63},x\n"))
    assert columns.report.columns["user"].kind == "string"
    assert repr(str(2**63)) in columns.report.columns["user"].why


INTEGERS = st.integers(-(2**65), 2**65).map(str) | st.integers(-20, 20).map(str)
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='",\r\n\0'), min_size=1) | INTEGERS


@given(cells=st.lists(CELLS, min_size=1) | st.lists(INTEGERS, min_size=1))
def test_ids_of_text_come_back_as_they_were(tmp_path_factory, cells):
    path = write(tmp_path_factory.mktemp("ids"), "who,what\n" + "".join(f'"{cell}",x\n' for cell in cells))
    columns = read(path, "who", "what")
    assert [str(user) for user, _ in pairs(columns)] == cells
    numbers = [int(cell) for cell in cells if cell.isascii() and cell.lstrip("-").isdigit() and str(int(cell)) == cell]
    fits = len(numbers) == len(cells) and (
        all(-(2**63) <= n < 2**63 for n in numbers) or all(0 <= n < 2**64 for n in numbers)
    )
    assert (columns.report.columns["user"].kind != "string") == fits


# --- ids of Parquet and Arrow ----------------------------------------------------------------------------------------


def save_parquet(table, path):
    pq.write_table(table, path, row_group_size=2)


def save_file(table, path):
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table, max_chunksize=2)


def save_stream(table, path):
    with pa.ipc.new_stream(str(path), table.schema) as file:
        file.write_table(table, max_chunksize=2)


def save_feather(table, path):
    feather.write_feather(table, str(path), compression="lz4")


SAVES = [save_parquet, save_file, save_stream, save_feather]


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("name", ["pairs", "pairs.csv"])
def test_parquet_and_arrow_are_known_by_what_is_in_them(tmp_path, save, name):
    save(PAIRS, tmp_path / name)
    columns = read(tmp_path / name)
    assert pairs(columns) == [("ann", 7), ("bob", -1), ("ann", 8)]
    assert read(tmp_path / name, "item", "user").user.values.to_pylist() == [7, -1, 8]


def test_an_arrow_table_is_read_as_a_file_is():
    assert pairs(read(PAIRS)) == [("ann", 7), ("bob", -1), ("ann", 8)]


def test_a_name_that_promises_parquet_must_keep_it(tmp_path):
    with pytest.raises(DataError, match="isn't the Parquet file that its name promises"):
        read(write(tmp_path, "user,item\n1,2\n", "pairs.parquet"))
    with pytest.raises(DataError, match="can't be read"):
        read(write(tmp_path, b"PAR1garbagegarbagePAR1", "pairs.parquet"))
    with pytest.raises(DataError, match="can't be read"):
        read(write(tmp_path, b"ARROW1\0\0garbage", "pairs.arrow"))
    with pytest.raises(DataError, match="there is no file"):
        read(tmp_path / "nothing.csv")


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        (pa.int8(), "int64"),
        (pa.uint32(), "int64"),
        (pa.int64(), "int64"),
        (pa.uint64(), "uint64"),
        (pa.float32(), "int64"),
        (pa.float64(), "int64"),
        (pa.decimal128(30, 2), "int64"),
        (pa.string(), "string"),
        (pa.large_string(), "string"),
        (pa.string_view(), "string"),
        (pa.binary(), "string"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pa.dictionary(pa.int8(), pa.int32()), "int64"),
    ],
    ids=str,
)
def test_ids_of_every_type_are_one_of_three_kinds(tmp_path, save, kind, becomes):
    text = becomes == "string"
    ids = pa.array(["1", "0", None, "1"] if text else [1, 0, None, 1])
    encoded = pa.types.is_dictionary(kind)
    ids = ids.cast(kind.value_type).dictionary_encode() if encoded else ids.cast(kind)
    table = pa.table({"user": ids, "item": ["a", "b", "c", "d"]})
    save(table, tmp_path / "pairs")
    columns = read(tmp_path / "pairs")
    assert columns.user.values.type == ("large_string" if text else becomes)
    assert pairs(columns) == [("1" if text else 1, "a"), ("0" if text else 0, "b"), ("1" if text else 1, "d")]
    assert columns.report.nulls == {"user": 1, "item": 0}


def test_a_column_of_whole_floats_becomes_int64_and_the_report_says_why():
    table = pa.table({"user": [17850.0, None, float("nan"), -0.0, 0.0], "item": list("abcde")})
    columns = read(table)
    assert pairs(columns) == [(17850, "a"), (0, "d"), (0, "e")]
    assert len(columns.user.values) == 2
    column = columns.report.columns["user"]
    assert column.kind == "int64"
    assert "every value of the double column is whole" in column.why
    assert "2 nulls" in column.why


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1.0, None, 2.0, 2.5]), r"'user', row 4: 2\.5 is not whole"),
        (pa.array([1.0, float("inf")]), "row 2: inf is not whole"),
        (pa.array([2.0**53]), "row 1: .* is too large to be exact as double"),
        (pa.array([2.0**24], pa.float32()), "too large to be exact as float"),
        (pa.array([b"a", b"\xff"]), r"row 2: b'\\xff' is no UTF-8"),
        (pa.array([1.5]).cast(pa.decimal128(10, 2)), "not all of it is whole"),
    ],
)
def test_a_value_that_cannot_be_an_id_is_refused_with_its_row(values, message):
    with pytest.raises(IdError, match=message):
        read(pa.table({"user": values, "item": ["x"] * len(values)}))


@pytest.mark.parametrize("values", [[True], [[1, 2]], pa.array([0], pa.timestamp("s")), pa.array([0], pa.date32())])
def test_a_column_that_cannot_be_ids_is_refused_with_its_type(values):
    with pytest.raises(KindError, match=r"column 'user' can't be ids: it is (bool|list|timestamp|date)"):
        read(pa.table({"user": values, "item": ["x"]}))


def test_empty_text_is_null_in_a_text_file_and_an_id_elsewhere(tmp_path):
    columns = read(write(tmp_path, 'user,item\na,x\n,x\n"",x\n,\nb,\n'))
    assert pairs(columns) == [("a", "x")]
    assert columns.report.nulls == {"user": 3, "item": 2}
    assert (columns.report.rows, columns.report.kept) == (5, 1)
    assert "4 rows skipped for nulls: 3 in user, 2 in item" in columns.report.sentences()
    assert pairs(read(pa.table({"user": [""], "item": ["x"]}))) == [("", "x")]


def test_rows_with_a_null_are_skipped_before_anything_else_is_looked_at():
    table = pa.table({"user": [1.5, 2.0], "item": [None, "x"], "time": ["nonsense", "2010-12-31"]})
    assert pairs(read(table, time="time")) == [(2, "x")]


def test_a_dictionary_may_hold_nulls_repetitions_and_values_that_no_row_uses():
    values = pa.array(["unused", None, "a", "a"])
    users = pa.DictionaryArray.from_arrays(pa.array([3, 1, 2, None], pa.int8()), values)
    columns = read(pa.table({"user": users, "item": [1, 2, 3, 4]}))
    assert pairs(columns) == [("a", 1), ("a", 3)]
    assert columns.user.values.to_pylist() == ["a"]
    assert columns.report.nulls["user"] == 2


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 2), st.sampled_from([pa.int8(), pa.int32()]))
def test_a_column_is_its_values_as_they_are_first_seen_whatever_its_dictionary(codes, unused, kind):
    words = ["tea", "mug", "pen", "cup", "ink", "jar"][: max(codes, default=-1) + 1 + unused]
    column = pa.DictionaryArray.from_arrays(pa.array(codes, kind), pa.array(words, pa.string()))
    values, found = distinct.encode(column)
    assert values.to_pylist() == list(dict.fromkeys(words[code] for code in codes))
    assert found.dtype == np.int32
    assert [values[int(code)].as_py() for code in found] == [words[code] for code in codes]


def test_names_with_dots_and_nested_neighbours_are_no_trouble_in_parquet(tmp_path):
    table = pa.table({"a.b": [1], "a": [{"b": 2}], "c": [3]})
    pq.write_table(table, tmp_path / "pairs")
    assert pairs(read(tmp_path / "pairs", "a.b", "c")) == [(1, 3)]


# --- several files ---------------------------------------------------------------------------------------------------


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path):
    for i, users in enumerate([["b", "a"], ["c", "b"]]):
        pq.write_table(pa.table({"user": users, "item": [1, 2]}), tmp_path / f"part-{i}.parquet")
    write(tmp_path, "", "_SUCCESS")
    write(tmp_path, "", ".part-0.crc")
    columns = read(tmp_path)
    assert pairs(columns) == [("b", 1), ("a", 2), ("c", 1), ("b", 2)]
    assert len(columns.report.sources) == 2
    assert pairs(read([tmp_path / "part-1.parquet", tmp_path / "part-0.parquet"])) == [
        ("c", 1), ("b", 2), ("b", 1), ("a", 2),
    ]  # fmt: skip


def test_a_pattern_is_the_files_that_match_it_in_the_order_of_their_names(tmp_path):
    (tmp_path / "day-2").mkdir()
    write(tmp_path / "day-2", "user,item\ncarl,3\n", "part.csv")
    for name in ("day-1.csv", "day-0.csv", "other.csv"):
        write(tmp_path, f"user,item\n{name},1\n", name)
    assert pairs(read(tmp_path / "day-*")) == [("day-0.csv", 1), ("day-1.csv", 1), ("carl", 3)]
    assert pairs(read(f"{tmp_path}/**/*.csv"))[2] == ("carl", 3)
    with pytest.raises(DataError, match="there is no file"):
        read(tmp_path / "week-*")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no CSV"):
        read(tmp_path)


def test_parts_must_agree_on_the_kind_of_ids(tmp_path):
    pq.write_table(pa.table({"user": ["a"], "item": [1]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"user": [1], "item": [1]}), tmp_path / "1.parquet")
    with pytest.raises(KindError, match=r"column 'user' is int64 in .*1\.parquet, and string before"):
        read(tmp_path)


def test_text_in_several_parts_is_integers_only_if_all_of_it_is(tmp_path):
    write(tmp_path, "user,item\n1,x\n", "0.csv")
    write(tmp_path, "user,item\n01,x\n", "1.csv")
    assert read(tmp_path / "0.csv").user.values.to_pylist() == [1]
    assert read(tmp_path).user.values.to_pylist() == ["1", "01"]


# --- progress, memory, real data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.csv.gz", "pairs.parquet", "pairs.arrow", "pairs.arrows"])
def test_progress_is_told_in_bytes_and_ends_with_all_of_them(tmp_path, name, monkeypatch):
    monkeypatch.setattr(sources, "_ROWS", 1000)
    monkeypatch.setattr(sources, "_BLOCK", 4096)
    table = pa.table({"user": np.arange(10_000), "item": np.arange(10_000) * 7919})
    path = tmp_path / name
    if "csv" in name:
        text = "user,item\n" + "".join(
            f"{user},{item}\n" for user, item in zip(*table.to_pydict().values(), strict=True)
        )
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    else:
        {"pairs.parquet": save_parquet, "pairs.arrow": save_feather, "pairs.arrows": save_stream}[name](table, path)
    told = []
    read(path, progress=lambda done, total, facts: told.append((done, total, facts["rows"])))
    dones, totals, rows = zip(*told, strict=True)
    assert len(told) > 2
    assert set(totals) == {path.stat().st_size}
    assert sorted(dones) == list(dones)
    assert dones[-1] >= 0.9 * totals[-1]
    assert rows[-1] == 10_000


def test_only_codes_and_distinct_values_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(distinct, "_MERGE", 1000)
    column = distinct.Distinct()
    for _ in range(50):
        column.add(
            pa.array([f"a rather long name, number {i}" for i in range(10)]), np.arange(100, dtype=np.int32) % 10
        )
        assert len(column._waiting) <= 10
    values, codes = column.finish()
    assert (len(values), len(codes)) == (10, 5000)


def test_online_retail_is_read_with_its_nulls_counted():
    path = DATA / "online_retail" / "online_retail.parquet"
    if not path.exists():
        pytest.skip(f"{path} isn't there")
    columns = read(path, "CustomerID", "Description", "InvoiceDate")
    report = columns.report
    assert (report.rows, report.nulls) == (541_909, {"CustomerID": 135_080, "Description": 1_454, "InvoiceDate": 0})
    assert report.columns["user"].kind == "int64"
    assert "135,080 nulls" in report.columns["user"].why
    assert len(columns.user.values) == 4_372
    table = pq.read_table(path).filter(pc.is_valid(pc.field("CustomerID")) & pc.is_valid(pc.field("Description")))
    assert report.kept == len(table)
    assert pairs(columns) == list(zip(table["CustomerID"].to_pylist(), table["Description"].to_pylist(), strict=True))
    assert columns.time.tolist() == table["InvoiceDate"].cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()


def test_movielens_is_read_by_the_names_before_the_colons():
    path = DATA / "ml100k" / "ml-100k.inter"
    if not path.exists():
        pytest.skip(f"{path} isn't there")
    columns = read(path, "user_id", "item_id", "timestamp")
    assert (columns.report.rows, len(columns.user.values), len(columns.item.values)) == (100_000, 943, 1_682)
    assert pairs(columns)[:2] == [(196, 242), (186, 302)]
    assert columns.time[:2].tolist() == [881250949, 891717742]
    assert columns.report.columns["item"].kind == "int64"
