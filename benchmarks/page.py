"""The page in a Chromium whose WebGL is drawn by the processor: until it shows, while it pans, until it has found."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.browser import browsing, chromium, serving
from benchmarks.harness import Result
from benchmarks.workload import Sizes

log = logging.getLogger("benchmarks")

STUTTER = 50.0
"""Milliseconds of a frame from which on one sees that it was late."""
GROUPS, DIM = 20, 16

_RECORD = """() => {
  const frames = globalThis.frames_ = [];
  let last = performance.now();
  const frame = () => {
    const now = performance.now();
    frames.push(now - last);
    last = now;
    if (globalThis.frames_ === frames) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""
_DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"


def run(sizes: Sizes) -> Iterator[Result]:
    """What a person waits for, with a hundred thousand points and with a million."""
    if chromium() is None:
        log.warning("page: there is no Chromium here; HOTROW_CHROMIUM names one")
        return
    for n in (2_000,) if sizes.quick else (100_000, 1_000_000):
        log.info("page: %s points", f"{n:,}")
        with tempfile.TemporaryDirectory() as folder:
            _save(Path(folder) / "table", n)
            yield from _looked_at(Path(folder) / "table", n, sizes)


def _save(path: Path, n: int) -> None:
    """A table of n strings, in groups."""
    import hotrow

    random = np.random.default_rng(7)
    vectors = random.standard_normal((n, DIM), np.float32)
    vectors += 4 * random.standard_normal((GROUPS, DIM), np.float32)[np.arange(n) % GROUPS]
    table = hotrow.Table(DIM, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros(), ids="string")
    table.update(table.find([f"group-{i % GROUPS:02}-id-{i:07}" for i in range(n)], grow=True), -vectors)
    table.save(path)


def _told(folder: Any, side: str) -> Any:
    from hotrow.search import Metadata

    vectors = folder.side(side)
    ids = vectors.ids().to_pylist()
    return Metadata.of({"id": ids, "group": [id[:8] for id in ids]}, vectors, id="id")


def _looked_at(path: Path, n: int, sizes: Sizes) -> Iterator[Result]:
    from hotrow.serve import create_app

    app = create_app(path, metadata=_told, method="exact")
    case = {"points": n}
    with serving(app) as address, browsing() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)  # once, so that the server has made its map
        page.wait_for_function("() => globalThis.hotrow?.page?.ready", timeout=300_000)
        begin = time.perf_counter()
        page.reload()
        page.wait_for_function("() => globalThis.hotrow?.page?.ready", timeout=300_000)
        page.evaluate(_DRAWN)
        shown = time.perf_counter() - begin
        yield Result("Until the page shows all points", case, "hotrow", "ms", 1e3 * shown)
        for what, do in (("dragging", _drag), ("zooming by the wheel", _wheel)):
            page.wait_for_timeout(1500)
            frames = _frames(page, do)
            late = 100 * sum(frame for frame in frames if frame > STUTTER) / sum(frames)
            median = statistics.median(frames)
            yield Result("A frame of the page", {**case, "while": what}, "median", "ms", median, frames)
            yield Result("A frame of the page", {**case, "while": what}, "95 of 100", "ms", _most(frames, 0.95))
            title = f"Of the time, in frames of more than {STUTTER:g} ms"
            yield Result(title, {**case, "while": what}, "hotrow", "%", late)
        yield from _found(page, case, sizes)


def _most(frames: list[float], share: float) -> float:
    return sorted(frames)[int(share * (len(frames) - 1))]


def _frames(page: Any, do: Any) -> list[float]:
    """Milliseconds of each frame while something is done."""
    page.evaluate(_RECORD)
    do(page)
    return page.evaluate(
        "() => { const frames = globalThis.frames_; globalThis.frames_ = null; return frames.slice(2); }"
    )


def _drag(page: Any) -> None:
    page.mouse.move(640, 420)
    page.mouse.down()
    for step in range(180):
        page.mouse.move(640 + 180 * np.sin(step / 20), 420 + 120 * np.sin(step / 13))
        page.wait_for_timeout(8)
    page.mouse.up()


def _wheel(page: Any) -> None:
    page.mouse.move(700, 400)
    for step in range(90):
        page.mouse.wheel(0, -40 if step < 45 else 40)
        page.wait_for_timeout(8)


def _found(page: Any, case: dict[str, Any], sizes: Sizes) -> Iterator[Result]:
    """From the last key to the list, and from Enter to the neighbours."""
    completed, chosen = [], []
    for i in range(sizes.rounds):
        page.fill("#find", "")
        begin = time.perf_counter()
        page.fill("#find", f"id-{i:06}")
        page.locator("#found li").first.wait_for()
        completed.append(1e3 * (time.perf_counter() - begin))
        begin = time.perf_counter()
        page.press("#find", "Enter")
        page.wait_for_function("() => document.querySelectorAll('#pane-id ol.scored li').length === 10")
        chosen.append(1e3 * (time.perf_counter() - begin))
        page.evaluate("() => hotrow.page.choose(null)")
    yield Result(
        "From the last key to ids that contain it", case, "hotrow", "ms", statistics.median(completed), completed
    )
    yield Result("From Enter to the neighbours", case, "hotrow", "ms", statistics.median(chosen), chosen)
