"""The examples that use Keras, run as a user would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
RESULT = re.compile(r"(two towers|popularity) +recall@20 (0\.\d+) of 3,000 held-out dependencies")


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="takes a minute, and two elsewhere: `make test-long`")
def test_two_towers_find_held_out_dependencies_that_popularity_does_not():
    check_two_towers()


@pytest.mark.long
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="is in `make test`")
def test_two_towers_do_so_on_every_backend():
    check_two_towers()


def check_two_towers():
    path = EXAMPLES / "two_towers_keras.py"
    assert len(path.read_text("utf-8").splitlines()) <= 60
    strict = ["-W", "error", "-W", "ignore:__array__ implementation:DeprecationWarning"]
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # conftest.py
    done = subprocess.run([sys.executable, *strict, path], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    found = {name: float(value) for name, value in RESULT.findall(done.stdout)}
    assert found["two towers"] > 0.5
    assert 0.2 < found["popularity"] < 0.35
