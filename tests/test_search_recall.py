"""What is told of what a search finds is true, by an index and by exact search."""

from __future__ import annotations

import numpy as np
import pytest
from test_search import METRICS, clusters, scores_of

from hotrow.models import Vectors
from hotrow.search import Search, graph


@pytest.mark.parametrize(
    ("metric", "make"),
    [
        ("euclidean", lambda noise: noise + np.where(np.arange(len(noise))[:, None] % 2, 1e3, -1e3)),
        ("euclidean", lambda noise: noise + np.where(np.arange(len(noise))[:, None] % 2, 1e4, -1e4)),
        ("cosine", lambda noise: 1 + 1e-3 * noise),
        ("cosine", lambda noise: 1 + 1e-4 * noise),
        ("dot", lambda noise: np.hstack([noise, np.full((len(noise), 1), 1e5)])),
    ],
)
def test_where_float32_cannot_tell_rows_apart_the_nearest_are_those_of_float64(metric, make):
    random = np.random.default_rng(0)
    vectors = make(random.normal(size=(3_000, 8))).astype(np.float32)
    search = Search(Vectors.of(np.arange(3_000), vectors), metric=metric, method="exact")
    mask = random.random(3_000) < 0.5
    for within in (None, mask):
        rows, _ = search.near(vectors[:20], 10, within=within, without=[[i] for i in range(20)])
        for i, query in enumerate(vectors[:20]):
            may = np.ones(3_000, bool) if within is None else mask.copy()
            may[i] = False
            best = scores_of(vectors, query, metric)
            bar = np.sort(best[may])[-10]
            assert may[rows[i]].all()
            assert (best[rows[i]] >= bar - 1e-15 * abs(bar)).all()


def test_of_more_equal_rows_than_fit_the_first_come():
    vectors = np.ones((5_000, 4), np.float32)
    rows, scores = Search(Vectors.of(np.arange(5_000), vectors), metric="euclidean").near(vectors[:2], 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert not np.signbit(scores).any()


def recalls(index, queries, *, mixed=False):
    exact = Search(index.vectors, metric=index.metric, method="exact")
    best, found = exact.near(queries, 10)[0], index.near(queries, 10, mixed=mixed)[0]
    return np.array([len(np.intersect1d(a, b)) / 10 for a, b in zip(best, found, strict=True)])


@pytest.mark.parametrize("metric", METRICS)
def test_the_recall_that_is_told_is_that_of_the_walk(metric, monkeypatch):
    monkeypatch.setattr(graph, "EXPANSIONS", (64,))
    monkeypatch.setattr(graph, "CONNECTIVITY", 8)
    random = np.random.default_rng(0)
    drawn = random.normal(size=(4_400, 48)).astype(np.float32)  # uniform: as hard as can be
    vectors, new = drawn[:4_000], drawn[4_000:]
    search = Search(Vectors.of(np.arange(4_000), vectors), metric=metric, method="usearch")
    assert search.recall < 0.995
    if metric == "dot":
        new = (vectors[400:800] + vectors[:400]) / 2
    asked = np.concatenate([vectors[800:1_200], new])
    assert abs(recalls(search, asked).mean() - search.recall) < 0.06
    between = (vectors[:400] + vectors[400:800]) / np.float32(2)
    assert abs(recalls(search, between, mixed=True).mean() - search.mixed_recall) < 0.06


def test_queries_that_are_no_rows_find_what_is_told_and_none_finds_nothing():
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 32))
    drawn = (centres[random.integers(0, 40, 12_600)] + 0.7 * random.normal(size=(12_600, 32))).astype(np.float32)
    vectors, new = drawn[:12_000], drawn[12_000:]
    search = Search(Vectors.of(np.arange(12_000), vectors), method="usearch")
    a, b, c = (vectors[random.integers(0, 12_000, 300)] for _ in range(3))
    for queries, mixed in ((vectors[:600], False), (new, False), ((a + b) / 2, True), ((a + b - c) / 3, True)):
        found = recalls(search, queries, mixed=mixed)
        assert found.mean() > 0.98
        assert found.min() > 0
    assert min(search.recall, search.mixed_recall) >= 0.98
    assert search._graph.mixed.expansion > search._graph.usual.expansion


def test_mixtures_and_vectors_go_by_longer_walks(monkeypatch):
    vectors = clusters(400)
    search = Search(Vectors.of(np.arange(400), vectors), method="usearch")
    object.__setattr__(search._graph, "mixed", graph.Walk(256, 1.0))
    walks, find = [], graph.Graph.find
    monkeypatch.setattr(graph.Graph, "find", lambda *args: walks.append(args[-1]) or find(*args))
    search.similar([3])
    search.most_similar([3, 4], [5])
    search.similar_by_vector(vectors[0])
    assert walks == [32, 256, 256]


def test_no_more_are_asked_for_than_there_are():
    search = Search(Vectors.of(["cup", "lantern"], np.eye(2)))
    many = 10**15  # of which no memory could hold the answer
    assert search.similar(["cup"], k=many)[0] == [["lantern"]]
    assert [id for id, _ in search.most_similar("cup", topn=many)] == ["lantern"]
    assert len(search.similar_by_vector([1.0, 0.0], topn=many)) == 2
    assert Search(Vectors.of(np.zeros(0, np.int64), np.zeros((0, 2)))).similar_by_vector([1.0, 0.0], topn=many) == []
