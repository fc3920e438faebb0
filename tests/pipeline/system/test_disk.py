"""Room on a disk is checked before it is needed."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.cache import CacheError
from frozen_vqa.pipeline.system.disk import free_bytes, require_room


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk with 100 free bytes, whose size only an existing folder tells."""
    usage: Any = shutil.disk_usage(tmp_path)._replace(free=100)
    real = shutil.disk_usage

    def disk_usage(path: Path) -> Any:
        real(path)  # raises as for any folder that is missing
        return usage

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    return tmp_path


def test_a_folder_that_does_not_exist_yet(disk: Path) -> None:
    assert free_bytes(disk / "not" / "yet") == free_bytes(disk) == 100


def test_a_disk_that_is_just_large_enough(disk: Path) -> None:
    require_room(disk, 100, advice="")
    message = r"cache: the missing features need 101 B, but 100 B are free .* Free some\."
    with pytest.raises(CacheError, match=message):
        require_room(disk / "cache", 101, advice="Free some.")
