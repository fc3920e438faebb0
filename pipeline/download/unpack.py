"""Archives from the net onto the disk: only files, below one folder, of as many bytes as said.

Each file is written in a folder of ours and then moved to its place whole. A file that is there
already stays: it has to be the same one.
"""

import gzip
import io
import os
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.cache.errors import UnsafeNameError
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.download.catalogue import RemoteFile
from frozen_vqa.pipeline.download.transfer import Stopped
from frozen_vqa.pipeline.errors import ArchiveError, DownloadError

MOST_FILES = 2_000_000
MOST_TIMES, SMALL = 60, 100_000_000
"""An archive unpacks to so many times its bytes at most, or to as many as a small one may."""

PIECE = 1 << 20
JUNK = "__MACOSX"


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name, its bytes, and how its content is opened."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path,
    into: Path,
    remote: RemoteFile,
    *,
    temporary: Path,
    stop: threading.Event,
    room: Callable[[int], None],
) -> list[tuple[str, int]]:
    """Unpack an archive and return the names and the bytes of its files.

    Args:
        into: The folder that its names begin from; it and those below it have to be no links.
        temporary: Where a file of ours is while it is written.
        stop: Ends the work soon.
        room: Raises if the disk has no room for so many bytes.

    Raises:
        ArchiveError: if the archive is damaged, holds links, leads elsewhere or is too big.
        DownloadError: if another file is in the way of one of its files.
    """
    most = max(SMALL, MOST_TIMES * archive.stat().st_size)
    done: dict[str, int] = {}
    with _explained(remote.url), open_regular(archive, follow=False) as file:
        total, members = (_zipped if remote.name.endswith(".zip") else _tarred)(file, most)
        room(total)
        for member in members:
            if stop.is_set():
                raise Stopped
            name = str(PurePosixPath(member.name))
            parts = name.split("/")
            if JUNK in parts or parts[-1].startswith("._"):
                continue
            if name in done or len(done) >= MOST_FILES:
                raise _Refused(f"it holds too many files, or two named {name!r:.80}")
            place = path_in(into, name)
            _place(member, place, into, temporary)
            done[name] = member.size
    return list(done.items())


class _Refused(Exception):
    """What an archive does that none of ours does."""


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except (DownloadError, Stopped, MemoryError):
        raise
    except (UnsafeNameError, _Refused) as error:
        raise ArchiveError(f"{url}: the archive is not unpacked, because {error}") from None
    except Exception as error:  # zipfile and tarfile raise nearly any class on damaged bytes
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise
        raise ArchiveError(
            f"{url}: the archive is damaged or of a kind that is not read ({error}). Run the "
            f"command again; if that does not help, get the file by hand."
        ) from error


def _zipped(file: io.FileIO, most: int) -> tuple[int, Iterator[Member]]:
    archive = zipfile.ZipFile(file)
    infos = [info for info in archive.infolist() if not info.is_dir()]
    for info in infos:
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _Refused(f"{info.filename!r:.80} is a link or no file")
        if info.flag_bits & 1:
            raise _Refused(f"{info.filename!r:.80} is locked with a password")
    total = sum(info.file_size for info in infos)
    _require_few(total, most)

    def members() -> Iterator[Member]:
        for info in infos:
            yield Member(info.filename, info.file_size, partial(archive.open, info))

    return total, members()


def _tarred(file: io.FileIO, most: int) -> tuple[int, Iterator[Member]]:
    stream = _Bounded(gzip.GzipFile(fileobj=file), most)
    archive = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115

    def members() -> Iterator[Member]:
        for info in archive:
            if info.isdir():
                continue
            if not info.isfile() or info.issparse():
                raise _Refused(f"{info.name!r:.80} is a link or no file")
            found = archive.extractfile(info)
            assert found
            yield Member(info.name.removeprefix("./"), info.size, partial(cast, IO[bytes], found))

    return 0, members()


class _Bounded(io.RawIOBase):
    """The content of a packed stream, up to a number of bytes."""

    def __init__(self, stream: gzip.GzipFile, most: int) -> None:
        self._stream, self._left = stream, most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        _require_few(-self._left, 0)
        return data


def _require_few(total: int, most: int) -> None:
    if total > most:
        raise _Refused(f"it unpacks to more than {MOST_TIMES} times its bytes, as no data set does")


def _place(member: Member, place: Path, into: Path, temporary: Path) -> None:
    """Put a file in its place, unless it is there."""
    require_folders(place, into)
    if os.path.lexists(place):
        if not _is_same(member, place):
            raise DownloadError(
                f"{place}: another file than the one of the data set is there, and it was left as "
                f"it is. Move it elsewhere, or give --to another folder."
            )
        return
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    with os.fdopen(handle, "wb") as out, member.open() as content:
        left = member.size
        while piece := content.read(PIECE):
            left -= len(piece)
            if left < 0:
                break
            out.write(piece)
    if left:
        raise _Refused(f"{member.name!r:.80} has another size than its header says")
    place.parent.mkdir(parents=True, exist_ok=True)
    move(temporary, place)


def move(source: Path, place: Path) -> None:
    """Move a file to a name that is free; raise `FileExistsError` if it is not."""
    try:
        os.link(source, place)  # which replaces nothing
    except FileExistsError:
        raise
    except OSError:  # not every file system has hard links
        if os.path.lexists(place):
            raise FileExistsError(17, "File exists", str(place)) from None
        os.rename(source, place)
    else:
        os.unlink(source)


def require_folders(place: Path, into: Path) -> None:
    """Raise `DownloadError` if a folder between `into` and a file in it is a link."""
    for folder in (one for one in place.parents if one == into or one.is_relative_to(into)):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise DownloadError(
                f"{folder}: a link or a file stands in place of a folder, so nothing was written "
                f"there. Put the folder itself there, or give --to another folder."
            )


def _is_same(member: Member, place: Path) -> bool:
    try:
        file = open_regular(place, follow=False)
    except OSError:
        return False
    with file, member.open() as content:
        if os.fstat(file.fileno()).st_size != member.size:
            return False
        while piece := content.read(PIECE):
            if file.read(len(piece)) != piece:
                return False
    return True
