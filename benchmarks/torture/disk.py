"""Extractions whose disk runs full: at each write in turn, and on a real small disk."""

import ctypes
import errno
import os
import shutil
import time
from collections import Counter
from pathlib import Path

from benchmarks.torture.disturbed import DAMAGED, Extraction, ended, fork, resumed, undisturbed
from frozen_vqa.cache import load_manifest
from frozen_vqa.pipeline.system.console import console

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FailingWrites:
    """Lets the n-th call to the kernel that writes fail: half of the bytes, then a full disk."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.write, self.fsync, self.replace = os.write, os.fsync, os.replace

    def install(self) -> None:
        """Take the place of the real calls, in this process."""
        os.write, os.fsync, os.replace = self._write, self._fsync, self._replace  # type: ignore

    def _fails(self) -> bool:
        self.left -= 1
        return self.left == 0

    def _write(self, handle: int, data: memoryview) -> int:
        if self._fails():
            self.write(handle, data[: len(data) // 2])
            raise FULL
        return self.write(handle, data)

    def _fsync(self, handle: int) -> None:
        if self._fails():
            raise FULL
        self.fsync(handle)

    def _replace(self, source: Path, target: Path) -> None:
        if self._fails():
            raise FULL
        self.replace(source, target)


def full_disk(extraction: Extraction, scratch: Path) -> dict[str, int]:
    """Fail at every n-th write; then fill a real file system, where one can be mounted."""
    whole, seconds = undisturbed(extraction, scratch)
    found = Counter(run=0, recovered=0, crashes=0, silent=0, real=0)

    def judge(code: int, cache: Path) -> None:
        found["run"] += 1
        found["crashes"] += code not in (0, DAMAGED)
        found["silent"] += not sound(cache, whole)
        found["recovered"] += resumed(extraction, cache, whole)

    n, code = 0, DAMAGED
    while code != 0:
        n += 1
        cache = scratch / "full"

        def work(n: int = n, cache: Path = cache) -> None:
            FailingWrites(n).install()
            extraction.run(cache)

        code = ended(fork(work))
        judge(code, cache)
        shutil.rmtree(cache)
        if n % 20 == 0:
            console.print(f"full disk: {n} writes failed, {found['recovered']} recovered")
    if mount := small_disk(scratch / "disk", 2 * sum(map(len, whole.values()))):
        for turn in range(20):
            judge(filled_up(extraction, mount, after=seconds * turn / 20), mount / "cache")
            found["real"] += 1
            shutil.rmtree(mount / "cache")
        ctypes.CDLL(None).umount(str(mount).encode())
    return dict(found)


def sound(cache: Path, whole: dict[str, bytes]) -> bool:
    """Whether all that a manifest names is there and as it should be: no zeros, no halves."""
    if not (cache / "cache.json").exists():
        return True
    return all(
        (cache / record.file).read_bytes() == whole[record.file]
        for record in load_manifest(cache).files
    )


def small_disk(place: Path, size: int) -> Path | None:
    """Mount a file system in memory of this many bytes; None where that is not allowed."""
    place.mkdir()
    options = f"size={size}".encode()
    if ctypes.CDLL(None).mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, options) == 0:
        return place
    console.print("full disk: no file system can be mounted here; only injected failures were run")
    return None


def filled_up(extraction: Extraction, mount: Path, *, after: float) -> int:
    """Extract while the file system runs full after some seconds; return the exit code."""
    ballast = mount / "ballast"
    pid = fork(lambda: extraction.run(mount / "cache"))
    time.sleep(after)
    with ballast.open("wb", buffering=0) as file:
        try:
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                try:
                    file.write(bytes(4096))
                except OSError:
                    time.sleep(0.001)
        except ChildProcessError:
            pass
    ballast.unlink()
    return DAMAGED
