"""What the server tells of itself: that it is there, what it serves, how much it has answered, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hotrow.serve.answers import Answer, Call, to_json

if TYPE_CHECKING:
    from hotrow.serve.measures import Measures
    from hotrow.serve.served import Following


@dataclass
class Telling:
    """Answers about the server. documents: the description for programs, and the page for readers, once it is made."""

    following: Following
    measures: Measures
    documents: Callable[[], tuple[dict[str, Any], str]]
    _made: tuple[Answer, Answer] | None = field(default=None, repr=False)

    def health(self, call: Call) -> Answer:
        """That it answers."""
        return Answer(b'{"status":"ok"}')

    def ready(self, call: Call) -> Answer:
        """Which save is served; also while what is newer is broken, which is said."""
        served = self.following.current()
        states = served.states()
        sides = {
            name: {"rows": len(vectors), "dim": vectors.dim, "ids": vectors.kind, "search": states[name]}
            for name, vectors in served.folder.sides.items()
        }
        told = {"ready": True, "stamp": served.stamp, "kind": served.folder.kind, "sides": sides}
        return Answer(to_json(told | {"problem": self.following.problem}))

    def metrics(self, call: Call) -> Callable[[], Answer]:
        """The counters, as text."""
        return lambda: Answer(self.measures.text(), type=b"text/plain; version=0.0.4; charset=utf-8")

    def openapi(self, call: Call) -> Answer:
        """All endpoints, by OpenAPI 3.1."""
        return self._documents()[0]

    def manual(self, call: Call) -> Answer:
        """All endpoints, as a page."""
        return self._documents()[1]

    def _documents(self) -> tuple[Answer, Answer]:
        if self._made is None:
            described, page = self.documents()
            self._made = Answer(to_json(described)), Answer(page.encode("utf-8"), type=b"text/html; charset=utf-8")
        return self._made
