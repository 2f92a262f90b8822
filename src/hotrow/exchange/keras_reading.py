"""A `.keras` file in: the rows of an Embedding, and the ids of the lookup before it; no class of Keras's is made.

    model.keras  (a zip)
    ├── config.json             which layers there are, and which lookup an Embedding is fed by
    ├── model.weights.h5        layers/embedding/vars/0, and which layer that is
    └── assets/…/vocabulary.txt the ids of a lookup that was adapted

Keras itself makes objects of whatever classes such a file names. Here config.json is JSON, read for its names alone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from hotrow.errors import CorruptError, DataError, MissingExtraError
from hotrow.exchange.incoming import Incoming, listed, of_arrays
from hotrow.exchange.lookups import own_rows
from hotrow.store.strict_json import MalformedError

_VOCABULARY = 1 << 30  # bytes of ids at most: of a vocabulary.txt, or of a config.json, which may have them too
_LOOKUPS = {"StringLookup", "IntegerLookup"}


@dataclass(frozen=True)
class _Layer:
    """A layer as config.json tells of it: its class's name, its settings, and the name of the layer before it."""

    kind: str
    config: dict[str, Any]
    before: str | None


def open_keras(
    path: Path, layer: str | None = None, lookup: str | None = None, *, number_rows: bool = False
) -> Incoming:
    """The Embedding of this name, or the only one, with ids of the lookup of this name, or the one before it.

    number_rows: ids are the numbers of the rows. DataError lists the layers where it isn't clear which.
    """
    with _errors_of(path), zipfile.ZipFile(path) as archive:
        layers = dict(_layers(_json(archive)))
        name = _chosen(path, layers, {"Embedding"}, layer, "--layer")
        with _weights(archive) as groups:
            places = _places(groups)
            matrix = _matrix(groups, places, name)
        before = layers[name].before
        by = lookup or (before if before in layers and layers[before].kind in _LOOKUPS else None)
        if number_rows:
            masked = layers[name].config.get("mask_zero") is True
            notes = ["row 0, that of the mask, is no id's: left out"] if masked else []
            ids, first = np.arange(masked, len(matrix), dtype=np.int64), int(masked)
        else:
            by = _chosen(path, layers, _LOOKUPS, by, "--lookup")
            ids, first, notes = _ids(path, archive, layers[by], places.get(by, ""), len(matrix))
    shown = f"Keras; Embedding {name!r}" + ("" if number_rows else f", ids of {by!r}")
    return of_arrays(str(path), shown, ids, matrix[first : first + len(ids)], notes)


@contextmanager
def _errors_of(path: Path) -> Generator[None]:
    """What a zip, JSON and HDF5 raise has no root of its own."""
    try:
        yield
    except (CorruptError, DataError, MissingExtraError) as error:
        if str(path) in str(error) or isinstance(error, MissingExtraError):
            raise
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:  # as above
        raise CorruptError(f"{path}: isn't what Keras saves ({error!s:.200})") from error


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry, no larger than the file; a compressed one, which Keras doesn't write, could unpack to anything."""
    told = archive.getinfo(name)
    if told.compress_type != zipfile.ZIP_STORED or told.file_size > _VOCABULARY:
        raise MalformedError(f"{name} is compressed, or has more than {_VOCABULARY:,} bytes")
    return archive.read(name)


def _json(archive: zipfile.ZipFile) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(_entry(archive, "config.json")))


# --- layers ----------------------------------------------------------------------------------------------------------


def _layers(config: dict[str, Any]) -> Iterator[tuple[str, _Layer]]:
    """The layers of a model, and of the models in it, by their names."""
    inner = [config]
    while inner:
        model = inner.pop()
        before: str | None = None  # in a Sequential
        for told in cast("list[dict[str, Any]]", model.get("config", {}).get("layers", [])):
            settings = cast("dict[str, Any]", told["config"])
            name, fed = str(settings["name"]), _fed_by(told) if "inbound_nodes" in told else before
            yield name, _Layer(str(told["class_name"]), settings, fed)
            before = name
            if "layers" in settings:
                inner.append(told)


def _fed_by(told: dict[str, Any]) -> str | None:
    """The layer whose output a layer of a functional model is first called on."""
    try:
        return str(told["inbound_nodes"][0]["args"][0]["config"]["keras_history"][0])
    except (IndexError, KeyError, TypeError):
        return None


def _chosen(path: Path, layers: dict[str, _Layer], kinds: set[str], name: str | None, flag: str) -> str:
    fitting = [key for key, one in layers.items() if one.kind in kinds]
    what = " or ".join(sorted(kinds))
    if name is not None and name not in fitting:
        raise DataError(f"{path} has no {what} {name!r}. It has {listed(fitting) or 'none'}")
    if name is None and len(fitting) != 1:
        why = "" if fitting or flag == "--layer" else ", or --number-rows, for ids 0, 1, …"
        raise DataError(
            f"{path} has {len(fitting)} layers {what}: {listed(fitting) or 'none'}. Say which: {flag} NAME{why}"
        )
    return fitting[0] if name is None else name


# --- weights ---------------------------------------------------------------------------------------------------------


@contextmanager
def _weights(archive: zipfile.ZipFile) -> Generator[Any]:
    """model.weights.h5, unpacked to a file that has no name."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            f"reading a .keras file needs h5py, which comes with Keras ({error}): "
            'pip install "hotrow[tensorflow]", "hotrow[jax]" or "hotrow[torch]"'
        ) from error
    told = archive.getinfo("model.weights.h5")
    if told.compress_type != zipfile.ZIP_STORED:
        raise MalformedError("its model.weights.h5 is compressed, which Keras's aren't")
    with archive.open(told) as packed, tempfile.TemporaryFile() as file:
        shutil.copyfileobj(packed, file, 1 << 20)
        with cast("Any", h5py).File(file, "r") as groups:
            yield groups


def _places(groups: Any) -> dict[str, str]:
    """The name of each layer → where it is: "layers/embedding"."""
    found: dict[str, str] = {}

    def visit(place: str, what: Any) -> None:
        name = what.attrs.get("name") if place.endswith("/vars") else None
        if isinstance(name, str):
            found[name] = place.removesuffix("/vars")

    groups.visititems(visit)
    return found


def _matrix(groups: Any, places: dict[str, str], name: str) -> np.ndarray:
    """The rows of an Embedding: floating (n, dim), in memory."""
    place = places.get(name)
    if place is None:
        raise DataError(f"its weights don't say which are those of {name!r}: save the model with a newer Keras 3")
    variables = groups[f"{place}/vars"]  # `visititems` follows no link, so this is in the file
    if type(variables.get("0", getlink=True)).__name__ != "HardLink":
        raise CorruptError(f"the weights of {name!r} are a link, perhaps out of this file, or aren't there")
    array = variables["0"]
    if array.external or array.is_virtual or array.dtype.kind != "f" or array.ndim != 2:
        raise DataError(f"the weights of {name!r} are {array.dtype} of shape {array.shape}; expected floats (n, dim)")
    if array.id.get_storage_size() < array.nbytes:
        raise CorruptError(f"the weights of {name!r} claim {array.nbytes:,} bytes, more than are stored of them")
    return np.asarray(array)


# --- ids -------------------------------------------------------------------------------------------------------------


def _ids(path: Path, archive: zipfile.ZipFile, layer: _Layer, place: str, rows: int) -> tuple[Any, int, list[str]]:
    config = layer.config
    if config.get("output_mode", "int") != "int" or config.get("invert"):
        raise DataError(f"{path}: the lookup {config['name']!r} doesn't give numbers of rows")
    given = config.get("vocabulary")
    if not isinstance(given, list):
        given = _vocabulary(path, archive, place, integers=layer.kind == "IntegerLookup")
    kind = int if layer.kind == "IntegerLookup" else str
    tokens = cast("list[Any]", given)
    if not all(type(token) is kind for token in tokens):
        raise DataError(f"{path}: the vocabulary of {config['name']!r} isn't one of {kind.__name__}s alone")
    count = config.get("num_oov_indices", 1)
    if type(count) is not int or not 0 <= count <= rows:
        raise MalformedError(f"the lookup has {count!r:.40} rows for unknown ids")
    mask, unknown = config.get("mask_token"), config.get("oov_token")
    ids, first, notes = own_rows(tokens, mask=mask, unknown=unknown, unknown_rows=count, rows=rows, name=str(path))
    size = config.get("vocabulary_size")
    if type(size) is int and size != first + len(ids):
        raise DataError(f"{path}: its vocabulary has {first + len(ids):,} entries, and the lookup says {size:,}")
    return ids, first, notes


def _vocabulary(path: Path, archive: zipfile.ZipFile, place: str, *, integers: bool) -> list[Any]:
    name = f"assets/{place}/vocabulary.txt"
    if name not in archive.namelist():
        raise DataError(f"{path} has no vocabulary of its lookup in it: --number-rows has ids 0, 1, …")
    lines = _entry(archive, name).decode().split("\n")
    while lines and not lines[-1]:  # as Keras reads it
        lines.pop()
    return [int(line) for line in lines] if integers else lines
