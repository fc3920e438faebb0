"""Names become paths in one place, and files are opened in one place.

`path_in(folder, name)` of cache/names.py joins a name that is not spelled in our code: it may come
from a file, and a file may come from anybody. `open_regular` and `read_file` of cache/disk/files.py
open files, because a pipe waits for ever and a device never ends.
"""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frozen_vqa.cache.errors import UnsafeNameError
from frozen_vqa.cache.names import path_in
from tests.support.sources import modules

JOINS = {
    ("cache.names", "folder / name"): "the one place",
    ("cache.disk.folders", "self.path / f'{MARK}.{os.urandom(4).hex()}{TEMPORARY}'"): "our own",
    ("cache.errors", "folder / KNOWN_BY[other][0]"): "spelled above",
    ("pipeline.config", "path.parent / answers"): "settings that the user gives name any file",
    ("pipeline.commands.tables", "side.first.run.parent / side.name"): "only printed",
    ("pipeline.sources.selection", "self._image_root / path"): "own rule",
    ("pipeline.sources.own.pictures", "self.root / path"): "only looked for; the rule is there",
    ("pipeline.sources.hub", "here / path"): "the rule of pictures beside it",
    ("pipeline.system.device", "root / path.strip('/')"): "named by the kernel",
}
"""Joins that need no `path_in`, and why."""

OPENS = {
    "cache.disk.files": "the one place",
    "cache.disk.lock": "the lock is made with O_EXCL, and /proc is the kernel's",
    "pipeline.system.device": "/proc and /sys",
    "pipeline.download.transfer": "appends to a part of its own, and follows no link",
    "pipeline.download.unpack": "a file of its own, and what zipfile and tarfile hand out",
    "pipeline.system.endings": "the streams, and a new file of its own",
    "pipeline.sources.own.tar_shards": "tarfile reads a window over bytes that are read elsewhere",
    "pipeline.sources.hub_files": "Arrow maps a file that `require_library_files` has seen",
}
"""Modules that may open files in other ways, and why."""

OPENERS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "fdopen", "memory_map"}
PATHS = {"Path", "PurePath", "absolute", "resolve", "expanduser", "with_name", "path_in"}
"""Calls that return a path."""


def _last(node: ast.AST) -> str:
    """Return `b` of `a.b`, without underscores in front."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name.lstrip("_")


class _Module:
    """The joins of a module, as far as names and annotations tell that something is a path."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.paths = {"parent", "path", "directory", "folder", "root"}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.arg | ast.AnnAssign) and re.search(
                r"\bPath\b", ast.unparse(node.annotation or ast.Name(""))
            ):
                named = node.arg if isinstance(node, ast.arg) else _last(node.target)
                self.paths.add(named.lstrip("_"))
        for _ in range(3):  # a path may be made of one that is made of one
            for node in ast.walk(self.tree):
                if isinstance(node, ast.Assign) and self.is_path(node.value):
                    self.paths |= {_last(target) for target in node.targets} - {""}

    def is_path(self, node: ast.AST) -> bool:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return self.is_path(node.left)
        if isinstance(node, ast.IfExp):
            return self.is_path(node.body) or self.is_path(node.orelse)
        if isinstance(node, ast.Call):
            return _last(node.func) in PATHS
        return _last(node) in self.paths

    def joins(self) -> Iterator[str]:
        """Yield each join of a path with a name that is not spelled there."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                if self.is_path(node.left) and not _is_spelled(node.right):
                    yield ast.unparse(node)
            elif isinstance(node, ast.Call) and _last(node.func) in ("joinpath", "join"):
                whose = ast.unparse(node.func)
                if whose.endswith((".joinpath", "path.join")) and not all(
                    map(_is_spelled, node.args[1 if "path.join" in whose else 0 :])
                ):
                    yield ast.unparse(node)


def _is_spelled(node: ast.AST) -> bool:
    """Whether a name is a text or a CONSTANT of our code."""
    if isinstance(node, ast.JoinedStr):
        parts = (part.value for part in node.values if isinstance(part, ast.FormattedValue))
        return all(map(_is_spelled, parts))
    return isinstance(node, ast.Constant) or _last(node).isupper()


def test_names_are_joined_in_one_place() -> None:
    """If this fails: write `path_in(folder, name)` in place of `folder / name`."""
    found = {(name, join) for name, source in modules().items() for join in _Module(source).joins()}
    assert found == set(JOINS)


@pytest.mark.parametrize(
    "join",
    [
        "def f(run: Path, split): return run / split",
        "def f(run: Path, split): return run / 'evaluation' / split / 'scores.json'",
        "def f(run: Path, split): return run / f'{split}.h5'",
        "def f(run: Path, split): return os.path.join(run, split)",
        "def f(run: Path, split): return run.joinpath('a', split)",
        "def f(run: Path, split):\n    there = run.resolve()\n    return there / split",
        "class A:\n    _cache: Path\n    def f(self, one): return self._cache / one.file",
        "def f(a): return Path(a) / a",
    ],
)
def test_the_test_sees_a_join(join: str) -> None:
    assert list(_Module(join).joins())


def test_files_are_opened_in_one_place() -> None:
    """If this fails: read with `read_file(path, most=...)`, write with `write_atomically`."""
    found = {
        name
        for name, source in modules().items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        if ast.unparse(node.func).rpartition(".")[2] in OPENERS
        if ast.unparse(node.func) not in ("Image.open", "layout.open")
    }
    assert found == set(OPENS)


PARTS = st.one_of(
    st.sampled_from(
        ["", ".", "..", "...", "a", "~", "-", " ", "a\\b", "\0", "a\n", "é", "x" * 256, "\ud800"]
    ),
    st.text(max_size=5),
)


@example(["\ud800"], False)
@given(st.lists(PARTS, min_size=1, max_size=4), st.booleans())
def test_a_name_leads_into_its_folder_or_is_refused(parts: list[str], absolute: bool) -> None:
    folder, name = Path("/cache"), "/" * absolute + "/".join(parts)
    try:
        path = path_in(folder, name)
    except UnsafeNameError:
        return
    # It is the one spelling of a path below the folder, and the system takes it.
    assert os.path.normpath(path) == str(path) == f"/cache/{name}"
    assert path.parts[:2] == ("/", "cache")
    assert len(path.parts) > 2
    assert not Path(os.fsencode(path).decode(errors="surrogateescape")).exists()


@pytest.mark.parametrize("name", ["val.h5", "images/00000.h5", "..h5", "a b", "é/ü", "\udcff"])
def test_names_that_files_have(name: str) -> None:
    assert path_in(Path("x"), name) == Path("x") / name
