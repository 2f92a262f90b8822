"""What `hotrow train` and `hotrow tune` may be told about a model of user and item vectors: one table for all options.

A setting of `Retrieval` that gets a line here can be given to both, and is in the command line that `tune` prints.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """An option for an argument of `Retrieval`: both names, how it is read, and for whom it is besides."""

    name: str
    flag: str
    read: Callable[[str], Any]
    help: str
    choices: tuple[str, ...] | None = None
    classifier: bool = False  # a classifier has it too

    @property
    def attribute(self) -> str:
        """Where argparse puts it."""
        return self.flag.removeprefix("--").replace("-", "_")


def positive(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return value


def natural(text: str) -> int:
    """A whole number from 0 on."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text!r}")
    return value


def many(text: str) -> int:
    """A whole number from 1 on, perhaps a large one: 10e9 as well as 10000000000."""
    value = float(text)
    if not 1 <= value < math.inf or value != int(value):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, as 1000 or 10e9, got {text!r}")
    return int(value)


def rate(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1, without 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


LOSS_NAMES = ("softmax", "cosine", "bpr")
SETTINGS = (
    Setting("dim", "--dim", positive, "floats a vector (default: 128; of a classifier: 16)", classifier=True),
    Setting("loss", "--loss", str, "of user and item vectors (default: softmax)", LOSS_NAMES),
    Setting("epochs", "--epochs", positive, "times over the pairs (default: by their number)", classifier=True),
    Setting("batch_size", "--batch-size", positive, "pairs a step (default: 2048; of ratings 512, of --next 1024)"),
    Setting("learning_rate", "--learning-rate", rate, "the first steps' learning rate", classifier=True),
    Setting("l2", "--l2", share, "shrinks the vectors of a step (default: 0.0001)"),
    Setting("negatives", "--negatives-per-step", positive, "items drawn for each step (default: 512)"),
    Setting("temperature", "--temperature", rate, "of --loss softmax: smaller is sharper (default: by the data)"),
    Setting("margin", "--margin", share, "of --loss cosine: negatives below it are let be (default: 0.4)"),
    Setting("weight", "--negative-weight", rate, "of --loss cosine: what negatives count (default: 150)"),
)


def add(parser: argparse.ArgumentParser, settings: tuple[Setting, ...] = SETTINGS) -> None:
    """Give a command these options."""
    for one in settings:
        more: dict[str, Any] = {"choices": one.choices} if one.choices else {"metavar": "N"}
        parser.add_argument(one.flag, type=one.read, help=one.help, **more)


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `Retrieval` that were given."""
    given = {one.name: getattr(options, one.attribute) for one in SETTINGS}
    return {name: value for name, value in given.items() if value is not None}


def words(settings: Mapping[str, Any]) -> list[str]:
    """The options that say these settings; None is the default, and needs none.

    >>> words({"l2": 0.001, "epochs": None, "negatives": 512})
    ['--l2', '0.001', '--negatives-per-step', '512']
    """
    flags = {one.name: one.flag for one in SETTINGS}
    return [word for name, value in settings.items() if value is not None for word in (flags[name], str(value))]
