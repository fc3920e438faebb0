"""What a run says of the circumstances under which it was trained."""

import json
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import frozen_vqa
from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.runs import environment
from frozen_vqa.pipeline.runs.data import fingerprint_cache
from frozen_vqa.pipeline.runs.environment import note_environment, own_revision
from frozen_vqa.pipeline.runs.folder import ENVIRONMENT
from tests.support.caches import Made
from tests.support.trainings import run_training

CPU = torch.device("cpu")


def test_a_run_knows_what_it_was_trained_with(
    scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "own_revision", lambda: "ours")
    run_training(scenes, tmp_path / "run", epochs=1)
    (found,) = json.loads((tmp_path / "run" / ENVIRONMENT).read_text())
    packages = found.pop("packages")
    assert packages["frozen-vqa"] == frozen_vqa.__version__  # of this copy, installed or not
    assert packages.items() >= {n: version(n) for n in ("torch", "numpy", "h5py")}.items()
    cache = FeatureCache(scenes.directory)
    pinned = fingerprint_cache(cache, {name: cache.split(name) for name in ("train", "val")})
    assert found == {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": "cpu",
        "cuda": None,
        "threads": torch.get_num_threads(),
        "git": "ours",
        "cache": json.loads(json.dumps(pinned)),
    }


def test_another_environment_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training may be resumed elsewhere; a damaged list is no reason to stop it."""

    def noted(cache: str) -> list[str]:
        note_environment(tmp_path, CPU, {"split": cache})
        return [one["cache"]["split"] for one in json.loads((tmp_path / ENVIRONMENT).read_text())]

    assert noted("a") == noted("a") == ["a"]
    assert noted("b") == ["a", "b"]
    assert noted("a") == ["a", "b", "a"]
    for damaged in ("{", "{}"):
        (tmp_path / ENVIRONMENT).write_text(damaged)
        assert noted("c") == ["c"]


def test_the_revision_of_our_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def git(*words: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    def revision() -> str | None:
        own_revision.cache_clear()
        return own_revision()

    ours = tmp_path / "folder"
    ours.mkdir()
    monkeypatch.setattr(environment, "OURS", ours)
    git("init", "-q")
    (tmp_path / "file").write_text("zero")
    git("add", "file")
    git("commit", "-qm", "zero")
    assert revision() is None  # an installed package may lie in somebody's checkout
    shutil.rmtree(tmp_path / ".git")
    monkeypatch.setattr(environment, "OURS", tmp_path)
    git("init", "-q")
    assert revision() is None  # there is no commit yet
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "one")
    git("tag", "v1")
    assert revision() == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("two")
    assert revision() == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("GIT_DIR", str(ours))
    assert revision() == git("--git-dir", str(tmp_path / ".git"), "rev-parse", "HEAD") + "-dirty"
    monkeypatch.setattr(environment, "GIT_SECONDS", 0.0)
    assert revision() is None
    monkeypatch.setenv("PATH", "")
    assert revision() is None
    own_revision.cache_clear()
