"""What is asked about ids: their vectors, what is near them, what goes with them, and the picture of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hotrow.errors import UnknownIdError
from hotrow.models.next_item import NextItem
from hotrow.models.ratings import Ratings
from hotrow.models.retrieval import Retrieval
from hotrow.serve import arrow
from hotrow.serve.answers import ARROW, Answer, Call, RefusedError, to_json
from hotrow.serve.limits import Limits
from hotrow.serve.numbers import rows_as_json
from hotrow.serve.reading import array_of, ids_for

if TYPE_CHECKING:
    from hotrow.models.sides import Vectors
    from hotrow.search import Search
    from hotrow.serve.measures import Measures
    from hotrow.serve.served import Served

_INLINE = 64 << 10
"""Floats that are looked up and written at once, between other requests; more is done in a thread."""
_K = 10
"""How many are found where it isn't said."""
_SHOWN, _COLUMNS = 7, 8
"""Rows and columns of the picture."""


@dataclass(frozen=True)
class Asking:
    """Answers by what is served now; each call holds one Served from its beginning to its end."""

    current: Callable[[], Served]
    limits: Limits
    measures: Measures

    # --- vectors -----------------------------------------------------------------------------------------------------

    def lookup(self, call: Call) -> Answer | Callable[[], Answer]:
        """The vectors of ids, as JSON or Arrow; of many, something to be called in a thread."""
        served, asked = self.current(), call.asked
        vectors = served.folder.side(asked["side"])
        ids = asked["ids"]
        self._check_number(len(ids), "ids")
        if len(ids) * vectors.dim <= _INLINE:
            return self._looked_up(served, vectors, ids, call.accept)
        return lambda: self._looked_up(served, vectors, ids, call.accept)

    def _looked_up(self, served: Served, vectors: Vectors, ids: Any, accept: bytes) -> Answer:
        known = ids_for(vectors, ids)
        try:
            keys = array_of(vectors, known)
            stamp, found = served.lookup(vectors, keys)
        except UnknownIdError:
            raise self._unknown(vectors, known, vectors.missing(known)) from None
        self.measures.looked_up(vectors.name, len(known))
        if ARROW in accept:
            return Answer(arrow.written(vectors, keys, found, stamp), type=ARROW)
        head = to_json({"side": vectors.name, "dim": vectors.dim, "stamp": stamp, "ids": known})
        return Answer(b"".join([head[:-1], b',"vectors":', rows_as_json(found), b"}"]))

    def _check_number(self, count: int, what: str) -> None:
        if not 1 <= count <= self.limits.ids:
            raise RefusedError(
                400 if not count else 413, f"from 1 to {self.limits.ids:,} {what} a request; got {count:,}"
            )

    def _unknown(self, vectors: Vectors, ids: Sequence[Any], missing: np.ndarray) -> RefusedError:
        """404 for ids that aren't all there: the first few, and ids that are written like the first."""
        missing = np.flatnonzero(missing)
        self.measures.unknown(vectors.name, len(missing))
        strange = [ids[i] for i in missing[:10].tolist()]
        more = f", nor {len(missing) - 1:,} more of those asked for" if len(missing) > 1 else ""
        first = repr(strange[0]) if strange else "one of the ids"
        shown = first if len(first) <= 200 else f"{first[:200]}…"
        alike = None if vectors.kind != "string" or not strange else partial(vectors.alike, strange[0])
        return RefusedError(404, f"side {vectors.name!r} has no id {shown}{more}", alike=alike, unknown=strange)

    # --- what is near ------------------------------------------------------------------------------------------------

    def similar(self, call: Call) -> Callable[[], Answer]:
        """What is near an id, ids, vectors, or some ids and far from others: to be called in a thread."""
        served, asked = self.current(), call.asked
        ways = [way for way in ("id", "ids", "vectors", "positive") if asked.get(way) is not None]
        lone = asked.get("negative") is not None and ways != ["positive"]
        if len(ways) != 1 or lone:
            raise RefusedError(
                400, f"one of ids, vectors, or positive (with negative) is to be given; got {ways or 'none'}"
            )
        k = self._k(asked["k"])
        if ways in (["ids"], ["vectors"]):
            self._check_found(len(asked[ways[0]]), k, ways[0])
        side = served.folder.side(asked["side"]).name

        def answer() -> Answer:
            search = served.search(side)
            within = None if asked["where"] is None else served.within(side, search, asked["where"])
            head = {"side": side, "metric": search.metric}
            if ways == ["vectors"]:
                return Answer(to_json(head | {"results": self._near(search, asked["vectors"], k, within)}))
            if ways == ["positive"]:
                given = [self._known(search.vectors, asked[way] or [], way) for way in ("positive", "negative")]
                found = search.most_similar(*given, topn=k, within=within)
                return Answer(to_json(head | {"similar": [_scored(*each) for each in found]}))
            ids = self._known(search.vectors, asked[ways[0]] if ways == ["ids"] else [asked["id"]], "ids")
            listed = [_list(*each) for each in zip(*search.similar(ids, k, within=within), strict=True)]
            if ways == ["id"]:
                return Answer(to_json({"id": ids[0]} | head | {"similar": listed[0]}))
            results = [{"id": id, "similar": near} for id, near in zip(ids, listed, strict=True)]
            return Answer(to_json(head | {"results": results}))

        return answer

    def _near(self, search: Search, queries: np.ndarray, k: int, within: Any) -> list[dict[str, Any]]:
        if queries.shape[1] != search.vectors.dim:
            raise RefusedError(400, f"vectors have {search.vectors.dim} numbers here; got {queries.shape[1]}")
        found = search.named(*search.near(queries, k, within=within, mixed=True))
        return [{"similar": _list(*each)} for each in zip(*found, strict=True)]

    def _known(self, vectors: Vectors, ids: Sequence[Any], what: str) -> list[Any]:
        """As ids of the side, all of which it has; else 404."""
        if what == "negative" and not ids:
            return []
        self._check_number(len(ids), what)
        known = ids_for(vectors, ids)
        missing = vectors.rows(known) < 0
        if missing.any():
            raise self._unknown(vectors, known, missing)
        return known

    def _k(self, k: int | None) -> int:
        if k is None:
            return min(_K, self.limits.k)
        if k > self.limits.k:
            raise RefusedError(413, f"k is at most {self.limits.k:,} here; got {k:,}")
        return k

    def _check_found(self, count: int, k: int, what: str) -> None:
        """All is found, and then written, before any of it is sent."""
        self._check_number(count, what)
        if count * k > self.limits.found:
            raise RefusedError(
                413,
                f"{what} times k is at most {self.limits.found:,} here; got {count:,} times {k:,}: ask in several "
                "requests",
            )

    # --- what goes with ----------------------------------------------------------------------------------------------

    def recommend(self, call: Call) -> Callable[[], Answer]:
        """Items for a user, or after items: to be called in a thread."""
        served, asked = self.current(), call.asked
        model, k = served.folder.model, self._k(asked["k"])
        user, items = asked.get("user"), asked.get("items")
        if not isinstance(model, Retrieval | Ratings | NextItem):
            raise RefusedError(400, f"{_what(model)} recommends nothing; /v1/similar?id=… has what is near an id")
        if user is not None:
            if not isinstance(model, Retrieval | Ratings):
                raise RefusedError(400, f'{_what(model)} knows no users: POST /v1/recommend {{"items": […]}}')
            return lambda: self._for_user(served.folder.side("user"), model, user, k)
        if not isinstance(model, Retrieval | NextItem):
            raise RefusedError(400, f"{_what(model)} can't go by items: GET /v1/recommend?user=… is for users")
        return lambda: self._after(served.folder.side("item"), model, items or [], k)

    def _for_user(self, users: Vectors, model: Retrieval | Ratings, user: Any, k: int) -> Answer:
        known = self._known(users, [user], "user")
        ids, scores = model.recommend(known, k=k)
        return Answer(to_json({"user": known[0], "recommended": _list(ids[0], scores[0])}))

    def _after(self, items: Vectors, model: Retrieval | NextItem, after: Sequence[Any], k: int) -> Answer:
        known = self._known(items, after, "items")
        ids, scores = (model.recommend_for if isinstance(model, Retrieval) else model.recommend)([known], k=k)
        return Answer(to_json({"items": known, "recommended": _list(ids[0], scores[0])}))

    # --- the picture -------------------------------------------------------------------------------------------------

    def explain(self, call: Call) -> Callable[[], Answer]:
        """The numbers of the one-hot picture of an id: to be called in a thread."""
        vectors = self.current().folder.side(call.asked["side"])
        return lambda: self._explained(vectors, call.asked["id"])

    def _explained(self, vectors: Vectors, id: Any) -> Answer:
        known = self._known(vectors, [id], "id")
        weights, ids = vectors.vectors(), vectors.ids()
        row, count = int(vectors.rows(known)[0]), len(weights)
        start = max(0, min(row - _SHOWN // 2, count - _SHOWN))
        stop, columns = min(count, start + _SHOWN), min(_COLUMNS, vectors.dim)
        shown = {
            "ids": ids[start:stop].tolist(),
            "rows": list(range(start, stop)),
            "one_hot": [int(r == row) for r in range(start, stop)],
            "weights": np.ascontiguousarray(weights[start:stop, :columns]),
            "columns": list(range(columns)),
        }
        head = {"id": known[0], "side": vectors.name, "row": row, "rows": count, "dim": vectors.dim}
        return Answer(to_json(head | {"shown": shown, "vector": weights[row]}))


def _scored(id: Any, score: float) -> dict[str, Any]:
    return {"id": id, "score": np.float32(score)}  # which it was, and is written with fewer digits


def _list(ids: Sequence[Any], scores: Sequence[float]) -> list[dict[str, Any]]:
    return [_scored(*each) for each in zip(ids, scores, strict=True)]


def _what(model: Any) -> str:
    names = {
        "Retrieval": "a model of users and items",
        "Ratings": "a model of ratings",
        "NextItem": "a next-item model",
    }
    kind = next((name for name in names if any(base.__name__ == name for base in type(model).__mro__)), None)
    return names[kind] if kind else "a saved table" if model is None else "a classifier"
