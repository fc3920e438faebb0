"""A disk that may lose what was not synced: records what a program does, and what could be left.

The model: the bytes of a file are safe once it was synced, and a name once its directory was. What
was not synced may be there or not, each name for itself; bytes that were not synced read as zeros.
"""

import os
import random
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class File:
    """One file, whatever it is called: its bytes, and those of the last sync."""

    now: bytearray = field(default_factory=bytearray)
    synced: bytes | None = None


Names = dict[str, File | None]
"""By path below the root; None stands for a directory."""


@dataclass
class Disk:
    """What a directory tree holds now, and what of it is safe."""

    root: Path
    now: Names = field(default_factory=dict)
    safe: Names = field(default_factory=dict)
    moments: list[tuple[Names, Names]] = field(default_factory=list)

    def key(self, path: Any) -> str | None:
        path = Path(path)
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else None

    def sync_directory(self, key: str) -> None:
        """Make the names in one directory safe."""
        parent = "" if key == "." else key
        for names in (self.safe, self.now):
            for name in [n for n in names if os.path.dirname(n) == parent]:
                if name in self.now:
                    self.safe[name] = self.now[name]
                else:
                    self.safe.pop(name, None)

    def synced(self) -> None:
        """Note what is safe and what there is: power may be lost now."""
        moment = (dict(self.safe), dict(self.now))
        for names in moment:
            for name, file in names.items():
                if file is not None:  # bytes that come later are not there yet
                    names[name] = File(bytearray(file.now), file.synced)
        self.moments.append(moment)


@contextmanager
def recorded(root: Path) -> Iterator[Disk]:
    """Follow what the block does to files below `root`."""
    disk = Disk(root, {}, {"": None})
    handles: dict[int, str] = {}
    real = {
        name: getattr(os, name) for name in ("open", "write", "fsync", "close", "replace", "link")
    }
    unlink, mkdir = Path.unlink, Path.mkdir

    def open_(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        handle: int = real["open"](path, flags, *rest, **more)
        if (key := disk.key(path)) is not None:
            handles[handle] = key
            if flags & os.O_CREAT and key not in disk.now:
                disk.now[key] = File()
        return handle

    def write(handle: int, data: Any) -> int:
        count: int = real["write"](handle, data)
        if handle in handles:
            file = disk.now[handles[handle]]
            assert file is not None
            file.now += bytes(data[:count])
        return count

    def fsync(handle: int) -> None:
        real["fsync"](handle)
        key = handles.get(handle)
        if key is not None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                disk.sync_directory(key)
            elif (file := disk.now[key]) is not None:
                file.synced = bytes(file.now)
            disk.synced()

    def close(handle: int) -> None:
        handles.pop(handle, None)
        real["close"](handle)

    def move(source: Any, target: Any, call: Callable[..., Any]) -> Any:
        done = call(source, target)
        old, new = disk.key(source), disk.key(target)
        if old is not None and new is not None:
            disk.now[new] = disk.now.pop(old)
        return done

    def link(source: Any, target: Any) -> None:
        real["link"](source, target)
        old, new = disk.key(source), disk.key(target)
        if old is not None and new is not None:
            disk.now[new] = disk.now[old]

    def unlink_(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok=missing_ok)
        disk.now.pop(disk.key(self) or "", None)

    def mkdir_(self: Path, *rest: Any, **more: Any) -> None:
        mkdir(self, *rest, **more)
        if (key := disk.key(self)) is not None:
            disk.now.setdefault("" if key == "." else key, None)

    def replace(source: Any, target: Any) -> None:
        move(source, target, real["replace"])

    one_at_a_time = threading.RLock()  # several threads store shards

    def locked(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*words: Any, **more: Any) -> Any:
            with one_at_a_time:
                return call(*words, **more)

        return called

    with pytest.MonkeyPatch.context() as patch:
        for ours in (open_, write, fsync, close, link, replace):
            patch.setattr(os, ours.__name__.rstrip("_"), locked(ours))
        for ours in (unlink_, mkdir_):
            patch.setattr(Path, ours.__name__.rstrip("_"), locked(ours))
        yield disk


def left_behind(
    moment: tuple[Names, Names], target: Path, *, keep: str, rng: random.Random
) -> None:
    """Lay out what a loss of power could leave.

    Args:
        moment: What was safe and what there was.
        target: Folder to make.
        keep: "safe": of the names only those that were synced; "all": every name, and zeros where
            bytes were not synced; "some": each name that was not synced by chance.
        rng: The chance.
    """
    safe, now = moment
    names = dict(safe)
    for name in sorted({*safe, *now}):
        if keep == "all" or (keep == "some" and rng.random() < 0.5):
            if name in now:
                names[name] = now[name]
            else:
                names.pop(name, None)
    target.mkdir(parents=True)
    for name, file in sorted(names.items()):
        path = target / name
        if not path.parent.is_dir():  # its directory did not survive
            continue
        if file is None:
            path.mkdir(exist_ok=True)
        elif file.synced is not None:
            path.write_bytes(file.synced)
        else:
            path.write_bytes(bytes(len(file.now)))
