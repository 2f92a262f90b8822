"""Every loader of hotrow, a small valid file for each, and what happens when its bytes are changed.

    python tests/loaders.py NAME FOLDER     every byte cut, every bit flipped, in this process: see `everything`

What a loader may do with changed bytes: give the same content, or raise a HotrowError. One whose format has no checksum
may give other content. It may not crash, hang, take much memory, or raise what another library calls its errors.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import random
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import feather, parquet
from safetensors.numpy import save_file

import hotrow
from hotrow.apps import kinds
from hotrow.apps.frame import read_frame
from hotrow.apps.reading import read_columns
from hotrow.errors import HotrowError
from hotrow.exchange.reading import read_table
from hotrow.maps import kept
from hotrow.models import Ratings, Retrieval, classifier_files
from hotrow.store.arrays import to_arrays
from hotrow.store.checkpoint import Checkpoints
from hotrow.store.format import map_arrays, read_arrays, write_arrays
from hotrow.store.sealed import seal
from hotrow.store.strings import read_strings, write_strings

WORDS = ["WHITE LANTERN", "cup", "", "ü", "漢字", "mug", "a\0b"]
ALLOWED = 3 << 30
"""Bytes of address space that a load may name, beside what the process had: arrays that grow reserve some of it."""


class ForeignError(HotrowError):
    """What was raised by the user's own call into another library, before hotrow saw the file."""


@dataclass(frozen=True)
class Loader:
    """How a file is written and read.

    write    puts small valid files into a folder, and returns the function that loads them: its result is compared
    sealed   whether every byte is under a checksum, so that no change gives other content
    names    whether each of its errors names the file; one about a column's values names the column
    damaged  which of the files are changed, by their name; the others are another loader's
    """

    write: Callable[[Path], Callable[[], Any]]
    sealed: bool = True
    names: bool = True
    damaged: Callable[[str], bool] = lambda name: name != "lock"


def contents(table: Any) -> dict[str, bytes]:
    """All that a table is, as bytes."""
    return {name: array.tobytes() for name, array in to_arrays(table.state()).items()}


def seal_again(path: Path, fields: dict[str, Any]) -> None:
    """Write a description whose checksum is right, whatever it says."""
    text = json.dumps({name: value for name, value in fields.items() if name != "sha256"})
    path.write_bytes(seal((text[:-1] + ', "sha256": "').encode()))


# --- what hotrow writes ----------------------------------------------------------------------------------------------


def a_table() -> hotrow.Table:
    """Strings, two slots, some steps."""
    table = hotrow.Table(3, optimizer=hotrow.Adam(), seed=7)
    batch = table.find(WORDS, grow=True)
    for step in range(2):
        table.update(batch, np.full((len(WORDS), 3), step - 0.5, np.float32))
    return table


def snapshot(folder: Path) -> Callable[[], Any]:
    """A table, loaded to train."""
    a_table().save(folder / "words")
    return lambda: contents(hotrow.load(folder / "words"))


def delta(folder: Path) -> Callable[[], Any]:
    """What has changed since a snapshot: an id is new, others have moved, one is forgotten."""
    table = a_table()
    table.save(folder / "words")
    table.update(table.find(["cup", "tea"], grow=True), np.ones((2, 3), np.float32))
    table.forget(["mug"])
    table.save_delta(folder / "words")

    def load() -> Any:
        loaded = hotrow.load(folder / "words")
        return contents(loaded), loaded.ids().to_pylist()

    return load


def view(folder: Path) -> Callable[[], Any]:
    """A table, mapped: all that can be asked of it."""
    a_table().save(folder / "words")

    def load() -> Any:
        mapped = hotrow.view(folder / "words")
        return mapped.lookup([*WORDS, "new"]).tobytes(), mapped.vectors().tobytes(), mapped.ids().to_pylist()

    return load


ARRAYS = {"keys": ("U64", (None,)), "weights": ("F32", (None, 3))}


def arrays(read: Callable[..., Any], *, with_part: bool) -> Callable[[Path], Callable[[], Any]]:
    """Two arrays in one file; with the checksums that a manifest has of it, or without."""

    def write(folder: Path) -> Callable[[], Any]:
        given = {"keys": np.arange(5, dtype=np.uint64), "weights": np.ones((5, 3), np.float32)}
        part = write_arrays(folder / "arrays.safetensors", given)
        options = (part,) if with_part else ()
        return lambda: {
            name: (array.shape, array.tobytes())
            for name, array in read(folder / "arrays.safetensors", ARRAYS, *options).items()
        }

    return write


def strings(folder: Path) -> Callable[[], Any]:
    """The ids of a table."""
    part = write_strings(folder / "strings.arrow", pa.array(WORDS, pa.large_string()))
    return lambda: read_strings(folder / "strings.arrow", part, len(WORDS)).to_pylist()


def map_of(ids: Any, kind: str) -> Callable[[Path], Callable[[], Any]]:
    """A map that is kept, as `Map.open` finds it."""

    def write(folder: Path) -> Callable[[], Any]:
        n, sketch = len(ids), kept.SKETCH
        shapes = {"points": (n, 2), "sketch": (n, sketch), "late": (n,), "centre": (3,), "axes": (3, 2)}
        dtypes = {"sketch": np.float16, "late": np.uint8}
        arrays = {name: np.ones(shape, dtypes.get(name, np.float32)) for name, shape in shapes.items()}
        kept.keep(folder, kept.Kept("item", "umap", kind, 3, 2, arrays, ids))

        def load() -> Any:
            read = kept.read(folder, "item", "umap")
            assert read is not None
            return read.sampled, read.ids.tolist(), {name: array.tobytes() for name, array in read.arrays.items()}

        return load

    return write


def retrieval(folder: Path) -> Callable[[], Any]:
    """A model of pairs."""
    Retrieval(2, epochs=1, negatives=2).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"])).save(folder)

    def load() -> Any:
        model = Retrieval.load(folder)
        return contents(model.users), contents(model.items), model.pairs_in_order().tobytes(), model.config

    return load


def ratings(folder: Path) -> Callable[[], Any]:
    """A model of ratings."""
    Ratings(2, epochs=1).fit((["ann", "ann", "bob"], ["tea", "mug", "tea"], [5, 1, 4])).save(folder)

    def load() -> Any:
        model = Ratings.load(folder)
        return contents(model.users), contents(model.items), model.pairs_in_order().tobytes(), model.config

    return load


def checkpoint(folder: Path) -> Callable[[], Any]:
    """A table and a net's arrays of one step; the table's own files are other loaders'."""
    saved = Checkpoints(folder).start([a_table()], {"net.0": np.arange(6, dtype=np.float32)}, {"step": 3})
    saved.result()

    def load() -> Any:
        found = Checkpoints(folder).read(fits=lambda described: [None] * len(described.tables))
        assert found is not None
        return contents(found.tables[0]), found.arrays["net.0"].tobytes(), found.facts

    return load


def classifier(folder: Path) -> Callable[[], Any]:
    """A classifier's files; what is in the net isn't looked at before its bytes are known to be right."""
    described = {"config": {"dim": 2}, "columns": {"a": {"kind": "id"}}, "classes": ["x", "ü"], "notes": {}}
    classifier_files.save(folder, described, lambda path: path.write_bytes(bytes(range(256))))

    def load() -> Any:
        found, net = classifier_files.read(folder)
        return found, net.read_bytes()

    return load


def jax(folder: Path) -> Callable[[], Any]:
    """A state_dict of hotrow.jax in a file of NumPy's."""
    import hotrow.jax

    np.savez(folder / "state.npz", **hotrow.jax.Embedding(None, 3, table=a_table()).state_dict())

    def load() -> Any:
        embedding = hotrow.jax.Embedding(None, 3)
        with opened(lambda: np.load(io.BytesIO((folder / "state.npz").read_bytes()), allow_pickle=False)) as file:
            embedding.load_state_dict(file)
        return contents(embedding.table)

    return load


def torch(folder: Path) -> Callable[[], Any]:
    """A state_dict of hotrow.torch in a file of torch's."""
    import torch

    import hotrow.torch

    torch.save(hotrow.torch.Embedding(None, 3, table=a_table()).state_dict(), folder / "state.pt")

    def load() -> Any:
        embedding = hotrow.torch.Embedding(None, 3)
        state = opened(lambda: dict(torch.load(folder / "state.pt", weights_only=True)))
        try:
            embedding.load_state_dict(state)
        except RuntimeError as error:  # torch's own: a key is missing, or unknown
            raise ForeignError(str(error)) from error
        return contents(embedding.table)

    return load


def opened(make: Callable[[], Any]) -> Any:
    """What another library opens for the user."""
    try:
        return make()
    except Exception as error:
        raise ForeignError(str(error)) from error


# --- what others write -----------------------------------------------------------------------------------------------

PAIRS = pa.table(
    {
        "user": pa.array([17850, 13047, None, 12583], pa.int64()),
        "item": ["WHITE LANTERN", "ü", "cup", "cup"],
        "time": pa.array([1, 2, 3, 4], pa.int32()),
    }
)
CSV = "user,item,time\n17850,WHITE LANTERN,1\n13047,ü,2\n,cup,3\n12583,cup,4\n".encode()


def pairs(name: str, put: Callable[[Path], Any]) -> Callable[[Path], Callable[[], Any]]:
    """A file of pairs, as `hotrow train` reads it."""

    def write(folder: Path) -> Callable[[], Any]:
        put(folder / name)

        def load() -> Any:
            found = read_columns(folder / name, {"user": "user", "item": "item", "time": "time"})
            ids = [(column.values.to_pylist(), column.codes.tolist()) for column in (found.user, found.item)]
            return ids, found.time.tolist(), found.report.rows

        return load

    return write


COLUMNS = pa.table(
    {
        "label": pa.array([True, False, True]),
        "tags": [["red", "ü"], None, []],
        "price": [1.5, None, 2e10],
        "day": pa.array([0, 19000, None], pa.date32()),
        "at": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
        "size": pa.array([1, 2, 3], pa.decimal128(5, 2)),
    }
)


def columns(name: str, put: Callable[[Path], Any]) -> Callable[[Path], Callable[[], Any]]:
    """A file of columns of all kinds, as `hotrow train --label` reads it."""

    def write(folder: Path) -> Callable[[], Any]:
        put(folder / name)

        def load() -> Any:
            frame = read_frame(folder / name, ["label"])
            found: dict[str, Any] = {}
            for column, array in frame.columns.items():
                told = kinds.tell(column, array, text=frame.text)
                made = kinds.made(told, array)
                found[column] = (
                    told.to_json(),
                    {part: (kind, str(given.tolist())) for part, (kind, given) in made.items()},
                )
            return found

        return load

    return write


def write_stream(path: Path) -> None:
    """The pairs as an Arrow stream."""
    with pa.ipc.new_stream(path, PAIRS.schema) as out:
        out.write_table(PAIRS)


def compressed(codec: str) -> Callable[[Path], Any]:
    """The text in a compressed file."""

    def put(path: Path) -> None:
        with pa.CompressedOutputStream(str(path), codec) as out:
            out.write(CSV)

    return put


def write_dictionary(path: Path) -> None:
    """An Arrow file whose items are a dictionary's."""
    at = PAIRS.schema.get_field_index("item")
    coded = PAIRS.set_column(at, "item", PAIRS["item"].combine_chunks().dictionary_encode())
    feather.write_feather(coded, str(path), compression="uncompressed")


def write_parquet(**options: Any) -> Callable[[Path], Any]:
    """The pairs in a small Parquet file."""
    options = {"store_schema": False, "write_statistics": False} | options
    return lambda path: parquet.write_table(PAIRS, path, **options)


def vectors(name: str, put: Callable[[Path], Any], **wanted: Any) -> Callable[[Path], Callable[[], Any]]:
    """A file of another program's vectors, as `hotrow import` reads it."""

    def write(folder: Path) -> Callable[[], Any]:
        put(folder / name)

        def load() -> Any:
            made = read_table(folder / name, **wanted)
            return contents(made.table)

        return load

    return write


KEYS = ["lantern", "cup", "ü"]
MATRIX = np.arange(6, dtype=np.float32).reshape(3, 2)
LINES = "3 2\nlantern 0 1\ncup 2 3\nü 4 5\n".encode()
WORDS_IN_BYTES = b"3 2\n" + b"".join(key.encode() + b" " + row.tobytes() for key, row in zip(KEYS, MATRIX, strict=True))
VECTORS_TABLE = pa.table({"id": KEYS, "vector": pa.array(MATRIX.tolist(), pa.list_(pa.float32(), 2))})


def write_words(path: Path) -> None:
    """A pickle of gensim's, with its vectors beside it."""
    from gensim.models import KeyedVectors

    made = KeyedVectors(2)
    made.add_vectors(KEYS, MATRIX)
    made.save(str(path), sep_limit=0)


def write_net(path: Path) -> None:
    """A .keras file as Keras writes it: a lookup and an Embedding."""
    import h5py

    with h5py.File(path.with_name("w"), "w") as groups:
        for place, name in (("embedding", "emb"), ("string_lookup", "look")):
            groups.create_group(f"layers/{place}/vars").attrs["name"] = name
        groups["layers/embedding/vars/0"] = MATRIX
    config = [
        {"class_name": "StringLookup", "config": {"name": "look", "num_oov_indices": 1, "vocabulary": KEYS[:2]}},
        {"class_name": "Embedding", "config": {"name": "emb"}},
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": config}}))
        archive.write(path.with_name("w"), "model.weights.h5")
    path.with_name("w").unlink()


OTHERS: dict[str, Any] = {"sealed": False, "names": False}
BARE: dict[str, Any] = {"sealed": False}
LOADERS = {
    "snapshot": Loader(snapshot),
    "delta": Loader(delta),
    "view": Loader(view, damaged=lambda name: name != "lock" and not name.startswith("slot-")),
    "arrays read": Loader(arrays(read_arrays, with_part=True)),
    "arrays read without checksums": Loader(arrays(read_arrays, with_part=False), sealed=False),
    "arrays mapped": Loader(arrays(map_arrays, with_part=True), sealed=False),
    "strings": Loader(strings),
    "map of strings": Loader(map_of(pa.array(WORDS, pa.large_string()), "string")),
    "map of integers": Loader(map_of(np.arange(3), "int64")),
    "retrieval": Loader(retrieval, damaged=lambda name: name.startswith(("model", "pairs"))),
    "ratings": Loader(ratings, damaged=lambda name: name.startswith(("model", "pairs"))),
    "checkpoint": Loader(checkpoint, damaged=lambda name: name.startswith(("checkpoint", "net"))),
    "classifier": Loader(classifier),
    "jax": Loader(jax, names=False),
    "torch": Loader(torch, names=False),
    "csv": Loader(pairs("pairs.csv", lambda path: path.write_bytes(CSV)), **OTHERS),
    "tsv": Loader(pairs("pairs.tsv", lambda path: path.write_bytes(CSV.replace(b",", b"\t"))), **OTHERS),
    "csv, gzip": Loader(pairs("pairs.csv.gz", compressed("gzip")), **OTHERS),
    "csv, zstd": Loader(pairs("pairs.csv.zst", compressed("zstd")), **OTHERS),
    "csv, lz4": Loader(pairs("pairs.csv.lz4", compressed("lz4")), **OTHERS),
    "csv, bz2": Loader(pairs("pairs.csv.bz2", compressed("bz2")), **OTHERS),
    "parquet": Loader(pairs("pairs.parquet", write_parquet()), **OTHERS),
    "parquet, plain": Loader(
        pairs("pairs.parquet", write_parquet(compression="none", use_dictionary=False, store_schema=True)), **OTHERS
    ),
    "parquet, other encodings": Loader(
        pairs(
            "pairs.parquet",
            write_parquet(
                data_page_version="2.0",
                use_dictionary=False,
                compression="zstd",
                column_encoding={"user": "DELTA_BINARY_PACKED", "item": "PLAIN", "time": "BYTE_STREAM_SPLIT"},
            ),
        ),
        **OTHERS,
    ),
    "parquet, page checksums": Loader(pairs("pairs.parquet", write_parquet(write_page_checksum=True)), **OTHERS),
    "arrow file": Loader(
        pairs("pairs.arrow", lambda path: feather.write_feather(PAIRS, str(path), compression="uncompressed")),
        **OTHERS,
    ),
    "arrow file, lz4": Loader(
        pairs("pairs.arrow", lambda path: feather.write_feather(PAIRS, str(path), compression="lz4")), **OTHERS
    ),
    "arrow file, dictionary": Loader(pairs("pairs.arrow", write_dictionary), **OTHERS),
    "columns, parquet": Loader(
        columns(
            "columns.parquet", lambda path: parquet.write_table(COLUMNS, path, store_schema=False, compression="none")
        ),
        **OTHERS,
    ),
    "columns, arrow": Loader(
        columns("columns.arrow", lambda path: feather.write_feather(COLUMNS, str(path), compression="uncompressed")),
        **OTHERS,
    ),
    "arrow stream": Loader(pairs("pairs.arrows", write_stream), **OTHERS),
    "vectors, text": Loader(vectors("words", lambda path: path.write_bytes(LINES)), **BARE),
    "vectors, gzip": Loader(vectors("words", lambda path: path.write_bytes(gzip.compress(LINES, mtime=0))), **BARE),
    "vectors, binary": Loader(vectors("words", lambda path: path.write_bytes(WORDS_IN_BYTES)), **BARE),
    "vectors, gensim": Loader(vectors("words", write_words), **BARE),
    "vectors, parquet": Loader(vectors("v", lambda path: parquet.write_table(VECTORS_TABLE, path)), **BARE),
    "vectors, safetensors": Loader(
        vectors("v", lambda path: save_file({"w": MATRIX}, path), format="safetensors", number_rows=True), **BARE
    ),
    "vectors, npy": Loader(vectors("v.npy", lambda path: np.save(path, MATRIX), number_rows=True), **BARE),
    "vectors, keras": Loader(vectors("net.keras", write_net), **BARE),
}


# --- changed bytes ---------------------------------------------------------------------------------------------------

Change = tuple[str, bytes]


def flipped(data: bytes, bit: int) -> Change:
    """The bytes with one bit the other way round."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return f"bit {bit % 8} of byte {bit // 8}", bytes(changed)


def cut(data: bytes, length: int) -> Change:
    """The first bytes alone."""
    return f"cut to {length} bytes", data[:length]


def some(data: bytes, seed: int, count: int) -> Iterator[Change]:
    """So many cuts, and flipped bits, drawn by the seed, and some that are likely to matter."""
    draw = random.Random(seed)
    for length in {0, 8, len(data) - 1, *draw.sample(range(len(data)), min(count, len(data)))}:
        yield cut(data, min(length, len(data)))
    for bit in draw.sample(range(8 * len(data)), min(count, 8 * len(data))):
        yield flipped(data, bit)
    yield "one byte more", data + b"\0"


def everything(data: bytes) -> Iterator[Change]:
    """Cut at every byte, and every bit flipped."""
    for length in range(len(data)):
        yield cut(data, length)
    for bit in range(8 * len(data)):
        yield flipped(data, bit)


def files_of(loader: Loader, folder: Path) -> list[Path]:
    """The files that are changed."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and loader.damaged(file.name))


def outcome(load: Callable[[], Any]) -> tuple[Any, HotrowError | None]:
    """The content, or the error of ours; any other comes out."""
    try:
        return load(), None
    except HotrowError as error:
        return None, error


def sweep(
    loader: Loader, folder: Path, changes: Callable[[bytes], Iterator[Change]], note: Callable[[str], Any] = lambda _: 0
) -> tuple[int, int]:
    """Load after each change of each file: how many changes there were, and how many gave the same content.

    AssertionError for another content of a sealed loader, and for an error that doesn't name its file.
    """
    load = loader.write(folder)
    whole = load()
    tried = same = 0
    for file in files_of(loader, folder):
        data = file.read_bytes()
        for what, changed in changes(data):
            note(f"{file.name}: {what}")
            file.write_bytes(changed)
            found, error = outcome(load)
            file.unlink()  # a map of it keeps its bytes; were they written over, it would change
            place = f"{file.name}, {what}: {error or found}"
            assert error is None or not loader.names or str(folder) in str(error), place
            assert error is not None or found == whole or not loader.sealed, place
            tried, same = tried + 1, same + (found == whole)
        file.write_bytes(data)
    assert load() == whole
    return tried, same


def main(loader: Loader, folder: Path) -> None:
    """All changes of one loader's files, in a process that may die of them.

    Where it is, stands in `folder`/at. It ends after five minutes at 500 changes, and with more memory than ALLOWED.
    """
    faulthandler.enable()
    for name in ("warm", "swept"):
        (folder / name).mkdir()
    loader.write(folder / "warm")()
    named = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (named + ALLOWED, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0
    with (folder / "at").open("w", encoding="utf-8") as at:

        def note(what: str) -> None:
            nonlocal count
            if count % 500 == 0:
                faulthandler.dump_traceback_later(300, exit=True)
            count += 1
            at.seek(0)
            at.write(f"{what}\n{' ' * 80}")
            at.flush()

        tried, same = sweep(loader, folder / "swept", everything, note)
    faulthandler.cancel_dump_traceback_later()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 512 << 10, f"{grown:,} KiB of memory were taken"
    print(f"{tried} changes, {same} of them without effect, {grown:,} KiB more")


def sweep_in_a_child(program: Path, name: str, folder: Path) -> None:
    """`main` in a process of its own; AssertionError, with where it was, if it fails or dies."""
    command = [sys.executable, str(program), name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    at = (folder / "at").read_text("utf-8").splitlines()[:1] if (folder / "at").exists() else []
    assert done.returncode == 0, f"{name}, {at}: exit code {done.returncode}\n{done.stderr[-3000:]}"
    assert " changes, " in done.stdout


if __name__ == "__main__":
    main(LOADERS[sys.argv[1]], Path(sys.argv[2]))
