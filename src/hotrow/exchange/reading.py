"""The way in: what a file of vectors is, by its first bytes, and a table of it.

word2vec     text and binary, and GloVe's text; compressed or not      words
gensim       what KeyedVectors.save wrote                              words.kv
parquet      ids, and lists, structs or columns of floats              items.parquet
safetensors  what `hotrow export` wrote, or a tensor, with ids beside  model.safetensors
npy          a matrix, with ids beside                                 vectors.npy
keras        an Embedding and the lookup before it                     model.keras
projector    tensors.tsv, with metadata.tsv as ids                     only if asked for
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotrow.errors import ArgumentError, CorruptError, DataError
from hotrow.exchange.incoming import Imported, Incoming, Progress, into_table, of_arrays

if TYPE_CHECKING:
    from hotrow.table.optimizers import Optimizer

FORMATS = ("word2vec", "word2vec-binary", "gensim", "parquet", "safetensors", "npy", "keras", "projector")

_CONVERT = (
    "it is a pickle, and reading one runs what is in it. Convert it where you trust it: "
    "safetensors.torch.save_file(torch.load({name!r}, weights_only=True), 'model.safetensors'), then "
    "hotrow import model.safetensors --tensor NAME --ids FILE --out DIR"
)


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a file, where the file alone doesn't say it.

    ids          a file of ids beside a matrix: one a line, .json or .npy
    number_rows  ids are the numbers of the rows
    skip         a row that is no id's, as torch's padding_idx
    id, vector   columns of Parquet
    tensor       of safetensors
    layer, lookup  of a .keras file
    unescaped    %XX in words is undone, as `hotrow export` writes it in formats that can't have blanks
    """

    ids: Path | None = None
    number_rows: bool = False
    skip: int | None = None
    id: str | None = None
    vector: Sequence[str] = ()
    tensor: str | None = None
    layer: str | None = None
    lookup: str | None = None
    unescaped: bool = False


def read_table(
    path: str | PathLike[str],
    format: str | None = None,
    *,
    ids: str | None = None,
    duplicates: str = "refuse",
    optimizer: Optimizer | None = None,
    seed: int = 0,
    scratch: str | PathLike[str] | None = None,
    progress: Progress | None = None,
    **wanted: Any,
) -> Imported:
    r"""A table of the ids and vectors in another program's file; nothing in it is run.

    format      one of FORMATS; else what its first bytes say
    wanted      see `Wanted`: ids_from=…, number_rows=True, tensor=…
    ids, duplicates, optimizer, seed, scratch   see `hotrow.exchange.incoming.into_table`
    progress    callable(bytes done, bytes in all, {"rows": …})

    CorruptError for a file that isn't what it says, DataError for one of which it isn't clear what to take; each
    names the file and the place.

    >>> from pathlib import Path
    >>> _ = Path("words.txt").write_text("2 3\nlantern 1 2 3\ncup 4 5 6\n")
    >>> read_table("words.txt").table.lookup("cup").tolist()
    [4.0, 5.0, 6.0]
    """
    if "ids_from" in wanted:
        given = wanted.pop("ids_from")
        wanted["ids"] = None if given is None else Path(given)
    known = [one.name for one in fields(Wanted)]
    strange = [name for name in wanted if name not in known]
    if strange:
        known[known.index("ids")] = "ids_from"
        raise ArgumentError(f"read_table has no {strange[0]}=; what it takes of a file is {', '.join(known)}")
    opened = open_vectors(Path(path), format, Wanted(**wanted), progress)
    return into_table(
        opened, ids=ids, duplicates=duplicates, optimizer=optimizer, seed=seed, scratch=scratch, progress=progress
    )


def open_vectors(
    path: Path, format: str | None = None, wanted: Wanted | None = None, progress: Progress | None = None
) -> Incoming:
    """Open a file of this format, or of the one that its first bytes tell; nothing but what it holds is read yet."""
    wanted = wanted or Wanted()
    if format is not None and format not in FORMATS:
        raise ArgumentError(f"expected one of {', '.join(FORMATS)}; got {format!r}")
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'no file'}; give a file of vectors")
    return _OPENERS[format or _format_of(path)](path, wanted, progress)


def _format_of(path: Path) -> str:
    """What it is by its first bytes; where they don't tell, it is text."""
    with path.open("rb") as file:
        magic, size = file.read(16), file.seek(0, 2)
    if magic.startswith(b"PAR1"):
        return "parquet"
    if magic.startswith(b"\x93NUMPY"):
        return "npy"
    if magic.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if magic[:1] == b"\x80" and magic[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        if (
            magic[2:14] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
        ):  # the number that torch's files began with before they were zips
            raise DataError(f"{path} was written by torch.save: {_CONVERT.format(name=path.name)}")
        return "gensim"
    if magic.startswith(b"\x89HDF"):
        raise DataError(f"{path} is a file of HDF5, whose layout each program decides; save the model as .keras")
    if int.from_bytes(magic[:8], "little") < size and magic[8:9] == b"{":
        return "safetensors"
    promised = {".parquet": "parquet", ".safetensors": "safetensors", ".npy": "npy", ".keras": "keras"}
    if path.suffix.lower() in promised:
        raise CorruptError(f"{path} isn't the {promised[path.suffix.lower()]} file that its name promises: {magic!r}")
    return "word2vec"


def _zip_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, NotImplementedError, ValueError, zipfile.BadZipFile) as error:
        raise CorruptError(f"{path}: isn't a whole zip ({error!s:.200})") from error
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(f"{path} was written by torch.save: {_CONVERT.format(name=path.name)}")
    if "config.json" not in names:
        raise DataError(f"{path} is a zip of {len(names)} files, and no .keras: of an .npz save the array as .npy")
    return "keras"


def _gensim(path: Path, _: Wanted, progress: Progress | None) -> Incoming:
    from hotrow.exchange.keyed_vectors import open_keyed_vectors

    def told(done: int, size: int) -> None:
        if progress:
            progress(done, size, {"rows": 0})

    return open_keyed_vectors(path, told)


def _parquet(path: Path, wanted: Wanted, _: Progress | None) -> Incoming:
    from hotrow.exchange.parquet_reading import open_parquet

    return open_parquet(path, wanted.id, wanted.vector)


def _safetensors(path: Path, wanted: Wanted, _: Progress | None) -> Incoming:
    from hotrow.exchange import arrays_reading

    file = arrays_reading.open_safetensors(path)
    ids = None if wanted.ids or wanted.number_rows else arrays_reading.own_ids(file)
    return _matrix(path, "safetensors", arrays_reading.matrix_of(file, wanted.tensor), wanted, ids)


def _npy(path: Path, wanted: Wanted, _: Progress | None) -> Incoming:
    from hotrow.exchange.arrays_reading import open_npy

    return _matrix(path, "NumPy's .npy", open_npy(path), wanted)


def _matrix(path: Path, form: str, matrix: Any, wanted: Wanted, ids: Any = None) -> Incoming:
    from hotrow.exchange.arrays_reading import ids_of, without

    if ids is None:
        ids = ids_of(len(matrix), str(path), wanted.ids, number_rows=wanted.number_rows)
    if wanted.skip is None:
        return of_arrays(str(path), form, ids, matrix)
    return without(of_arrays(str(path), form, ids, matrix), wanted.skip)


def _keras(path: Path, wanted: Wanted, _: Progress | None) -> Incoming:
    from hotrow.exchange.keras_reading import open_keras

    return open_keras(path, wanted.layer, wanted.lookup, number_rows=wanted.number_rows)


def _projector(path: Path, wanted: Wanted, _: Progress | None) -> Incoming:
    from hotrow.exchange.projector_reading import open_projector

    return open_projector(path, wanted.ids, wanted.id, unescaped=wanted.unescaped)


def _words(binary: bool | None) -> Callable[[Path, Wanted, Progress | None], Incoming]:
    def opened(path: Path, wanted: Wanted, _: Progress | None) -> Incoming:
        from hotrow.exchange.word2vec_reading import open_word2vec

        return open_word2vec(path, binary=binary, unescaped=wanted.unescaped)

    return opened


_OPENERS: dict[str, Callable[[Path, Wanted, Progress | None], Incoming]] = {
    "word2vec": _words(None),
    "word2vec-binary": _words(True),
    "gensim": _gensim,
    "parquet": _parquet,
    "safetensors": _safetensors,
    "npy": _npy,
    "keras": _keras,
    "projector": _projector,
}
