"""`python cli.py` from a checkout: from any folder, without installation, beside another copy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.caches import Made
from tests.support.repository import ROOT

PACKAGES = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
"""Where the packages lie that ours needs. By PYTHONPATH they are found, but no .pth file is read,
so that an editable installation of ours is not."""


def without_installation(
    *words: object, cwd: Path, before: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python where nothing of ours is installed, with one folder before all packages."""
    path = os.pathsep.join([str(before), PACKAGES] if before else [PACKAGES])
    return subprocess.run(
        [sys.executable, "-S", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def other_copy(tmp_path: Path) -> Path:
    """A folder with an installed copy of ours, each module of which fails when it is imported."""
    for path in [ROOT / "__init__.py", ROOT / "cli.py", *ROOT.glob("*/__init__.py")]:
        copy = tmp_path / "other" / "frozen_vqa" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("raise ImportError('this is the other copy')")
    return tmp_path / "other"


def test_a_checkout_needs_no_installation(scenes: Made, tmp_path: Path) -> None:
    """From a working folder that is not the checkout."""
    missing = without_installation("-c", "import frozen_vqa", cwd=tmp_path)
    assert "No module named 'frozen_vqa'" in missing.stderr

    words = ("inspect-cache", scenes.directory, "--json")
    found = without_installation(ROOT / "cli.py", *words, cwd=tmp_path)
    assert (found.returncode, found.stderr.count("Traceback")) == (0, 0), found.stderr
    assert json.loads(found.stdout)["splits"].keys() == {"train", "val", "test"}


def test_a_checkout_never_takes_modules_of_an_installed_copy(
    scenes: Made, tmp_path: Path, other_copy: Path
) -> None:
    installed = without_installation("-c", "import frozen_vqa", cwd=tmp_path, before=other_copy)
    assert "this is the other copy" in installed.stderr

    for cwd in (ROOT, tmp_path, other_copy):
        words = ("inspect-cache", scenes.directory, "--json")
        found = without_installation(ROOT / "cli.py", *words, cwd=cwd, before=other_copy)
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["splits"]


def test_an_error_is_one_line_without_installation(tmp_path: Path) -> None:
    found = without_installation(ROOT / "cli.py", "inspect-cache", tmp_path, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1
