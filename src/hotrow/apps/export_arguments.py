"""The words of `hotrow export`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hotrow.apps import settings

if TYPE_CHECKING:
    from hotrow.apps.console import Output

FORMATS = ("parquet", "safetensors", "word2vec", "projector", "keras", "onnx")
_ONLY = {
    "binary": ("word2vec",), "unknown": ("keras", "onnx"), "atlas": ("parquet",), "neighbors": ("parquet",),
    "metadata": ("parquet", "projector"),
}  # fmt: skip
"""Options that are of some formats alone."""


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    export = commands.add_parser(
        "export",
        parents=[common],
        help="write ids and vectors in a format that other programs read",
        description="Write the ids and vectors of a model or a saved table for other programs. parquet: a row an id. "
        "safetensors: arrays. word2vec: as gensim reads it. projector: TensorBoard's. keras and onnx: a lookup and "
        "its vectors, which Keras or onnxruntime run with no hotrow.",
        epilog="examples: hotrow export model/ --to parquet --atlas -o items.parquet; hotrow export model/ --to onnx "
        "--unknown zeros -o items.onnx; hotrow export model/ --to safetensors --side user --as factors -o "
        "users.safetensors",
    )
    export.add_argument("model", metavar="MODEL", help="a model's folder, or that of a saved table")
    export.add_argument("--to", required=True, choices=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    export.add_argument(
        "-o", "--out", required=True, metavar="FILE", help="where to write; of projector the name of a folder"
    )
    export.add_argument("--side", metavar="NAME", help="item, user, or a classifier's column (default: the first)")
    export.add_argument(
        "--as",
        dest="what",
        default="vectors",
        choices=["vectors", "factors"],
        help="vectors: what is alike is near; factors: the product of a user's and an item's is the model's score "
        "(default: vectors)",
    )
    export.add_argument("--binary", action="store_true", default=None, help="of word2vec: its binary form")
    export.add_argument(
        "--unknown",
        choices=["mean", "zeros"],
        help="of keras and onnx: the vector of an id that isn't there (default: mean, that of all)",
    )
    export.add_argument(
        "--metadata",
        metavar="FILE",
        help="of parquet and projector: columns to join by id (default: the features that the model was trained with)",
    )
    export.add_argument(
        "--atlas",
        action="store_true",
        default=None,
        help="of parquet: x, y and the nearest of each id as well, as embedding-atlas reads them",
    )
    export.add_argument(
        "--neighbors", type=settings.positive, metavar="N", help="of --atlas: how many nearest (default: 15)"
    )

    def run(options: argparse.Namespace, output: Output) -> None:
        for name, formats in _ONLY.items():
            if getattr(options, name) is not None and options.to not in formats:
                export.error(f"--{name} is of {' and '.join(formats)}; leave it out with --to {options.to}")
        if options.neighbors is not None and options.atlas is None:
            export.error("--neighbors is of --atlas: give both, or neither")
        from hotrow.apps.export import export as export_

        export_(options, output)

    export.set_defaults(run=run)
