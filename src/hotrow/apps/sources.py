"""Files of pairs as streams of Arrow arrays: CSV and TSV, Parquet, Arrow IPC; never a whole file in memory.

What a file is, its first bytes tell, and where they don't it is text. A folder is all the files in it. A span of a file
can be read apart from the rest, by another process; spans one after the other give the very pieces of the whole file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any, Protocol

from hotrow.apps import delimited, spans
from hotrow.apps.arrow import Array, csv, is_text, pa, parquet
from hotrow.apps.spans import Span
from hotrow.errors import DataError

Piece = tuple[list[Array], float]
"""The columns asked for, of some rows, and the share of the source that is read by then."""

_ROWS = 1 << 18  # that are handled at a time
_BLOCK = spans.BLOCK
_CODECS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_BINARY = {".parquet": "Parquet", ".pq": "Parquet", ".arrow": "Arrow IPC", ".feather": "Arrow IPC", ".ipc": "Arrow IPC"}
_PATTERN = set("*?[")  # of names of files, as a shell has them
_SUFFIXES = {*_BINARY, ".arrows", ".csv", ".tsv", ".tab", ".txt", ".dat", ".inter", ".gz", ".bz2", ".zst", ".lz4"}


class Source(Protocol):
    """What is read.

    name       for messages
    size       bytes
    form       how it is read, in words
    text       whether ids are text because the format knows nothing else
    columns    their names
    bad_lines  lines that were left out because they haven't as many fields as there are columns
    """

    name: str
    size: int
    form: str
    text: bool
    columns: list[str]
    bad_lines: int

    @property
    def path(self) -> Path | None:
        """Where the file is, whatever folder one is in; None if it is none."""
        ...

    def read(self, places: Sequence[int], span: Span | None = None) -> Iterator[Piece]:
        """The columns at these places, some rows at a time, in the order of the file; of a span of it, or of all."""
        ...

    def spans(self, size: int, quotes: Quotes) -> list[Span | None]:
        """Spans of about so many bytes that are the whole file, one after the other. None: it is read in one."""
        ...


Quotes = Callable[["TextSource", list[Span], bool], list[bool]]
"""Whether a quoted field is open at the end of each span of a text; True: one is open at its beginning, too."""

Reading = Callable[[Sequence[Source], Sequence[Sequence[int]]], Iterator[tuple[int, Piece]]]
"""How sources are read, given the places of the columns in each: pieces, with the number of their source, in order."""


def one_by_one(sources: Sequence[Source], places: Sequence[Sequence[int]]) -> Iterator[tuple[int, Piece]]:
    """The pieces of all sources, read in this process."""
    for number, (source, wanted) in enumerate(zip(sources, places, strict=True)):
        for piece in source.read(wanted):
            yield number, piece


def open_sources(path: Any, asked: Sequence[str], *, skip_bad_lines: bool = False) -> list[Source]:
    """Open a file, every file of a folder or of a pattern (`day-*.csv`), several of these, or an Arrow table.

    asked: the names of the columns that are looked for; they help to tell a header from data.
    """
    if isinstance(path, pa.Table):
        path = TableSource(path, "the table")
    if isinstance(path, TableSource):
        return [path]
    if isinstance(path, list | tuple):
        paths: list[Any] = list(path)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return [source for one in paths for source in open_sources(one, asked, skip_bad_lines=skip_bad_lines)]
    return [_open(file, asked, skip_bad_lines) for file in _files(Path(path))]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        found = sorted(glob(str(path), recursive=True)) if _PATTERN & set(str(path)) else []  # noqa: PTH207
        if not found:
            raise DataError(f"there is no file {str(path)!r}")
        return [file for one in found for file in _files(Path(one))]
    files = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    files = [file for file in files if file.suffix.lower() in _SUFFIXES]
    if not files:
        raise DataError(f"the folder {str(path)!r} holds no CSV, TSV, Parquet or Arrow file")
    return files


def _hidden(file: Path) -> bool:
    """Writers of many parts leave notes for themselves: _SUCCESS, .part-0.crc."""
    return any(part.startswith((".", "_")) for part in file.parts)


def _open(path: Path, asked: Sequence[str], skip_bad_lines: bool) -> Source:
    name = str(path)
    with errors_of(name), path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(b"PAR1"):
        return ParquetSource(path)
    if magic.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return ArrowSource(path, stream=not magic.startswith(b"ARROW1"))
    promised = _BINARY.get(path.suffix.lower())
    if promised:
        raise DataError(f"{name} isn't the {promised} file that its name promises: it begins with {magic!r}")
    return TextSource(path, asked, skip_bad_lines=skip_bad_lines)


@contextmanager
def errors_of(name: str, *, extra: str = "") -> Generator[None]:
    """Errors of Arrow and of the system as ours, with the name of what was read."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last for a column's name
        message = str(error).strip()
        if "invalid UTF8" in message:
            advice = f"Convert it, for example: iconv -f latin1 -t utf-8 {name} > utf-8.csv"
            raise DataError(f"{name} isn't UTF-8: {message}. {advice}") from error
        if "straddling" in message:
            extra = extra or f"a line has more than {_BLOCK:,} bytes; a quote may never be closed"
        raise DataError(f"{name} can't be read: {extra or message}") from error


def _names(schema: Any) -> list[str]:
    """The names of a schema. UnicodeDecodeError if one of them, or of a time zone in its types, isn't UTF-8."""
    for field in schema:
        _ = getattr(field.type, "tz", None), getattr(getattr(field.type, "value_type", None), "tz", None)
    return list(schema.names)


class TableSource:
    """An Arrow table."""

    def __init__(self, table: Any, name: str) -> None:
        self.name, self.size, self.form = name, int(table.nbytes), "Arrow table"
        self.text, self.columns, self.bad_lines = False, list(table.column_names), 0
        self._table = table
        self.path = None

    def spans(self, size: int, quotes: Quotes) -> list[Span | None]:
        """It is in memory, and stays in one."""
        return [None]

    def read(self, places: Sequence[int], span: Span | None = None) -> Iterator[Piece]:
        """Slices of the table."""
        done = 0
        for batch in self._table.select(list(places)).to_batches(max_chunksize=_ROWS):
            done += len(batch)
            yield batch.columns, done / max(1, len(self._table))


class ParquetSource:
    """A Parquet file, a part of a row group at a time."""

    def __init__(self, path: Path) -> None:
        self.name, self.size, self.form, self.text, self.bad_lines = str(path), _size(path), "Parquet", False, 0
        self.path = path.absolute()
        with errors_of(self.name):
            self._schema = parquet.read_schema(path)
            self.columns = _names(self._schema)

    def spans(self, size: int, quotes: Quotes) -> list[Span | None]:
        """Runs of row groups, numbered, of some bytes each."""
        with errors_of(self.name), parquet.ParquetFile(self.path) as file:
            return list(spans.of_runs(len(_runs(file.metadata)), self.size, size))

    def read(self, places: Sequence[int], span: Span | None = None) -> Iterator[Piece]:
        """Batches of the wanted columns; text comes by its dictionary, which is quicker and smaller."""
        names = [self.columns[place] for place in places]
        texts = [name for name in names if is_text(self._schema.field(name).type)]
        options: dict[str, Any] = {"read_dictionary": texts, "memory_map": True, "pre_buffer": False}
        with errors_of(self.name), parquet.ParquetFile(self.path, **options) as file:
            runs = _runs(file.metadata)
            begin, end = span or (0, len(runs))
            done, total = sum(rows for _, rows in runs[:begin]), file.metadata.num_rows
            for groups, _ in runs[begin:end]:
                for batch in file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=names, use_threads=False):
                    batch.validate(
                        full=True
                    )  # Arrow believes what a file says of itself, and would read beyond its end
                    done += len(batch)
                    yield [batch.column(name) for name in names], done / max(1, total)


class ArrowSource:
    """An Arrow IPC file, Feather among them, or an Arrow IPC stream."""

    def __init__(self, path: Path, *, stream: bool) -> None:
        self.name, self.size, self.text, self.bad_lines = str(path), _size(path), False, 0
        self.form = "Arrow IPC stream" if stream else "Arrow IPC file"
        self._random = not stream
        self.path = path.absolute()
        self._open = pa.ipc.open_stream if stream else pa.ipc.open_file
        with errors_of(self.name), pa.memory_map(str(path)) as file:
            self.columns = _names(self._open(file).schema)

    def spans(self, size: int, quotes: Quotes) -> list[Span | None]:
        """It is read in one: mapped, it takes little time."""
        return [None]

    def read(self, places: Sequence[int], span: Span | None = None) -> Iterator[Piece]:
        """Slices of the file's batches, mapped and not copied where they aren't compressed."""
        options = pa.ipc.IpcReadOptions(included_fields=list(places))
        wanted = [sorted(places).index(place) for place in places]  # fields come in the order of the file
        with errors_of(self.name), pa.memory_map(str(self.path)) as file:
            reader = self._open(file, options=options)
            for batch, share in self._file(reader) if self._random else self._stream(reader, file):
                batch.validate(full=True)  # as above: an offset may lead anywhere
                for start in range(0, len(batch), _ROWS):
                    part = batch.slice(start, _ROWS)
                    yield [part.column(i) for i in wanted], share

    def _file(self, reader: Any) -> Iterator[tuple[Any, float]]:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i), (i + 1) / reader.num_record_batches

    def _stream(self, reader: Any, file: Any) -> Iterator[tuple[Any, float]]:
        for batch in reader:
            yield batch, file.tell() / self.size


class TextSource:
    """A text file with a delimiter, compressed or not. Every cell is text, an empty one is null."""

    def __init__(self, path: Path, asked: Sequence[str], *, skip_bad_lines: bool) -> None:
        self.name, self.size, self.text, self.bad_lines = str(path), _size(path), True, 0
        self.path = path.absolute()
        self._skip = skip_bad_lines
        with errors_of(self.name), path.open("rb") as file:
            magic = file.read(4)
        self._codec = next((codec for start, codec in _CODECS.items() if magic.startswith(start)), None)
        with errors_of(self.name), self._opened() as (_, stream):
            sample = stream.read(delimited.SAMPLE + 1)
        whole = len(sample) <= delimited.SAMPLE
        self._layout = delimited.detect(sample[: delimited.SAMPLE], whole, asked, self.name)
        self.columns = self._layout.columns
        self.form = f"{f'{self._codec}, ' if self._codec else ''}text; {self._layout}"

    @contextmanager
    def _opened(self, span: Span | None = None) -> Generator[tuple[Any, Any]]:
        """The file, whose place tells how much is read, and the text in it, or in a span of it."""
        if span is not None:
            with self.path.open("rb") as file, pa.PythonFile(spans.Stretch(file, *span), "r") as stream:
                yield file, stream
            return
        with pa.OSFile(str(self.path)) as file:
            yield file, pa.CompressedInputStream(file, self._codec) if self._codec else file

    def spans(self, size: int, quotes: Quotes) -> list[Span | None]:
        """Spans that begin and end with a line. None for what is compressed."""
        if self._codec or self.size <= size:
            return [None]
        with errors_of(self.name), self.path.open("rb") as file:
            asked = spans.of_lines(file, self.size, size)
        return list(spans.outside_of_quotes(asked, lambda inside: quotes(self, asked, inside)))

    def quote_is_open(self, span: Span, *, inside: bool) -> bool:
        """Whether a quoted field is open at the span's end; inside: one is open at its beginning."""
        with errors_of(self.name), self.path.open("rb") as file:
            file.seek(span[0])
            return spans.quote_is_open(file.read(span[1] - span[0]), self._layout.delimiter, inside=inside)

    def read(self, places: Sequence[int], span: Span | None = None) -> Iterator[Piece]:
        """Blocks of lines. One thread: Arrow then knows the number of a bad line, and it takes no longer."""
        # Columns are known by their place here: names may be missing, or the same twice.
        numbers = [str(i) for i in range(len(self.columns))]
        names = [numbers[place] for place in places]
        bad: list[str] = []
        options = self._options(numbers, names, bad, first=not span or not span[0])
        with self._opened(span) as (file, stream):
            for batch in self._batches(stream, options, bad):
                yield [batch.column(name) for name in names], file.tell() / max(1, self.size)

    def _options(self, numbers: list[str], names: list[str], bad: list[str], *, first: bool) -> dict[str, Any]:
        skip = self._layout.blank + self._layout.header if first else 0
        return {
            "read_options": csv.ReadOptions(
                column_names=numbers, skip_rows_after_names=skip, block_size=_BLOCK, use_threads=False
            ),
            "parse_options": csv.ParseOptions(
                delimiter=self._layout.delimiter, newlines_in_values=True, invalid_row_handler=self._handler(bad)
            ),
            "convert_options": csv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        }

    def _batches(self, stream: Any, options: dict[str, Any], bad: list[str]) -> Iterator[Any]:
        reader: Any = None
        while True:
            try:
                reader = reader or csv.open_csv(stream, **options)
                batch = reader.read_next_batch()
            except StopIteration:
                return
            except (pa.ArrowException, OSError):
                with errors_of(self.name, extra=bad[0] if bad else ""):
                    raise
            yield batch

    def _handler(self, bad: list[str]) -> Any:
        """What Arrow calls for a line with too few or too many fields."""

        def handle(row: Any) -> str:
            if self._skip:
                self.bad_lines += 1
                return "skip"
            number = f"row {row.number}{' (the header is row 1)' if self._layout.header else ''}"
            fields = f"{row.actual_columns} field{'s' * (row.actual_columns != 1)}, not {row.expected_columns}"
            bad.append(
                f"{number} has {fields}: {row.text[:80]!r}. Mend it, or leave such lines out with --skip-bad-lines"
            )
            return "error"

        return handle


def _runs(metadata: Any) -> list[tuple[list[int], int]]:
    """Row groups that are read together, some `_ROWS` rows, and how many rows they have."""
    runs: list[tuple[list[int], int]] = []
    groups: list[int] = []
    rows = 0
    for group in range(metadata.num_row_groups):
        groups.append(group)
        rows += metadata.row_group(group).num_rows
        if rows >= _ROWS or group == metadata.num_row_groups - 1:
            runs.append((groups, rows))
            groups, rows = [], 0
    return runs


def _size(path: Path) -> int:
    return os.stat(path).st_size  # noqa: PTH116, for pathlib's own follows the same links
