"""Indexes beside the tables that they are of, in `derived/search/`, each in a folder of its own.

    derived/search/3f0c…-cosine/index.json         what it is of, and the file's checksums, sealed; written last
                                graph-000001       what usearch writes

What is read is believed only where both checksums say that it is what was written; anything else counts as not there,
for it can be made anew. Whether it is of the vectors at hand, the graph itself says: it names each by its floats.
"""

from __future__ import annotations

import hashlib
import logging
import re
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hotrow.errors import CorruptError, HotrowError, LockedError
from hotrow.search.graph import EXPANSIONS, Graph, Places, Progress, Walk, make_index
from hotrow.search.space import Space
from hotrow.store.derived import check_no_link
from hotrow.store.files import Output, Part, make_folders, read_checked, sync_folder, write_durably
from hotrow.store.lock import lock
from hotrow.store.manifest import part_from_json, part_to_json
from hotrow.store.sealed import read_sealed, sealed
from hotrow.store.strict_json import MalformedError

if TYPE_CHECKING:
    from hotrow.models.folders import Folder
    from hotrow.models.sides import Vectors

log = logging.getLogger("hotrow")
NAME = "index.json"
FORMAT = 2
_GRAPH = re.compile(r"graph-(\d{6,18})", re.ASCII)
_FIELDS = {"format", "side", "metric", "dim", "places", "reach", "centre", "usual", "mixed", "built", "graph"}
_said: set[str] = set()


def home_of(folder: Folder, side: str, metric: str) -> Path:
    """Where the index of a side is kept: a side may be named like anything, so its name isn't the folder's."""
    return folder.derived() / "search" / f"{hashlib.sha256(side.encode()).hexdigest()[:16]}-{metric}"


def graph_of(folder: Folder, vectors: Vectors, space: Space, progress: Progress | None) -> Graph:
    """The graph of these vectors: the one that is kept, with what has changed since, or a new one; it is kept."""
    home = home_of(folder, vectors.name, space.metric)
    before = read(home, space)
    graph = Graph.build(space, progress) if before is None else before.updated(space, progress)
    if before is None or (graph.index is not before.index and not graph.changed):  # else writing takes longer
        keep(folder, home, vectors.name, graph)
    return graph


def size_of(folder: Folder, side: str, metric: str) -> int:
    """How many bytes are kept for it."""
    home = home_of(folder, side, metric)
    return sum(path.stat().st_size for path in home.iterdir()) if home.is_dir() else 0


def keep(folder: Folder, home: Path, side: str, graph: Graph) -> None:
    """Write it to its folder; where that can't be, nothing is there, and the log says so once."""
    try:
        check_no_link(home)
        make_folders(home)
        with lock(home):
            _write(home, side, graph)
            if _left(folder, side):
                (home / NAME).unlink(missing_ok=True)
                _clear(home, None)
    except LockedError:
        pass  # another process keeps the same one just now
    except (OSError, HotrowError) as error:
        if str(home) not in _said:
            _said.add(str(home))
            log.warning("the index is in memory alone, and will be made anew each time: %s", error)


def _left(folder: Folder, side: str) -> bool:
    """Whether an id has left meanwhile: perhaps it was forgotten, and what was just written would keep its vector."""
    newer = folder.refreshed()
    if newer is folder:
        return False
    before = folder.side(side)
    if side not in newer.sides or newer.side(side).kind != before.kind:
        return True
    ids = before.ids()
    return bool(len(ids) and (newer.side(side).rows(ids) < 0).any())


def _write(home: Path, side: str, graph: Graph) -> None:
    numbers = [int(found[1]) for found in map(_GRAPH.fullmatch, _names(home)) if found]
    path = home / f"graph-{max(numbers, default=0) + 1:06d}"
    try:
        with Output(path) as out:
            out.write(memoryview(graph.index.save()))
            out.finish()
        fields = {
            "format": FORMAT, "side": side, "metric": graph.space.metric, "dim": graph.space.vectors.shape[1],
            "places": len(graph.held), "reach": graph.reach, "centre": graph.centre.tolist(),
            "usual": [graph.usual.expansion, graph.usual.recall],
            "mixed": [graph.mixed.expansion, graph.mixed.recall], "built": graph.built,
            "graph": part_to_json(out.part()),
        }  # fmt: skip
        write_durably(home / NAME, sealed(fields))
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    _clear(home, path.name)


def _clear(home: Path, stays: str | None) -> None:
    """Older files go: whoever is reading one begins again."""
    for name in _names(home):
        if _GRAPH.fullmatch(name) and name != stays:
            (home / name).unlink(missing_ok=True)
    sync_folder(home)


def _names(home: Path) -> list[str]:
    return [path.name for path in home.iterdir()]


def read(home: Path, space: Space) -> Graph | None:
    """The graph that is kept there, of vectors that may have changed since; None if there is none, or a broken one."""
    try:
        check_no_link(home)
        if not (home / NAME).is_file():
            return None
        fields = read_sealed(home / NAME)
        part = _checked(fields, space)
        index = make_index(space)
        index.load(read_checked(home / part.name, part))
        marks = np.sort(np.asarray(index.keys).astype(np.int64))
        if len(marks) != fields["places"] or index.ndim != make_index(space).ndim:
            raise MalformedError("says other numbers than the graph has")
    except (CorruptError, MalformedError, RuntimeError, ValueError) as error:
        log.warning("the index in %s is made anew: %s", home, error)
        return None
    nothing = np.zeros(0, np.int64)
    return Graph(
        space, index, fields["reach"], np.array(fields["centre"], np.float32), Places(marks, nothing, nothing), marks,
        Lock(), Walk(*fields["usual"]), Walk(*fields["mixed"]), fields["built"],
    )  # fmt: skip


def _checked(fields: dict[str, Any], space: Space) -> Part:
    """The file of the graph, if all that is said can be; MalformedError otherwise."""
    if set(fields) != _FIELDS or fields["format"] != FORMAT:
        raise MalformedError("is of another format")
    if fields["metric"] != space.metric or fields["dim"] != space.vectors.shape[1]:
        raise MalformedError("is of another metric or length of vectors")
    walks = [cast("list[Any]", fields[name]) for name in ("usual", "mixed")]
    if not all(isinstance(one, list) and len(one) == 2 and one[0] in EXPANSIONS for one in walks):
        raise MalformedError("has walks that can't be")
    numbers = [fields["reach"], fields["built"], *(one[1] for one in walks)]
    if not all(type(one) is float and 0 <= one < np.inf for one in numbers):
        raise MalformedError("has numbers that can't be")
    centre = fields["centre"]
    if not isinstance(centre, list) or not all(type(one) is float for one in cast("list[Any]", centre)):
        raise MalformedError("has a centre that is none")
    if len(cast("list[Any]", centre)) != fields["dim"] or not fields["reach"]:
        raise MalformedError("has a centre or a reach that can't be")
    return part_from_json(fields["graph"], lambda name: "graph" if _GRAPH.fullmatch(name) else None)[1]
