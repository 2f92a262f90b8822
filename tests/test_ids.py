"""Every form that ids come in is taken as it is, or refused with the place and the right call; nothing is coerced."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import re
import subprocess
import sys
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from naive import fingerprint64
from strategies import BAD_TEXT as BAD
from strategies import ids_of_one_kind, int64_ids, lists, shaped, text_ids, uint64_ids

from hotrow.errors import ArgumentError, HotrowError, IdError, KindError
from hotrow.table.ids import Keys, restore, to_keys
from hotrow.table.utf8 import buffers

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")


class Colour(enum.IntEnum):
    RED = 3


class Word(enum.StrEnum):
    CUP = "cup"


def dictionary(indices, values, type_=None):
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int64()), pa.array(values, type_))


def ids_of(keys: Keys) -> list:
    """The ids again, flat; for strings what the texts say, once their keys are checked."""
    assert keys.keys.dtype == np.uint64
    assert keys.keys.flags.c_contiguous
    assert keys.keys.shape == (int(np.prod(keys.shape, dtype=np.int64)),)
    if keys.kind != "string":
        assert keys.texts is None
        assert keys.at is None
        return restore(keys.keys, keys.kind).tolist()
    assert keys.texts.type == pa.large_string()
    assert keys.at is None or keys.at.dtype == np.int32
    texts = keys.texts.to_pylist()
    found = texts if keys.at is None else [texts[i] for i in keys.at]
    assert keys.keys.tolist() == [fingerprint64(text.encode()) for text in found]
    return found


# --- what is taken ---------------------------------------------------------------------------------------------------

INTEGERS = {  # all of them are [3, -1, 5]
    "a list": [3, -1, 5],
    "a tuple": (3, -1, 5),
    "NumPy integers in a list": [np.int8(3), np.int64(-1), np.uint64(5)],
    "int subclasses in a list": [Colour.RED, -1, np.uint8(5)],
    "floats in a list": [3.0, -1.0, 5.0],
    "float32 in a list": [np.float32(3), -1.0, np.float16(5)],
    "int8": np.array([3, -1, 5], np.int8),
    "int32, big-endian": np.array([3, -1, 5], ">i4"),
    "int64, big-endian": np.array([3, -1, 5], ">i8"),
    "int64": np.array([3, -1, 5]),
    "int64, strided": np.array([3, 9, -1, 9, 5])[::2],
    "int64, backwards": np.array([5, -1, 3])[::-1],
    "float16": np.array([3, -1, 5], np.float16),
    "float32": np.array([3, -1, 5], np.float32),
    "float64, strided": np.array([3.0, 9.0, -1.0, 9.0, 5.0])[::2],
    "long double": np.array([3, -1, 5], np.longdouble),
    "objects": np.array([3, -1, 5], object),
    "a masked array without masked elements": np.ma.array([3, -1, 5]),
    "Arrow int8": pa.array([3, -1, 5], pa.int8()),
    "Arrow, sliced": pa.array([9, 3, -1, 5, 9]).slice(1, 3),
    "Arrow, chunked": pa.chunked_array([[3], [], [-1, 5]]),
    "Arrow floats": pa.array([3.0, -1.0, 5.0], pa.float32()),
    "Arrow half floats": pa.array(np.array([3, -1, 5], np.float16)),
    "an Arrow dictionary": dictionary([2, 0, 1], [-1, 5, 3, 2**63 - 1]),
    "an Arrow dictionary of unsigned integers": dictionary([1, 0, 2], [-1, 3, 5, None]),
    "an Arrow dictionary of floats": dictionary([1, 0, 2], [-1.0, 3.0, 5.0, 0.5]),
    "an Arrow dictionary, chunked": pa.chunked_array([dictionary([0, 1], [3, -1]), dictionary([1], [9, 5])]),
    "pandas": pd.Series([3, -1, 5]),
    "pandas, of an index of its own": pd.Series([3, -1, 5], index=[7, 8, 9]),
    "pandas nullable": pd.Series([3, -1, 5], dtype="Int16"),
    "pandas nullable array": pd.array([3, -1, 5], "Int64"),
    "pandas on Arrow": pd.Series([3, -1, 5], dtype=pd.ArrowDtype(pa.int32())),
    "pandas sparse": pd.Series(pd.arrays.SparseArray([3, -1, 5])),
    "pandas categories": pd.Series([3, -1, 5], dtype="category"),
    "pandas categories of objects": pd.Series([3, -1, 5], dtype=pd.CategoricalDtype(np.array([5, -1, 3, "x"], object))),
    "a pandas index": pd.Index([3, -1, 5]),
    "polars": pl.Series([3, -1, 5]),
    "polars int8": pl.Series([3, -1, 5], dtype=pl.Int8),
    "polars, of many chunks": pl.concat([pl.Series([3]), pl.Series([-1, 5])], rechunk=False),
}


@pytest.mark.parametrize("form", INTEGERS)
def test_integers_are_taken_in_any_form(form):
    keys = to_keys(INTEGERS[form], None)
    assert (keys.kind, keys.shape, ids_of(keys)) == ("int64", (3,), [3, -1, 5])
    assert ids_of(to_keys(INTEGERS[form], "int64")) == [3, -1, 5]
    with pytest.raises(IdError, match=r'got -1 at position 1 for a table of uint64 ids.*Table\(…, ids="int64"\)'):
        to_keys(INTEGERS[form], "uint64")
    with pytest.raises(KindError, match=r'got 3 at position 0 for a table of string ids.*Table\(…, ids="int64"\)'):
        to_keys(INTEGERS[form], "string")


STRINGS = {  # all of them are ["cup", "", "a\0b", "cup", "漢字"]
    "a list": ["cup", "", "a\0b", "cup", "漢字"],
    "bytes in a list": [b"cup", b"", b"a\0b", b"cup", "漢字".encode()],
    "str subclasses in a list": [Word.CUP, np.str_(""), "a\0b", "cup", "漢字"],
    "NumPy U": np.array(["cup", "", "a\0b", "cup", "漢字"]),
    "NumPy U, big-endian": np.array(["cup", "", "a\0b", "cup", "漢字"]).astype(">U9"),
    "NumPy S": np.array([b"cup", b"", b"a\0b", b"cup", "漢字".encode()]),
    "NumPy U, backwards": np.array(["漢字", "cup", "a\0b", "", "cup"])[::-1],
    "NumPy StringDType": np.array(["cup", "", "a\0b", "cup", "漢字"], np.dtypes.StringDType()),
    "objects": np.array(["cup", "", "a\0b", "cup", "漢字"], object),
    "Arrow string": pa.array(["cup", "", "a\0b", "cup", "漢字"]),
    "Arrow large_string": pa.array(["cup", "", "a\0b", "cup", "漢字"], pa.large_string()),
    "Arrow string_view": pa.array(["cup", "", "a\0b", "cup", "漢字"], pa.string_view()),
    "Arrow binary": pa.array([b"cup", b"", b"a\0b", b"cup", "漢字".encode()]),
    "Arrow large_binary": pa.array([b"cup", b"", b"a\0b", b"cup", "漢字".encode()], pa.large_binary()),
    "Arrow binary_view": pa.array([b"cup", b"", b"a\0b", b"cup", "漢字".encode()], pa.binary_view()),
    "Arrow, sliced": pa.array(["x", "cup", "", "a\0b", "cup", "漢字", "y"], pa.large_string()).slice(1, 5),
    "Arrow, sliced string": pa.array(["x", "cup", "", "a\0b", "cup", "漢字", "y"]).slice(1, 5),
    "Arrow, chunked": pa.chunked_array([["cup", ""], [], ["a\0b", "cup", "漢字"]]),
    "Arrow, one chunk": pa.chunked_array([["cup", "", "a\0b", "cup", "漢字"]], pa.large_string()),
    "a dictionary": dictionary([0, 1, 2, 0, 3], ["cup", "", "a\0b", "漢字"]),
    "a dictionary, larger than the ids": dictionary([0, 1, 2, 0, 3], ["cup", "", "a\0b", "漢字", None, "x", "y"]),
    "a dictionary, sliced": dictionary([1, 0, 1, 2, 0, 3, 1], ["cup", "", "a\0b", "漢字"]).slice(1, 5),
    "a dictionary with a null": dictionary([4, 1, 2, 4, 3], [None, "", "a\0b", "漢字", "cup"]),
    "a dictionary of binary with junk": dictionary([4, 1, 2, 4, 3], [b"\xff", b"", b"a\0b", "漢字".encode(), b"cup"]),
    "a dictionary of views": dictionary([0, 1, 2, 0, 3], ["cup", "", "a\0b", "漢字"], pa.string_view()),
    "a dictionary of binary views with junk": dictionary(
        [4, 1, 2, 4, 3], [b"\xff", b"", b"a\0b", "漢字".encode(), b"cup"], pa.binary_view()
    ),
    "a dictionary with repeated values": dictionary([0, 1, 2, 4, 3], ["cup", "", "a\0b", "漢字", "cup"]),
    "dictionaries, chunked": pa.chunked_array(
        [
            dictionary([0, 1], ["cup", ""]),
            dictionary([], [], pa.string()),
            dictionary([2, 0, 1], ["cup", "漢字", "a\0b"]),
        ]
    ),
    "one dictionary, chunked": pa.chunked_array(
        [dictionary([0, 1], ["cup", "", "a\0b", "漢字"]), dictionary([2, 0, 3], ["cup", "", "a\0b", "漢字"])]
    ),
    "pandas": pd.Series(["cup", "", "a\0b", "cup", "漢字"]),
    "pandas objects": pd.Series(["cup", "", "a\0b", "cup", "漢字"], dtype=object),
    "pandas strings in Python": pd.Series(["cup", "", "a\0b", "cup", "漢字"], dtype=pd.StringDtype("python")),
    "pandas categories": pd.Series(["cup", "", "a\0b", "cup", "漢字"], dtype="category"),
    "a pandas Categorical": pd.Categorical(["cup", "", "a\0b", "cup", "漢字"]),
    "a pandas index": pd.Index(["cup", "", "a\0b", "cup", "漢字"]),
    "polars": pl.Series(["cup", "", "a\0b", "cup", "漢字"]),
    "polars binary": pl.Series([b"cup", b"", b"a\0b", b"cup", "漢字".encode()]),
    "polars categories": pl.Series(["cup", "", "a\0b", "cup", "漢字"], dtype=pl.Categorical),
    "polars enum": pl.Series(["cup", "", "a\0b", "cup", "漢字"], dtype=pl.Enum(["x", "漢字", "", "cup", "a\0b"])),
}


@pytest.mark.parametrize("form", STRINGS)
def test_strings_are_taken_in_any_form(form):
    keys = to_keys(STRINGS[form], None)
    assert (keys.kind, keys.shape, ids_of(keys)) == ("string", (5,), ["cup", "", "a\0b", "cup", "漢字"])
    assert ids_of(to_keys(STRINGS[form], "string")) == ["cup", "", "a\0b", "cup", "漢字"]
    with pytest.raises(
        KindError, match=r"""got b?'cup' at position 0 for a table of int64.*Table\(…, ids="string"\)"""
    ):
        to_keys(STRINGS[form], "int64")


def test_the_distinct_texts_of_a_dictionary_are_hashed_once_and_unused_ones_never():
    keys = to_keys(dictionary([2, 0, 2, 2], ["cup", None, "hat"]), None)
    assert keys.texts.to_pylist() == ["hat", "cup"]  # in the order in which they are first seen
    assert (keys.at.tolist(), keys.first.tolist()) == ([0, 1, 0, 0], [0, 1])


def test_a_dictionary_larger_than_the_ids_costs_what_the_ids_cost():
    keys = to_keys(dictionary([900, 7], [str(i) for i in range(1000)]), None)
    assert (keys.texts.to_pylist(), keys.at) == (["900", "7"], None)


SINGLE = [
    (3, "int64"),
    (np.int16(-3), "int64"),
    (np.uint64(2**64 - 1), "uint64"),
    (2**63, "uint64"),
    (Colour.RED, "int64"),
    (4.0, "int64"),
    (np.float32(4), "int64"),
    (np.array(7), "int64"),
    ("cup", "string"),
    ("", "string"),
    ("a\0", "string"),
    (np.str_("a\0"), "string"),
    (b"cup", "string"),
    (np.bytes_(b"cup"), "string"),
    (np.array("cup"), "string"),
]


@pytest.mark.parametrize(("id", "kind"), SINGLE)
def test_a_single_id_has_the_empty_shape(id, kind):
    keys = to_keys(id, None)
    expected = id.item() if isinstance(id, np.ndarray) else id
    assert (keys.kind, keys.shape) == (kind, ())
    assert ids_of(keys) == [expected.decode() if isinstance(expected, bytes) else expected]


NESTED = [
    ([[1, 2, 3], [4, 5, 6]], (2, 3)),
    (([1, 2], (3, 4), [5, 6]), (3, 2)),
    ([[[1], [2]], [[3], [4]]], (2, 2, 1)),
    ([np.array([1, 2]), np.array([3, 4])], (2, 2)),
    (np.array([[1, 3], [2, 4]]).T, (2, 2)),
    (np.array([[1, 2], [3, 4]], ">u2", order="F"), (2, 2)),
    (np.array([[1, 2], [3, 4]], object), (2, 2)),
    (np.array([[1.0, 2.0], [3.0, 4.0]]), (2, 2)),
    (range(1, 4), (3,)),
]


@pytest.mark.parametrize(("ids", "shape"), NESTED)
def test_the_shape_is_that_of_the_ids_and_the_keys_are_in_their_order(ids, shape):
    keys = to_keys(ids, None)
    assert keys.shape == shape
    assert ids_of(keys) == list(range(1, len(keys.keys) + 1))


def test_nested_strings_keep_their_shape():
    for ids in ([["a", "b"], ["c", "d"]], np.array([["a", "b"], ["c", "d"]])):
        assert to_keys(ids, None).shape == (2, 2)
        assert ids_of(to_keys(ids, None)) == ["a", "b", "c", "d"]


def test_an_int64_array_is_not_copied():
    ids = np.arange(6).reshape(2, 3)
    for kind in (None, "int64"):
        assert np.shares_memory(to_keys(ids, kind).keys, ids)
    series = pd.Series([3, 5])
    assert np.shares_memory(to_keys(series, None).keys, series.to_numpy())


def test_read_only_arrays_are_taken_and_left_as_they_are():
    ids = np.arange(3)
    ids.flags.writeable = False
    assert ids_of(to_keys(ids, "uint64")) == [0, 1, 2]
    assert not ids.flags.writeable


def test_tensors_of_torch_are_taken():
    torch = pytest.importorskip("torch")
    assert ids_of(to_keys(torch.tensor([[3, -1]]), None)) == [3, -1]
    assert to_keys(torch.tensor([[3, -1]]), None).shape == (1, 2)
    assert ids_of(to_keys(torch.tensor(5, dtype=torch.int32), None)) == [5]
    with pytest.raises(KindError, match="got True at position 0, of type bool"):
        to_keys(torch.tensor([True]), None)
    with pytest.raises(KindError, match=r"NumPy can't read this Tensor .*BFloat16.*tensor\.detach\(\)\.cpu\(\)"):
        to_keys(torch.tensor([1], dtype=torch.bfloat16), None)


def test_an_object_with_an_array_or_arrows_interface_is_taken():
    class Array:
        def __array__(self, dtype=None, copy=None):
            return np.array([3, 5])

    class Stream:
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.chunked_array([["a"], ["b"]]).__arrow_c_stream__(requested_schema)

    class Both(Array):
        def __arrow_c_stream__(self, requested_schema=None):
            raise NotImplementedError("not today")

    assert ids_of(to_keys(Array(), None)) == [3, 5]
    assert ids_of(to_keys(Stream(), None)) == ["a", "b"]
    assert ids_of(to_keys(Both(), None)) == [3, 5]


# --- which kind they show --------------------------------------------------------------------------------------------

KINDS = [
    ([0, 2**63 - 1, -(2**63)], "int64"),
    ([0, 2**63], "uint64"),
    ([2**64 - 1], "uint64"),
    (np.array([5], np.uint64), "int64"),
    (np.array([2**63], np.uint64), "uint64"),
    (np.array([2**63], ">u8"), "uint64"),
    (pa.array([2**64 - 1], pa.uint64()), "uint64"),
    (pd.Series([2**63], dtype="UInt64"), "uint64"),
    (pl.Series([2**63], dtype=pl.UInt64), "uint64"),
    (np.array([2**63, 1], object), "uint64"),
]


@pytest.mark.parametrize(("ids", "kind"), KINDS)
def test_integers_are_int64_if_all_of_them_fit_and_else_uint64(ids, kind):
    keys = to_keys(ids, None)
    assert keys.kind == kind
    assert ids_of(keys) == [int(i) for i in np.asarray(ids, object)]


EMPTY = [
    ([], (0,)),
    ((), (0,)),
    ([[], []], (2, 0)),
    (range(0), (0,)),
    (np.zeros((3, 0)), (3, 0)),
    (np.zeros(0, bool), (0,)),
    (np.zeros(0, "U1"), (0,)),
    (np.zeros(0, object), (0,)),
    (np.zeros(0, "M8[s]"), (0,)),
    (pa.array([], pa.string()), (0,)),
    (pa.array([], pa.bool_()), (0,)),
    (pa.array([]), (0,)),
    (pa.array([], pa.dictionary(pa.int8(), pa.string())), (0,)),
    (pa.chunked_array([], pa.int64()), (0,)),
    (pd.Series([], dtype=object), (0,)),
    (pl.Series([], dtype=pl.String), (0,)),
]


@pytest.mark.parametrize(("ids", "shape"), EMPTY)
def test_no_ids_fit_every_kind_and_decide_none(ids, shape):
    keys = to_keys(ids, None)
    assert (keys.kind, len(keys.keys), keys.shape) == ("", 0, shape)
    for kind in ("int64", "uint64", "string"):
        keys = to_keys(ids, kind)
        assert (keys.kind, ids_of(keys), keys.shape) == (kind, [], shape)


# --- what is refused -------------------------------------------------------------------------------------------------

MISSING = [
    (None, "got None, where"),
    ([1, None], "got None at position 1, "),
    (["a", None, "b"], "got None at position 1, "),
    ([[1, 2], [None, 4]], r"got None at position \(1, 0\), "),
    (float("nan"), "got nan, where"),
    ([1.0, float("nan")], "got nan at position 1, "),
    ([1, float("nan")], "got nan at position 1, "),
    (["a", float("nan")], "got nan at position 1, "),
    (np.float32("nan"), "got nan, where"),
    (np.array([[1.0, np.nan]]), r"got nan at position \(0, 1\), "),
    (np.array([1, None], object), "got None at position 1, "),
    (np.array([np.nan, "a"], object), "got nan at position 0, "),
    (np.array(["a", None], np.dtypes.StringDType(na_object=None)), "got None at position 1, "),
    (np.datetime64("NaT"), "got .*NaT.*, where"),
    (np.array(["NaT"], "M8[s]"), "got .*NaT.* at position 0, "),
    (np.ma.array([1, 2], mask=[False, True]), "got a masked element at position 1, "),
    ([1, np.ma.masked], "at position 1, "),
    ([1, pd.NA], "got <NA> at position 1, "),
    ([1, pd.NaT], "got NaT at position 1, "),
    (pa.array([1, None]), "got null at position 1, "),
    (pa.nulls(2), "got null at position 0, "),
    (pa.array(["a", None]), "got null at position 1, "),
    (pa.array(["a", "b", None]).slice(1), "got null at position 1, "),
    (pa.chunked_array([["a"], ["b", None]]), "got null at position 2, "),
    (dictionary([0, None], ["a"]), "got null at position 1, "),
    (dictionary([0, 0, 1], ["a", None]), "got null at position 2, "),
    (dictionary([0, 1], [7, None]), "got null at position 1, "),
    (pa.chunked_array([dictionary([0], ["a"]), dictionary([None, 0], ["b"])]), "got null at position 1, "),
    (pd.Series([1, None], dtype="Int64"), "got null at position 1, "),
    (pd.Series([1, None]), "got nan at position 1, "),
    (pd.Series(["a", None]), "got null at position 1, "),
    (pd.Series(["a", None], dtype=object), "got None at position 1, "),
    (pd.Series(["a", None], dtype="category"), "got null at position 1, "),
    (pl.Series([1, None]), "got null at position 1, "),
    (pl.Series(["a", None], dtype=pl.Categorical), "got null at position 1, "),
    (pl.Series([None]), "got null at position 0, "),
]


@pytest.mark.parametrize(("ids", "message"), MISSING)
def test_a_missing_id_is_refused_with_its_place(ids, message):
    with pytest.raises(IdError, match=message + ".*(an id is missing|ids of their own)"):
        to_keys(ids, None)


NOT_WHOLE = [
    (0.5, "got 0.5, not a whole number"),
    ([1.0, 0.5], "got 0.5 at position 1, not a whole number"),
    (np.array([[1.0], [-np.inf]]), r"got -inf at position \(1, 0\), not a whole number"),
    (np.longdouble(1) + np.longdouble(2) ** -60, "not a whole number"),
    (pa.array([1.0, 2.25]), "got 2.25 at position 1, not a whole number"),
    (pl.Series([0.1]), "got 0.1 at position 0, not a whole number"),
    (np.array([1, 2**11], np.float16), r"got 2048.0 at position 1, .*float16 \(exact below 2\*\*11\)"),
    (np.array([2**24], np.float32), r"float32 \(exact below 2\*\*24\)"),
    ([np.float32(2**24), 1.0], r"got 16777216.0 at position 0, .*exact below 2\*\*24"),
    ([1.0, 2.0**53], r"got 9007199254740992.0 at position 1, .*float64 \(exact below 2\*\*53\)"),
    (-(2.0**53), r"exact below 2\*\*53"),
    (np.longdouble(2) ** 53, r"exact below 2\*\*53"),
    (pa.array([2.0**53]), r"exact below 2\*\*53"),
    (1e300, r"exact below 2\*\*53"),
]


@pytest.mark.parametrize(("ids", "message"), NOT_WHOLE)
def test_floats_that_are_not_whole_or_not_exact_are_refused(ids, message):
    with pytest.raises(IdError, match=message + ".*; expected.*e.g. np"):
        to_keys(ids, None)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_taken_up_to_the_last_exact_one(dtype):
    most = 2 ** (np.finfo(dtype).nmant + 1) - 1
    assert ids_of(to_keys(np.array([most, -most, -0.0], dtype), None)) == [most, -most, 0]


OUT_OF_RANGE = [
    (2**64, None, "got 18446744073709551616, beyond 64 bits.*strings: str"),
    ([1, -(2**63) - 1], None, "at position 1, beyond 64 bits"),
    ([[1, 10**5000]], None, r"got an int of 16610 bits at position \(0, 1\), beyond 64 bits"),
    ([2**64], "uint64", "beyond 64 bits"),
    ([2**64], "int64", "beyond 64 bits"),
    (np.array([1, 2**70], object), None, "at position 1, beyond 64 bits"),
    ([-1, 2**63], None, 'got -1 at position 0 and 9223372036854775808 at position 1.*ids="int64".*ids="uint64"'),
    ([2**63, 5, -1], None, "got -1 at position 2 and 9223372036854775808 at position 0"),
    ([-1, 2**63], "int64", r'got 9223372036854775808 at position 1 for a table of int64 ids.*Table\(…, ids="uint64"\)'),
    ([2**63, -1], "uint64", r'got -1 at position 1 for a table of uint64 ids.*Table\(…, ids="int64"\)'),
    ([1, 2**63], "int64", r'at position 1 for a table of int64 ids.*Table\(…, ids="uint64"\)'),
    (np.array([1, 2**63], np.uint64), "int64", r'at position 1 for a table of int64 ids.*Table\(…, ids="uint64"\)'),
    (
        np.array([[1, 2], [3, -4]]),
        "uint64",
        r'got -4 at position \(1, 1\) for a table of uint64.*Table\(…, ids="int64"\)',
    ),
    (np.int8(-1), "uint64", r'got -1 for a table of uint64 ids; .*Table\(…, ids="int64"\)'),
    (pa.array([2**64 - 1], pa.uint64()), "int64", r'at position 0 for a table of int64.*Table\(…, ids="uint64"\)'),
]


@pytest.mark.parametrize(("ids", "kind", "message"), OUT_OF_RANGE)
def test_an_integer_out_of_range_is_refused_with_its_place_and_the_table_that_would_take_it(ids, kind, message):
    with pytest.raises(IdError, match=message):
        to_keys(ids, kind)


NOT_TEXT = [
    ("\ud800", "got '.ud800', which has a lone surrogate"),
    (["a", "b\udfff"], "at position 1, which has a lone surrogate"),
    (np.array([["a", "\udc80"]], object), r"at position \(0, 1\), which has a lone surrogate"),
    (pd.Series(["a", "\udc80"], dtype=object), "at position 1, which has a lone surrogate"),
    (b"\xff", r"got b'.xff', which isn't UTF-8.*decode\('latin-1'\)"),
    ([b"a", b"a\xc3"], "at position 1, which isn't UTF-8"),
    ([b"\xed\xa0\x80"], "at position 0, which isn't UTF-8"),
    (np.array([b"a", b"\xc0\x80"]), "at position 1, which isn't UTF-8"),
    (pa.array([b"a", b"b", b"\xff"]), "at position 2, which isn't UTF-8"),
    (pa.array([b"a", b"b", b"\xff"], pa.binary_view()), "at position 2, which isn't UTF-8"),
    (pa.array([b"x", b"b", b"\xff"]).slice(1), "at position 1, which isn't UTF-8"),
    (pa.chunked_array([[b"a"], [b"b", b"\xff"]]), "at position 2, which isn't UTF-8"),
    (pa.array([b"a", b"\xff"]).view(pa.string()), "at position 1, which isn't UTF-8"),
    (pa.array([b"a", b"\xff"], pa.large_binary()).view(pa.large_string()), "at position 1, which isn't UTF-8"),
    (dictionary([0, 0, 1], [b"a", b"\xff"]), "at position 2, which isn't UTF-8"),
    (dictionary([0, 1], [b"a", b"\xff", b"b"]), "at position 1, which isn't UTF-8"),
    (pl.Series([b"a", b"\xff"]), "at position 1, which isn't UTF-8"),
]


@pytest.mark.parametrize(("ids", "message"), NOT_TEXT)
def test_text_that_is_none_is_refused_with_its_place(ids, message):
    with pytest.raises(IdError, match=message):
        to_keys(ids, None)


HOLDERS = {  # of bytes that may be no text, each with the place that it must be refused with
    "a list": lambda raw: raw,
    "a nested list": lambda raw: [[text] for text in raw],
    "NumPy S": np.array,
    "objects": lambda raw: np.array(raw, object),
    "binary": pa.array,
    "large binary": lambda raw: pa.array(raw, pa.large_binary()),
    "binary view": lambda raw: pa.array(raw, pa.binary_view()),
    "binary, sliced": lambda raw: pa.array([b"\xff", *raw, b"\xff"]).slice(1, len(raw)),
    "binary, chunked": lambda raw: pa.chunked_array([raw[:2], raw[2:]], pa.binary()),
    "a string array that lies": lambda raw: pa.array(raw).view(pa.string()),
    "a large string array that lies": lambda raw: pa.array(raw, pa.large_binary()).view(pa.large_string()),
    "a string view that lies": lambda raw: pa.array(raw, pa.binary_view()).view(pa.string_view()),
    "beside a bitmap of nulls": lambda raw: pa.array([None, *raw]).slice(1).view(pa.string()),
    "a dictionary": lambda raw: pa.array(raw).dictionary_encode(),
    "a dictionary of repeated values": lambda raw: dictionary(range(len(raw)), raw),
    "a larger dictionary": lambda raw: dictionary(range(1, len(raw) + 1), [b"\xff", *raw]),
    "dictionaries, chunked": lambda raw: pa.chunked_array([dictionary([0], [text]) for text in raw]),
    "polars": pl.Series,
}


@given(st.integers(0, 4), st.sampled_from(list(BAD)), text_ids(), st.sampled_from(list(HOLDERS)))
def test_bytes_that_are_no_utf8_are_refused_wherever_they_stand_and_whatever_holds_them(place, fault, beside, holder):
    raw = [b"cup", "漢字".encode(), b"cup", b"a hat that is longer than a view", b"pen"]
    raw[place] = beside.encode() + BAD[fault] + b"."
    where = rf"\({place}, 0\)" if holder == "a nested list" else place
    with pytest.raises(IdError, match=f"got b['\"].* at position {where}, which isn't UTF-8"):
        to_keys(HOLDERS[holder](raw), None)


@given(st.integers(0, 3), st.integers(0xD800, 0xDFFF), text_ids())
def test_a_lone_surrogate_is_refused_wherever_it_stands(place, point, beside):
    ids = ["cup", "漢字", "", "cup"]
    ids[place] = beside + chr(point) + "."
    for form, where in ((ids, place), (np.array(ids), place), (np.array(ids).reshape(2, 2), divmod(place, 2))):
        with pytest.raises(IdError, match=re.escape(f" at position {where}, which has a lone surrogate")):
            to_keys(form, None)


BROKEN = {
    "they rise beyond the bytes and come back": [0, 10**9, 3],
    "they fall": [0, 2, 1],
    "they begin below zero": [-1, 2, 3],
    "they end behind the bytes": [0, 2, 4],
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_an_arrow_array_with_broken_offsets_is_not_read(type_, broken):
    offsets = np.zeros(3, np.int64 if "large" in str(type_) else np.int32)
    array = pa.Array.from_buffers(type_, 2, [None, pa.py_buffer(offsets), pa.py_buffer(b"abc")])
    good = pa.array(["x", "y"]).cast(type_)
    coded = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1]), array)
    single = [pa.DictionaryArray.from_arrays(pa.array([i]), array) for i in (0, 1)]
    chunked = [pa.chunked_array([good, array]), pa.chunked_array([coded, coded])]
    offsets[:] = BROKEN[broken]  # PyArrow itself makes no such arrays, other libraries may
    for ids in (array, coded, *chunked):
        with pytest.raises(IdError, match="got a broken Arrow array"):
            to_keys(ids, None)
    found = []
    for ids in single:  # a dictionary that is larger than the ids is read where they are
        try:
            found.append(to_keys(ids, None).texts.to_pylist())
        except IdError as error:
            assert "got a broken Arrow array" in str(error)  # noqa: PT017
    assert len(found) < 2
    assert all(text in "abc" for texts in found for text in texts)


def test_views_that_lead_out_of_their_bytes_are_not_read():
    views = np.zeros(8, np.int32)
    views[:2] = 35, int.from_bytes(b"a st", sys.byteorder)  # the length, and how it begins
    buffers = [None, pa.py_buffer(views), pa.py_buffer(b"a string that is longer than a view")]
    array = pa.Array.from_buffers(pa.string_view(), 2, buffers)
    assert ids_of(to_keys(array, None)) == ["a string that is longer than a view", ""]
    views[3] = 10**9
    for ids in (array, pa.DictionaryArray.from_arrays(pa.array([1, 0, 0]), array, safe=False)):
        with pytest.raises(IdError, match="got a broken Arrow array"):
            to_keys(ids, None)


@pytest.mark.parametrize("bad", [-1, 2, 10**9])
def test_an_index_beyond_its_dictionary_is_refused(bad):
    for values in (["a", "b"], [7, 8]):
        ids = pa.DictionaryArray.from_arrays(pa.array([0, bad, 1]), pa.array(values), safe=False)
        for form in (ids, pa.chunked_array([ids.slice(0, 1), ids])):
            with pytest.raises(IdError, match="got a broken Arrow array"):
                to_keys(form, None)


def test_a_bitmap_without_nulls_is_no_harm():
    assert ids_of(to_keys(pa.array([None, "a", "b"]).slice(1), None)) == ["a", "b"]


MIXED = [
    ([1, "a"], "got mixed types, 1 at position 0 and 'a' at position 1"),
    (["a", b"a"], "got mixed types, 'a' at position 0 and b'a' at position 1.*i.decode"),
    ([1, 2, 3.0], r"got mixed types, 1 at position 0 and 3.0 at position 2.*list\(map\(int"),
    ([[1, 2], [3, "a"]], r"got mixed types, 1 at position \(0, 0\) and 'a' at position \(1, 1\)"),
    (np.array(["a", 1], object), "got mixed types"),
    (pd.Series(["a", 1]), "got mixed types"),
    (pd.Series(["a", b"b"], dtype="category"), "got mixed types"),
    ([1, True], "got True at position 1, of type bool.*if 0 and 1 are meant"),
    ([True, 1], "got True at position 0, of type bool"),
]


@pytest.mark.parametrize(("ids", "message"), MIXED)
def test_mixed_types_are_refused_where_the_second_type_begins(ids, message):
    with pytest.raises(KindError, match=message):
        to_keys(ids, None)


NO_IDS = [
    (True, "got True, of type bool"),
    (np.True_, "got True, of type bool"),
    (np.array([[True]]), r"got True at position \(0, 0\), of type bool"),
    (pa.array([True]), "got True at position 0, of Arrow type bool"),
    (pd.Series([True], dtype="boolean"), "of Arrow type bool"),
    (pl.Series([True]), "of Arrow type bool"),
    (dictionary([0], [True]), "of Arrow type bool"),
    (1j, "got 1j, of type complex"),
    (np.array([1j]), "of type complex128"),
    (np.array(["2020"], "M8[s]"), "of type datetime64"),
    (np.array([3], "m8[s]"), "of type timedelta64"),
    ([np.timedelta64(3)], "of type timedelta64"),
    (np.array([(1, 2)], "i4,i4"), "of type void"),
    (decimal.Decimal(1), "got Decimal"),
    ([dt.date(2020, 1, 1)], "at position 0, of type date"),
    (object(), "of type object"),
    ([1, {}], "at position 1, of type dict"),
    (pa.scalar(3), "of type Int64Scalar"),
    (pa.array([1], pa.timestamp("s")), "of Arrow type timestamp"),
    (pa.array([decimal.Decimal(1)]), "of Arrow type decimal128"),
    (pa.array([b"ab"], pa.binary(2)), "of Arrow type fixed_size_binary"),
    (pa.array([{"a": 1}]), "of Arrow type struct"),
    (pa.table({"a": [1]}), "of Arrow type struct"),
    (pd.DataFrame({"a": [1]}), "of Arrow type struct"),
    (pl.DataFrame({"a": [1]}), "of Arrow type struct"),
    ([np.array([1]), np.array([1.0])], "at position 0, of type ndarray"),
]


@pytest.mark.parametrize(("ids", "message"), NO_IDS)
def test_what_can_not_be_an_id_is_refused(ids, message):
    with pytest.raises(KindError, match=message + r".*; expected integers or strings, e.g. table\.lookup\("):
        to_keys(ids, None)


def test_what_has_no_order_or_only_one_reading_is_refused():
    for ids in ({1, 2}, frozenset({1}), {1: 2}, {1: 2}.keys(), (i for i in [1])):
        with pytest.raises(KindError, match=r"got a .*table\.lookup\(list\(ids\)\)"):
            to_keys(ids, None)


def test_an_object_that_promises_arrow_and_fails_is_refused():
    class Liar:
        def __arrow_c_stream__(self, requested_schema=None):
            raise RuntimeError("not today")

    with pytest.raises(KindError, match=r"Arrow can't read this Liar .*not today"):
        to_keys(Liar(), None)


def nest(depth):
    ids = [1]
    for _ in range(depth):
        ids = [ids]
    return ids


RAGGED = [
    ([[1, 2], [3]], "one of length 2 at position 0 and one of length 1 at position 1"),
    ([1, [2]], "no list at position 0 and one of length 1 at position 1"),
    ([[[1], [2]], [[3], [4, 5]]], r"one of length 1 at position \(0, 0\) and one of length 2 at position \(1, 1\)"),
    ([["a"], []], "one of length 0 at position 1"),
    (np.array([[1, 2], [3]], object), "one of length 1 at position 1"),
    (pa.array([[1, 2], [3]]), "list<.*at position 0"),
    (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), "fixed_size_list<.*at position 0"),
    (pl.Series([[1, 2], [3]]), "large_list<.*at position 0"),
    (nest(40), "nested more than 32 deep"),
]


@pytest.mark.parametrize(("ids", "message"), RAGGED)
def test_ragged_lists_are_refused_and_the_message_says_how_bags_go(ids, message):
    with pytest.raises(ArgumentError, match=message + r".*table\.lookup\(values, offsets="):
        to_keys(ids, None)


def test_only_integers_are_restored():
    keys = to_keys(["a"], None)
    with pytest.raises(KindError, match="'string'"):
        restore(keys.keys, "string")


# --- the same ids are the same keys, whatever holds them -------------------------------------------------------------


@given(shaped(int64_ids()))
@example(([], (2, 0)))
def test_int64_ids_come_back(drawn):
    flat, shape = drawn
    keys = to_keys(np.array(flat, np.int64).reshape(shape), "int64")
    assert keys.shape == shape
    assert restore(keys.keys, "int64").dtype == np.int64
    assert ids_of(keys) == flat


@given(shaped(uint64_ids()))
def test_uint64_ids_come_back(drawn):
    flat, shape = drawn
    keys = to_keys(np.array(flat, np.uint64).reshape(shape).tolist(), "uint64")
    assert keys.shape == (shape if 0 not in shape else keys.shape)  # a list of no lists doesn't know their length
    assert restore(keys.keys, "uint64").dtype == np.uint64
    assert ids_of(keys) == flat


@given(lists(int64_ids(), min_size=1))
def test_integers_have_the_same_keys_whatever_holds_them(ids):
    forms = [
        ids,
        np.array(ids),
        np.array(ids, object),
        np.array(ids, ">i8"),
        pa.array(ids),
        pl.Series(ids, dtype=pl.Int64),
    ]
    forms += [
        pd.Series(ids, dtype="Int64"),
        pa.array(ids).dictionary_encode(),
        pa.chunked_array([ids[:1], ids[1:]], pa.int64()),
    ]
    for form in forms:
        assert to_keys(form, None).keys.tolist() == [i % 2**64 for i in ids]


@given(lists(text_ids(), min_size=1), st.integers(0, 30))
def test_strings_have_the_same_keys_whatever_holds_them(ids, cut):
    raw = [text.encode() for text in ids]
    arrow = pa.array(ids)
    encoded = arrow.dictionary_encode()
    forms = [ids, raw, np.array(ids, object), np.array(ids, np.dtypes.StringDType()), pd.Series(ids), pl.Series(ids)]
    forms += [arrow.cast(t) for t in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())]
    forms += [arrow.cast(pa.large_binary()).cast(pa.binary_view()), np.array(raw, object), tuple(ids)]
    forms += [encoded, pd.Series(ids, dtype="category"), pl.Series(ids, dtype=pl.Categorical)]
    forms += [encoded.cast(pa.dictionary(pa.int8(), t)) for t in (pa.large_string(), pa.binary())]
    forms += [dictionary(range(len(ids), 0, -1), [None, *ids[::-1]]), dictionary(range(len(ids)), ids)]
    forms += [arrow.cast(pa.string_view()).slice(0), pa.array(["x", *ids], pa.string_view()).slice(1)]
    forms += [pa.array(["x", *ids, "y"]).slice(1, len(ids)), pa.chunked_array([ids[:cut], ids[cut:]], pa.string())]
    forms += [pa.chunked_array([encoded.slice(0, cut), pa.array(ids[cut:], pa.string()).dictionary_encode()])]
    for form in forms:
        assert ids_of(to_keys(form, None)) == ids


@given(lists(text_ids().filter(lambda text: not text.endswith("\0")), min_size=1), st.integers(0, 9))
def test_strings_without_trailing_nuls_survive_numpy(ids, wider):
    array, raw = np.array(ids), np.array([text.encode() for text in ids])
    forms = [array, array.astype(f"U{array.itemsize // 4 + wider}"), array.astype(array.dtype.newbyteorder(">")), raw]
    forms += [np.repeat(array, 2)[::2], array[::-1].copy()[::-1], np.repeat(raw, 2)[::2], raw.astype(f"S{200 + wider}")]
    for form in forms:
        assert ids_of(to_keys(form, "string")) == ids
    square = np.array([ids, ids[::-1]])
    for form in (square, np.asfortranarray(square), square.tolist()):
        keys = to_keys(form, None)
        assert (keys.shape, ids_of(keys)) == (square.shape, ids + ids[::-1])


def test_strings_of_no_width_are_empty():
    array = np.zeros(3, [("name", "U0"), ("code", "S0")])
    for name in ("name", "code"):
        assert ids_of(to_keys(array[name], None)) == ["", "", ""]


def test_code_points_beyond_unicode_are_refused():
    with pytest.raises(IdError, match="at position 1"):
        to_keys(np.array([97, 0x110000, 98], np.uint32).view("U1"), None)


@given(lists(text_ids(), min_size=1))
def test_the_texts_of_a_dictionary_are_in_the_order_in_which_they_are_first_seen(ids):
    keys = to_keys(pa.array(ids).dictionary_encode(), None)
    assert keys.texts.to_pylist() == list(dict.fromkeys(ids))
    assert keys.at.tolist() == [keys.texts.to_pylist().index(text) for text in ids]
    assert keys.first.tolist() == [ids.index(text) for text in keys.texts.to_pylist()]


@given(ids_of_one_kind())
def test_what_a_table_takes_depends_on_its_kind_alone(drawn):
    kind, ids = drawn
    assert ids_of(to_keys(ids, kind)) == ids
    for other in {"int64", "uint64", "string"} - {kind}:
        fits = kind != "string" and other != "string" and all(0 <= i < 2**63 for i in ids)
        if fits:
            assert to_keys(ids, other).keys.tolist() == to_keys(ids, kind).keys.tolist()
        else:
            with pytest.raises((KindError, IdError)):
                to_keys(ids, other)


@given(lists(text_ids()), st.integers(0, 30), st.integers(0, 30))
def test_buffers_are_views_of_exactly_these_texts(texts, start, length):
    array = pa.array(texts, pa.large_string()).slice(min(start, len(texts)), length)
    data, offsets = buffers(array)
    assert (data.dtype, offsets.dtype, offsets.shape) == (np.uint8, np.int64, (len(array) + 1,))
    found = [data[a:b].tobytes().decode() for a, b in zip(offsets, offsets[1:], strict=False)]
    assert found == array.to_pylist()
    assert not len(array) or offsets.ctypes.data == array.buffers()[1].address + 8 * array.offset


def test_buffers_are_there_where_arrow_leaves_them_out():
    for array in (
        pa.LargeStringArray.from_buffers(0, pa.py_buffer(b""), pa.py_buffer(b"")),
        pa.array([], pa.large_string()),
        pa.array([], pa.string()).cast(pa.large_string()),
        pa.array(["", ""], pa.large_string()),
    ):
        data, offsets = buffers(array)
        assert (data.dtype, len(data), offsets.tolist()) == (np.uint8, 0, [0] * (len(array) + 1))


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_integers_do_not_import_pyarrow():
    code = """
import sys
import numpy as np
from hotrow.table.ids import to_keys
for ids in (3, [3, 5], [[2**63]], (1.0,), range(3), np.arange(4), np.arange(3, dtype=">u2"), np.array([3], object), []):
    to_keys(ids, None)
assert "pyarrow" not in sys.modules and "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_refusing_warns_of_nothing():
    bad = [np.array([np.nan, 1e300]), np.array([np.nan], np.float16), [float("nan")], np.array([np.inf], np.float32)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for ids in bad:
            with pytest.raises(IdError):
                to_keys(ids, None)


@given(ids_of_one_kind(), st.sampled_from([None, "int64", "uint64", "string"]))
def test_keys_given_again_are_the_same_or_are_refused_as_the_ids_would_be(drawn, kind):
    ids = drawn[1]
    keys = to_keys(ids, None)
    try:
        expected = to_keys(ids, kind)
    except HotrowError as error:
        with pytest.raises(type(error)):
            to_keys(keys, kind)
        return
    again = to_keys(keys, kind)
    assert (again.kind, again.shape) == (expected.kind, expected.shape)
    np.testing.assert_array_equal(again.keys, expected.keys)
    assert plain(again.restored()) == plain(expected.restored()) == ids


def plain(ids):
    return ids.tolist() if isinstance(ids, np.ndarray) else ids.to_pylist()
