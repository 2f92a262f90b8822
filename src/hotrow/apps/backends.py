"""Which backend Keras runs on where nobody has said it, and quiet about it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from hotrow.errors import MissingExtraError
from hotrow.models.classifier_files import is_classifier

ORDER = ("jax", "torch", "tensorflow")
"""The quickest first, imports and compilation of a small net with it."""


def prepare() -> str:
    """Import Keras without a word, on a backend that is installed; its name. MissingExtraError if there is none."""
    choose()
    with quiet():
        import_module("hotrow.keras")
        if find_spec("tensorflow"):  # Keras's `fit` would, whichever its backend, and not quietly
            import_module("tensorflow")
        from hotrow.models.classify import backend

        return backend()


def prepare_for(folder: str | os.PathLike[str]) -> None:
    """Prepare, if a classifier is in this folder: nothing else that hotrow saves needs Keras to be opened."""
    if is_classifier(Path(folder)):
        prepare()


def choose() -> None:
    """Set KERAS_BACKEND to the first backend that is installed, unless it is set; MissingExtraError if none is."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes on this machine; Keras loads it if it can
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of another pool would wait for hotrow's, and it for them
    if sys.modules.get("keras"):
        return
    asked = os.environ.get("KERAS_BACKEND")
    if asked and (asked not in ORDER or not find_spec(asked)):
        there = [name for name in ORDER if find_spec(name)]
        raise MissingExtraError(
            f"KERAS_BACKEND is {asked!r}, expected one of {', '.join(ORDER)} that is installed"
            + (f": KERAS_BACKEND={there[0]}, or unset it" if there else f': pip install "hotrow[{ORDER[0]}]"')
        )
    found = asked or next((name for name in ORDER if find_spec(name)), None)
    if found is None or find_spec("keras") is None:
        raise MissingExtraError(
            'a classifier needs Keras 3 and a backend: pip install "hotrow[torch]", "hotrow[jax]" or '
            '"hotrow[tensorflow]"'
        )
    os.environ["KERAS_BACKEND"] = found


@contextmanager
def quiet() -> Generator[None]:
    """Within, what native code writes to stderr is kept, and shown only if an error ends it.

    TensorFlow has no switch for the notes that it makes before its log is set up, and Keras imports it if it can,
    whichever backend it runs on.
    """
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(before, kept.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
