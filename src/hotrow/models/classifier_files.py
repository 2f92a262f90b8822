"""A classifier on disk: a net in Keras's own format, tables in it, and classifier.json, which is written last.

```
model/
├── lock                 held by the one that saves
├── classifier.json      {"format": 1, "config": {…}, "columns": {…}, "classes": […], "notes": {…}, "net": {…},
│                         "sha256": …}
└── net-000002.keras     named by classifier.json, with its size and the CRC-32 of each chunk
```
Until classifier.json is replaced, the model is the one before, all of it. It ends with a checksum of itself, see
`store/sealed.py`.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from hotrow.errors import CorruptError, MissingExtraError
from hotrow.models.descriptions import CLASSIFIER as NAME
from hotrow.models.descriptions import check_alone
from hotrow.store.files import Output, Part, check_part, make_folders, naming, sync_folder, write_durably
from hotrow.store.lock import NAME as LOCK
from hotrow.store.lock import lock
from hotrow.store.manifest import part_from_json, part_to_json
from hotrow.store.sealed import LIMIT, read_sealed, sealed
from hotrow.store.strict_json import MalformedError, parse_object

T = TypeVar("T")
FORMAT = 1
_NET = re.compile(r"net-([0-9]{6,200})\.keras")
_FIELDS = {"format": int, "config": dict, "columns": dict, "classes": list, "notes": dict, "net": dict}
_ENTRIES = ["config.json", "metadata.json", "model.weights.h5"]
_NAMES = ("module", "class_name", "registered_name")
_KERAS = {
    "keras": {"DTypePolicy"},
    "keras.initializers": {"GlorotUniform", "Ones", "RandomNormal", "Zeros"},
    "keras.layers": {
        "Activation", "Add", "BatchNormalization", "Concatenate", "Dense", "Dot", "Dropout", "Flatten", "InputLayer",
        "Reshape",
    },
    "keras.optimizers": {"Adam"},
    "keras.regularizers": {"L2"},
    "hotrow.keras.features": {"Features"},
    "hotrow.keras.model": {"Functional"},
    None: {"__keras_tensor__"},
}  # fmt: skip
"""module → classes: all that `Classifier` makes a net of, and so all that a net may name."""


def is_classifier(folder: Path) -> bool:
    """Whether a classifier was saved here."""
    return (folder / NAME).is_file()


def is_ours(name: str) -> bool:
    """Whether a file of this name may be a classifier's, or what a save of one left when it was killed."""
    return name in {NAME, f"{NAME}.tmp", LOCK} or bool(_NET.fullmatch(name)) or name.startswith("new.")


def save(folder: Path, described: dict[str, Any], save_net: Callable[[Path], None]) -> None:
    """Write what is described and the net to `folder`, over the model that is there, in one step.

    LockedError if somebody else is saving there; ArgumentError if a model of another kind is there; OSError, with the
    path, and the model before as it was.
    """
    make_folders(folder)
    with lock(folder):
        check_alone(folder, NAME)
        numbers = [int(path.name.removeprefix("net-").removesuffix(".keras")) for path in _nets(folder)]
        path = folder / f"net-{max(numbers, default=0) + 1:06d}.keras"
        try:
            part = _save_net(save_net, path)
            text = sealed({"format": FORMAT, **described, "net": part_to_json(part)})
            sync_folder(folder)  # or a crash could leave a classifier.json that names a net whose name isn't there
            write_durably(folder / NAME, text)
        except BaseException:
            _undo(folder, path)
            raise
        for old in _nets(folder):
            if old != path and not old.is_dir():
                with suppress(OSError):  # it is left to the next save
                    old.unlink()


def _nets(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _NET.fullmatch(path.name)]


def _save_net(save_net: Callable[[Path], None], path: Path) -> Part:
    draft = path.with_name("new.keras")
    if os.path.lexists(draft):  # left by a save that was killed, or a link, and Keras would write where it leads
        draft.unlink()
    try:
        with naming(draft):
            save_net(draft)
        with Output(path) as out:
            out.write(draft.read_bytes())
            out.finish()
        return out.part()
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _undo(folder: Path, net: Path) -> None:
    """Remove a net that nothing names, or each try would leave more on a disk that is full."""
    with suppress(CorruptError):
        if _described(folder)[1] == net:  # the disk may show this model or the one before, and has both
            return
    with suppress(OSError):
        net.unlink(missing_ok=True)


def read(folder: Path) -> tuple[dict[str, Any], Path]:
    """What classifier.json says, and the net, whose bytes are what was written. CorruptError for anything else."""
    described, path, part = _described(folder)
    problems = check_part(path, part)
    if problems:
        raise CorruptError(problems[0])
    return described, path


def verify(folder: Path) -> list[str]:
    """What is wrong with a classifier's files, a sentence each."""
    try:
        _, path, part = _described(folder)
    except CorruptError as error:
        return [str(error)]
    return list(check_part(path, part))


def checked(path: Path, make: Callable[[], T]) -> T:
    """What is made of a file's content; CorruptError, naming it, if that can't be made."""
    try:
        return make()
    except MissingExtraError:
        raise
    except CorruptError as error:
        raise CorruptError(f"{path}: {error}") from error
    except Exception as error:  # what Keras, its backend and HDF5 raise has no root of its own
        raise CorruptError(f"{path}: isn't what a save writes ({error!s:.200})") from error


def check_net(path: Path) -> None:
    """CorruptError for a net with anything in it that `Classifier` doesn't make one of.

    Keras makes objects of whatever classes such a file names, and its safe_mode refuses only some kinds of code: this
    is looked at before Keras sees the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sorted(entry.filename for entry in entries) != _ENTRIES:
                raise MalformedError(f"holds {[entry.filename for entry in entries]!s:.200}, expected {_ENTRIES}")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise MalformedError("is compressed, which Keras's aren't")
            if archive.getinfo("config.json").file_size > LIMIT:
                raise MalformedError(f"has a config.json of more than {LIMIT:,} bytes")
            config = parse_object(archive.read("config.json"))
        for module, name, registered in _named(config):
            if name not in _KERAS.get(module, ()) or registered not in {None, name, f"hotrow>{name}"}:
                raise MalformedError(f"names {module}.{name}, which no classifier is made of")
    except (MalformedError, OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise CorruptError(f"isn't a net that hotrow has saved: {error}") from error


def _named(value: Any) -> Iterator[tuple[str | None, ...]]:
    """Module, name and registered name of each class in a config, None for what isn't said."""
    inner = [value]
    while inner:
        value = inner.pop()
        if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            if not fields.keys().isdisjoint(_NAMES):
                yield tuple(None if fields.get(name) is None else str(fields[name]) for name in _NAMES)
            inner += fields.values()
        elif isinstance(value, list):
            inner += cast("list[Any]", value)


def _described(folder: Path) -> tuple[dict[str, Any], Path, Part]:
    path = folder / NAME
    described = read_sealed(path)
    if set(described) != set(_FIELDS):
        raise CorruptError(f"{path}: expected an object of {', '.join(_FIELDS)}")
    if type(described["format"]) is not int or described["format"] != FORMAT:
        raise CorruptError(f"{path}: is of format {described['format']!r:.20}, and this hotrow reads {FORMAT}")
    for name, kind in _FIELDS.items():
        if not isinstance(described[name], kind):
            raise CorruptError(f"{path}: its {name} isn't as a save writes it")
    if not all(isinstance(label, (str, int)) for label in described["classes"]) or len(described["classes"]) < 2:
        raise CorruptError(f"{path}: its classes aren't as a save writes them")
    try:
        _, part = part_from_json(described["net"], lambda name: "net" if _NET.fullmatch(name) else None)
    except MalformedError as error:
        raise CorruptError(f"{path}: {error}") from error
    return described, path.with_name(part.name), part
