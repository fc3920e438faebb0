"""Only regular files of a possible size are opened, in folders too; what fails is told."""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from frozen_vqa.cache.disk.files import (
    map_file,
    open_regular,
    read_file,
    require_regular_below,
    same_bytes,
)


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("make", [pipe, folder, device])
@pytest.mark.parametrize("read", [open_regular, read_file, lambda p: same_bytes(p, b"x")])
def test_what_is_no_file_is_told(
    make: Callable[[Path], Path], read: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        read(make(tmp_path / "x"))


def test_sizes_and_links_that_may_not_be(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("x")
    assert read_file(tmp_path / "link", most=5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_file(tmp_path / "x", most=4)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        read_file(tmp_path / "link", follow=False)


def test_bytes_are_the_same_or_other_and_unreadable_is_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    assert (same_bytes(path, b""), same_bytes(path, b"x")) == (True, False)
    path.write_bytes(b"12345")
    for data in (b"12345", b"1234", b"12346", b"123456", b""):
        assert same_bytes(path, data) == (data == b"12345")

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        same_bytes(path, b"12345")


def test_a_folder_that_a_library_will_read_holds_files_only(tmp_path: Path) -> None:
    """At every depth, and round a link that leads back, but not in hidden folders."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "back").symlink_to(tmp_path)
    (inner / "nowhere.json").symlink_to("none")
    for place in (tmp_path, inner):
        (place / "config.json").write_bytes(b"12345")
        (place / "weights.bin").write_bytes(b"123456789")
    hidden = tmp_path / ".git"
    hidden.mkdir()
    pipe(hidden / "x")
    require_regular_below(tmp_path, {".json": 5})
    with pytest.raises(OSError, match=r"more than 4 bytes.*config\.json"):
        require_regular_below(tmp_path, {".json": 4})
    for place in (tmp_path, inner):
        for name in ("x", "x.json", ".x.json"):
            made = pipe(place / name)
            with pytest.raises(OSError, match=rf"not a regular file: '{made}'"):
                require_regular_below(tmp_path, {".json": 5})
            made.unlink()
        pipe(place / ".x")  # no library reads it
    require_regular_below(tmp_path, {".json": 5})


def test_the_limit_of_open_files_is_raised_only_if_it_was_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[object] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    with pytest.raises(FileNotFoundError):
        map_file(tmp_path / "none")
    assert limits == []
    (tmp_path / "x").write_bytes(b"12345")
    real, failed = os.open, [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]

    def once_too_many(*given: object, **more: object) -> int:
        if failed:
            raise failed.pop()
        return real(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", once_too_many)
    assert map_file(tmp_path / "x") == b"12345"
    assert limits == [(resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2]
