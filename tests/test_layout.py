"""Modules and folders stay small, and tests lie where what they test lies."""

from tests.support.repository import ROOT
from tests.support.sources import imported, modules

MOST_MODULES, MOST_LINES = 12, 300


def test_folders_and_modules_stay_small() -> None:
    for folder in {
        path.parent for top in ("cache", "pipeline") for path in ROOT.glob(f"{top}/**/*.py")
    }:
        inside = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(inside) <= MOST_MODULES, folder
    files = [ROOT / "__init__.py", ROOT / "cli.py"]
    for top in ("cache", "pipeline", "tests", "benchmarks"):
        files += ROOT.glob(f"{top}/**/*.py")
    lines = {file: file.read_text(encoding="utf-8").count("\n") for file in files}
    long = {str(file.relative_to(ROOT)): n for file, n in lines.items() if n > MOST_LINES}
    assert long == {}


def test_what_test_modules_share_lies_outside_of_them() -> None:
    """Or a test that is moved would break one that the default suite leaves out."""
    files = list(ROOT.glob("tests/**/*.py"))
    assert ROOT / "tests" / "test_imports.py" in files
    shared = {
        module
        for file in files
        for module in imported(file.stem, file.read_text(encoding="utf-8"))
        if module.startswith("tests.") and any(p.startswith("test_") for p in module.split("."))
    }
    assert shared == set()


def test_tests_lie_where_what_they_test_lies() -> None:
    """tests/pipeline/model/test_layers.py, or test_layers_<aspect>.py, is of that module."""
    sources = modules()
    for file in [*ROOT.glob("tests/pipeline/**/test_*.py"), *ROOT.glob("tests/cache/**/test_*.py")]:
        folder = ".".join(file.parent.relative_to(ROOT / "tests").parts)
        stem = file.stem.removeprefix("test_")
        known = [n.rpartition(".")[2] for n in sources if n.rpartition(".")[0] == folder]
        assert any(stem == n or stem.startswith(f"{n}_") for n in known), file
