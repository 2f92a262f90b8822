"""What all tests share: Hypothesis profiles for the ways the suite is run, and threads put back after each test."""

from __future__ import annotations

import os
import signal

# Threads of OpenMP, such as torch's, would go round in circles while they wait, where other tests could use the time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import HealthCheck, settings

import hotrow
from hotrow.kernels import INTERPRETED, threads
from tests.ray_local import ray_local  # noqa: F401 — a fixture
from tests.sharded import sharded, sharded_tables  # noqa: F401 — fixtures

# These are run once for each backend of Keras, by `make keras`.
collect_ignore = [] if os.environ.get("KERAS_BACKEND") else ["in_keras"]

# A shell's background jobs, and what they start, ignore Ctrl-C: there the tests of it would wait for nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_CI = bool(os.environ.get("CI"))
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large] if INTERPRETED else []

# No deadlines: the first example compiles. In CI the same examples each time, so that what fails there fails here.
settings.register_profile("compiled", max_examples=50, deadline=None, derandomize=_CI, print_blob=True)
settings.register_profile(
    "interpreted",
    settings.get_profile("compiled"),
    max_examples=20,
    stateful_step_count=20,
    suppress_health_check=_SLOW,
)
settings.register_profile(
    "long", settings.get_profile("compiled"), max_examples=2000, stateful_step_count=100, derandomize=False
)
settings.load_profile("interpreted" if INTERPRETED else "compiled")  # --hypothesis-profile=long comes after this


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the speed of machine code where there is none."""
    if INTERPRETED:
        skip = pytest.mark.skip(reason="needs compiled kernels")
        for item in items:
            if item.get_closest_marker("compiled"):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    before = threads.get_threads()
    yield
    if threads.get_threads() != before:
        hotrow.set_threads(None)
