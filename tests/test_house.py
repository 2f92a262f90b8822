"""What the house promises: its public names, what importing it costs, how its files are kept, where it works."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import hotrow
from hotrow.kernels import INTERPRETED

ROOT = Path(__file__).parents[1]
PACKAGE = Path(hotrow.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [".".join(("hotrow", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in FILES]
MODULES = [name.removesuffix(".__init__") for name in MODULES if not name.endswith(".__main__")]
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in FILES}


def run(code: str, **environment: str) -> str:
    """What `code` prints in a process of its own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**ours, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the public face -------------------------------------------------------------------------------------------------

PUBLIC = [
    "embedding_lookup",
    "one_hot",
    "Table",
    "Batch",
    "ahead",
    "Uniform",
    "Normal",
    "TruncatedNormal",
    "Constant",
    "Zeros",
    "SGD",
    "Adagrad",
    "RowwiseAdagrad",
    "RMSprop",
    "Adadelta",
    "Adam",
    "AdamW",
    "Adamax",
    "Nadam",
    "Lion",
    "Ftrl",
    "load",
    "view",
    "View",
    "compact",
    "Receipt",
    "models",
    "set_threads",
    "HotrowError",
    "IdError",
    "UnknownIdError",
    "KindError",
    "ArgumentError",
    "DataError",
    "CorruptError",
    "LockedError",
    "DiskError",
    "ClusterError",
    "MissingExtraError",
]


def test_the_public_names_are_these_in_the_order_that_data_flows():
    assert hotrow.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_is_listed_and_says_what_it_is(name):
    assert name in dir(hotrow)
    assert inspect.getdoc(getattr(hotrow, name))


def test_a_name_that_is_not_public_is_refused_as_python_does():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = hotrow.nonsense


def test_every_error_of_ours_is_public_and_the_tree_is_drawn():
    from hotrow import errors

    ours = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert set(ours) <= set(PUBLIC)
    for name in ours:
        error = getattr(errors, name)
        bases = ", ".join(base.__name__ for base in error.__bases__ if base not in {errors.HotrowError, Exception})
        assert f"{name}({bases})" in errors.__doc__ or error is errors.HotrowError
        assert issubclass(error, errors.HotrowError)


def public_members():
    """(name, what) of the methods and properties of every public class, inherited ones at home."""
    for name in PUBLIC:
        for member, what in vars(getattr(hotrow, name)).items() if inspect.isclass(getattr(hotrow, name)) else ():
            what = getattr(what, "__func__", what)
            if not member.startswith("_") and (inspect.isfunction(what) or isinstance(what, property)):
                yield f"{name}.{member}", getattr(getattr(hotrow, name), member)


@pytest.mark.parametrize("member", [pytest.param(what, id=name) for name, what in public_members()])
def test_every_public_method_says_what_it_does(member):
    assert inspect.getdoc(member)


# --- what importing it costs -----------------------------------------------------------------------------------------

LOADED = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def test_importing_hotrow_brings_in_numpy_and_numba_and_nothing_else():
    # Numba imports what it finds of SciPy and the like, so what comes in by Numba alone is no fault of ours.
    before, after = (set(json.loads(run(f"import {what}; {LOADED}"))) for what in ("numba", "hotrow"))
    ours = after - before - set(sys.stdlib_module_names)
    assert {name for name in ours if not name.startswith(("_", "hotrow"))} == set()
    frameworks = "tensorflow keras torch jax ray usearch pyarrow rich pandas polars threadpoolctl"
    assert not after & set(frameworks.split())


@pytest.mark.compiled
def test_importing_hotrow_takes_at_most_half_as_long_again_as_importing_numba():
    # User and system time, each by the best of several: the machine may be busy with other things.
    code = "import os, {}; print(sum(os.times()[:2]))"
    hotrow_, numba = (min(float(run(code.format(what))) for _ in range(6)) for what in ("hotrow", "numba"))
    assert hotrow_ <= 1.5 * numba


# --- how its files are kept ------------------------------------------------------------------------------------------


def definitions(tree):
    """The functions and classes of a module that are public by their name."""
    return [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]


@pytest.mark.parametrize("path", TREES)
def test_every_module_and_what_it_offers_has_a_docstring(path):
    assert ast.get_docstring(TREES[path]), f"{path} has none"
    bare = [node.name for node in definitions(TREES[path]) if not ast.get_docstring(node)]
    assert not bare


@pytest.mark.parametrize("path", TREES)
def test_a_file_has_at_most_400_lines_and_a_function_60(path):
    lines = len((PACKAGE / path).read_text("utf-8").splitlines())
    assert lines <= 400
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize("path", TREES)
def test_nothing_that_is_read_is_ever_run(path):
    runs = {"eval", "exec", "compile", "__import__"}
    modules = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in runs, f"{path}:{node.lineno}"
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {name.partition(".")[0] for name in names} & modules, f"{path}:{node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False", f"{path}:{node.value.lineno}"


@pytest.mark.parametrize("path", TREES)
def test_a_message_never_depends_on_assert(path):
    """`python -O` drops asserts, so none may carry a message for a user."""
    assert not [node.lineno for node in ast.walk(TREES[path]) if isinstance(node, ast.Assert) and node.msg]


GROUND = {"kernels/__init__.py", "kernels/simd.py"}  # what kernels are made of
KERNELS = [
    path
    for path, tree in TREES.items()
    if path.startswith("kernels/") and path not in GROUND and "@jit" in ast.unparse(tree)
]


def test_there_are_kernels():
    assert {"kernels/probing.py", "kernels/stepping.py"} <= set(KERNELS)


@pytest.mark.parametrize("path", KERNELS)
def test_a_kernel_file_is_closed_under_calls(path):
    """Numba's cache doesn't notice a change in another file: kernels share only what they are all made of."""
    allowed = {"__future__", "math", "numpy", "hotrow.kernels", "hotrow.kernels.simd"}
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module in allowed
            shared = {alias.name for alias in node.names}
            assert node.module != "hotrow.kernels" or not shared & {Path(name).stem for name in TREES}
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= allowed


@pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="this is no checkout")
def test_what_kernels_are_made_of_makes_their_machine_code_anew():
    rule = (ROOT / "Makefile").read_text("utf-8").partition("/.fresh: ")[2].partition("\n")[0]
    assert {f"src/hotrow/{path}" for path in GROUND} == set(rule.split())


@pytest.mark.parametrize("path", KERNELS)
def test_every_function_of_a_kernel_file_is_compiled_and_documented(path):
    for node in TREES[path].body:
        if isinstance(node, ast.FunctionDef):
            assert any(ast.unparse(decorator).startswith("jit") for decorator in node.decorator_list), node.name
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported_alone(name):
    assert import_module(name).__name__ == name


PINS = re.compile(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*")


@pytest.mark.skipif(not (ROOT / "constraints.txt").exists(), reason="this is no checkout")
def test_all_that_the_checks_use_is_pinned_and_no_pin_names_a_host():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(PINS.fullmatch(line) for line in pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.match(r"[A-Za-z0-9_.-]+", want)[0].lower().replace("_", "-") for want in wanted}
    assert names - {"hotrow"} <= {pin.partition("==")[0].lower().replace("_", "-") for pin in pins}


# --- where it works --------------------------------------------------------------------------------------------------

SMALL_LIFE = """
import numpy as np, hotrow
table = hotrow.Table(4, optimizer=hotrow.SGD(1.0), initializer=hotrow.Zeros())
table.update(table.find(["lantern", "cup", "lantern"], grow=True), np.ones((3, 4), np.float32))
assert table.lookup(["cup", "lantern"])[:, 0].tolist() == [-1.0, -2.0]
"""


@pytest.mark.compiled
def test_it_works_where_no_cache_can_be_written(tmp_path):
    copy = tmp_path / "site" / "hotrow"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [copy, *(path for path in copy.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").touch()  # a file where the folder would be: not even root can write into it
    nowhere = "/dev/null/nowhere"
    code = f"{SMALL_LIFE}\nprint(hotrow.__file__, hotrow.kernels.probing.find.stats.cache_path)"
    places = dict.fromkeys(["HOME", "USERPROFILE", "XDG_CACHE_HOME", "LOCALAPPDATA", "NUMBA_CACHE_DIR"], nowhere)
    path, cache = run(code, PYTHONPATH=str(copy.parent), **places).split()
    assert path == str(copy / "__init__.py")
    assert cache == "None"


@pytest.mark.compiled
def test_what_is_compiled_is_kept_for_the_next_process(tmp_path):
    hits = "print(sum(hotrow.kernels.probing.find.stats.cache_hits.values()))"
    first, second = (run(f"{SMALL_LIFE}\n{hits}", NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert (first, second) == ("0\n", "1\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own():
    code = f"""
import os, signal, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what this is about
import numpy as np, hotrow
{SMALL_LIFE}
hotrow.set_threads(2)
ids = np.arange({2_000 if INTERPRETED else 200_000})
table = hotrow.Table(8, seed=1)
before = table.lookup(ids, grow=True)
child = os.fork()
if child == 0:
    signal.alarm(120)  # a child that waits for a thread it doesn't have would wait for ever
    same = (table.lookup(ids) == before).all()
    table.update(ids, np.ones_like(before))
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
table.update(ids, np.ones_like(before))
assert (table.lookup(ids) < before).all()
"""
    run(code)
