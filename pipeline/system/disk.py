"""Checks the free room on a disk before anything is written to it."""

import shutil
from pathlib import Path

from frozen_vqa.cache import CacheError
from frozen_vqa.pipeline.system.console import size


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk of a folder, which need not exist yet."""
    there = next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())
    return shutil.disk_usage(there).free


def require_room(cache: Path, need: int, *, advice: str) -> None:
    """Raise `CacheError` unless a cache's disk has `need` bytes free: before hours of work."""
    free = free_bytes(cache)
    if need > free:
        raise CacheError(
            f"{cache}: the missing features need {size(need)}, but {size(free)} are free on this "
            f"disk. {advice}"
        )
