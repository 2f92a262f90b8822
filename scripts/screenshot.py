"""A picture of the page, for the README.

    hotrow train --out debian && hotrow map debian -o debian.html --method umap
    python scripts/screenshot.py debian.html docs/map.png --id python3-numpy

The address is that of a running `hotrow serve`, or a file that `hotrow map` has written. Needs Playwright, and a
Chromium: HOTROW_CHROMIUM names one if none is on the path.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars"]


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="http://… or a file")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--id", help="an id to choose: its neighbours are shown")
    parser.add_argument("--model", action="store_true", help="show what is known of the model beside the map")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--size", default="1360x850", help="width and height in pixels")
    parser.add_argument("--ratio", type=float, default=1, help="pixels of the picture for each of the page")
    parser.add_argument("--zoom", type=float, default=1, help="how much closer than the whole map")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    address = given.address if "://" in given.address else Path(given.address).resolve().as_uri()
    found = os.environ.get("HOTROW_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": width, "height": height},
            device_scale_factor=given.ratio,
            color_scheme="dark" if given.dark else "light",
            reduced_motion="reduce",
        )
        page.goto(address)
        page.wait_for_function("() => globalThis.hotrow?.page?.ready", timeout=120_000)
        if given.id:
            page.evaluate("id => hotrow.page.choose(id)", given.id)
            page.locator("#pane-id svg.one-hot").wait_for()
        if given.model:
            page.click("#tab-model")
        if given.zoom != 1:
            page.evaluate("factor => hotrow.page.atlas.zoom(factor)", given.zoom)
        page.wait_for_timeout(3000)  # the points are drawn when the view has come to rest
        page.screenshot(path=given.picture)
        browser.close()


if __name__ == "__main__":
    main()
