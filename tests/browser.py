"""What the tests of the page share: a real Chromium, a server, and a folder with ids that mean no good."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

import hotrow
from benchmarks import browser
from benchmarks.browser import serving

__all__ = ["HOSTILE", "LONG", "browsing", "lamps", "serving", "told"]

LONG = "a very long id " * 700
HOSTILE = [
    "<script>window.hurt = 1</script>",
    "<img src=x onerror='window.hurt = 1'>",
    "</script><script>window.hurt = 1</script><!--",
    "<b>bold</b><a href='javascript:window.hurt=1'>link</a><br>",
    "&lt;b&gt; &amp; &#x3c;i&#x3e;",
    '=HYPERLINK("http://elsewhere.example")',
    "+1+cmd|' /C calc'!A0",
    "\u202eelif\u202d.txt",
    "שלום עולם (hello)",
    "line\nbreak\ttab\x07bell\x1b[31m",
    "👩‍👩‍👧‍👦 👍🏽 family",
    "../../etc/passwd?id=1&side=x#y",
    "%3Cscript%3E%00",
    "__proto__",
    "constructor",
    " ",
    "",
    "\0nul",
    "'; DROP TABLE ids; --",
    LONG,
]


@contextmanager
def browsing():
    """A browser; the test is skipped where there is none."""
    pytest.importorskip("playwright.sync_api", reason="the page is tested by Playwright")
    if browser.chromium() is None:
        pytest.skip("there is no Chromium here; HOTROW_CHROMIUM names one")
    with browser.browsing() as found:
        yield found


def lamps(path, n=400):
    """A saved table in which ids of a group are near each other, hostile ones among them; returns ids and vectors."""
    random = np.random.default_rng(1)
    ids = [*(f"{'abcd'[i % 4]}-lamp-{i:03}" for i in range(n)), *HOSTILE]
    centres = random.standard_normal((4, 6)) * 3
    vectors = (centres[np.arange(len(ids)) % 4] + random.standard_normal((len(ids), 6))).astype(np.float32)
    table = hotrow.Table(6, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros(), ids="string")
    table.update(table.find(ids, grow=True), -vectors)
    table.save(path)
    return ids, vectors


def told(folder, side):
    """What is known of the lamps: a category whose values mean no good either, and a number."""
    from hotrow.search import Metadata

    vectors = folder.side(side)
    ids = vectors.ids().to_pylist()
    kinds = ["<img src=x onerror='window.hurt = 1'>", "\u202ekcalb", "plain", None]
    columns = {
        "id": ids,
        "<i>kind</i>": [kinds[i % 4] for i in range(len(ids))],
        "size": [i / 7 for i in range(len(ids))],
    }
    return Metadata.of(columns, vectors, id="id")
