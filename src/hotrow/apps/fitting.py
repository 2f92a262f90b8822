"""Training with a bar, whatever is trained, and Ctrl-C that ends it and keeps what was learned."""

from __future__ import annotations

from typing import Any

from hotrow.apps.console import Output


def fitted(model: Any, given: Any, output: Output, *, error: str = "loss", of: str = "pairs", **more: Any) -> bool:
    """Train; whether Ctrl-C ended it, with something learned.

    error, of: what is shown of the progress, and what its speed counts; more: what `fit` takes besides.
    """

    def said(facts: dict[str, Any]) -> str:
        if not facts:
            return ""
        shown = error.upper() if error == "rmse" else error
        return f"epoch {facts['epoch']}  {shown} {facts[error]:.3f}  {facts['pairs_per_second']:,.0f} {of}/s"

    try:
        with output.bar("training", said) as progress:
            model.fit(given, progress=progress, **more)
    except KeyboardInterrupt:
        if not len(model.items):
            raise
        return True
    return False
