"""`hotrow map`: a model in, a page out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from hotrow.apps import backends
from hotrow.apps.console import Output, printable
from hotrow.apps.reading import counted
from hotrow.apps.told import metadata_of
from hotrow.maps import write_html
from hotrow.maps.html import check_path
from hotrow.models.folders import open_folder

_NAMES = {"pca": "PCA", "umap": "UMAP"}


def draw(options: argparse.Namespace, output: Output) -> None:
    """Write the map of a side as one file, and say what is in it."""
    started, path = time.perf_counter(), Path(options.out)
    backends.prepare_for(options.model)
    folder = open_folder(options.model)
    check_path(folder, path)  # before the metadata are read
    vectors = folder.side(options.side)
    metadata = metadata_of(folder, options.side, options.metadata)
    with output.bar("drawing", lambda facts: str(facts.get("stage", ""))) as progress:
        map = write_html(
            folder, vectors.name, path, metadata, method=options.method, anew=options.anew, most=options.most,
            column=options.column, progress=progress,
        )  # fmt: skip
    seconds, size = time.perf_counter() - started, path.stat().st_size
    shown = min(len(map), options.most)
    columns = [] if metadata is None else list(metadata.columns)
    words = f"{counted(len(map), printable(map.vectors.name))} by {_NAMES[map.method]}"
    if shown < len(map):
        words += f", a spread sample of {shown:,} in the file"
    if columns:
        words += f", coloured by {printable(options.column or columns[0])}"
    output.say(words)
    if metadata is not None and (metadata.missing or metadata.strange):
        left = [f"nothing is told of {metadata.missing:,} of them"] if metadata.missing else []
        left += [f"{counted(metadata.strange, 'row')} of what is told about others"] if metadata.strange else []
        output.say("; ".join(left))
    if map.sampled:
        output.say(f"UMAP has seen a sample of {map.sampled:,}; the others lie amid those that they are most like")
    if map.stale >= 0.1:
        output.say(
            f"{map.stale:.0%} of the points are newer than the map, or have changed since: --anew lays all out again"
        )
    elif map.method == "pca":
        output.say("PCA shows the outline; --method umap shows clusters, and takes longer")
    output.say(f"{printable(path)}: {size / 1e6:.1f} MB in {seconds:.1f} s; open it in a browser")
    said = {
        "path": str(path), "side": map.vectors.name, "points": shown, "of": len(map), "method": map.method,
        "sampled": map.sampled, "stale": map.stale, "columns": columns, "bytes": size, "seconds": round(seconds, 3),
    }  # fmt: skip
    output.result(said)
