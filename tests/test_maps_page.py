"""`hotrow map`: what the page of a map has inside, what is told of its ids, and that no id can do harm there."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import hotrow
from hotrow.apps.cli import main
from hotrow.apps.pairs import DEBIAN
from hotrow.apps.told import metadata_of
from hotrow.errors import ArgumentError, DataError, MissingExtraError
from hotrow.maps import Map, embedding, html, page_html, write_html
from hotrow.models import Retrieval, Vectors, open_folder
from hotrow.search import Metadata, Search
from hotrow.store import targets

pytestmark = pytest.mark.compiled

HOSTILE = [
    "</script><script>alert(1)</script>", "<!--<script>", "]]>", "&lt;&amp;", "\u202eright to left", "a\u2028b",
    'quo"te\\', "\0", "a/../b", "long" * 2500, "ü", "漢字", "",
]  # fmt: skip
ARRAYS = {"float32": "<f4", "int32": "<i4", "int16": "<i2"}


def folder_of(path, ids, dim=9):
    """A saved table of these ids, opened."""
    table = hotrow.Table(dim, seed=1)
    table.find(ids, grow=True)
    table.save(path)
    return open_folder(path)


def opened(page):
    """The data in a page, and its blobs as arrays, as a browser reads them."""
    [text] = re.findall(r'<script type="application/json" id="hotrow-data">(.*?)</script>', page, re.DOTALL)
    data = json.loads(text)
    blobs = {}
    for name, blob in data["blobs"].items():
        raw = gzip.decompress(base64.b64decode(blob["data"]))
        if blob["dtype"] == "json":
            blobs[name] = json.loads(raw)
            assert blob["shape"] == [len(blobs[name])]
        else:
            blobs[name] = np.frombuffer(raw, ARRAYS[blob["dtype"]]).reshape(blob["shape"])
    return data, blobs


# --- what is inside --------------------------------------------------------------------------------------------------


def test_a_page_has_all_that_a_reader_asks_for(tmp_path):
    folder = folder_of(tmp_path / "t", [*HOSTILE, *(f"id {i}" for i in range(40))])
    vectors, map = folder.side(), Map.open(folder)
    n = len(vectors)
    columns = {"id": vectors.ids(), "kind": ["</script>" if i % 2 else "b" for i in range(n)], "size": np.arange(n) / 2}
    data, blobs = opened(embedding.element(embedding.embedded(folder, map, Metadata.of(columns, vectors), most=1000)))
    assert blobs["ids"] == vectors.ids().to_pylist()
    assert (blobs["points"] == map.points).all()
    assert (blobs["weights"] == vectors.vectors()[:, :8]).all()
    near, scores = Search(vectors).near(vectors.vectors(), 11)
    assert (blobs["neighbours"] == near[:, 1:]).mean() > 0.99
    assert (blobs["neighbours"] != np.arange(n)[:, None]).all()
    np.testing.assert_allclose(blobs["scores"] / 32767, scores[:, 1:], atol=1e-4)
    assert [column["name"] for column in data["map"]["columns"]] == ["kind", "size"]
    values = data["map"]["columns"][0]["values"]
    assert [values[code] for code in blobs["column 0"]] == columns["kind"]
    assert (blobs["column 1"] == columns["size"]).all()
    assert data["map"] | {"columns": None} == {
        "side": "id", "n": n, "stamp": map.stamp, "method": "pca", "stale": 0.0, "sampled": 0, "better": None,
        "columns": None,
    }  # fmt: skip
    side = {"name": "id", "rows": n, "dim": 9, "kind": "string", "columns": ["kind", "size"]}
    told = {"name": "t", "kind": "table", "stamp": folder.stamp, "sides": [side], "report": None}
    assert data["info"] == told
    assert (data["rows"], data["metric"], data["said"], data["format"]) == (n, "cosine", [], 1)
    assert "rows" not in blobs


def test_no_id_can_end_the_element_that_it_is_in(tmp_path):
    folder = folder_of(tmp_path / "<b>", HOSTILE)
    columns = {"id": HOSTILE, "<!-- a": HOSTILE}
    data = embedding.embedded(folder, Map.open(folder), Metadata.of(columns, folder.side()), most=1000)
    text = embedding.element(data).removeprefix('<script type="application/json" id="hotrow-data">')
    assert not set("<>&\u2028\u2029") & set(text.removesuffix("</script>"))
    assert data["info"]["name"] == "<b>"


def test_of_more_than_asked_for_a_spread_sample_is_shown_and_that_is_said(tmp_path):
    folder = folder_of(tmp_path, np.arange(100) * 7)
    data, blobs = opened(embedding.element(embedding.embedded(folder, Map.open(folder), most=30)))
    assert blobs["ids"] == [str(7 * row) for row in blobs["rows"]]
    assert (data["map"]["n"], data["rows"]) == (30, 100)
    assert data["said"] == ["A spread sample of 30 of the 100 points is shown."]
    assert np.diff(blobs["rows"]).min() >= 3
    assert blobs["neighbours"].max() < 30
    assert (blobs["weights"] == folder.side().vectors()[blobs["rows"], :8]).all()


def test_very_many_points_have_no_neighbours_inside_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "MOST_DETAILS", 10)
    folder = folder_of(tmp_path, np.arange(11))
    data, blobs = opened(embedding.element(embedding.embedded(folder, Map.open(folder), most=100)))
    assert set(blobs) == {"points", "ids"}
    assert "more than 10 points" in data["said"][0]


def test_what_a_report_has_that_json_has_not_is_null_in_a_page(tmp_path):
    folder = folder_of(tmp_path, [1, 2])
    (tmp_path / "report.json").write_text('{"model": {"recall@10": NaN}}')
    told = embedding.info(open_folder(tmp_path), {})
    assert told["report"] == {"model": {"recall@10": None}}
    assert folder.report() is not None


def test_a_column_that_is_to_be_first_is_first_and_one_that_is_not_there_is_refused():
    vectors = Vectors.of([1, 2], np.eye(2))
    metadata = Metadata.of({"id": [1, 2], "a": ["x", "y"], "b": ["z", "z"]}, vectors)
    assert [each["name"] for each in embedding.told(Map.of(vectors), metadata, "b")["columns"]] == ["b", "a"]
    with pytest.raises(ArgumentError, match="no column 'c'; there are 'a', 'b'"):
        embedding.column_names(metadata, "c")
    with pytest.raises(ArgumentError, match="there is none at all"):
        embedding.column_names(None, "c")
    with pytest.raises(ArgumentError, match="most=0"):
        embedding.embedded(None, Map.of(vectors), most=0)


# --- the page --------------------------------------------------------------------------------------------------------

PAGE = """<!doctype html>
<!--
The page, as the server gives it. Not <script src="page/…"></script> --><html><head>
<meta charset="utf-8">
<link rel="stylesheet" href="page/page.css">
</head><body><p id="a"></p>
<script src="page/plotly.min.js"></script>
<script src="page/main.js"></script>
</body></html>"""
FILES = {
    "page.html": PAGE, "page.css": "p { color: red }", "plotly.min.js": "var plotly = '<!-- </SCRIPT>';",
    "main.js": "document.title = '漢';",
}  # fmt: skip


@pytest.fixture
def small_page(monkeypatch):
    """A page of few files in place of the real one."""
    monkeypatch.setattr(html, "asset", lambda name: FILES[name].encode() if name in FILES else None)


def test_a_page_of_its_own_has_its_files_inside_and_lets_nothing_else_run(small_page):
    assert page_html("server").decode() == PAGE
    page = page_html({"ids": ["</script>"]}).decode()
    assert "<style>p { color: red }</style>" in page
    assert not re.search(r'(src|href)="page/[a-z]', page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL | re.IGNORECASE)
    assert scripts == ["var plotly = '<\\!-- <\\/SCRIPT>';", FILES["main.js"]]
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', page)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy.startswith("default-src 'none'; ")
    assert re.findall(r"'sha256-(.*?)'", policy) == hashes
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("hotrow-data")
    assert page.index("hotrow-data") < page.index("var plotly") < page.index("document.title")
    assert page.count("hotrow-data") == 1


def test_a_page_without_a_script_or_with_a_file_that_is_not_there_is_refused(small_page, monkeypatch):
    with pytest.raises(ArgumentError, match="and scripts, and this one hasn't"):
        html.whole('<meta charset="utf-8">', FILES.get, "")
    monkeypatch.delitem(FILES, "main.js")
    with pytest.raises(ArgumentError, match=r"no file 'main\.js'"):
        page_html({})


@pytest.mark.parametrize("name", ["../html.py", "..", "", "page.html/", "a/b.js", "/etc/passwd", "nothing.js", "x.PY"])
def test_no_name_leads_out_of_the_folder_of_the_page(name):
    assert html.asset(name) is None


def test_the_page_brings_plotly_or_says_how_to_get_it(monkeypatch):
    assert b"Licensed under the MIT license" in html.asset("plotly.min.js")[:300]
    monkeypatch.setattr(html, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "hotrow\[serve\]"'):
        html.asset("plotly.min.js")


# --- what is told of ids ---------------------------------------------------------------------------------------------


def test_a_file_tells_categories_numbers_dates_and_bags(tmp_path):
    folder = folder_of(tmp_path / "t", [10, 20, 30])
    file = tmp_path / "about.csv"
    file.write_text("""\
name,id,weight,born,tags,same
a,20,1.5,2020-07-02,x|y,k
b,10,2.5,2021-01-01,y|z,k
a,77,3.5,2022-01-01,y|x,k
b,not one,4.5,2022-01-01,z|y,k
b,78,4.5,2022-01-01,z|y|x,k
b,79,4.5,2022-01-01,y,k
""")
    metadata = metadata_of(folder, None, file)
    assert {name: column.kind for name, column in metadata.columns.items()} == {
        "name": "category", "weight": "number", "born": "number", "tags": "category"
    }  # fmt: skip
    name, weight, born, tags = metadata.columns.values()
    assert [name.values[code] if code >= 0 else None for code in name.codes] == ["b", "a", None]
    np.testing.assert_array_equal(weight.numbers, np.float32([2.5, 1.5, np.nan]))
    np.testing.assert_allclose(born.numbers, [2021, 2020.5, np.nan], atol=2e-3)
    assert [tags.values[code] if code >= 0 else None for code in tags.codes] == ["y", "y", None]  # which most have


def test_the_column_of_ids_is_named_as_the_side_or_the_first(tmp_path):
    folder = folder_of(tmp_path / "t", ["a", "b"])
    file = tmp_path / "about.parquet"
    parquet.write_table(pa.table({"which": ["b", "a", None], "n": [1.5, 2.5, 3.5]}), file)
    assert metadata_of(folder, "id", str(file)).columns["n"].numbers.tolist() == [2.5, 1.5]
    parquet.write_table(pa.table({"n": [1.5, 2.5], "id": ["b", "a"]}), file)
    assert metadata_of(folder, "id", file).columns["n"].numbers.tolist() == [2.5, 1.5]


def test_a_file_that_says_nothing_of_the_side_is_refused(tmp_path):
    folder = folder_of(tmp_path / "t", ["a", "b"])
    for table, words in (
        ({"id": ["c"], "n": [1]}, "has no id of the model, such as 'a'"),
        ({"id": [1.5], "n": [1]}, "is double and has no id of the model"),
        ({"id": ["a"]}, "no column that says something"),
        ({"id": ["a", "b"], "n": ["x", "x"]}, "no column that says something"),
    ):
        parquet.write_table(pa.table(table), tmp_path / "about.parquet")
        with pytest.raises(DataError, match=words):
            metadata_of(folder, None, tmp_path / "about.parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of users and items with features of the items, a bag and one value each."""
    path = tmp_path_factory.mktemp("model") / "m"
    items = [f"item {i}" for i in range(12)]
    pairs = [f"user {i % 6}" for i in range(60)], [items[i * 7 % 12] for i in range(60)]
    tags = [items[0], items[0], items[1], items[2]], ["rare", "often", "often", "often"]
    colours = items[:3], [3, 3, 9]
    features = {"tag": tags, "item": colours}
    Retrieval(8, epochs=1).fit(pairs, item_features=features).save(path)
    return path


def test_without_a_file_the_features_of_the_model_are_told(model):
    folder = open_folder(model)
    metadata = metadata_of(folder)
    told = {
        name: dict(
            zip(folder.side().ids().to_pylist(), [[*column.values, None][code] for code in column.codes], strict=True)
        )
        for name, column in metadata.columns.items()
    }
    assert {id: value for id, value in told["tag"].items() if value} == dict.fromkeys(
        ["item 0", "item 1", "item 2"], "often"
    )
    assert [told["item (feature)"][f"item {i}"] for i in range(4)] == ["3", "3", "9", None]
    assert metadata_of(folder, "user") is None


def test_of_debians_packages_the_section_is_told(tmp_path):
    folder_of(tmp_path, ["python3-numpy", "libc6", "no package"])
    assert metadata_of(open_folder(tmp_path)) is None
    (tmp_path / "report.json").write_text(json.dumps({"data": DEBIAN}))
    column = metadata_of(open_folder(tmp_path)).columns["section"]
    assert [[*column.values, None][code] for code in column.codes] == ["python", "libs", None]


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_page_and_says_what_is_in_it(model, tmp_path, capfd, small_page):
    file = tmp_path / "map.html"
    assert main(["map", str(model), "-o", str(file), "--column", "tag"]) == 0
    said = capfd.readouterr().out
    assert said.startswith("12 items by PCA, coloured by tag\n")
    assert "PCA shows the outline" in said
    (tmp_path / "told.csv").write_text("item,shelf\nitem 1,a\nitem 2,b\nitem 99,b\n")
    assert main(["map", str(model), "-o", str(file), "--metadata", str(tmp_path / "told.csv")]) == 0
    assert "nothing is told of 10 of them; 1 row of what is told about others" in capfd.readouterr().out
    assert main(["map", str(model), "-o", str(file), "--column", "tag"]) == 0
    capfd.readouterr()
    data, blobs = opened(file.read_text("utf-8"))
    assert data["map"]["columns"][0]["name"] == "tag"
    assert len(blobs["points"]) == 12
    assert main(["map", str(model), "-o", str(file), "--side", "user", "--most", "4", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert (result["side"], result["points"], result["of"], result["method"]) == ("user", 4, 6, "pca")
    assert result["bytes"] == file.stat().st_size


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--column", "shelf"], "no column 'shelf'; there are"),
        (["--side", "shop"], "'item', 'user'; got side='shop'"),
        (["-o", "{tmp}/nowhere/map.html"], "is no folder: make it first"),
        (["-o", "{tmp}"], "is a folder; give the name of a file, as {tmp}/map"),
        (["--metadata", "{tmp}/nothing.csv"], "no file"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(model, tmp_path, capfd, small_page, arguments, words):
    given = [each.format(tmp=tmp_path) for each in arguments]
    assert main(["map", str(model), "-o", str(tmp_path / "map.html"), *given]) == 1
    assert words.format(tmp=tmp_path) in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_into_a_model_and_nothing_but_a_page_is_replaced(tmp_path, capfd, small_page):
    path, mine = tmp_path / "t", tmp_path / "precious.txt"
    folder = folder_of(path, ["a", "b"])
    manifest = path / "generation-000001" / "manifest.json"
    before = manifest.read_bytes()
    (tmp_path / "link.html").symlink_to(path / "map.html")
    for out in (path / "map.html", manifest, path / "derived" / ".." / "new.html", tmp_path / "link.html"):
        assert main(["map", str(path), "-o", str(out)]) == 1
        assert "is within the model's folder" in capfd.readouterr().err
        with pytest.raises(DataError, match="is within the model's folder"):
            write_html(folder, None, out)
    assert manifest.read_bytes() == before
    assert sorted(one.name for one in path.iterdir()) == ["generation-000001", "lock"]
    for text in ("mine", "<!doctype html>\n<p>mine", " " + PAGE):
        mine.write_text(text, "utf-8")
        assert main(["map", str(path), "-o", str(mine)]) == 1
        assert "is there and is no page of a map" in capfd.readouterr().err
        with pytest.raises(DataError, match="is no page of a map"):
            write_html(folder, None, mine)
        assert mine.read_text("utf-8") == text
    mine.write_bytes(b"")
    for _ in range(2):
        assert main(["map", str(path), "-o", str(mine)]) == 0
        assert opened(mine.read_text("utf-8"))[1]["ids"] == ["a", "b"]


def test_the_page_begins_with_what_it_is_known_by():
    assert html.asset("page.html").startswith(html._BEGINS)
    assert len(html._BEGINS) <= targets._HEAD


def test_a_page_can_be_written_from_python(model, tmp_path, small_page):
    map = write_html(open_folder(model), "user", tmp_path / "users.html")
    assert (map.method, len(map)) == ("pca", 6)
    assert len(opened((tmp_path / "users.html").read_text("utf-8"))[1]["ids"]) == 6
