"""The tests of hotrow.keras, run once for each backend: `make keras`, or `KERAS_BACKEND=jax pytest tests/in_keras`."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's own notes on this machine's processor
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads wait for each other: 12 times as long on a busy machine
if os.environ.get("KERAS_BACKEND") == "jax":  # its compiler takes most of the time; with less to do, a third less
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

import gc

import keras
import pytest

BACKEND = keras.backend.backend()

gc.freeze()  # what frameworks have made stays: it needn't be looked through again and again


@pytest.hookimpl(tryfirst=True)  # before those that are long are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is marked as told by some backends is long on the others: `make test-long` runs it on all."""
    for item in items:
        enough = item.get_closest_marker("enough")
        if enough and BACKEND not in enough.args:
            item.add_marker(pytest.mark.long)


@pytest.fixture(autouse=True)
def _as_new():
    """Each test begins with the same seed, and leaves Keras's settings as they were."""
    keras.utils.set_random_seed(0)
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    yield
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx(floatx)


@pytest.fixture
def backend() -> str:
    """ "tensorflow", "jax" or "torch"."""
    return BACKEND
