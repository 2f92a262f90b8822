"""A Ray of its own on this machine, for tests: started once a process, ended with it."""

from __future__ import annotations

import warnings

import pytest


@pytest.fixture(scope="session")
def ray_local():
    """A local Ray, to which this process is connected."""
    ray = pytest.importorskip("ray")
    from hotrow import cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster.connect()
    yield ray
    ray.shutdown()
