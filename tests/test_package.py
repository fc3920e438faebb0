"""What is installed and released: one version, pinned dependencies, no package left behind."""

import importlib
import re
import shutil
import subprocess
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from frozen_vqa import __version__
from tests.support.repository import ROOT


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    """Version by package, from constraints.txt."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line := line.partition("#")[0].strip():
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
            assert match, f"not an exact pin: {line!r}"
            name = canonicalize_name(match[1])
            assert name not in found, f"{name} is pinned twice"
            found[name] = match[2]
    return found


def requirements(project: dict[str, Any]) -> list[Requirement]:
    extras = project["project"]["optional-dependencies"].values()
    lines = [*project["project"]["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in lines]


def test_the_version_is_the_newest_of_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## +\[?v?(\d+\.\d+\.\d+\S*?)\]?(?:\s|$)", text, re.MULTILINE)
    assert versions, "CHANGELOG.md has no heading such as '## 0.1.0'"
    assert versions[0] == __version__
    assert len(set(versions)) == len(versions)
    numbers = [tuple(map(int, v.split("."))) for v in versions]
    assert numbers == sorted(numbers, reverse=True)


def test_constraints_pin_torch_and_everything_that_is_required(
    project: dict[str, Any], pins: dict[str, str]
) -> None:
    assert pins["torch"] == "2.13.0"
    for requirement in requirements(project):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is required but not pinned in constraints.txt"
        assert pins[name] in requirement.specifier, f"{name}: {pins[name]} against {requirement}"


def test_every_dependency_has_a_floor_and_no_ceiling(project: dict[str, Any]) -> None:
    for requirement in requirements(project):
        operators = [part.operator for part in requirement.specifier]
        assert operators == [">="], requirement


def test_every_package_of_ours_is_installed(project: dict[str, Any]) -> None:
    """Packages are listed by hand, so a new folder must be too."""
    folders = {
        ".".join(["frozen_vqa", *path.parent.relative_to(ROOT).parts])
        for top in ("cache", "pipeline")
        for path in (ROOT / top).rglob("__init__.py")
    }
    folders.add("frozen_vqa")
    assert folders >= {"frozen_vqa.cache", "frozen_vqa.pipeline.model"}
    assert set(project["tool"]["setuptools"]["packages"]) == folders
    assert project["tool"]["setuptools"]["package-dir"] == {"frozen_vqa": "."}


def test_the_command_leads_to_a_function(project: dict[str, Any]) -> None:
    assert project["project"]["scripts"] == {"frozen-vqa": "frozen_vqa.cli:main"}
    for target in project["project"]["scripts"].values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_files_that_pyproject_names_are_there(project: dict[str, Any]) -> None:
    for name in (project["project"]["readme"], *project["project"]["license-files"]):
        assert (ROOT / name).is_file(), name


def test_contributing_leads_to_every_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = [word for word in re.findall(r"`([\w./]+)`", text) if "/" in word]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    packages = [path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")]
    assert [name for name in packages if f"`pipeline/{name}/" not in text] == []
    assert text.count("\n") < 50


def ignored(*paths: str) -> set[str]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    found = subprocess.run(
        [git, "check-ignore", "--no-index", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode in (0, 1), found.stderr
    return set(found.stdout.splitlines())


def test_git_ignores_what_is_made_and_nothing_of_ours() -> None:
    """A borrowed .gitignore often drops `cache/`, which here is code."""
    ours = [
        str(path.relative_to(ROOT))
        for top in ("cache", "pipeline", "tests", "examples", "benchmarks")
        for path in (ROOT / top).rglob("*.py")
    ]
    assert "cache/reader.py" in ours
    assert ignored(*ours, "cache/new.py", "cache/data/new.py", "cli.py", "README.md") == set()
    made = ["demo/cache/cache.json", "runs/a/model.safetensors", "features/cache.json", ".venv/x"]
    assert ignored(*made) == set(made)


def test_every_make_target_is_phony_and_explained() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)).split())
    explained = set(re.findall(r"^([a-z][a-z-]*):.*## \S", text, re.MULTILINE))
    assert {"install", "test", "lint", "demo"} <= targets
    assert targets == phony == explained
