"""A folder whose changes are written down as they happen, and what a disk may hold of them when the power fails.

`Disk(folder)` wraps the calls of `os` that change what is on a disk, for as long as it is entered. Each is written
down and passed on to the real folder (but for the syncs); `fault` may fail one of them, cut a write short, or leave it
out. From what is written down, `crashes` makes the states in which the folder may be found if the power fails after
the k-th call:

- A file has what was written before its last fsync. Of what came later, any block of 4 kB may be there in any version
  it has had, and the file may have any length it has had, or one that ends at a block in between; what no write
  has filled is zeros.
- A change to a name (create, rename, unlink, mkdir, rmdir, link) is there if its folder was synced after it. Of the
  others each may be there or not, whatever the rest does. A rename is one change: the name is the old file or the new.

No file system is as unkind as that throughout; whoever is safe here relies on nothing but fsync and rename.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import pytest

BLOCK = 4096
CALLS = ("open", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "replace", "rename", "unlink", "remove")
CALLS += ("mkdir", "rmdir", "link")

LEAVE_OUT = "leave out"
"""What a fault returns for a call that isn't to be made, as if whoever wrote the code had forgotten it."""

Fault = Callable[[int, str, str], "int | str | None"]
"""Asked before each call with its number (from 1), its name, and its path ("" where it has a handle). It may raise, or
return LEAVE_OUT, or how many bytes a write takes; None lets the call be made as it is."""
Tree = dict[str, bytes | None]
"""Relative path → content; None for a folder. A folder comes before what is in it."""


@dataclass
class Node:
    """A file or a folder as the running system sees it, and as the disk held it at first."""

    first: bytes | None  # None: a folder
    now: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True)
class Names:
    """Names that change at once: (folder, name, node or None) each."""

    changes: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True)
class Data:
    """Bytes written into a file; with `size`, the length that it is cut or extended to instead."""

    node: int
    at: int = 0
    data: bytes = b""
    size: int | None = None

    def apply(self, content: bytearray) -> None:
        if self.size is not None:
            del content[self.size :]
        reach = self.at + len(self.data) if self.size is None else self.size
        content.extend(bytes(max(0, reach - len(content))))
        content[self.at : self.at + len(self.data)] = self.data


@dataclass(frozen=True)
class Sync:
    """All that was done to a node until now is durable."""

    node: int


Event = Names | Data | Sync


@dataclass(frozen=True)
class Crash:
    """One state of the disk: after how many events and acknowledgements, what of them it shows, and its files."""

    after: int
    acknowledged: int
    shown: str
    tree: Tree

    def put(self, folder: Path) -> Path:
        """Lay it out in a new folder."""
        folder.mkdir()
        for path, content in self.tree.items():
            if content is None:
                (folder / path).mkdir()
            else:
                (folder / path).write_bytes(content)
        return folder


class Disk:
    """See the module. What is in `folder` at first is taken to be durable."""

    def __init__(self, folder: Path, fault: Fault | None = None) -> None:
        self.fault = fault or (lambda step, name, path: None)
        self.events: list[Event] = []
        self.told: list[str] = []  # what each event was
        self.calls: list[str] = []  # names of the calls, in order
        self.marks: list[int] = []  # how many events there were at each acknowledgement
        self.nodes: list[Node] = []
        self.first: list[Names] = []
        self._known: dict[tuple[int, int], int] = {}  # device and inode → node
        self._lock = threading.RLock()
        self._real = {name: getattr(os, name) for name in CALLS if hasattr(os, name)}
        self._patch = pytest.MonkeyPatch()
        self.folder = folder
        self._scan(folder)

    def _scan(self, path: Path) -> int:
        node = self._add(path.stat(), None if path.is_dir() else path.read_bytes())
        for entry in sorted(path.iterdir()) if path.is_dir() else ():
            self.first.append(Names(((node, entry.name, self._scan(entry)),)))
        return node

    def _add(self, status: os.stat_result, first: bytes | None) -> int:
        self.nodes.append(Node(first, bytearray(first or b"")))
        self._known[status.st_dev, status.st_ino] = len(self.nodes) - 1
        return len(self.nodes) - 1

    def __enter__(self) -> Self:
        for name in self._real:
            self._patch.setattr(os, name, partial(getattr(self, f"_{name}"), name))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def acknowledge(self) -> None:
        """Say that the call that made the changes so far has returned: from here on they must outlive a crash."""
        self.marks.append(len(self.events))

    # --- calls ---------------------------------------------------------------------------------------------------

    def _place(self, path, dir_fd=None) -> tuple[int, str] | None:
        """(folder, name) of a path in the folder that is watched; None for another one."""
        head, name = os.path.split(os.fsdecode(path))
        try:
            status = os.stat(head or ".", dir_fd=dir_fd)
        except OSError:
            return None
        folder = self._known.get((status.st_dev, status.st_ino))
        return None if folder is None else (folder, name)

    def _node(self, handle: int) -> int | None:
        status = os.fstat(handle)
        return self._known.get((status.st_dev, status.st_ino))

    def _step(self, name: str, path: object) -> int | str | None:
        self.calls.append(name)
        return self.fault(len(self.calls), name, str(path))

    def _note(self, event: Event, told: str) -> None:
        if isinstance(event, Data):
            event.apply(self.nodes[event.node].now)
        self.events.append(event)
        self.told.append(told)

    def _open(self, name, path, flags, mode=0o777, *, dir_fd=None):
        place = None if isinstance(path, int) else self._place(path, dir_fd)
        if place is None or not flags & (os.O_CREAT | os.O_TRUNC):
            return self._real[name](path, flags, mode, dir_fd=dir_fd)
        with self._lock:
            there = self._there(path, dir_fd)
            if not there or flags & os.O_TRUNC:
                self._step(name, path)
            handle = self._real[name](path, flags, mode, dir_fd=dir_fd)
            if not there:
                node = self._add(os.fstat(handle), b"")
                self._note(Names(((*place, node),)), f"create {place[1]}")
            elif flags & os.O_TRUNC:
                self._note(Data(self._node(handle), size=0), f"cut {place[1]}")
            return handle

    @staticmethod
    def _there(path, dir_fd) -> bool:
        try:
            os.lstat(path, dir_fd=dir_fd)
        except FileNotFoundError:
            return False
        return True

    def _write(self, name, handle, data):
        with self._lock:
            if (node := self._node(handle)) is None:
                return self._real[name](handle, data)
            take = self._step(name, "")
            count = self._real[name](handle, data if take is None else memoryview(data)[:take])
            at = os.lseek(handle, 0, os.SEEK_CUR) - count
            self._note(Data(node, at, bytes(memoryview(data)[:count])), f"write {count} bytes")
            return count

    def _pwrite(self, name, handle, data, offset):
        with self._lock:
            if (node := self._node(handle)) is None:
                return self._real[name](handle, data, offset)
            take = self._step(name, "")
            count = self._real[name](handle, data if take is None else memoryview(data)[:take], offset)
            self._note(Data(node, offset, bytes(memoryview(data)[:count])), f"write {count} bytes at {offset}")
            return count

    def _ftruncate(self, name, handle, length):
        with self._lock:
            node = self._node(handle)
            if node is not None:
                self._step(name, "")
            self._real[name](handle, length)
            if node is not None:
                self._note(Data(node, size=length), f"cut to {length}")

    def _fsync(self, name, handle):
        with self._lock:
            node = self._node(handle)
            if node is not None and self._step(name, "") == LEAVE_OUT:
                return
            if node is None:
                self._real[name](handle)
            else:  # not passed on: this machine's power doesn't fail, and it takes most of the time
                self._note(Sync(node), "sync of a folder" if self.nodes[node].first is None else "sync")

    _fdatasync = _fsync

    def _replace(self, name, old, new, *, src_dir_fd=None, dst_dir_fd=None):
        with self._lock:
            places = self._place(old, src_dir_fd), self._place(new, dst_dir_fd)
            if None in places:
                assert places == (None, None), "a rename into or out of the folder that is watched"
                self._real[name](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
                return
            self._step(name, new)
            status = os.lstat(old, dir_fd=src_dir_fd)
            self._drop(new, dst_dir_fd)
            self._real[name](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            node = self._known[status.st_dev, status.st_ino]
            self._note(Names(((*places[0], None), (*places[1], node))), f"rename {places[0][1]} to {places[1][1]}")

    _rename = _replace

    def _drop(self, path, dir_fd) -> None:
        """Forget the inode of a name that goes: the system may use its number again."""
        if self._there(path, dir_fd):
            status = os.lstat(path, dir_fd=dir_fd)
            if status.st_nlink == 1 or (status.st_mode & 0o170000) == 0o040000:
                self._known.pop((status.st_dev, status.st_ino), None)

    def _unlink(self, name, path, *, dir_fd=None):
        with self._lock:
            if (place := self._place(path, dir_fd)) is None:
                self._real[name](path, dir_fd=dir_fd)
                return
            if self._there(path, dir_fd):
                self._step(name, path)
            before = dict(self._known)
            self._drop(path, dir_fd)
            try:
                self._real[name](path, dir_fd=dir_fd)
            except OSError:
                self._known = before
                raise
            self._note(Names(((*place, None),)), f"{name} {place[1]}")

    _remove = _rmdir = _unlink

    def _mkdir(self, name, path, mode=0o777, *, dir_fd=None):
        with self._lock:
            if (place := self._place(path, dir_fd)) is None:
                self._real[name](path, mode, dir_fd=dir_fd)
                return
            if not self._there(path, dir_fd):
                self._step(name, path)
            self._real[name](path, mode, dir_fd=dir_fd)
            node = self._add(os.stat(path, dir_fd=dir_fd), None)
            self._note(Names(((*place, node),)), f"mkdir {place[1]}")

    def _link(self, name, old, new, *, src_dir_fd=None, dst_dir_fd=None, follow_symlinks=True):
        with self._lock:
            options = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd, "follow_symlinks": follow_symlinks}
            if (place := self._place(new, dst_dir_fd)) is None:
                self._real[name](old, new, **options)
                return
            self._step(name, new)
            self._real[name](old, new, **options)
            status = os.stat(new, dir_fd=dst_dir_fd)
            self._note(Names(((*place, self._known[status.st_dev, status.st_ino]),)), f"link {place[1]}")

    # --- states --------------------------------------------------------------------------------------------------

    def as_it_is(self) -> Tree:
        """What the running system sees, by what was written down: equal to the real folder, or a call was missed."""
        contents = {i: bytes(node.now) for i, node in enumerate(self.nodes) if node.first is not None}
        return self._tree([event for event in self.events if isinstance(event, Names)], contents)

    def crashes(self, at_most: int, seed: int = 0, *, since: int = 0) -> Iterator[Crash]:
        """Up to so many states, no two alike: all there are, if they are fewer; else a sample drawn from `seed`.

        since: only those after that many events.
        """
        draw = random.Random(seed)
        moments = [self._states(k, draw, at_most) for k in range(since, len(self.events) + 1)]
        moments = draw.sample(moments, len(moments))
        found: set[tuple] = set()
        while moments:  # the next state of each moment in turn
            for states in list(moments):
                crash = next(states, None)
                if crash is None:
                    moments.remove(states)
                    continue
                key = (crash.acknowledged, *sorted(crash.tree.items()))
                if key not in found:
                    found.add(key)
                    yield crash
                if len(found) >= at_most:
                    return

    def _states(self, k: int, draw: random.Random, draws: int) -> Iterator[Crash]:
        """States after the first k events; the telling ones first."""
        synced: dict[int, int] = {}
        for i, event in enumerate(self.events[:k]):
            if isinstance(event, Sync):
                synced[event.node] = i
        files = {i: Loose(node.first) for i, node in enumerate(self.nodes) if node.first is not None}
        sure: list[int] = []
        loose: list[int] = []
        for i, event in enumerate(self.events[:k]):
            if isinstance(event, Data):
                files[event.node].add(event, durable=synced.get(event.node, -1) > i)
            if isinstance(event, Names):
                durable = all(synced.get(folder, -1) > i for folder, _, _ in event.changes)
                (sure if durable else loose).append(i)
        reached = self._reached(sure, loose)
        loose = [i for i in loose if reached & {folder for folder, _, _ in self.events[i].changes}]
        open_files = [i for i, file in files.items() if len(file.versions) > 1 and i in reached]
        contents = {i: file.versions[0] for i, file in files.items()}
        acknowledged = sum(mark <= k for mark in self.marks)
        for chosen, made in _choices(loose, [files[i] for i in open_files], draw, draws):
            names = [self.events[i] for i in sorted([*sure, *chosen])]
            tree = self._tree(names, contents | dict(zip(open_files, made, strict=True)))
            last = self.told[k - 1] if k else None
            there = ", ".join(self.told[i] for i in chosen) or "nothing"
            shown = f"after {k} of {len(self.events)} events, the last {last!r}; there but not durable: {there}"
            yield Crash(k, acknowledged, shown, tree)

    def _reached(self, sure: list[int], loose: list[int]) -> set[int]:
        """Nodes that have a name in some state."""
        names: dict[tuple[int, str], set[int | None]] = {}
        for event in [*self.first, *(self.events[i] for i in sure)]:
            names.update({(folder, name): {node} for folder, name, node in event.changes})
        for i in loose:
            for folder, name, node in self.events[i].changes:
                names.setdefault((folder, name), set()).add(node)
        reached, new = set(), {0}
        while new:
            reached |= new
            new = (
                {node for (folder, _), nodes in names.items() if folder in reached for node in nodes} - {None} - reached
            )
        return reached

    def _tree(self, names: list[Names], contents: dict[int, bytes]) -> Tree:
        folders: dict[int, dict[str, int]] = {i: {} for i, node in enumerate(self.nodes) if node.first is None}
        for event in [*self.first, *names]:
            for folder, name, node in event.changes:
                if node is None:
                    folders[folder].pop(name, None)
                else:
                    folders[folder][name] = node
        tree: Tree = {}

        def walk(folder: int, path: str) -> None:
            for name, node in folders[folder].items():
                tree[path + name] = contents.get(node)
                if node in folders:
                    walk(node, f"{path}{name}/")

        walk(0, "")
        return tree


class Loose:
    """A file's content by what was synced, and by each write since."""

    def __init__(self, first: bytes) -> None:
        self.versions = [first]

    def add(self, event: Data, *, durable: bool) -> None:
        content = bytearray(self.versions[-1])
        event.apply(content)
        self.versions = [*([] if durable else self.versions), bytes(content)]

    def sizes(self) -> list[int]:
        """Lengths that it may have."""
        ends = {len(version) for version in self.versions}
        return sorted(ends | set(range(-(-min(ends) // BLOCK) * BLOCK, max(ends), BLOCK)))

    def blocks(self) -> list[list[bytes]]:
        """The versions of each block."""
        padded = [version.ljust(max(map(len, self.versions)), b"\0") for version in self.versions]
        return [sorted({one[at : at + BLOCK] for one in padded}) for at in range(0, len(padded[0]), BLOCK)]

    def telling(self) -> list[bytes]:
        """As it was, as it is, and as long as it is with nothing in it."""
        old, new = self.versions[0], self.versions[-1]
        return [old, new, old[: len(new)].ljust(len(new), b"\0")]

    def all(self) -> list[bytes]:
        found = {b"".join(made)[:size] for made in itertools.product(*self.blocks()) for size in self.sizes()}
        return sorted(found)

    def count(self) -> int:
        """At least as many as `all` has."""
        count = len(self.sizes())
        for versions in self.blocks():
            count *= len(versions)
        return count

    def drawn(self, draw: random.Random) -> bytes:
        return b"".join(map(draw.choice, self.blocks()))[: draw.choice(self.sizes())]


FEW = 32


def _choices(loose: list[int], files: list[Loose], draw: random.Random, draws: int) -> Iterator[tuple]:
    """(which of the loose names are there, the content of each loose file): all if they are few, else a sample."""
    count = 2 ** len(loose)
    for file in files:
        count *= file.count()
    if count <= FEW:
        subsets = (c for n in range(len(loose) + 1) for c in itertools.combinations(loose, n))
        yield from itertools.product(subsets, itertools.product(*(file.all() for file in files)))
        return
    alone = [(i,) for i in loose]
    but_one = [tuple(j for j in loose if j != i) for i in loose]
    until = [tuple(loose[:n]) for n in range(2, len(loose))]
    others = [*alone, *but_one, *until]
    draw.shuffle(others)
    telling = list(zip(*(file.telling() for file in files), strict=True)) or [()]
    yield from itertools.product([(), tuple(loose), *others], telling)
    for _ in range(draws):
        kept = tuple(i for i in loose if draw.random() < 0.5)
        yield kept, tuple(file.drawn(draw) for file in files)
