"""What this process may use of the machine: memory and cores, limits of a container counted.

Source: the kernel's cgroup-v2 and cgroup-v1 documentation (memory.max, cpu.max, cpu.cfs_quota_us).
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.pipeline.system.console import size

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Return the bytes that can be had without swapping, or None where nobody tells."""
    found = [free for free in (_free_of_machine(), *_free_of_groups()) if free is not None]
    return max(0, min(found)) if found else None


def usable_cores() -> int:
    """Return the number of cores that this process may keep busy, at least one."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu"):
        quota = _words(group / "cpu.max")
        if not quota:
            quota = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0].isdecimal() and quota[1].isdecimal() and int(quota[1]):
            own = min(own, max(1, int(quota[0]) // int(quota[1])))
    return own


def _free_of_machine() -> int | None:
    available = _table(PROC / "meminfo").get("MemAvailable:")
    return None if available is None else available * 1024


def _free_of_groups() -> Iterator[int]:
    for group in _groups("memory"):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            numbers = _words(group / limit) + _words(group / used)
            if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
                # Pages of files that nobody has used lately are given back when asked for.
                reclaimable = _table(group / "memory.stat").get(cache, 0)
                yield int(numbers[0]) - int(numbers[1]) + reclaimable


def _groups(controller: str) -> Iterator[Path]:
    """Yield this process's control group and those above it; a limit of any holds for all."""
    for line in _lines(PROC / "self" / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUP / controller if controllers else CGROUP
        place = root / path.strip("/")
        # Inside a container the path may be that of the host; the container's root is its own.
        yield from (p for p in (place, *place.parents) if p == root or root in p.parents)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}


def require_free_space(folder: Path, need: int, advice: str) -> None:
    """Refuse work that the disk of `folder` cannot hold, before the first hour of it.

    Args:
        folder: An existing folder on the disk.
        need: Bytes to be written.
        advice: What the user can do, as sentences.

    Raises:
        CacheError: if fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if need > free:
        raise CacheError(
            f"{folder}: the missing features need {size(need)}, but {size(free)} are free on this "
            f"disk. {advice}"
        )
