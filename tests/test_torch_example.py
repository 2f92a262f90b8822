"""The click model in PyTorch runs as a user runs it, and is clearly better than popularity."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.compiled
EXAMPLE = Path(__file__).parents[1] / "examples" / "click_torch.py"
DATA = Path(os.environ.get("HOTROW_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data")
FRAPPE = DATA / "frappe" / "Mobile_Frappe.zip"


def printed(folder, *arguments):
    """The two numbers that the example prints, in a folder of its own; any warning is an error."""
    command = [sys.executable, "-W", "error", EXAMPLE, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return [float(re.search(r"\d\.\d+$", line)[0]) for line in done.stdout.splitlines()]


def test_the_packages_of_debian_are_told_apart_better_than_by_popularity(tmp_path):
    ours, popularity = printed(tmp_path)
    assert ours > popularity + 0.04
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.skipif(not FRAPPE.exists(), reason=f"no data at {DATA}; set HOTROW_DATA")
def test_apps_in_their_context_are_told_apart_better_than_by_popularity(tmp_path):
    with zipfile.ZipFile(FRAPPE) as archive:
        path = tmp_path / "frappe.csv"
        path.write_bytes(archive.read("Mobile_Frappe/frappe/frappe.csv"))
    ours, popularity = printed(tmp_path, path)
    assert ours > popularity + 0.015


def test_the_example_fits_on_a_screen_or_two():
    assert len(EXAMPLE.read_text("utf-8").splitlines()) <= 60
