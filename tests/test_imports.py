"""Imports run one way, cli to pipeline to cache, and each dependency has one home."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOMES = {
    "typer": {"cli"},
    "click": set(),
    "h5py": {"cache.hdf5"},
    "datasets": {"pipeline.hub"},
    "transformers": {
        "pipeline.encoders",
        "pipeline.checkpoints",
        "pipeline.tiny",
        "pipeline.quiet",
    },
}
"""Where a package may be imported: modules, or whole packages of ours."""

NEVER = {
    "cache": {"pipeline", "cli", "torch", "transformers", "rich"},
    "pipeline": {"cli"},
    "cli": set(),
}
HEAVY = {"torch", "numpy", "h5py", "transformers", "datasets", "PIL", "pyarrow"}
LIGHTER = {"numpy", "h5py", "PIL"}


def modules() -> dict[str, str]:
    """Return the source of every module of ours by its dotted name."""
    files = [ROOT / "cli.py", *ROOT.glob("cache/**/*.py"), *ROOT.glob("pipeline/**/*.py")]
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"):
        file.read_text(encoding="utf-8")
        for file in files
    }  # fmt: skip


def imported(name: str, source: str, *, top_level: bool = False) -> set[str]:
    """Return what a module imports, anywhere or (with `top_level`) whenever it is imported."""
    tree = ast.parse(source)
    inner = {
        node
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) or _type_checking(scope)
        for node in ast.walk(scope)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if top_level and node in inner:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")[: -node.level] if node.level else []
            module = ".".join([*parts, *filter(None, [node.module])])
            found |= {module} - {""} | {f"{module}.{a.name}".lstrip(".") for a in node.names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called in ("__import__", "import_module"):
                found |= {ast.literal_eval(a) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return found


def _type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and (node.test.id == "TYPE_CHECKING")
    )


def faults(name: str, source: str) -> list[str]:
    """Return what a module imports against the rules."""
    ours = name.split(".")[0]
    tops = {module.split(".")[0] for module in imported(name, source)}
    found = [f"{name} imports {top}" for top in sorted(tops & NEVER[ours])]
    for package, homes in HOMES.items():
        if package in tops and not homes & {name, ours}:
            found.append(f"{name} imports {package}, whose home is {', '.join(sorted(homes))}")
    if ours == "cli":
        allowed = sys.stdlib_module_names | {"typer"}
        early = {m.split(".")[0] for m in imported(name, source, top_level=True)} - allowed
        found += [f"{name} imports {top} before it knows the command" for top in sorted(early)]
    return found


def test_every_module_keeps_the_rules() -> None:
    sources = modules()
    assert {"cli", "cache", "cache.reader", "pipeline", "pipeline.train"} <= set(sources)
    assert [fault for name, source in sources.items() for fault in faults(name, source)] == []


def test_each_home_is_lived_in() -> None:
    """A rule about a module that no longer exists would hold for ever."""
    sources = modules()
    for package, homes in HOMES.items():
        for home in homes:
            tenants = [n for n in sources if n == home or n.startswith(f"{home}.")]
            assert any(
                package in {m.split(".")[0] for m in imported(n, sources[n])} for n in tenants
            ), (package, home)


def test_what_test_modules_share_lies_outside_of_them() -> None:
    """Or a test that is moved would break one that the default suite leaves out."""
    files = list(ROOT.glob("tests/*.py"))
    assert ROOT / "tests" / "test_imports.py" in files
    found = {file.stem: imported(file.stem, file.read_text(encoding="utf-8")) for file in files}
    shared = {name for names in found.values() for name in names if name.startswith("test_")}
    assert shared == set()


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("cache.new", "import torch", "cache.new imports torch"),
        ("cache.new", "from pipeline.errors import ImageError", "cache.new imports pipeline"),
        ("cache.new", "def f():\n    import cli", "cache.new imports cli"),
        ("cache.new", "from transformers import AutoModel", "cache.new imports transformers"),
        ("cache", "import pipeline.model as m", "cache imports pipeline"),
        ("pipeline.new", "from cli import app", "pipeline.new imports cli"),
        ("pipeline.new", "import os, typer", "pipeline.new imports typer, whose home is cli"),
        ("pipeline.new", "def f():\n    import h5py", "pipeline.new imports h5py, whose home is"),
        ("pipeline.train", "import transformers", "pipeline.train imports transformers, whose"),
        ("pipeline.new", "if TYPE_CHECKING:\n    import datasets", "imports datasets, whose home"),
        ("pipeline.new", "importlib.import_module('h5py')", "pipeline.new imports h5py, whose"),
        ("pipeline.new", "__import__('cli')", "pipeline.new imports cli"),
        ("cache.new", "from .. import cli", "cache.new imports cli"),
        ("cli", "import torch", "cli imports torch before it knows the command"),
        ("cli", "from cache.errors import CacheError", "cli imports cache before it knows"),
        ("cli", "try:\n    import pipeline.x\nexcept ImportError: pass", "cli imports pipeline be"),
        ("cli", "def f():\n    import h5py", "cli imports h5py, whose home is cache"),
    ],
)
def test_the_check_can_fail(name: str, source: str, fault: str) -> None:
    assert [found for found in faults(name, source) if fault in found], faults(name, source)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("cli", "import typer\ndef f():\n    from pipeline.commands import x\n    import cache"),
        ("pipeline.new", "from cache import FeatureCache\nimport torch"),
        ("pipeline.hub", "def f():\n    import datasets"),
        ("cache.hdf5", "import h5py\nfrom cache.files import digest\nfrom . import errors"),
    ],
)
def test_what_is_allowed_is_not_a_fault(name: str, source: str) -> None:
    assert faults(name, source) == []


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("cli", set()),
        ("cache", {"numpy"}),
        ("pipeline.scoring", LIGHTER),
        ("pipeline.cache_info", LIGHTER),
    ],
)
def test_what_a_module_really_loads(module: str, allowed: set[str]) -> None:
    """Seen from inside a new process, whatever the source says."""
    script = f"import sys, {module}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(loaded.stdout.split()) & HEAVY <= allowed
