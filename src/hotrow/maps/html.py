"""The page that shows a map: for the server, or one file with all that it needs inside.

The page's own files are in `page/`: page.html has its style as `<link rel="stylesheet" href="page/NAME.css">`, and its
scripts, in their order, as `<script src="page/NAME.js"></script>`, plain ones and no modules, plotly.min.js of
plotly's wheel among them. The server has these under /page/. In a file of its own they stand where they are called, the
data before the first script; and a policy lets nothing run but these scripts, and nothing be fetched from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from hotrow.errors import ArgumentError, MissingExtraError
from hotrow.maps.embedding import column_names, element, embedded
from hotrow.maps.map import Map
from hotrow.maps.neighbours import Progress
from hotrow.models.folders import Folder
from hotrow.search import Metadata
from hotrow.store.files import write_durably
from hotrow.store.targets import check_outside, check_target

PLOTLY = "plotly.min.js"
MOST = 1_000_000
"""Points in a file of its own, unless asked otherwise."""
_NAME = re.compile(r"[a-z0-9_-]+\.(?:html|css|js)", re.ASCII)
_STYLE = re.compile(r'<link rel="stylesheet" href="page/([a-z0-9_.-]+)">')
_SCRIPT = re.compile(r'<script src="page/([a-z0-9_.-]+)"></script>')
_BEGINS = b"<!doctype html>\n<!--\nThe page, as the server gives it."
"""By which a page of ours is known."""
_CHARSET = '<meta charset="utf-8">'


def asset(name: str) -> bytes | None:
    """A file of the page by its name, plotly.min.js among them; None if the page has none of this name.

    MissingExtraError for plotly's, if it isn't installed.
    """
    if name == PLOTLY:
        if find_spec("plotly") is None:
            raise MissingExtraError('the page draws with plotly, which isn\'t installed: pip install "hotrow[serve]"')
        return (resources.files("plotly") / "package_data" / PLOTLY).read_bytes()
    if not _NAME.fullmatch(name):  # no path leads out of the folder
        return None
    file = resources.files(__package__ or "") / "page" / name
    return file.read_bytes() if file.is_file() else None


def page_html(source: Literal["server"] | dict[str, Any]) -> bytes:
    """The page: for the server, which has its other files, or with this data of `embedded` and all files inside.

    MissingExtraError if plotly is to be inside and isn't installed.
    """
    page = _text("page.html")
    return (page if source == "server" else whole(page, _text, element(source))).encode()


def _text(name: str) -> str:
    found = asset(name)
    if found is None:
        raise ArgumentError(f"the page has no file {name!r}")
    return found.decode()


def whole(page: str, text_of: Callable[[str], str], data: str) -> str:
    """A page with its styles, its scripts and the element of its data inside. text_of(name): a file of the page."""
    scripts: list[str] = []

    def inside(found: re.Match[str]) -> str:
        scripts.append(_closed(text_of(found[1]), "script"))
        return f"{data if len(scripts) == 1 else ''}\n<script>{scripts[-1]}</script>"

    page = _STYLE.sub(lambda found: f"<style>{_closed(text_of(found[1]), 'style')}</style>", page)
    head, mark, rest = page.partition(_CHARSET)
    rest = _SCRIPT.sub(inside, rest)
    if not (mark and scripts):
        raise ArgumentError(f"a page has {_CHARSET} and scripts, and this one hasn't")
    policy = "; ".join([
        "default-src 'none'", f"script-src 'unsafe-eval' {' '.join(map(_hash, scripts))}", "style-src 'unsafe-inline'",
        "img-src data: blob:", "base-uri 'none'", "form-action 'none'",
    ])  # fmt: skip
    return f'{head}{mark}\n<meta http-equiv="Content-Security-Policy" content="{policy}">{rest}'


def _closed(text: str, tag: str) -> str:
    """Text in which nothing ends the element that it is in: what would can only stand in a string or a comment."""
    text = re.sub(f"</({tag})", r"<\\/\1", text, flags=re.IGNORECASE)
    return text.replace("<!--", "<\\!--") if tag == "script" else text


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def check_path(folder: Folder, path: str | PathLike[str]) -> None:
    """DataError for a path within the folder of the model, and for one where there is another file than a page."""
    check_outside(path, folder.path)
    check_target(path, "page of a map", lambda head: head.startswith(_BEGINS), stem="map")


def write_html(
    folder: Folder,
    side: str | None,
    path: str | PathLike[str],
    metadata: Metadata | None = None,
    *,
    method: str | None = None,
    anew: bool = False,
    most: int = MOST,
    column: str | None = None,
    progress: Progress | None = None,
) -> Map:
    """Write the map of a side as one file, which needs nothing but a browser; returns the map.

    metadata  of that side; column: which of it gives the colours at first, None: the first
    method, anew  as `Map.open` takes them
    most      points in it; of more a spread sample
    progress  callable(done, total, {"stage"}), for UMAP and for the neighbours

    A page that is there is replaced. DataError, before anything is made, for a path in the folder of the model, where
    `hotrow forget` wouldn't know of it, and for another file than a page; else raises as `Map.open`, and OSError with
    the path.
    """
    check_path(folder, path)
    asset(PLOTLY)  # before minutes of work, as what follows
    column_names(metadata, column)
    map = Map.open(folder, side, method=method, anew=anew, progress=progress)
    data = embedded(folder, map, metadata, most=most, column=column, progress=progress)
    write_durably(Path(path), page_html(data))
    return map
