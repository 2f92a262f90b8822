"""Search beside a sort of all scores, whichever way it goes; filters, words, updates, and what is refused."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hotrow
from hotrow.models import Retrieval, Vectors
from hotrow.search import Search, asking, graph, space

METRICS = ["cosine", "dot", "euclidean"]


def clusters(n, dim=8, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, n // 20), dim))
    return (centres[random.integers(0, len(centres), n)] + 0.4 * random.normal(size=(n, dim))).astype(np.float32)


def scores_of(vectors, query, metric):
    """Every score, the larger the better, in float64: the naive twin."""
    v, q = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return -np.sqrt(((v - q) ** 2).sum(axis=1))
    products = v @ q
    if metric == "dot":
        return products
    lengths = np.linalg.norm(v, axis=1) * np.linalg.norm(q)
    return np.divide(products, lengths, out=np.zeros(len(v)), where=lengths > 0)


def check(search, queries, k, *, mask=None, without=None):
    """What `near` must hold, against a sort, by scores: of equal rows any may come.

    An index may miss some, and one walk of a few may lose its way whole; how often is measured on many, elsewhere.
    """
    vectors, sign = search.vectors.vectors(), -1 if search.metric == "euclidean" else 1
    rows, scores = search.near(queries, k, within=mask, without=without)
    wanted = good = 0
    assert rows.shape == scores.shape == (len(queries), k)
    assert rows.dtype == np.int64
    assert scores.dtype == np.float32
    for i, query in enumerate(queries):
        every = scores_of(vectors, query, search.metric)
        may = np.ones(len(vectors), bool) if mask is None else mask.copy()
        if without is not None and without[i] is not None:
            may[without[i]] = False
        best = np.sort(every[may])[::-1][:k]
        found = rows[i][rows[i] >= 0]
        assert len(found) == len(set(found.tolist())) == len(best)
        assert may[found].all()
        assert (rows[i][len(found) :] == -1).all()
        slack = 2e-6 * max(1.0, np.abs(every).max(initial=0))
        assert np.allclose(sign * scores[i][: len(found)], every[found], rtol=0, atol=slack)
        assert (np.diff(every[found]) <= slack).all()
        wanted += len(best)
        good += (every[found] >= best.min(initial=np.inf) - slack).sum()
    assert good == wanted if search.method == "exact" else wanted - good <= max(k, wanted // 5)


@pytest.fixture
def small_index(monkeypatch):
    """An index is asked also where a filter leaves few rows."""
    monkeypatch.setattr(asking, "FEW", 5)


# --- the nearest ------------------------------------------------------------------------------------------------------


@st.composite
def asked(draw):
    n, dim = draw(st.integers(0, 60)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    vectors = random.normal(size=(n, dim)).astype(np.float32) * np.float32(draw(st.sampled_from([1e-3, 1, 1e3])))
    if n and draw(st.booleans()):  # equal ones, and zeros
        vectors[random.integers(0, n, n // 2)] = vectors[random.integers(0, n)]
        vectors[random.integers(0, n, n // 4)] = 0
    if draw(st.booleans()):
        vectors = np.round(vectors)
    queries = np.concatenate([random.normal(size=(2, dim)), vectors[: draw(st.integers(0, 3))], np.zeros((1, dim))])
    mask = random.random(n) < draw(st.floats(0, 1)) if draw(st.booleans()) else None
    without = [random.integers(0, n, draw(st.integers(0, 5))) if n else None for _ in queries]
    return vectors, queries.astype(np.float32), draw(st.integers(1, 70)), mask, draw(st.sampled_from([None, without]))


@settings(max_examples=min(60, settings().max_examples))
@pytest.mark.parametrize("method", ["exact", "usearch"])
@pytest.mark.parametrize("metric", METRICS)
@given(asked())
def test_the_nearest_are_those_of_a_sort_with_filters_and_rows_left_out(metric, method, case):
    vectors, queries, k, mask, without = case
    search = Search(Vectors.of(np.arange(len(vectors)), vectors), metric=metric, method=method)
    assert search.method == method
    check(search, queries, k, mask=mask, without=without)


@pytest.mark.compiled  # millions of scores
@pytest.mark.parametrize("metric", METRICS)
def test_it_is_the_same_in_blocks_and_on_any_number_of_threads(metric, monkeypatch):
    vectors = clusters(9_000)
    side, queries = Vectors.of(np.arange(len(vectors)), vectors), vectors[:300]
    found = []
    for threads in (1, 2, 3):
        hotrow.set_threads(threads)
        found.append(Search(side, metric=metric, method="exact").near(queries, 7))
    monkeypatch.setattr(space, "_QUERIES", 7)
    found.append(Search(side, metric=metric, method="exact").near(queries, 7))
    found.append(tuple(map(np.concatenate, zip(*(Search(side, metric=metric).near(q[None], 7) for q in queries[:9]),
                                               strict=True))))  # fmt: skip
    for rows, scores in found[1:]:
        assert np.array_equal(rows, found[0][0][: len(rows)])
        assert np.array_equal(scores, found[0][1][: len(rows)])
    check(Search(side, metric=metric), queries[:20], 7)


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_far_from_zero_keep_their_order(metric):
    vectors = clusters(500) + np.float32(1000)
    check(Search(Vectors.of(np.arange(500), vectors), metric=metric), vectors[:30] + np.float32(0.01), 5)


@pytest.mark.compiled
@pytest.mark.parametrize("metric", METRICS)
def test_an_index_finds_nearly_all_and_scores_it_as_exact_search_does(metric):
    drawn = clusters(4_200, 16)
    vectors, queries = drawn[:4_000], drawn[4_000:]
    side = Vectors.of(np.arange(4_000), vectors)
    told = []
    index = Search(side, metric=metric, method="usearch", progress=lambda *facts: told.append(facts))
    exact = Search(side, metric=metric)
    assert exact.method == "exact"
    assert exact.recall is None
    assert index.recall >= 0.98
    assert [one[:2] for one in told] == [(4_000, 4_000)] * 2
    assert told[-1][2] == {"recall": index.recall}
    (rows, scores), (near, best) = exact.near(queries, 10), index.near(queries, 10)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(rows, near, strict=True)]) > 0.96
    assert np.array_equal(scores[rows == near], best[rows == near])


@pytest.mark.compiled
@pytest.mark.usefixtures("small_index")
@pytest.mark.parametrize("metric", METRICS)
def test_a_filtered_index_gives_only_what_may_come_and_all_there_is(metric):
    vectors = clusters(3_000)
    search = Search(Vectors.of(np.arange(3_000), vectors), metric=metric, method="usearch")
    random = np.random.default_rng(1)
    far = np.argsort(scores_of(vectors, vectors[0], metric))[:40]  # nothing that the walk meets by itself
    for rows in (far, random.choice(3_000, 1_500, replace=False), np.arange(4), np.arange(3_000)):
        mask = np.isin(np.arange(3_000), rows)
        near, _ = search.near(vectors[:50], 10, within=mask)
        assert (near >= 0).sum(axis=1).tolist() == [min(10, len(rows))] * 50
        assert mask[near[near >= 0]].all()
    check(search, vectors[:10], 10, mask=np.isin(np.arange(3_000), far))


@pytest.mark.compiled
def test_an_index_of_equal_vectors_finds_as_many_as_are_asked_for():
    vectors = np.ones((600, 4), np.float32)
    vectors[:300, 0] = 2
    search = Search(Vectors.of(np.arange(600), vectors), method="usearch")
    assert search.recall == 1
    rows, scores = search.near(vectors[:1], 350)
    assert sorted(rows[0][:300]) == list(range(300))
    assert len(set(rows[0].tolist())) == 350
    assert np.allclose(scores[0][:300], 1)


def test_a_query_that_lies_far_out_is_answered_exactly():
    vectors = clusters(300)
    search = Search(Vectors.of(np.arange(300), vectors), metric="euclidean", method="usearch")
    check(search, np.full((3, 8), 1e7, np.float32) * np.array([[1], [-1], [0.5]], np.float32), 5)


# --- ids --------------------------------------------------------------------------------------------------------------

KINDS = {
    "string": ["a/b", "<script>", "\u202eid", "x" * 10_000, "", "ü"],
    "int64": [-5, 2**62, 0, 7, -(2**63), 3],
    "uint64": [2**64 - 1, 2**63, 0, 1, 2, 3],
}


@pytest.mark.parametrize("method", ["exact", "usearch"])
@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_every_kind_come_back_as_they_are(kind, method):
    given_ids = np.array(KINDS[kind], np.uint64) if kind == "uint64" else KINDS[kind]
    vectors = np.eye(6, dtype=np.float32)
    vectors[0] = vectors[1] * 0.9 + 0.1
    search = Search(Vectors.of(given_ids, vectors), method=method)
    near, scores = search.similar(given_ids[:1], k=2)
    assert near[0][0] == KINDS[kind][1]
    assert KINDS[kind][0] not in near[0]
    assert scores[0] == sorted(scores[0], reverse=True)
    only, _ = search.similar(given_ids[:1], k=9, within=given_ids[2:4])
    assert sorted(map(str, only[0])) == sorted(map(str, KINDS[kind][2:4]))


def test_similar_items_are_those_of_the_model():
    model = Retrieval(8, epochs=2).fit((["a", "a", "b", "b", "c"], ["x", "y", "y", "z", "w"]))
    side = Vectors.of(model.items.ids(), model.vectors(model.items.ids())[:, :8])
    near, cosines = Search(side).similar(["x", "z"], k=3)
    expected, theirs = model.similar(["x", "z"], k=3)
    assert near == expected
    assert np.allclose(cosines, theirs, atol=1e-6)


def test_an_unknown_id_is_an_error_with_ids_that_are_written_alike():
    search = Search(Vectors.of(["lantern", "cup"], np.eye(2)))
    for ask in (search.similar, search.most_similar, search.doesnt_match):
        with pytest.raises(hotrow.UnknownIdError, match="'lantren' has no vector here; there are 'lantern'"):
            ask(["cup", "lantren"])
    assert search.similar([], k=3) == ([], [])
    assert search.similar(["cup"], within=["lantern", "nobody"])[0] == [["lantern"]]
    assert search.similar(["cup"], within=[])[0] == [[]]
    assert search.similar(["cup"], within="lantern")[0] == [["lantern"]]


def test_one_integer_is_one_id():
    search = Search(Vectors.of([5, 7, 9], np.eye(3)))
    for one in (7, np.int64(7)):
        assert search.similar([5], within=one)[0] == [[7]]
        assert len(search.similar(one)[0][0]) == 2


# --- several ids ------------------------------------------------------------------------------------------------------


def test_questions_with_several_ids_are_answered_as_gensim_does():
    keyed = pytest.importorskip("gensim.models").KeyedVectors(8)
    words, vectors = [f"w{i}" for i in range(200)], clusters(200)
    keyed.add_vectors(words, vectors)
    search = Search(Vectors.of(words, vectors))
    for positive, negative in (
        (["w1"], []), (["w1", "w2"], ["w3"]), ("w4", None), ([("w1", 0.5), "w9", ("w2", -2.0)], ["w8"]), ([], ["w5"]),
        ([vectors[3], "w7"], []),
    ):  # fmt: skip
        expected = keyed.most_similar(positive=positive, negative=negative, topn=12)
        found = search.most_similar(positive, negative, topn=12)
        assert [word for word, _ in found] == [word for word, _ in expected]
        assert np.allclose([score for _, score in found], [score for _, score in expected], atol=1e-5)
    expected = keyed.similar_by_vector(vectors[5] * 3, topn=4)
    found = search.similar_by_vector(vectors[5] * 3, topn=4)
    assert [word for word, _ in found] == [word for word, _ in expected]
    for group in (words[:5], words[20:40], ["w1", "w1", "w100"]):
        assert search.doesnt_match(group) == keyed.doesnt_match(group)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.near([1.0, 2.0], 3), r"\(q, 2\)"),
        (lambda s: s.near([[1.0, 2.0, 3.0]], 3), r"\(q, 2\)"),
        (lambda s: s.near([[1.0, np.nan]], 3), "query in row 0 isn't finite"),
        (lambda s: s.near([[1.0, 2.0]], 0), "k must be"),
        (lambda s: s.near([[1.0, 2.0]], 1, within=np.ones(3, bool)), r"bool \(2,\)"),
        (lambda s: s.near([[1.0, 2.0]], 1, without=[[0], [1]]), "got 2 for 1"),
        (lambda s: s.similar_by_vector([1.0, 2.0], 0), "k must be"),
        (lambda s: s.most_similar("cup", topn=None), "k must be"),
        (lambda s: s.most_similar(), "give ids or vectors"),
        (lambda s: s.most_similar([np.zeros(3, np.float32)]), r"\(2,\) floats"),
        (lambda s: s.similar_by_vector([[1.0, 2.0]]), r"\(2,\) floats"),
        (lambda s: s.doesnt_match(["cup"]), "several ids"),
        (lambda s: Search(s.vectors, metric="dot").most_similar(["cup"]), "goes by cosine"),
        (lambda s: Search(s.vectors, metric="manhattan"), "'cosine'"),
        (lambda s: Search(s.vectors, method="magic"), "'usearch'"),
        (lambda s: Search(Vectors.of([1, 2], [[0.0], [np.inf]])), "vector in row 1 isn't finite"),
        (lambda s: Search(Vectors.of([1, 2], [[np.nan], [0.0]])), "vector in row 0 isn't finite"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_call_that_would_be_right(ask, says):
    with pytest.raises(hotrow.ArgumentError, match=says):
        ask(Search(Vectors.of(["cup", "lantern"], np.eye(2))))


def test_without_usearch_an_index_says_how_to_get_it_and_auto_compares_all(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "usearch", None)
    side = Vectors.of([1, 2], np.eye(2))
    with pytest.raises(hotrow.MissingExtraError, match=r"hotrow\[search\]"):
        Search(side, method="usearch")
    monkeypatch.setattr(asking, "LARGE", 2)
    monkeypatch.setattr(asking, "find_spec", lambda name: None)
    assert Search(side).method == "exact"


def test_many_rows_get_an_index_by_themselves(monkeypatch):
    monkeypatch.setattr(asking, "LARGE", 200)
    side = Vectors.of(np.arange(200), clusters(200))
    assert Search(side).method == "usearch"
    few = Search(Vectors.of(np.arange(199), clusters(199)))
    assert few.method == "exact"
    assert few.updated(side).method == "usearch"
    assert Search(side).updated(few.vectors).method == "exact"


# --- updates ----------------------------------------------------------------------------------------------------------


@pytest.mark.compiled
@settings(max_examples=25)
@pytest.mark.parametrize("metric", METRICS)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(["grow", "change", "leave", "equal", "order"]), max_size=4))
def test_an_updated_index_answers_for_what_grew_changed_left_and_moved(metric, seed, steps):
    random = np.random.default_rng(seed)
    ids, vectors = np.arange(60), clusters(60, 5, seed)
    search = Search(Vectors.of(ids, vectors), metric=metric, method="usearch")
    for step in steps:
        vectors = vectors.copy()
        if step == "grow":
            ids = np.append(ids, ids.max(initial=0) + 1 + np.arange(7))
            vectors = np.concatenate([vectors, clusters(7, 5, seed + 1)])
        elif step == "change":
            vectors[random.integers(0, len(ids), 9)] += np.float32(0.3)
        elif step == "leave":
            stay = random.random(len(ids)) < 0.8
            stay[0] = True
            ids, vectors = ids[stay], vectors[stay]
        elif step == "equal":
            vectors[random.integers(0, len(ids), 9)] = vectors[0]
        else:
            order = random.permutation(len(ids))
            ids, vectors = ids[order], vectors[order]
        before, asked_before = search, search.near(vectors[:3], 4)
        search = search.updated(Vectors.of(ids, vectors))
        assert len(search._graph.places) == len(np.unique(vectors, axis=0))
        check(search, np.concatenate([vectors[:5], random.normal(size=(3, 5)).astype(np.float32)]), 6)
        assert np.array_equal(before.near(asked_before and search.vectors.vectors()[:3], 4)[1], asked_before[1])


@pytest.mark.compiled
def test_an_update_builds_nothing_anew_unless_most_has_changed(monkeypatch):
    vectors = clusters(1_000)
    search = Search(Vectors.of(np.arange(1_000), vectors), method="usearch")
    built = []
    build = graph.Graph.build
    monkeypatch.setattr(graph.Graph, "build", lambda *args: built.append(1) or build(*args))
    moved = vectors.copy()
    moved[:100] += np.float32(0.1)
    search = search.updated(Vectors.of(np.arange(1_000), moved))
    assert not built
    assert search.recall >= 0.98
    same = search.updated(Vectors.of(np.arange(1_000) + 5, moved))  # other ids, the same vectors
    assert same._graph.index is search._graph.index
    search.updated(Vectors.of(np.arange(1_000), moved + np.float32(1)))
    assert built


@pytest.mark.compiled
def test_longer_vectors_under_the_product_are_found_after_an_update():
    vectors = clusters(500)
    search = Search(Vectors.of(np.arange(500), vectors), metric="dot", method="usearch")
    moved = vectors.copy()
    moved[7] *= 50  # beyond what the graph had room for
    check(search.updated(Vectors.of(np.arange(500), moved)), moved[:40], 5)


@pytest.mark.compiled
def test_an_index_that_finds_less_than_it_did_is_built_anew(monkeypatch):
    vectors = clusters(600)
    search = Search(Vectors.of(np.arange(600), vectors), method="usearch")
    built = []
    build = graph.Graph.build
    monkeypatch.setattr(graph.Graph, "build", lambda *args: built.append(1) or build(*args))
    tuned = graph.Graph.tuned
    monkeypatch.setattr(graph.Graph, "tuned", lambda self, more=None: graph.replace(
        tuned(self, more), usual=graph.Walk(32, 0.5 if more is not None else 1.0)))  # fmt: skip
    moved = vectors.copy()
    moved[:10] += np.float32(0.1)
    assert search.updated(Vectors.of(np.arange(600), moved)).recall == 1.0
    assert built


@pytest.mark.compiled
@pytest.mark.parametrize("method", ["exact", "usearch"])
def test_many_threads_ask_while_another_makes_the_next(method):
    vectors = clusters(2_000)
    search = Search(Vectors.of(np.arange(2_000), vectors), method=method)
    expected = search.near(vectors[:40], 5)
    wrong, going = [], threading.Event()

    def ask():
        while not going.is_set():
            rows, scores = search.near(vectors[:40], 5)
            if not (np.array_equal(rows, expected[0]) and np.array_equal(scores, expected[1])):
                wrong.append(rows)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        now = search
        for step in range(4):
            moved = now.vectors.vectors().copy()
            moved[step * 50 : step * 50 + 50] += np.float32(0.5)
            now = now.updated(Vectors.of(np.arange(2_000), moved))
    finally:
        going.set()
        for thread in threads:
            thread.join()
    assert not wrong
