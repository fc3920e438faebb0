"""What `import frozen_vqa` promises: the exact names, and that they cost nothing until used."""

import ast
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

import frozen_vqa
from tests.support.repository import ROOT

PUBLIC = {
    "Answers",
    "CacheError",
    "FeatureCache",
    "FeatureDataset",
    "FusionModule",
    "ImageEncoder",
    "PictureModel",
    "PipelineError",
    "QuestionModel",
    "Source",
    "TextEncoder",
    "TrainConfig",
    "VqaExample",
    "VqaHead",
    "__version__",
    "accuracy",
    "check_fusion",
    "evaluate",
    "extract",
    "load_run",
    "make_plan",
    "open_source",
    "question_score",
    "train",
    "trust",
}
"""Every name is a promise to users: a change here needs a line in CHANGELOG.md."""

HEAVY = {"torch", "numpy", "h5py", "transformers", "datasets", "PIL", "typer"}


def loaded_by(statement: str) -> set[str]:
    """Return what a new process has loaded after `import frozen_vqa` and a statement."""
    script = f"import sys, frozen_vqa\n{statement}\nprint(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(found.stdout.split())


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(frozen_vqa.__all__) == sorted(PUBLIC)


def test_a_name_is_that_of_its_home() -> None:
    """Type checkers follow the imports of the file, Python follows its table: both agree."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "typing"
        for alias in node.names
    }
    assert homes.keys() == PUBLIC - {"__version__"}
    assert frozen_vqa._HOMES.keys() == homes.keys()
    for name, home in homes.items():
        assert getattr(frozen_vqa, name) is getattr(import_module(home), name)
        assert frozen_vqa._HOMES[name] == home.removeprefix("frozen_vqa.")


def test_the_import_loads_nothing_heavy() -> None:
    modules = loaded_by("assert set(frozen_vqa.__all__) <= set(dir(frozen_vqa))")
    assert {name for name in modules if name.startswith("frozen_vqa")} == {"frozen_vqa"}
    assert not modules & HEAVY


@pytest.mark.parametrize(
    ("name", "not_loaded"),
    [
        ("FeatureCache", {"torch", "transformers", "datasets"}),
        ("question_score", {"torch", "numpy", "h5py", "transformers"}),
        ("open_source", {"torch", "transformers", "datasets"}),
        ("VqaHead", {"datasets", "typer", "transformers"}),
    ],
)
def test_a_name_loads_only_what_it_needs(name: str, not_loaded: set[str]) -> None:
    assert not loaded_by(f"frozen_vqa.{name}") & not_loaded


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'frozen_vqa' has no attribute 'train_head'"):
        frozen_vqa.train_head  # type: ignore[attr-defined]  # noqa: B018
    from frozen_vqa import cli  # a module of ours is still found

    assert callable(cli.main)


def test_errors_of_users_have_two_bases() -> None:
    errors = [
        found
        for home in ("frozen_vqa.cache.errors", "frozen_vqa.pipeline.errors")
        for found in vars(import_module(home)).values()
        if isinstance(found, type) and issubclass(found, Exception)
    ]
    assert len(errors) > 5
    assert all(issubclass(e, frozen_vqa.CacheError | frozen_vqa.PipelineError) for e in errors)


def test_the_version_has_one_home() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "frozen_vqa.__version__"}
