"""The words of `hotrow import`."""

from __future__ import annotations

import argparse
from typing import Any

from hotrow.apps import settings
from hotrow.apps.lazily import lazily
from hotrow.exchange.reading import FORMATS


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Give the command line its `import`."""
    command = commands.add_parser(
        "import",
        parents=[common],
        help="make a saved table of another program's vectors: word2vec, gensim, Parquet, safetensors, Keras, …",
        description="Make a saved table of the ids and vectors in another program's file, to look up, search, serve "
        "and train on. What the file is, its first bytes say. Nothing in it is run: a pickle is read without "
        "unpickling, and a .keras file without making a class of it.",
        epilog="examples: hotrow import words.vec.gz --out words/; hotrow import items.parquet --id sku --out items/; "
        "hotrow import model.safetensors --tensor emb.weight --ids vocab.txt --out words/",
    )
    command.add_argument("path", metavar="FILE", help="what the other program wrote")
    command.add_argument("--out", required=True, metavar="DIR", help="where to save the table")
    command.add_argument(
        "--from", dest="format", choices=FORMATS, metavar="FORMAT", help=f"read it as {', '.join(FORMATS)}"
    )
    _add_what(command)
    table = command.add_argument_group("the table")
    table.add_argument("--kind", choices=["int64", "uint64", "string"], help="of ids; text becomes integers if asked")
    table.add_argument(
        "--duplicates",
        choices=["refuse", "first"],
        default="refuse",
        help="of an id that comes twice (default: refuse)",
    )
    table.add_argument("--optimizer", default="adam", metavar="NAME", help="to train on with (default: adam)")
    table.add_argument("--learning-rate", type=settings.rate, metavar="N", help="its learning rate")
    table.add_argument("--seed", type=int, default=0, metavar="N", help="of the vectors of later ids (default: 0)")
    table.add_argument("--scratch", metavar="DIR", help="a folder for rows that the memory can't hold, while importing")
    command.set_defaults(run=lazily("importing", "import_"))


def _add_what(command: argparse.ArgumentParser) -> None:
    what = command.add_argument_group("what of the file, where the file doesn't say it")
    ids = what.add_mutually_exclusive_group()
    ids.add_argument(
        "--ids", metavar="FILE", help="the ids of a matrix's rows: one a line, a list or id → row in .json, or .npy"
    )
    ids.add_argument("--number-rows", action="store_true", help="ids are the numbers of the rows, from 0 on")
    what.add_argument("--skip-row", type=int, metavar="N", help="a row that is no id's, as torch's padding_idx")
    what.add_argument("--id", metavar="COLUMN", help="of Parquet, or of a projector's metadata")
    what.add_argument(
        "--vector", action="append", default=[], metavar="COLUMN", help="of Parquet: of lists, or once for each number"
    )
    what.add_argument("--tensor", metavar="NAME", help="of a safetensors file, as emb.weight")
    what.add_argument("--layer", metavar="NAME", help="the Embedding of a .keras file")
    what.add_argument("--lookup", metavar="NAME", help="the StringLookup or IntegerLookup of a .keras file")
    what.add_argument(
        "--unescape", action="store_true", help="undo the %%XX that hotrow export writes blanks in words as"
    )
