"""Commands of benchmarks as docstrings, docs and the Makefile write them: each names a module."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.repository import ROOT


def files() -> Iterator[Path]:
    yield from (ROOT / "Makefile", *ROOT.glob("*.md"), *ROOT.glob("*.py"))
    for folder in ("benchmarks", "cache", "docs", "examples", "pipeline"):
        yield from (path for path in ROOT.glob(f"{folder}/**/*") if path.suffix in (".md", ".py"))


def module_file(name: str) -> Path:
    """Return the file that `python -m NAME` runs."""
    path = ROOT.joinpath(*name.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def test_every_command_names_a_module_that_is_there() -> None:
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in files()
        for name in re.findall(r"-m (benchmarks[\w.]*\w)", path.read_text(encoding="utf-8"))
    }
    assert ("Makefile", "benchmarks.torture") in named
    assert [found for found in sorted(named) if not module_file(found[1]).is_file()] == []


def test_every_script_says_its_own_command() -> None:
    for path in ROOT.glob("benchmarks/**/*.py"):
        source = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in source:
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__main__")
            docstring = ast.get_docstring(ast.parse(source)) or ""
            assert re.search(rf"    python -m {re.escape(name)}\s", docstring + " "), path
