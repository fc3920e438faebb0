"""Neither stage leaves a file open, and both give files the permissions that the user wants."""

import errno
import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from frozen_vqa.cache import FeatureCache, load_manifest
from frozen_vqa.cache.disk.files import map_file, open_regular, read_file, write_atomically
from frozen_vqa.cache.verify import check_copies, verify
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.runs.sealed import LastTwo
from tests.support.caches import Made
from tests.support.disk_calls import watch
from tests.support.extractions import no_spot_checks, run  # noqa: F401  (the first is a fixture)
from tests.support.open_files import open_files
from tests.support.trainings import CPU, run_training


def evaluate_run(made: Made, folder: Path) -> None:
    if not folder.exists():
        run_training(made, folder, epochs=1)
    evaluate(load_run(folder, CPU), FeatureCache(made.directory), "val", metric=None)


def refuse(work: Callable[[], object]) -> None:
    with pytest.raises(OSError):  # noqa: PT011  (any: it is the files that count)
        work()


WORK: dict[str, Callable[[Path, Made], object]] = {
    "write": lambda folder, _: write_atomically(folder / "a" / "b", b"data"),
    "write a shared file": lambda folder, _: write_atomically(folder / "c", b"x", shared=True),
    "write over a folder": lambda folder, _: refuse(lambda: write_atomically(folder, b"data")),
    "replace": lambda folder, _: LastTwo(folder / "x.safetensors").replace(b"data"),
    "read": lambda folder, made: read_file(made.directory / "cache.json"),
    "read what is too large": lambda folder, made: refuse(
        lambda: read_file(made.directory / "cache.json", most=3)
    ),
    "open a folder": lambda folder, _: refuse(lambda: open_regular(folder)),
    "map": lambda folder, made: map_file(made.directory / "images" / "00000.h5"),
    "open a cache": lambda folder, made: FeatureCache(made.directory).split("train"),
    "verify": lambda folder, made: [
        *verify(made.directory, load_manifest(made.directory)),
        *check_copies(made.directory, load_manifest(made.directory)),
    ],
    "extract": lambda folder, _: run(folder / f"cache-{os.urandom(4).hex()}"),
    "extract again": lambda folder, _: run(folder / "cache"),
    "train": lambda folder, made: run_training(made, folder / os.urandom(4).hex(), epochs=1),
    "evaluate": lambda folder, made: evaluate_run(made, folder / "run"),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_no_file_stays_open(
    work: Callable[[Path, Made], object], scenes: Made, tmp_path: Path
) -> None:
    work(tmp_path, scenes)  # what is loaded at the first call may stay
    gc.collect()
    before = open_files()
    work(tmp_path, scenes)
    gc.collect()
    assert open_files() - before == Counter()


@pytest.mark.parametrize("name", ["write", "write a shared file", "replace"])
def test_no_file_stays_open_after_a_call_that_fails(
    name: str, scenes: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes the disk fails once."""
    WORK[name](tmp_path, scenes)
    before, calls, failing = open_files(), 0, 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.EIO, "bad disk")

    with monkeypatch.context() as patch:
        watch(fail, patch)
        for failing in range(1, 40):
            calls = 0
            try:
                WORK[name](tmp_path, scenes)
            except OSError:
                assert open_files() - before == Counter()
            if calls < failing:
                break
    assert failing > 6


@pytest.fixture(params=[0o077, 0o002], ids="umask {:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_and_folders_have_the_permissions_of_the_umask(
    umask: int, scenes: Made, tmp_path: Path
) -> None:
    """Those of a group may share a cache; nobody else reads what its owner keeps private."""
    run(tmp_path / "cache")
    evaluate_run(scenes, tmp_path / "run")
    write_atomically(tmp_path / "new" / "folder" / "file", b"data")
    LastTwo(tmp_path / "x.safetensors").replace(b"data")
    made = [path for path in tmp_path.rglob("*") if not path.is_symlink()]
    wrong = {
        str(path.relative_to(tmp_path)): oct(path.stat().st_mode & 0o777)
        for path in made
        if path.stat().st_mode & 0o777 != (0o777 if path.is_dir() else 0o666) & ~umask
    }
    assert wrong == {}
    assert len(made) > 20
