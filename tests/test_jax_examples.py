"""The examples for JAX run as a user runs them, and are clearly better than what they stand beside."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def printed_by(name, folder):
    """What an example prints, in a folder of its own; any warning is an error."""
    command = [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("name", "margin"), [pytest.param("words_jax", 0.12, marks=pytest.mark.long), ("flax_nnx", 0.3)]
)
def test_an_example_prints_its_number_beside_a_baseline_and_is_clearly_above(name, margin, tmp_path):
    lines = printed_by(name, tmp_path)
    ours, baseline = (float(re.search(r"\d\.\d+$", line)[0]) for line in lines[:2])
    assert lines[0].startswith("hotrow.jax")
    assert ours > baseline + margin
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [EXAMPLES / "words_jax.py", EXAMPLES / "flax_nnx.py"], ids=lambda p: p.stem)
def test_an_example_fits_on_a_screen_or_two(path):
    assert len(path.read_text("utf-8").splitlines()) <= 60
