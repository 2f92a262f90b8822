"""A command whose work is imported when it runs, so that `hotrow --help` is quick."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module

from hotrow.apps.console import Output


def lazily(module: str, name: str) -> Callable[[argparse.Namespace, Output], int | None]:
    """What argparse is given to run: the function of this name in a module of hotrow.apps."""

    def run(options: argparse.Namespace, output: Output) -> int | None:
        return getattr(import_module(f"hotrow.apps.{module}"), name)(options, output)

    return run
