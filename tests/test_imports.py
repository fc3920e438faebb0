"""Imports run one way, among rooms and among files, and each dependency has one home."""

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support.repository import ROOT
from tests.support.sources import imported, modules

PARSE = "pipeline.commands.parse"
"""What `cli` imports before it knows the command."""

HOMES = {
    "typer": {"cli", PARSE},
    "click": set(),
    "h5py": {"cache.format.hdf5"},
    "datasets": {"pipeline.sources.hub", "pipeline.sources.hub_files"},
    "fsspec": {"cache.stores.bucket"},
    "gradio": {"pipeline.serve.app"},
    "uvicorn": {"pipeline.serve.server"},
    "prometheus_client": {"pipeline.watch.prometheus"},
    "ray": {"pipeline.extract.engines.on_ray"},
    "transformers": {
        "pipeline.encoders.checkpoint",
        "pipeline.encoders.checks.no_code",
        "pipeline.encoders.checks.quantise",
        "pipeline.encoders.processor",
        "pipeline.encoders.shape",
        "pipeline.encoders.text_encoder",
        "pipeline.encoders.tiny",
    },
}
"""Where a package may be imported: modules, or whole packages of ours."""

NEVER = {
    "cache": {"pipeline", "cli", "torch", "transformers", "rich"},
    "pipeline": {"cli"},
    "cli": set(),
    "frozen_vqa": set(),
}
HEAVY = {"torch", "numpy", "h5py", "transformers", "datasets", "PIL", "pyarrow"}
LIGHTER = {"numpy", "h5py", "PIL"}
BESIDE_THE_ROOMS = {
    "errors": set(),
    "config": {"errors", "model", "presets", "system"},
    "presets": set(),
    "plugins": {"errors"},
    "predict": {"errors", "batches", "model", "system"},
}
"""What the modules that lie in no room of `pipeline/` may import."""


def inside(name: str, package: str) -> bool:
    """Whether a module is a package, or lies in it."""
    return f"{name}.".startswith(f"{package}.")


def faults(name: str, source: str) -> list[str]:
    """Return what a module imports against the rules."""
    ours = name.split(".")[0]
    tops = {module.split(".")[0] for module in imported(name, source)}
    found = [f"{name} imports {top}" for top in sorted(tops & NEVER[ours])]
    for package, homes in HOMES.items():
        if package in tops and not any(inside(name, home) for home in homes):
            found.append(f"{name} imports {package}, whose home is {', '.join(sorted(homes))}")
    if any(inside(name, home) for home in HOMES["typer"]):
        allowed = sys.stdlib_module_names | {"typer"}
        modules = imported(name, source, top_level=True)
        early = {m.split(".")[0] for m in modules if not inside(m, PARSE)} - allowed
        found += [f"{name} imports {top} before it knows the command" for top in sorted(early)]
    return found


def room(name: str) -> str:
    """Return the part of `pipeline` that a module belongs to."""
    return [*name.split("."), ""][1]


def allowed_rooms(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return what each part of `pipeline` may import, as the rooms themselves say."""
    rooms = {room(name) for name in sources if name.startswith("pipeline.")}
    allowed = dict(BESIDE_THE_ROOMS)
    for name in rooms - set(allowed):
        docstring = ast.get_docstring(ast.parse(sources[f"pipeline.{name}"])) or ""
        said = re.search(r"May import (.+)\.\Z", docstring, re.DOTALL)
        assert said, f"pipeline/{name}/__init__.py does not end with what the room may import"
        if said[1] == "everything else in `pipeline`":
            allowed[name] = rooms - {name}
        else:
            allowed[name] = {*re.split(r",\s+", said[1]), "errors"}
    return allowed


def against_the_rooms(sources: Mapping[str, str]) -> list[str]:
    """Return every import from a room that the importing room does not name."""
    allowed = allowed_rooms(sources)
    return [
        f"{name} imports {module}"
        for name, source in sources.items()
        if room(name) in allowed
        for module in sorted(imported(name, source) & set(sources))
        if module.startswith("pipeline.") and room(module) not in allowed[room(name)] | {room(name)}
    ]


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the nodes of one circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def file_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which modules of ours each module imports, early or late."""
    return {
        name: {module for module in imported(name, source) if module in sources} - {name}
        for name, source in sources.items()
    }


def test_every_module_keeps_the_rules() -> None:
    sources = modules()
    expected = {"frozen_vqa", "cli", "cache", "cache.reader", "pipeline", "pipeline.train.train"}
    assert expected <= set(sources)
    assert [fault for name, source in sources.items() for fault in faults(name, source)] == []


def test_rooms_import_only_what_they_say() -> None:
    sources = modules()
    assert against_the_rooms(sources) == []
    assert circle(allowed_rooms(sources)) == []


def test_there_is_no_circle_among_files() -> None:
    assert circle(file_graph(modules())) == []


def test_a_circle_and_a_wrong_room_are_found() -> None:
    sources = modules()
    late = "def f():\n    from frozen_vqa.pipeline.train.train import train"
    sources["pipeline.model.attention"] += "\n" + late
    assert (
        against_the_rooms(sources)
        == [
            "pipeline.model.attention imports pipeline.train.train",
            "pipeline.model.attention imports pipeline.train.train.train",
        ][:1]
    )
    assert "pipeline.train.train" in circle(file_graph(sources))


def test_each_home_is_lived_in() -> None:
    """A rule about a module that no longer exists would hold for ever."""
    sources = modules()
    for package, homes in HOMES.items():
        for home in homes:
            tenants = [name for name in sources if inside(name, home)]
            assert any(
                package in {m.split(".")[0] for m in imported(n, sources[n])} for n in tenants
            ), (package, home)


def test_ours_go_by_their_installed_name() -> None:
    """`import cache` finds this folder in a checkout, and anything at all elsewhere."""
    files = [ROOT / "cli.py"]
    for top in ("cache", "pipeline", "tests", "benchmarks", "examples"):
        files += ROOT.glob(f"{top}/**/*.py")
    bare = re.compile(r"^\s*(from|import) (cache|pipeline|cli)\b(?!_)", re.MULTILINE)
    assert [file for file in files if bare.search(file.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("cache.new", "import torch", "cache.new imports torch"),
        ("cache.new", "from frozen_vqa.pipeline.errors import X", "cache.new imports pipeline"),
        ("cache.new", "def f():\n    import frozen_vqa.cli", "cache.new imports cli"),
        ("cache.new", "from transformers import AutoModel", "cache.new imports transformers"),
        ("cache", "import frozen_vqa.pipeline.model as m", "cache imports pipeline"),
        ("pipeline.new", "from frozen_vqa.cli import app", "pipeline.new imports cli"),
        ("pipeline.new", "from frozen_vqa import cli", "pipeline.new imports cli"),
        ("pipeline.new", "import os, typer", "pipeline.new imports typer, whose home is cli"),
        ("pipeline.new", "def f():\n    import h5py", "pipeline.new imports h5py, whose home is"),
        ("pipeline.train", "import transformers", "pipeline.train imports transformers, whose"),
        ("pipeline.new", "if TYPE_CHECKING:\n    import datasets", "imports datasets, whose home"),
        ("pipeline.new", "importlib.import_module('h5py')", "pipeline.new imports h5py, whose"),
        ("pipeline.new", "__import__('frozen_vqa.cli')", "pipeline.new imports cli"),
        ("cache.new", "from .. import cli", "cache.new imports cli"),
        ("cli", "import torch", "cli imports torch before it knows the command"),
        ("cli", "from frozen_vqa.cache.errors import X", "cli imports cache before it knows"),
        (
            "cli",
            "try:\n    import frozen_vqa.pipeline.x\nexcept E: pass",
            "cli imports pipeline be",
        ),
        ("cli", "def f():\n    import h5py", "cli imports h5py, whose home is cache"),
        ("cli", f"import frozen_vqa.{PARSE}s", "cli imports pipeline before it knows"),
        (PARSE, "import rich", f"{PARSE} imports rich before it knows the command"),
    ],
)
def test_the_check_can_fail(name: str, source: str, fault: str) -> None:
    assert [found for found in faults(name, source) if fault in found], faults(name, source)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("cli", "import typer\ndef f():\n    from frozen_vqa.pipeline.commands import x"),
        ("cli", f"from frozen_vqa.{PARSE} import Group"),
        (PARSE, "from typer.core import TyperGroup"),
        ("pipeline.new", "from frozen_vqa.cache import FeatureCache\nimport torch"),
        ("pipeline.sources.hub", "def f():\n    import datasets"),
        (
            "cache.format.hdf5",
            "import h5py\nfrom frozen_vqa.cache.disk.files import x\nfrom . import x",
        ),
    ],
)
def test_what_is_allowed_is_not_a_fault(name: str, source: str) -> None:
    assert faults(name, source) == []


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("frozen_vqa", set()),
        ("frozen_vqa.cli", set()),
        ("frozen_vqa.cache", {"numpy"}),
        ("frozen_vqa.pipeline.commands.score", LIGHTER),
        ("frozen_vqa.pipeline.commands.inspect_cache", LIGHTER),
    ],
)
def test_what_a_module_really_loads(module: str, allowed: set[str]) -> None:
    """Seen from inside a new process, whatever the source says."""
    script = f"import sys, {module}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(loaded.stdout.split()) & HEAVY <= allowed
