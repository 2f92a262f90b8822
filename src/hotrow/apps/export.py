"""`hotrow export`: ids and vectors in another program's format, and the line that reads them there."""

from __future__ import annotations

import argparse
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hotrow.apps import backends
from hotrow.apps.console import Output, printable
from hotrow.apps.told import metadata_of
from hotrow.exchange import atlas
from hotrow.exchange.parquet import ID, VECTOR
from hotrow.exchange.projector import SHOWN
from hotrow.models import open_folder
from hotrow.models.factors import factors_of
from hotrow.store.targets import check_outside

if TYPE_CHECKING:
    from hotrow.models.folders import Folder

_NEIGHBORS = 15
_READ = {
    "parquet": "pandas.read_parquet({out!r})",
    "safetensors": "safetensors.numpy.load_file({out!r})['vectors']",
    "word2vec": "gensim.models.KeyedVectors.load_word2vec_format({out!r}{binary})",
    "projector": "tensorboard --logdir {out}; or https://projector.tensorflow.org, Load: tensors.tsv and metadata.tsv",
    "keras": "keras.models.load_model({out!r})(tensorflow.constant([{example}]))",
    "onnx": "onnxruntime.InferenceSession({out!r}).run(None, {{'ids': numpy.array([{example}]{dtype})}})",
}
"""How each is read where hotrow isn't."""


def export(options: argparse.Namespace, output: Output) -> None:
    """Write the file, and say what is in it."""
    _choose_backend(options)
    folder = open_folder(options.model)
    check_outside(options.out, folder.path)
    side = factors_of(folder, options.side) if options.what == "factors" else folder.side(options.side)
    columns, place = _columns(options, folder, output)
    with output.bar("writing", lambda facts: "") as progress:
        facts = _write(options, side, columns, progress)
    what = {"to": options.to, "out": options.out, "side": side.name, "as": options.what, "ids": side.kind}
    output.result(what | facts)
    if not output.as_json:
        _say(output, options, side, facts)
        if columns:
            by = f"; x and y by {place.upper()}" if place else ""
            output.say(printable(f"with the columns {', '.join(columns)}{by}"))
        if facts["rows"]:
            output.say(printable(f"to read it: {_reading(options, side)}"))


def _columns(options: argparse.Namespace, folder: Folder, output: Output) -> tuple[dict[str, Any], str]:
    """What is written beside id and vector, by name, and by what x and y were found, if they are there."""
    if options.to not in {"parquet", "projector"}:
        return {}, ""
    places, place = dict[str, Any](), ""
    if options.atlas:
        places, place = atlas.places(folder, options.side)
        with output.bar("finding neighbours", lambda facts: "") as progress:
            places["neighbors"] = atlas.neighbors(folder, options.side, options.neighbors or _NEIGHBORS, progress)
    metadata = metadata_of(folder, options.side, options.metadata)
    columns = {} if metadata is None else atlas.columns_of(metadata, (ID, VECTOR, *places))
    if options.to == "projector":
        columns = {name: column.to_pylist() for name, column in columns.items()}
    return columns | places, place


def _write(options: argparse.Namespace, side: Any, columns: dict[str, Any], progress: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"columns": columns} if columns else {}
    if options.to == "word2vec":
        given["binary"] = bool(options.binary)
    if options.to in {"keras", "onnx"}:
        given["unknown"] = options.unknown or "mean"
    return import_module(f"hotrow.exchange.{options.to}").write(side, options.out, **given, progress=progress)


def _choose_backend(options: argparse.Namespace) -> None:
    """Keras is loaded for a classifier, and to write for it: its lookups are TensorFlow's, whichever backend runs."""
    if options.to == "keras":
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        backends.prepare()
    backends.prepare_for(options.model)


def _say(output: Output, options: argparse.Namespace, side: Any, facts: dict[str, Any]) -> None:
    what = f"{facts['rows']:,} {side.name}s × {facts['dim']} ({side.kind} ids, {options.what})"
    output.say(printable(f"{what} written to {options.out}, {facts['bytes']:,} bytes"))
    if facts.get("escaped"):
        output.say(
            f"{facts['escaped']:,} ids have blanks or control characters and are written with %XX, as in URLs: "
            "urllib.parse.unquote undoes it"
        )
    if options.to == "projector" and facts["rows"] > SHOWN:
        output.say(f"the projector shows the first {SHOWN:,} of them")
    if options.to in {"keras", "onnx"}:
        row = "the mean of all" if (options.unknown or "mean") == "mean" else "zeros"
        output.say(f"an id that isn't there gets {row}, which is row 0")


def _reading(options: argparse.Namespace, side: Any) -> str:
    if options.atlas:
        text = " --text id" if side.kind == "string" else ""
        return f"embedding-atlas {options.out}{text} --x x --y y --neighbors neighbors"
    example = ""
    if options.to in {"keras", "onnx"}:
        from hotrow.exchange.leaving import ids_of

        example = repr(ids_of(side)[:1].tolist()[0])
    return _READ[options.to].format(
        out=options.out,
        binary=", binary=True" if options.binary else "",
        example=example,
        dtype=", object" if side.kind == "string" else "",
    )
