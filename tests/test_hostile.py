"""Broken and hostile files: each loader gives the same content or an error of ours, and nothing outside is touched.

What the loaders are, and how their files are changed, is in `loaders.py`. Where checksums are right, a stranger wrote
the file; there the promise is an error of ours, or a table that can be used.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import loaders
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loaders import LOADERS, WORDS, contents, seal_again
from pyarrow import parquet
from test_snapshot import sign, sign_again

import hotrow
from hotrow.apps.cli import main
from hotrow.apps.reading import read_columns
from hotrow.errors import CorruptError, DataError, HotrowError
from hotrow.models import Classifier, Retrieval, classifier_files
from hotrow.models.classify import _arguments
from hotrow.models.inputs import Inputs, tidy
from hotrow.store import snapshot
from hotrow.store.format import read_arrays, write_arrays
from hotrow.store.lock import lock
from hotrow.store.manifest import part_to_json

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")


# --- bytes that have changed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADERS)
def test_cut_and_flipped_files_give_the_same_content_or_an_error_of_ours(tmp_path, name):
    needed = {"jax": "jax", "torch": "torch", "vectors, gensim": "gensim", "vectors, keras": "h5py"}
    pytest.importorskip(needed.get(name, "numpy"))
    tried, _ = loaders.sweep(LOADERS[name], tmp_path, lambda data: loaders.some(data, len(data), 12))
    assert tried >= 24


def test_a_sweep_notices_other_content_other_errors_and_errors_that_name_no_file(tmp_path):
    def of(answer, **how):
        def write(folder):
            (folder / "file").write_bytes(b"abc")
            return lambda: (folder / "file").read_bytes() == b"abc" or answer()

        return loaders.Loader(write, **how)

    def fails(error):
        raise error

    with pytest.raises(AssertionError, match="file, cut to 0 bytes"):
        loaders.sweep(of(lambda: "another"), tmp_path, loaders.everything)
    with pytest.raises(AssertionError, match="which file"):
        loaders.sweep(of(lambda: fails(CorruptError("which file?"))), tmp_path, loaders.everything)
    with pytest.raises(KeyError):
        loaders.sweep(of(lambda: fails(KeyError("raw")), names=False), tmp_path, loaders.everything)
    assert loaders.sweep(of(lambda: "another", sealed=False), tmp_path, loaders.everything) == (27, 0)
    assert loaders.sweep(of(lambda: True), tmp_path, loaders.everything) == (27, 27)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
@pytest.mark.parametrize("name", LOADERS)
def test_every_cut_and_every_flipped_bit_gives_the_same_content_or_an_error_of_ours(tmp_path, name):
    loaders.sweep_in_a_child(Path(loaders.__file__), name, tmp_path)


def test_an_offset_in_an_arrow_file_that_leads_out_of_it_is_refused(tmp_path):
    """Arrow itself believes it, and dies."""
    offsets = pa.py_buffer(np.array([0, 5, 1 << 30, 9], np.int32))
    text = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"wild text"))
    for new, name in ((pa.ipc.new_file, "wild.arrow"), (pa.ipc.new_stream, "wild.arrows")):
        with new(str(tmp_path / name), pa.schema([("user", pa.int64()), ("item", pa.string())])) as out:
            out.write_batch(pa.record_batch([pa.array([1, 2, 3]), text], names=["user", "item"]))
        with pytest.raises(DataError, match=f"{name} can't be read: .*offset"):
            read_columns(tmp_path / name, {"user": "user", "item": "item"})


def test_a_code_in_an_arrow_file_that_stands_for_no_word_is_refused(tmp_path):
    words = pa.DictionaryArray.from_arrays(pa.array([0, 99], pa.int32()), pa.array(["cup", "mug"]), safe=False)
    batch = pa.record_batch([pa.array([1, 2]), words], names=["user", "item"])
    with pa.ipc.new_file(str(tmp_path / "wild.arrow"), batch.schema) as out:
        out.write_batch(batch)
    with pytest.raises(DataError, match=r"wild\.arrow can't be read: "):
        read_columns(tmp_path / "wild.arrow", {"user": "user", "item": "item"})


def test_a_name_of_a_column_that_is_no_text_is_refused(tmp_path):
    for name, put in (("odd.arrow", pa.ipc.new_file), ("odd.parquet", None)):
        table = pa.table({"user": [1], "MARK": [2]})
        if put is None:
            parquet.write_table(table, tmp_path / name, store_schema=False)
        else:
            with put(str(tmp_path / name), table.schema) as out:
                out.write_table(table)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data.replace(b"MARK", b"M\xff\xffK"))
        with pytest.raises(DataError, match=f"{name} can't be read"):
            read_columns(tmp_path / name, {"user": "user", "item": None})


# --- links, pipes and folders in the places of files -----------------------------------------------------------------


def link(path: Path, outside: Path) -> None:
    """The file itself, from elsewhere."""
    shutil.copy(path, outside / path.name)
    path.unlink()
    path.symlink_to(outside / path.name)


def pipe(path: Path, outside: Path) -> None:
    """To open one for reading would wait for ever."""
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def device(path: Path, outside: Path) -> None:
    """It has no end."""
    path.unlink()
    path.symlink_to("/dev/zero")


PLACES = {"a link": link, "a pipe": pipe, "a folder": folder, "a device": device}
OURS = ["snapshot", "view", "retrieval", "ratings", "classifier"]


@needs_pipes
@pytest.mark.parametrize("put", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("name", OURS)
def test_whatever_stands_in_the_place_of_a_file_is_refused(tmp_path, name, put):
    (tmp_path / "outside").mkdir()
    whole = tmp_path / "whole"
    loader = LOADERS[name]
    whole.mkdir()
    loader.write(whole)
    for file in loaders.files_of(loader, whole):
        place = tmp_path / file.relative_to(whole).as_posix().replace("/", " ")
        place.mkdir()
        load = loader.write(place)
        load()
        put(place / file.relative_to(whole), tmp_path / "outside")
        with pytest.raises(CorruptError, match=file.name):
            load()


@pytest.mark.parametrize("side", ["users", "items"])
def test_a_model_whose_tables_are_elsewhere_is_neither_read_nor_saved_over(tmp_path, side):
    model = Retrieval(2, epochs=1).fit((["ann", "bob"], ["tea", "mug"]))
    model.save(tmp_path / "model")
    (tmp_path / "model" / side).rename(tmp_path / "outside")
    (tmp_path / "model" / side).symlink_to(tmp_path / "outside")
    before = sorted(path for path in (tmp_path / "outside").rglob("*"))
    with pytest.raises(CorruptError, match=f"{side}: is a symbolic link"):
        Retrieval.load(tmp_path / "model")
    for _ in range(3):
        with pytest.raises(CorruptError, match=f"{side}: is a symbolic link"):
            model.save(tmp_path / "model")
    assert sorted(path for path in (tmp_path / "outside").rglob("*")) == before


def test_what_a_save_clears_away_is_never_elsewhere(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("pairs-000007.safetensors", "net-000007.keras", "kept"):
        (outside / name).write_bytes(b"mine")
    model = Retrieval(2, epochs=1).fit((["ann", "bob"], ["tea", "mug"]))
    model.save(tmp_path / "model")
    for at, there in {
        "pairs-000007.safetensors": outside / "pairs-000007.safetensors",
        "model.json.tmp": outside / "kept",
        "pairs-000008.safetensors": outside,
        "users/generation-000001/deep": outside,
        "users/generation-000008": outside,
    }.items():
        (tmp_path / "model" / at).symlink_to(there)
    (tmp_path / "model" / "pairs-000009.safetensors").mkdir()
    for _ in range(3):
        model.save(tmp_path / "model")
    assert contents(Retrieval.load(tmp_path / "model").users) == contents(model.users)
    described = {"config": {}, "columns": {"a": {}}, "classes": ["x", "y"], "notes": {}}
    net = tmp_path / "net"
    net.mkdir()
    (net / "net-000007.keras").symlink_to(outside / "net-000007.keras")
    (net / "net-000008.keras").mkdir()
    (net / "classifier.json.tmp").symlink_to(outside / "kept")
    for _ in range(2):
        (net / "new.keras").symlink_to(outside / "kept")
        classifier_files.save(net, described, lambda path: path.write_bytes(b"net"))
    assert classifier_files.read(net)[1].read_bytes() == b"net"
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == dict.fromkeys(
        ("pairs-000007.safetensors", "net-000007.keras", "kept"), b"mine"
    )


def test_a_net_of_a_very_high_number_is_followed_by_the_next(tmp_path):
    described = {"config": {}, "columns": {"a": {}}, "classes": ["x", "y"], "notes": {}}
    (tmp_path / "net-999999.keras").write_bytes(b"")
    classifier_files.save(tmp_path, described, lambda path: path.write_bytes(b"net"))
    assert classifier_files.read(tmp_path)[1].name == "net-1000000.keras"


def test_a_save_that_no_reader_would_see_is_refused(tmp_path):
    table = loaders.a_table()
    table.save(tmp_path)
    last = tmp_path / f"generation-{10**18 - 1}"
    last.mkdir()
    (last / "manifest.json").touch()
    with pytest.raises(CorruptError, match=f"generation-{10**18 - 1}: .*no number is left"):
        table.save(tmp_path)
    assert contents(hotrow.load(tmp_path, generation=1)) == contents(table)


@needs_pipes
def test_a_lock_that_is_something_else_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "outside").write_text("mine")
    table = loaders.a_table()
    for name, make in {
        "symbolic": lambda path: path.symlink_to(tmp_path / "outside"),
        "hard": lambda path: path.hardlink_to(tmp_path / "outside"),
        "pipe": os.mkfifo,
        "long": lambda path: path.write_bytes(bytes(1000)),
        "folder": Path.mkdir,
    }.items():
        (tmp_path / name).mkdir()
        make(tmp_path / name / "lock")
        with pytest.raises(OSError, match=name):
            table.save(tmp_path / name)
    assert (tmp_path / "outside").read_text() == "mine"
    assert (tmp_path / "long" / "lock").read_bytes() == bytes(1000)
    with lock(tmp_path), pytest.raises(hotrow.LockedError), lock(tmp_path):
        pass


# --- descriptions by a stranger, whose checksum is right -------------------------------------------------------------


def change(path: Path, **fields) -> None:
    """Say something else, under a checksum that is right."""
    seal_again(path, json.loads(path.read_text("utf-8")) | fields)


MODEL = {
    "another format": {"format": 2},
    "a format that is true": {"format": True},
    "no config": {"config": None},
    "a config of another dim": {"config": {"dim": 4}},
    "a dim below 0": {"config": {"dim": -1}},
    "an endless dim": {"config": {"dim": 1 << 62}},
    "a dim of text": {"config": {"dim": "2"}},
    "a huge learning rate": {"config": {"dim": 2, "learning_rate": 10**400}},
    "a seed of text": {"config": {"dim": 2, "seed": "x"}},
    "a temperature of a list": {"config": {"dim": 2, "loss": "cosine", "temperature": [1]}},
    "a loss of a list": {"config": {"dim": 2, "loss": ["bpr"]}},
    "an argument that isn't": {"config": {"dim": 2, "self": 1}},
    "no generations": {"generations": {}},
    "a generation of text": {"generations": {"users": "../1", "items": 1}},
    "a generation that is true": {"generations": {"users": True, "items": 1}},
    "a generation of 1.0": {"generations": {"users": 1.0, "items": 1}},
    "a generation that isn't there": {"generations": {"users": 8, "items": 1}},
    "pairs of nothing": {"pairs": {}},
    "pairs that are a list": {"pairs": ["name"]},
    "more": {"more": 1},
}
NAMES = [
    "../pairs-000001.safetensors", "/etc/passwd", "C:\\pairs-000001.safetensors", "pairs-000001.safetensors\0",
    "pairs-000001.safetensors\n", "pairs-../../x.safetensors", "pairs-٠٠٠٠٠١.safetensors", "pairs-000001.safetensors/",
    "ｐairs-000001.safetensors", "pairs-" + "1" * 5000 + ".safetensors", "", ".", "con", 7, None, ["pairs"],
]  # fmt: skip


@pytest.mark.parametrize("what", MODEL)
def test_a_hostile_model_json_is_refused(tmp_path, what):
    Retrieval(2, epochs=1).fit((["ann", "bob"], ["tea", "mug"])).save(tmp_path)
    change(tmp_path / "model.json", **MODEL[what])
    with pytest.raises(HotrowError, match=str(tmp_path)):
        Retrieval.load(tmp_path)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    Retrieval(2, epochs=1).fit((["ann", "bob"], ["tea", "mug"])).save(tmp_path / "model")
    LOADERS["classifier"].write(tmp_path)
    for path, field, load in (
        (tmp_path / "model" / "model.json", "pairs", lambda: Retrieval.load(tmp_path / "model")),
        (tmp_path / "classifier.json", "net", lambda: classifier_files.read(tmp_path)),
    ):
        entry = json.loads(path.read_text("utf-8"))[field]
        for hostile in (
            name,
            name.replace("pairs", "net").replace("safetensors", "keras") if name and type(name) is str else 1,
        ):
            change(path, **{field: entry | {"name": hostile}})
            with pytest.raises(CorruptError, match=rf"{path.name}: lists a file that no snapshot has, nor a model"):
                load()


def test_a_description_is_refused_without_its_checksum_too_long_or_no_plain_json(tmp_path):
    Retrieval(2, epochs=1).fit((["ann", "bob"], ["tea", "mug"])).save(tmp_path)
    path = tmp_path / "model.json"
    fields = json.loads(path.read_text())
    for text in ("", "{}", json.dumps(fields), json.dumps({k: v for k, v in fields.items() if k != "sha256"})):
        path.write_text(text)
        with pytest.raises(CorruptError, match=r"model\.json: isn't what was written \(its checksum differs\)"):
            Retrieval.load(tmp_path)
    for text in (
        '{"a": ' + "[" * 200_000,
        '{"a": 1, "a": 1',
        '{"a": NaN',
        '{"sha256": "x"',
        '{"a": 1e999',
        "[1",
        "\ud800",
    ):
        start = (text + ', "sha256": "').encode("utf-8", "surrogatepass")
        path.write_bytes(loaders.seal(start))
        with pytest.raises(CorruptError, match=r"model\.json: "):
            Retrieval.load(tmp_path)
    os.truncate(path, 1 << 40)
    with pytest.raises(CorruptError, match=r"more than any model\.json"):
        Retrieval.load(tmp_path)


def test_pairs_of_rows_that_are_not_there_or_out_of_order_are_refused(tmp_path):
    Retrieval(2, epochs=1).fit((["ann", "bob"], ["tea", "mug"])).save(tmp_path)
    for pairs in ([2 << 32], [2], [1, 1], [1 << 32, 1]):
        file = tmp_path / "pairs-000001.safetensors"
        file.unlink()
        part = write_arrays(file, {"pairs": np.array(pairs, np.uint64)})
        change(tmp_path / "model.json", pairs=part_to_json(part))
        with pytest.raises(CorruptError, match=r"pairs-000001\.safetensors: has pairs"):
            Retrieval.load(tmp_path)


def keras_dense(**fields):
    return {"module": "keras.layers", "class_name": "Dense", "config": {}, "registered_name": None} | fields


NETS = {
    "code": (keras_dense(class_name="Lambda"), "keras.layers.Lambda"),
    "a file of its own": (keras_dense(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}), "StringLookup"),
    "a function": ({"class_name": "function", "config": "system", "module": "os"}, "os.function"),
    "another module": (keras_dense(module="keras.src.layers"), "keras.src.layers.Dense"),
    "no module": (keras_dense(module=None), "None.Dense"),
    "a module and no class": ({"module": "os"}, "os.None"),
    "somebody's class": (keras_dense(registered_name="mine>Dense"), "keras.layers.Dense"),
    "deep within": ({"config": [[{"inner": keras_dense(class_name="Lambda")}]]}, "keras.layers.Lambda"),
    "a list": ([], "isn't a JSON object"),
}


def write_net(path, config, names=("metadata.json", "config.json", "model.weights.h5"), **how):
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name in names:
            archive.writestr(name, config if type(config) is bytes else json.dumps(config))


@pytest.mark.parametrize("what", NETS)
def test_a_net_that_names_what_no_classifier_is_made_of_is_refused(tmp_path, what):
    config, words = NETS[what]
    write_net(tmp_path / "net", config)
    with pytest.raises(CorruptError, match=words):
        classifier_files.check_net(tmp_path / "net")


def test_a_net_is_an_archive_of_just_three_files_that_are_not_compressed(tmp_path):
    path = tmp_path / "net"
    write_net(path, keras_dense())
    classifier_files.check_net(path)
    write_net(path, keras_dense(), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CorruptError, match="is compressed"):
        classifier_files.check_net(path)
    for names in (["config.json"], ["../x", "config.json", "metadata.json", "model.weights.h5"]):
        write_net(path, keras_dense(), names)
        with pytest.raises(CorruptError, match="holds"):
            classifier_files.check_net(path)
    write_net(path, b" " * (16 << 20) + b" {}")
    with pytest.raises(CorruptError, match="more than 16,777,216 bytes"):
        classifier_files.check_net(path)
    for text in (b"{", b'{"a": ' + b"[" * 100_000, b'{"module": "a", "module": "b"}', b"\xff"):
        write_net(path, text)
        with pytest.raises(CorruptError, match="isn't valid JSON"):
            classifier_files.check_net(path)
    path.write_bytes(b"no archive")
    with pytest.raises(CorruptError, match="isn't a net"):
        classifier_files.check_net(path)


# --- what commands look at -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "[1]", '"x"', "{}", "[" * 100_000, '{"data": 1}', '{"data": "x", "seconds": "long", "model": {}}', "\xff"],
    ids=range(8),
)
def test_a_report_that_no_training_wrote_is_told_in_a_line(tmp_path, capfd, text):
    Retrieval(2, epochs=1).fit((["ann", "bob"], ["tea", "mug"])).save(tmp_path)
    (tmp_path / "report.json").write_text(text, "latin-1")
    done = main(["inspect", str(tmp_path)])
    assert (done, "report.json isn't what" in capfd.readouterr().err) == ((0, False) if text == "{}" else (1, True))


@needs_pipes
def test_commands_look_at_nothing_outside_of_a_model(tmp_path, capfd):
    Retrieval(2, epochs=1).fit((["ann", "bob"], ["tea", "mug"])).save(tmp_path / "model")
    (tmp_path / "outside.json").write_text('{"data": "secret"}')
    (tmp_path / "model" / "report.json").symlink_to(tmp_path / "outside.json")
    assert main(["inspect", str(tmp_path / "model")]) == 1
    assert "report.json: is a symbolic link" in capfd.readouterr().err
    (tmp_path / "model" / "users").rename(tmp_path / "users")
    (tmp_path / "model" / "users").symlink_to(tmp_path / "users")
    before = {path: path.read_bytes() for path in (tmp_path / "users").rglob("*") if path.is_file()}
    for command in (["inspect"], ["verify"], ["forget", "ann", "--rewrite"], ["recommend", "ann"], ["compact"]):
        name, *others = command
        assert main([name, str(tmp_path / "model"), *others]) == 1, command
        assert "users: is a symbolic link" in capfd.readouterr().err, command
    assert {path: path.read_bytes() for path in (tmp_path / "users").rglob("*") if path.is_file()} == before


# --- whatever a stranger may write -----------------------------------------------------------------------------------

PATHS = [
    "../keys.safetensors",
    "/etc/passwd",
    "C:\\x",
    "keys.safetensors\0",
    "slot-" + "m" * 300 + ".safetensors",
    "ｋeys",
    "",
]
NUMBERS = [
    -1,
    0,
    1,
    5,
    4096,
    1 << 20,
    (1 << 31) - 2,
    1 << 31,
    1 << 53,
    (1 << 63) - 1,
    1 << 64,
    10**400,
    0.5,
    1e300,
    -0.0,
]
SCALARS = st.sampled_from([*PATHS, *NUMBERS, None, True, False, "Adam", "string", "int64", [], {}, [[]]])
VALUES = SCALARS | st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def places_in(value, path=()):
    """The path of each value in a JSON tree."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places_in(each, (*path, key))


@st.composite
def mutated(draw, tree):
    """A JSON tree with one to three of its values replaced, removed, doubled, or with a neighbour."""
    tree, values = (
        json.loads(json.dumps(tree)),
        VALUES.map(json.dumps).map(json.loads),
    )  # copies: they are changed below
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from([path for path in places_in(tree) if path]))
        holder = tree
        for step in above:
            holder = holder[step]
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if how == "remove":
            del holder[key]
        elif how == "add" and isinstance(holder, list):
            holder.append(draw(values | st.just(json.loads(json.dumps(holder[key])))))
        elif how == "add":
            holder[draw(st.text(max_size=8))] = draw(values)
        else:
            holder[key] = draw(values)
        if not [path for path in places_in(tree) if path]:
            break
    return tree


def use(table) -> None:
    """All that one does with a table: nothing raises, hangs or dies."""
    ids = table.ids()
    assert len(ids) == len(table)
    table.lookup([*WORDS, "new"] if table.kind == "string" else [1, 2, 3])
    table.vectors()
    if isinstance(table, hotrow.Table) and table.dim < 1000:
        fresh = [f"new {i}" for i in range(40)] if table.kind == "string" else list(range(40))
        batch = table.find(fresh, grow=True)
        with np.errstate(all="ignore"):  # a learning rate may be 1e300, as it may be anyone's
            table.update(batch, np.ones((40, table.dim), np.float32))
        table.forget(fresh[:5])


def told(load, path):
    """What is loaded, or None if an error of ours names the path."""
    found, error = loaders.outcome(load)
    assert error is None or str(path) in str(error)
    return found


def survives(path: Path) -> None:
    """Loaded, mapped and verified: an error of ours, or a table that can be used."""
    table, mapped = told(lambda: hotrow.load(path), path), told(lambda: hotrow.view(path), path)
    if table is not None:
        use(table)
    if mapped is not None:
        loaders.outcome(lambda: use(mapped))  # contents are looked at only there where they are asked for
    assert all(str(path) in problem for problem in snapshot.verify(path))


@pytest.fixture(scope="module", params=["snapshot", "delta"])
def saved(request, tmp_path_factory):
    """A snapshot, or a change to one, and the files of its generation."""
    path = tmp_path_factory.mktemp("fuzz") / "words"
    LOADERS[request.param].write(path.parent)
    folder = path / f"generation-{snapshot.generations(path)[-1]:06d}"
    return path, folder, {file.name: file.read_bytes() for file in folder.iterdir()}


def put_back(saved):
    """The snapshot as it was saved."""
    path, folder, files = saved
    for name, data in files.items():
        (folder / name).unlink()
        (folder / name).write_bytes(data)
    return path, folder, json.loads(files["manifest.json"])


@given(st.data())
def test_any_manifest_with_a_right_checksum_is_an_error_of_ours_or_a_table(saved, data):
    path, folder, fields = put_back(saved)
    text = json.dumps(data.draw(mutated({k: v for k, v in fields.items() if k != "sha256"})))
    if data.draw(st.booleans()):  # a key twice, somewhere
        text = text.replace('"name":', '"name": "x", "name":', data.draw(st.integers(0, 3)))
    sign(folder, text)
    survives(path)


@given(st.data())
def test_any_config_of_a_table_with_a_right_checksum_is_an_error_of_ours_or_a_table(saved, data):
    path, folder, fields = put_back(saved)
    fields["config"] = data.draw(mutated(fields["config"]))
    sign(folder, fields)
    survives(path)


NAMED = ["keys", "weights", "cells", "m", "../x", "__metadata__", "", "ｋeys", "k\0", "k" * 300]


@given(st.data())
def test_any_header_of_an_array_is_an_error_of_ours_or_the_array(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("header") / "file"
    entry = {"dtype": "U64", "shape": [4], "data_offsets": [0, 32]}
    tree = {data.draw(st.sampled_from(NAMED)): entry, "keys": entry} if data.draw(st.booleans()) else {"keys": entry}
    header = json.dumps(data.draw(mutated(tree))).encode()
    if data.draw(st.booleans()):
        header = header.replace(b'"shape"', b'"dtype": "U64", "shape"', 1)
    header += b" " * (-(8 + len(header)) % 64)
    length = data.draw(st.sampled_from([len(header)] * 6 + [0, 56, len(header) + 64, 1 << 20, 1 << 40, (1 << 64) - 8]))
    file.write_bytes(length.to_bytes(8, "little") + header + bytes(data.draw(st.sampled_from([32, 32, 32, 64, 0, 31]))))
    found = told(lambda: read_arrays(file, {"keys": ("U64", (None,))}), file)
    assert found is None or found["keys"].shape == (4,)


def wild(draw, data: bytes, start: int) -> bytes:
    """Bytes whose 64-bit or 32-bit numbers, some of them from `start` on, are others."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        width = draw(st.sampled_from([4, 8]))
        at = draw(st.integers(start // width, max(start, len(data) - width) // width)) * width
        number = draw(
            st.sampled_from([0, 1, 2, 3, 7, 8, 9, 255, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63])
        )
        changed[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(changed[: len(data)])


@given(st.data())
def test_any_numbers_in_the_files_under_right_checksums_are_an_error_of_ours_or_a_table(saved, data):
    path, folder, fields = put_back(saved)
    for name in data.draw(
        st.lists(st.sampled_from([entry["name"] for entry in fields["files"]]), min_size=1, max_size=3)
    ):
        file = folder / name
        whole = file.read_bytes()
        start = 0 if data.draw(st.booleans()) else 8 + int.from_bytes(whole[:8], "little") * name.endswith("tensors")
        changed = wild(data.draw, whole, min(start, len(whole) - 8))
        file.unlink()
        file.write_bytes(changed)
    sign_again(folder)
    if data.draw(st.booleans()):
        fields = json.loads((folder / "manifest.json").read_bytes())
        fields["config"]["aliases"] = data.draw(st.sampled_from([1, 3, 1 << 40]))
        sign(folder, fields)
    survives(path)


@given(st.data())
def test_any_model_json_with_a_right_checksum_is_an_error_of_ours_or_a_model(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("model")
    Retrieval(2, epochs=1).fit((["ann", "bob"], ["tea", "mug"])).save(path)
    fields = json.loads((path / "model.json").read_bytes())
    fields = data.draw(mutated({k: v for k, v in fields.items() if k != "sha256"}))
    seal_again(path / "model.json", fields)
    model = told(lambda: Retrieval.load(path), path)
    assert model is None or len(model.recommend(["ann"], k=1)[0]) == 1


COLUMNS = {"what": ["cup", "mug", None, "bulb"], "price": [4.0, 5.0, None, 7.5], "tags": [["a"], [], None, ["b", "a"]]}


@given(st.data())
def test_any_classifier_json_with_a_right_checksum_is_an_error_of_ours_or_a_classifier(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("classifier")
    columns = Inputs.learn(tidy(COLUMNS)[0], {}).columns
    described = {"config": Classifier().config, "columns": columns, "classes": ["x", "y"], "notes": {}}
    classifier_files.save(path, described, lambda net: net.write_bytes(b"net"))
    fields = json.loads((path / "classifier.json").read_bytes())
    seal_again(path / "classifier.json", data.draw(mutated({k: v for k, v in fields.items() if k != "sha256"})))
    found = told(lambda: classifier_files.read(path), path)
    if found is None:
        return
    file = path / "classifier.json"
    inputs = told(lambda: classifier_files.checked(file, lambda: Inputs.from_config(found[0]["columns"])), path)
    told(lambda: classifier_files.checked(file, lambda: Classifier(**_arguments(found[0]["config"]))), path)
    if inputs is not None:
        loaders.outcome(lambda: inputs.apply(tidy(COLUMNS)[0]))  # an error of ours, or what the net is to get
