"""Maps: where points are, that they stay there, and what is kept of them."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hotrow
from hotrow.errors import ArgumentError, CorruptError, DataError, HotrowError, MissingExtraError
from hotrow.maps import Map, kept, unfolding
from hotrow.maps import map as maps
from hotrow.maps.neighbours import nearest_of_all, placed, scattered
from hotrow.maps.plane import Plane
from hotrow.models import Vectors, open_folder
from hotrow.search import Search

pytestmark = pytest.mark.compiled


def side(n=200, dim=6, seed=0, ids=None):
    """Vectors of three groups, which lie in different directions."""
    rng = np.random.default_rng(seed)
    centres = np.eye(dim, dtype=np.float32)[:3] * 4
    vectors = centres[np.arange(n) % 3] + rng.standard_normal((n, dim)).astype(np.float32) * 0.5
    return Vectors.of([f"id {i}" for i in range(n)] if ids is None else ids, vectors)


def saved(folder, vectors):
    """A folder with a table of these ids and vectors."""
    table = hotrow.Table(vectors.dim)
    table.set(table.find(vectors.ids(), grow=True), vectors.vectors())
    table.save(folder)
    return table


def places(map):
    """{id: (x, y)}."""
    return dict(zip(map.ids.tolist(), map.points.tolist(), strict=True))


# --- PCA -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dim"), [(7, 3), (300, 40), (20_000, 5)])
def test_pca_is_that_of_the_directions(n, dim):
    vectors = np.random.default_rng(n).standard_normal((n, dim), np.float32) * np.arange(1, dim + 1, dtype=np.float32)
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float64)
    _, _, axes = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    expected = np.abs((unit - unit.mean(0)) @ axes[:2].T)
    plane = Plane.of(vectors)
    np.testing.assert_allclose(np.abs(plane.points(vectors)), expected, atol=2e-5)
    assert (plane.axes[np.abs(plane.axes).argmax(0), [0, 1]] > 0).all()


def test_pca_is_the_same_for_any_number_of_threads():
    vectors = side(50_000, 16)
    before, points = hotrow.kernels.threads._threads, []
    try:
        for count in (1, 2, 3):
            hotrow.set_threads(count)
            points.append(Map.of(vectors).points.tobytes())
    finally:
        hotrow.set_threads(before)
    assert len(set(points)) == 1


@pytest.mark.parametrize(("n", "dim"), [(0, 4), (1, 4), (2, 4), (5, 1)])
def test_a_side_of_next_to_nothing_has_a_map(n, dim):
    map = Map.of(Vectors.of(np.arange(n), np.ones((n, dim), np.float32)))
    assert map.points.shape == (n, 2)
    assert np.isfinite(map.points).all()
    assert map.stale == 0
    assert not map.points.flags.writeable


def test_a_vector_of_zeros_lies_where_all_zeros_lie():
    vectors = np.concatenate([np.zeros((2, 4)), np.random.default_rng(0).standard_normal((20, 4))]).astype(np.float32)
    points = Map.of(Vectors.of(np.arange(22), vectors)).points
    assert np.isfinite(points).all()
    assert (points[0] == points[1]).all()


def test_a_vector_that_is_not_finite_is_refused_by_its_id():
    vectors = np.ones((9_000, 2), np.float32)
    vectors[8_500, 1] = np.nan
    with pytest.raises(DataError, match="item 8500 isn't finite"):
        Map.of(Vectors.of(np.arange(9_000), vectors, "item"))


# --- neighbours ------------------------------------------------------------------------------------------------------


def test_nobody_is_its_own_neighbour_and_twins_are_each_others():
    vectors = side(50).vectors().copy()
    vectors[7] = vectors[40]
    rows, scores = nearest_of_all(Search(Vectors.of(np.arange(50), vectors)), 5)
    assert not (rows == np.arange(50)[:, None]).any()
    assert rows[7, 0] == 40
    assert rows[40, 0] == 7
    assert (np.diff(scores) <= 1e-6).all()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    np.testing.assert_allclose(scores, -np.sort(-cosines, axis=1)[:, :5], atol=1e-5)


def test_of_fewer_than_k_others_the_rest_is_none():
    rows, scores = nearest_of_all(Search(side(3)), 5)
    assert (rows[:, 2:] == -1).all()
    assert (rows[:, :2] >= 0).all()
    assert (scores[:, 2:] == 0).all()


def test_somebody_new_goes_to_the_most_of_its_neighbours_and_not_between():
    vectors = Vectors.of(np.arange(15), np.ones((15, 2)) + np.arange(15)[:, None] * [1e-4, 0])
    points = np.where(np.arange(15)[:, None] < 11, [0.0, 0.0], [100.0, 0.0]).astype(np.float32)
    [place] = placed(Search(vectors), np.ones((1, 2), np.float32), points)
    assert np.linalg.norm(place) < 1


def test_amid_fewer_neighbours_than_asked_for_somebody_new_goes_to_those():
    points = np.float32([[5, 1], [50, 50], [50, 50]])
    within = np.array([True, False, False])
    places = placed(Search(side(3)), side(3).vectors(), points, within)
    np.testing.assert_allclose(places, [[5, 1]] * 3, atol=1e-4)


def test_those_at_one_place_come_to_lie_apart_the_same_way_again():
    rows = np.arange(1000)
    first = scattered(np.zeros((1000, 2)), rows, 10)
    assert len(np.unique(first, axis=0)) == 1000
    assert np.abs(first).max() <= 0.0101
    assert (scattered(np.zeros((1000, 2)), rows, 10) == first).all()


# --- points stay -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(["pca", "umap"]))
def test_points_stay_whoever_comes_and_goes(data, method):
    first = side(60)
    map = Map.of(first)
    if method == "umap":  # as if it were one: what matters is how others are placed
        map = maps.replace(map, method="umap")
    then, vector = places(map), dict(zip(first.ids().tolist(), first.vectors(), strict=True))
    for turn in range(3):
        ids = list(vector)
        gone = data.draw(st.lists(st.sampled_from(ids), max_size=4, unique=True))
        turned = data.draw(st.lists(st.sampled_from(sorted(set(ids) - set(gone))), max_size=4, unique=True))
        new = data.draw(st.integers(0, 5))
        for id in gone:
            del vector[id]
        for id in turned:
            vector[id] = -vector[id]
        for id in vector.keys() - set(turned):
            vector[id] = vector[id] * np.float32(1.5) + np.float32(1e-3)  # longer, and hardly turned
        for i in range(new):
            vector[f"new {turn} {i}"] = np.float32([1, 2, 3, 4, 5, 6 + i])
        order = data.draw(st.permutations(list(vector)))
        map = map.updated(Vectors.of(order, np.stack([vector[id] for id in order])))
        assert map.ids.tolist() == order
        now = places(map)
        stay = [id for id in order if id in then and id not in turned]
        assert all(now[id] == then[id] for id in stay)
        assert np.isfinite(map.points).all()
        then = now


def test_what_is_new_or_turned_counts_as_stale_and_what_hardly_moved_does_not():
    first = side(100, 32)
    map = Map.of(first)
    vectors = np.concatenate([first.vectors() + np.float32(1e-3), np.ones((10, 32), np.float32)])
    vectors[:5] *= -1
    ids = [*first.ids().tolist(), *(f"new {i}" for i in range(10))]
    later = map.updated(Vectors.of(ids, vectors))
    assert later.stale == pytest.approx(15 / 110)
    assert (later.points[5:100] == map.points[5:]).all()
    assert not (later.points[:5] == map.points[:5]).all(1).any()
    np.testing.assert_allclose(later.points[100:], map._plane.points(vectors[100:]))
    assert later.stamp != map.stamp


def test_the_same_vectors_again_are_the_same_map():
    vectors = side()
    map = Map.of(vectors)
    again = map.updated(side())
    assert again.stamp == map.stamp
    assert again.points is map.points


def test_when_most_of_a_side_is_another_the_map_is_made_anew():
    map = maps.replace(Map.of(side(50)), method="umap")
    other = side(120, seed=1)
    assert map.updated(other).points.tolist() == Map.of(other).points.tolist()
    assert map.updated(other).method == "pca"
    assert len(map.updated(Vectors.of([], np.zeros((0, 6))))) == 0


def test_a_map_of_other_ids_or_another_length_is_refused():
    with pytest.raises(ArgumentError, match=r"string ids × 6 floats can't go on with int64 ids × 6"):
        Map.of(side()).updated(side(ids=np.arange(200)))
    with pytest.raises(ArgumentError, match="string ids × 5"):
        Map.of(side()).updated(side(dim=5))


# --- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [None, np.arange(200) - 100, np.arange(200, dtype=np.uint64) + np.uint64(2**63)])
def test_a_map_is_kept_and_opened_again_without_being_made(tmp_path, monkeypatch, ids):
    saved(tmp_path, side(ids=ids))
    map = Map.open(open_folder(tmp_path))
    monkeypatch.setattr(Plane, "of", None)
    again = Map.open(open_folder(tmp_path))
    assert again.points.tobytes() == map.points.tobytes()
    assert again.stamp == map.stamp
    assert (again.method, again.sampled, again.stale) == ("pca", 0, 0.0)
    assert again.ids.tolist() == again.vectors.ids().tolist()


def test_new_ids_of_a_delta_are_placed_and_kept_where_they_were_placed(tmp_path):
    table = saved(tmp_path, side())
    folder = open_folder(tmp_path)
    first = Map.open(folder)
    table.set(table.find(["new"], grow=True), np.ones((1, 6), np.float32))
    table.save_delta(tmp_path)
    later = Map.open(folder.refreshed(), before=first)
    assert places(later) == places(first) | {"new": places(later)["new"]}
    assert later.stale == pytest.approx(1 / 201)
    assert places(Map.open(open_folder(tmp_path))) == places(later)
    assert Map.open(open_folder(tmp_path), anew=True).stale == 0


def test_an_id_that_was_forgotten_meanwhile_is_not_kept(tmp_path):
    table = saved(tmp_path, side())
    folder = open_folder(tmp_path)
    folder.side().vectors()
    table.forget(["id 3"])
    table.save(tmp_path)
    assert len(Map.open(folder)) == 200  # what was asked for: the folder as it was
    assert "id 3" not in kept.read(folder.derived() / "maps", "id", "pca").ids.tolist()


def test_an_id_that_is_forgotten_while_a_map_is_written_is_not_kept(tmp_path, monkeypatch):
    table = saved(tmp_path, side())
    folder = open_folder(tmp_path)
    keep, written = kept.keep, []

    def slowly(*given):
        if not written:
            table.forget(["id 3"])
            table.save(tmp_path)
        keep(*given)
        written.append(len(given[1].ids))

    monkeypatch.setattr(kept, "keep", slowly)
    Map.open(folder)
    assert written == [200, 199]
    assert "id 3" not in kept.read(folder.derived() / "maps", "id", "pca").ids.tolist()


def test_a_kept_map_that_is_broken_is_made_anew_and_that_is_said(tmp_path, caplog):
    saved(tmp_path, side())
    map = Map.open(open_folder(tmp_path))
    [file] = (tmp_path / "derived" / "maps").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    logging.getLogger("hotrow").propagate = True
    again = Map.open(open_folder(tmp_path))
    assert again.stamp == map.stamp
    assert file.name in caplog.text
    assert not file.exists()


def test_where_nothing_can_be_kept_the_map_is_as_good_and_that_is_said_once(tmp_path, caplog):
    saved(tmp_path, side())
    (tmp_path / "derived").write_text("no folder")
    logging.getLogger("hotrow").propagate = True
    for _ in range(2):
        assert len(Map.open(open_folder(tmp_path))) == 200
    assert caplog.text.count("can't be kept") == 1


@pytest.mark.parametrize("link", ["derived", "derived/maps"])
def test_by_a_link_nothing_is_read_written_or_removed_elsewhere(tmp_path, caplog, link):
    saved(tmp_path / "model", side())
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "maps").mkdir(parents=True)
    for folder in (elsewhere, elsewhere / "maps"):
        (folder / "id-pca-1.arrow").write_text("somebody else's")
    (tmp_path / "model" / link).parent.mkdir(exist_ok=True)
    (tmp_path / "model" / link).symlink_to(elsewhere)
    logging.getLogger("hotrow").propagate = True
    assert len(Map.open(open_folder(tmp_path / "model"))) == 200
    assert "is a symbolic link" in caplog.text
    assert len(list(elsewhere.rglob("*"))) == 3


def test_a_map_that_is_kept_of_another_side_is_not_taken(tmp_path):
    saved(tmp_path, side())
    folder = open_folder(tmp_path)
    Map.open(folder)
    (made,) = (folder.derived() / "maps").glob("*.json")
    made.rename(made.with_name("user-pca.json"))
    with pytest.raises(CorruptError, match="another side"):
        kept.read(folder.derived() / "maps", "user", "pca")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "ü", "x" * 300, "CON", "a.json"])
def test_a_column_of_any_name_has_a_file_of_a_plain_one(name):
    made = kept.name_of(name, "pca")
    assert made.isascii()
    assert made.replace("-", "").isalnum()
    assert len(made) < 50


def test_a_method_or_a_side_that_is_none_is_refused(tmp_path):
    saved(tmp_path, side())
    with pytest.raises(ArgumentError, match="'pca' or 'umap'; got 'tsne'"):
        Map.open(open_folder(tmp_path), method="tsne")
    with pytest.raises(ArgumentError, match="'user'"):
        Map.open(open_folder(tmp_path), "user")


# --- UMAP ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def umap_that_doubles(monkeypatch):
    """In UMAP's place: twice what it begins with."""
    calls = []

    def double(start, rows, scores, progress):
        calls.append(len(start))
        progress(1, 2)
        progress(2, 2)
        return start * np.float32(2)

    monkeypatch.setattr(maps, "unfolded", double)
    monkeypatch.setattr(maps, "check_umap", lambda: None)
    return calls


def test_of_very_many_umap_sees_a_sample_and_the_others_lie_amid_it(tmp_path, monkeypatch, umap_that_doubles):
    monkeypatch.setattr(maps, "SAMPLE", 60)
    saved(tmp_path, side())
    told = []
    map = Map.open(open_folder(tmp_path), method="umap", progress=lambda *facts: told.append(facts))
    assert umap_that_doubles == [60]
    assert (map.method, map.sampled, map.stale) == ("umap", 60, 0.0)
    pca = Map.of(side())
    seen = maps.spread(200, 60)
    np.testing.assert_allclose(map.points[seen], 2 * pca.points[seen], atol=1e-5)
    groups = np.stack([map.points[i::3].mean(0) for i in range(3)])
    near = np.linalg.norm(map.points[:, None] - groups, axis=2).argmin(1)
    assert (near == np.arange(200) % 3).all()
    done = [each[0] for each in told]
    assert done == sorted(done)
    assert (told[-1][0], told[-1][1]) == (1000, 1000)
    assert {each[2]["stage"] for each in told} == {"finding neighbours", "unfolding", "placing the others"}
    again = Map.open(open_folder(tmp_path))
    assert (again.method, again.stamp, again.sampled) == ("umap", map.stamp, 60)
    assert Map.open(open_folder(tmp_path), method="pca").method == "pca"


def test_a_umap_that_is_too_old_gives_way_to_pca_for_good(tmp_path, umap_that_doubles):
    table = saved(tmp_path, side(40))
    Map.open(open_folder(tmp_path), method="umap")
    table.set(table.find([f"id {i}" for i in range(40, 140)], grow=True), side(140).vectors()[40:])
    table.forget(["id 0"])
    table.save(tmp_path)
    second = Map.open(open_folder(tmp_path))
    assert (second.method, second.stale) == ("pca", 0.0)
    kinds = {file.name.split("-")[1].removesuffix(".json") for file in (tmp_path / "derived" / "maps").iterdir()}
    assert kinds == {"pca"}
    table.find(["one more"], grow=True)
    table.save_delta(tmp_path)
    third = Map.open(open_folder(tmp_path))
    assert (third.points[:139] == second.points).all()
    assert third.stale == pytest.approx(1 / 140)


def test_a_umap_of_longer_vectors_gives_way_too(tmp_path, umap_that_doubles):
    saved(tmp_path, side(40))
    Map.open(open_folder(tmp_path), method="umap")
    saved(tmp_path, side(40, dim=5))
    assert Map.open(open_folder(tmp_path)).method == "pca"
    assert kept.read(tmp_path / "derived" / "maps", "id", "umap") is None
    assert kept.read(tmp_path / "derived" / "maps", "id", "pca").dim == 5


def test_a_umap_stays_where_pcas_map_is_asked_for(tmp_path, umap_that_doubles):
    saved(tmp_path, side(40))
    made = Map.open(open_folder(tmp_path), method="umap")
    for asked in ({"method": "pca"}, {"method": "pca", "anew": True}):
        assert Map.open(open_folder(tmp_path), **asked).method == "pca"
        assert Map.open(open_folder(tmp_path)).stamp == made.stamp


def test_a_few_points_are_no_neighbourhoods(umap_that_doubles):
    with pytest.raises(ArgumentError, match="at least 5 vectors, and there are 4"):
        Map.of(side(4)).better()
    assert Map.of(side(5)).better().method == "umap"


def test_without_umap_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr("hotrow.maps.unfolding.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "hotrow\[umap\]"'):
        Map.of(side()).better()


@pytest.fixture
def program(tmp_path):
    """A program in place of UMAP's, which prints and does what it is told to."""

    def write(text):
        path = tmp_path / "program.py"
        path.write_text(f"import sys, time\n{text}\n")
        return path

    return write


def test_a_process_of_umap_that_fails_is_an_error_with_its_last_words(tmp_path, program):
    for text, words in (
        ("print('1 2')\nraise ValueError('no such neighbour')", "1: ValueError: no such neighbour"),
        ("sys.exit(3)", "3: no word of why"),
    ):
        with pytest.raises(HotrowError, match=f"^UMAP ended with code {words}$"):
            unfolding._run(program(text), tmp_path, lambda done, total: None)


def test_what_progress_raises_ends_the_process(tmp_path, program):
    def stop(done, total):
        assert (done, total) == (3, 200)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # or this would take an hour
        unfolding._run(program("print('3 200', flush=True)\ntime.sleep(3600)"), tmp_path, stop)


@pytest.mark.long
def test_umap_keeps_groups_together(tmp_path):
    saved(tmp_path, side(90))
    told = []
    map = Map.open(open_folder(tmp_path), method="umap", progress=lambda done, total, facts: told.append(done))
    assert any(200 < done < 1000 for done in told)
    assert told[-1] == 1000
    groups = np.stack([map.points[i::3].mean(0) for i in range(3)])
    near = np.linalg.norm(map.points[:, None] - groups, axis=2).argmin(1)
    assert (near == np.arange(90) % 3).all()


@pytest.mark.long
def test_umap_gives_the_same_points_again():
    first, second = (Map.of(side(90)).better().points for _ in range(2))
    assert first.tobytes() == second.tobytes()
