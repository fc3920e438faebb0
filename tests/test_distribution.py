"""The sdist and the wheel: what they hold, and that the wheel works among foreign modules."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from frozen_vqa import __version__
from tests.support.repository import ROOT

FOREIGN = {
    "pipeline.py": "raise ImportError('this is the pipeline of a user')",
    "cache/__init__.py": "raise ImportError('this is the cache of a user')",
    "cli.py": "raise ImportError('this is the cli of a user')",
}
"""Modules that a user may well have in the working folder."""


def run(*words: object, cwd: Path, **environment: object) -> str:
    """Return what a command prints; fail with what it says if it fails."""
    found = subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env=os.environ | {name: str(value) for name, value in environment.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def repository_files() -> set[str]:
    """Return the files that git knows or would add."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist, built from a copy, because a build leaves files in its folder."""
    place = tmp_path_factory.mktemp("sdist")
    for name in repository_files():
        (place / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / "copy" / name)
    build = f"from setuptools import build_meta as b; b.build_sdist({str(place)!r})"
    run(sys.executable, "-c", build, cwd=place / "copy")
    with tarfile.open(place / f"frozen_vqa-{__version__}.tar.gz") as archive:
        archive.extractall(place, filter="data")
    return place / f"frozen_vqa-{__version__}"


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, built from the sdist without the network."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", "..", ".", cwd=sdist)
    return sdist.parent / f"frozen_vqa-{__version__}-py3-none-any.whl"


def test_the_sdist_is_the_repository(sdist: Path) -> None:
    held = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    assert repository_files() - held == set()
    made = {name for name in held - repository_files() if "egg-info" not in name}
    assert made == {"PKG-INFO", "setup.cfg"}


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    ours = {
        f"frozen_vqa/{name}"
        for name in repository_files()
        if re.fullmatch(
            r"(__init__|cli)\.py|py\.typed|(cache|pipeline)/.*\.py|pipeline/report/page/.*", name
        )
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == ours
        assert f"frozen_vqa-{__version__}.dist-info/licenses/LICENSE" in archive.namelist()


def test_the_page_on_a_package_index_is_the_readme(wheel: Path) -> None:
    """tests/test_readme.py sees to it that its links and pictures work there."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"frozen_vqa-{__version__}.dist-info/METADATA")
    head, _, page = metadata.decode().partition("\n\n")
    assert "\nDescription-Content-Type: text/markdown\n" in head
    assert page.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


@pytest.fixture(scope="module")
def among_foreign(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return where the wheel is installed, and a working folder of a user."""
    place = tmp_path_factory.mktemp("user")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--no-deps", "--target", place / "installed", wheel, cwd=place)
    for name, source in FOREIGN.items():
        (place / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "work" / name).write_text(source)
    return place / "installed", place / "work"


def python(among_foreign: tuple[Path, Path], *words: object) -> str:
    """Run Python in the working folder, whose modules come before those that are installed."""
    installed, work = among_foreign
    home = {"XDG_CACHE_HOME": work.parent / "home", "HF_HUB_OFFLINE": "1"}
    path = os.pathsep.join([str(work), str(installed)])
    return run(sys.executable, *words, cwd=work, PYTHONPATH=path, **home)


def test_the_command_works_among_foreign_modules(among_foreign: tuple[Path, Path]) -> None:
    installed, _ = among_foreign
    usage = python(among_foreign, installed / "bin" / "frozen-vqa", "--help")
    assert "Usage: frozen-vqa " in usage


@pytest.mark.slow
def test_the_library_works_among_foreign_modules(among_foreign: tuple[Path, Path]) -> None:
    """A head is trained, loaded and run by the wheel, and by no other copy of ours."""
    installed, work = among_foreign
    script = shutil.copy(ROOT / "examples" / "from_python.py", work)
    said = python(among_foreign, script, work / "out")
    assert re.fullmatch(r"\d+\.\d\d % of \d+ questions\n", said)

    files = "[m.__file__ for n, m in sys.modules.items() if n.startswith('frozen_vqa')]"
    load = f"import sys, frozen_vqa as f; f.VqaHead.from_pretrained('out/run'); print(*{files})"
    loaded = python(among_foreign, "-c", load).split()
    assert loaded
    assert [file for file in loaded if not Path(file).is_relative_to(installed)] == []
