"""Operations on a folder that is watched, and whether each state of the disk that a crash may leave is a good one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from disk import LEAVE_OUT, Crash, Disk, Fault, Tree

from hotrow.errors import HotrowError

MANY = 1000


class Killed(BaseException):
    """What nothing catches: as if the process had ended."""


def fail_at(number: int, error: BaseException, *, for_ever: bool = False) -> Fault:
    """A fault: the call of this number raises, or it and all later ones."""

    def fault(step: int, name: str, path: str) -> None:
        if step == number or (for_ever and step > number):
            raise error

    return fault


def leave_out(number: int) -> Fault:
    """A fault: the call of this number isn't made."""
    return lambda step, name, path: LEAVE_OUT if step == number else None


def no_fault(step: int, name: str, path: str) -> None:
    """All goes well."""


class Story:
    """What was done in a folder, what each operation was to leave there, and which of them have returned.

    look: what is kept at a path, to be compared; None if there is nothing yet. Raises for anything that isn't whole.
    again: another operation at a path after the crash, as a user would go on, and what it must leave.
    """

    def __init__(self, folder: Path, path: str, look: Callable[[Path], Any], again: Callable[[Path], Any]) -> None:
        folder.mkdir()
        self.folder, self.path, self.look, self.again = folder, path, look, again
        self.disk = Disk(folder)
        self.contents: list[Any] = [None]
        self.starts: list[int] = []  # how many calls there were before each operation
        self.ends: list[int] = []  # how many events there were after each
        self.returned = [0]  # where in `contents` what has been acknowledged is

    def do(self, content: Any, call: Callable[[Path], object], fault: Callable[[int], Fault] | None = None) -> None:
        """Do one operation. fault: what goes wrong in it, by the number of the call before its first one."""
        self.contents.append(content)
        self.starts.append(len(self.disk.calls))
        self.disk.fault = fault(self.starts[-1]) if fault else no_fault
        try:
            with self.disk:
                call(self.folder / self.path)
        finally:
            self.ends.append(len(self.disk.events))
            assert self.disk.as_it_is() == tree_of(self.folder), "a call that changes the disk was missed"
        self.disk.acknowledge()
        self.returned.append(len(self.contents) - 1)

    def problem(self, crash: Crash, place: Path, *, go_on: bool = True) -> str:
        """What is wrong with a state: "" if it holds what was acknowledged last, or something newer, whole.

        go_on: whether the next operation is tried, too.
        """
        after = self.returned[crash.acknowledged :][:2]
        allowed = self.contents[after[0] : after[-1] + 1] if len(after) > 1 else self.contents[after[0] :]
        path = crash.put(place) / self.path
        try:
            found = self.look(path)
            if found not in allowed:
                return f"{crash.shown}: holds neither what was acknowledged nor anything newer"
            if not go_on:
                return ""
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", lambda handle: None)
                content = self.again(path)
            if self.look(path) != content:
                return f"{crash.shown}: the next operation left something else"
        except (HotrowError, OSError) as error:
            return f"{crash.shown}: {error}"
        finally:
            shutil.rmtree(place)
        return ""

    def problems(self, place: Path, at_most: int, *, seed: int = 0, since: int = 0) -> Iterator[str]:
        """What is wrong with each state that isn't good, of up to so many. since: after that many operations.

        Where they aren't many, one in four is gone on from, to save time.
        """
        since = self.ends[since - 1] if since else 0
        for i, crash in enumerate(self.disk.crashes(at_most, seed, since=since)):
            if problem := self.problem(crash, place, go_on=at_most >= MANY or i % 4 == 0):
                yield problem


def tree_of(folder: Path) -> Tree:
    """All that is in a folder."""
    return {
        found.relative_to(folder).as_posix(): None if found.is_dir() else found.read_bytes()
        for found in folder.rglob("*")
    }
