"""Spans of a file: read one after the other, they are the very pieces that one reader makes of the whole."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotrow.apps import delimited, sources, spans
from hotrow.apps.sources import open_sources
from hotrow.errors import DataError

CELLS = st.text(st.sampled_from('ab7",\n\r é'), max_size=12)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of 64 bytes, and 32 rows at a time."""
    monkeypatch.setattr(spans, "BLOCK", 64)
    monkeypatch.setattr(sources, "_BLOCK", 64)
    monkeypatch.setattr(sources, "_ROWS", 32)
    monkeypatch.setattr(delimited, "SAMPLE", 1 << 10)


def quotes(source, asked, inside):
    return [source.quote_is_open(span, inside=inside) for span in asked]


def pieces_of(path, spanned, size=64, **options):
    """What comes of a file: the rows of each piece, lines left out, and the error it ends with."""
    (source,) = open_sources(path, [], **options)
    places = range(len(source.columns))
    found = []
    try:
        for span in source.spans(size, quotes) if spanned else [None]:
            for arrays, _ in source.read(places, span):
                assert all(isinstance(array, pa.Array) for array in arrays)
                if len(arrays[0]):
                    found.append(list(zip(*(array.to_pylist() for array in arrays), strict=True)))
    except DataError as error:
        return found, source.bad_lines, type(error)
    return found, source.bad_lines, None


def same(path, size=64, **options):
    """The pieces, once it is proved that spans give the same."""
    whole, spanned = (pieces_of(path, how, size, **options) for how in (False, True))
    assert whole[1:] == spanned[1:]
    if whole[2] is None:
        assert whole[0] == spanned[0]
    return whole


def opened(text, delimiter, inside):
    """The naive twin: one character after the other."""
    where = "quoted" if inside else "begin"
    for c in text:
        if where == "quoted":
            where = "quote in quotes" if c == '"' else "quoted"
        elif c == '"' and where in {"begin", "quote in quotes"}:
            where = "quoted"
        else:
            where = "begin" if c in {delimiter, "\n", "\r"} else "field"
    return where == "quoted"


@given(st.text(st.sampled_from('a",\n\r'), max_size=30), st.sampled_from(",\t| "), st.booleans())
@example('a""b', ",", False)
@example('"a,"b",c', ",", False)
def test_whether_a_quote_is_open_is_what_one_character_after_the_other_tells(text, delimiter, inside):
    text = text.replace(",", delimiter) + "\n"
    assert spans.quote_is_open(text.encode(), delimiter, inside=inside) == opened(text, delimiter, inside)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=60), st.sampled_from(["\n", "\r\n"]), st.integers(1, 200))
def test_text_in_spans_is_the_same_rows_in_the_same_pieces(tmp_path_factory, rows, end, size):
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end).writerows([("who", "what"), *rows])
    path = tmp_path_factory.mktemp("spans") / "pairs.csv"
    path.write_bytes(out.getvalue().encode())
    same(path, size)


@given(st.text(st.sampled_from('a7",\n\r'), max_size=400), st.integers(1, 200), st.booleans())
def test_text_of_any_sort_is_cut_where_its_reader_would_begin_a_line(tmp_path_factory, text, size, skip):
    path = tmp_path_factory.mktemp("spans") / "pairs.csv"
    path.write_bytes(b"who,what\nann,tea\n" + text.encode())
    same(path, size, skip_bad_lines=skip)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_long_text_is_cut_often_but_never_within_quotes(tmp_path, end):
    rows = [f'user {i},"a note{end}in ""{i % 7}"" lines"' for i in range(100)]
    path = tmp_path / "pairs.csv"
    path.write_bytes(end.join(["who,what", *rows, ""]).encode())
    found, _, _ = same(path)
    assert sum(map(len, found)) == 100
    (source,) = open_sources(path, [])
    cut = source.spans(64, quotes)
    assert len(cut) > 10
    assert cut[0][0] == 0
    assert cut[-1][1] == source.size
    assert all(before[1] == after[0] for before, after in zip(cut, cut[1:], strict=False))
    text = path.read_bytes()
    assert all(text[end - 1 : end] == b"\n" for _, end in cut)


def test_quotes_amid_a_field_are_characters_and_cut_nothing_off(tmp_path):
    path = tmp_path / "pipes.csv"
    path.write_text("who,what\n" + "".join(f'{i},{i}" pipe\n' for i in range(200)))
    found, _, _ = same(path)
    assert [row[1] for piece in found for row in piece] == [f'{i}" pipe' for i in range(200)]
    assert len(open_sources(path, [])[0].spans(64, quotes)) > 20


def test_lines_of_too_few_fields_are_counted_over_all_spans(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("who,what\n" + "".join(f"user {i},thing\n" if i % 5 else "alone\n" for i in range(100)))
    assert same(path, skip_bad_lines=True)[1] == 20
    assert same(path)[2] is DataError


def test_a_line_longer_than_a_block_is_refused_in_spans_as_in_one(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("who,what\n" + "ann,tea\n" * 30 + "bob," + "x" * 300 + "\n" + "ann,tea\n" * 30)
    assert same(path)[2] is DataError


def test_a_quote_that_is_never_closed_is_refused_in_spans_as_in_one(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("who,what\n" + "ann,tea\n" * 30 + 'bob,"mug\n' + "ann,tea\n" * 60)
    assert same(path)[2] is DataError


@pytest.mark.parametrize("groups", [1, 10, 33, 500])
@pytest.mark.parametrize("size", [1, 300, 10**9])
def test_parquet_in_spans_is_the_same_rows_in_the_same_pieces(tmp_path, groups, size):
    table = pa.table({"who": [f"user {i % 9}" for i in range(200)], "what": pa.array(range(200), pa.int64())})
    path = tmp_path / "pairs.parquet"
    pq.write_table(table, path, row_group_size=groups)
    found, _, _ = same(path, size)
    assert [row[1] for piece in found for row in piece] == list(range(200))
    if size == 1 and groups < 500:
        assert len(open_sources(path, [])[0].spans(size, quotes)) > 3


def test_a_parquet_file_without_rows_has_no_pieces(tmp_path):
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"who": pa.array([], pa.string()), "what": pa.array([], pa.int64())}), path)
    assert same(path) == ([], 0, None)


def test_what_is_compressed_is_read_in_one(tmp_path):
    import gzip

    path = tmp_path / "pairs.csv.gz"
    path.write_bytes(gzip.compress(b"who,what\n" + b"ann,tea\n" * 100))
    assert open_sources(path, [])[0].spans(64, quotes) == [None]
    assert len(same(path)[0]) > 1
