"""Which pictures of a data set have the same content, whatever they are called.

Content is the bytes of a file or of a row, not the pixels, because to decode all pictures twice
would double the time of stage one. So a copy that was saved again counts as another picture. At a
URL, the URL counts in place of the content, because to ask for that would be to read all twice.

Few files are read whole: a size that occurs once tells enough, and so do the two ends of files of
one size. A picture without bytes, which a source draws, is like no other.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple, TypeVar

import xxhash
from PIL import Image

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.large.dicts import LargeDict, Numbers
from frozen_vqa.pipeline.errors import ImageError
from frozen_vqa.pipeline.sources.example import Id, Source
from frozen_vqa.pipeline.sources.pictures.stored import StoredPicture
from frozen_vqa.pipeline.system.console import progress

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K", int, Id)

END = 4096
"""Bytes at each end of a file. Those of compressed pictures differ within a few."""

BLOCK = 1 << 20
THREADS = min(16, max(4, os.cpu_count() or 4))
AT_ONCE = 32
"""Files that a thread takes at a time, because to hand one over costs as much as to read it."""

AHEAD = 4096
"""Times as many pictures are asked for before the next ones."""

MANY = 5_000
"""Pictures whose reading shows its progress; fewer are done at once."""


LARGEST = 64 << 20
"""Bytes of a file that is compared. Larger ones count as different pictures."""


class _File(NamedTuple):
    path: Path
    size: int
    inode: int = 0  # with its device: a file may have many names, links too


def digests_of(
    source: Source, image_ids: Sequence[Id], sizes: Collection[int], most: int
) -> Mapping[Id, str]:
    """Return the digests of those pictures that may have the same content as another one.

    The other one is among these pictures, or it is stored and has one of `sizes` in bytes. A file
    that cannot be read, or that has more than `most` bytes, has no digest.
    """
    if getattr(source, "ids_are_digests", False):  # as those of a Hub data set without ids
        return LargeDict.of((image_id, str(image_id)) for image_id in image_ids)
    kind = kind_of(source, image_ids[0]) if image_ids else Image.Image
    if issubclass(kind, Image.Image):
        return {}
    # Bytes one at a time, because a Hub data set reads rows that lie together.
    at_once = AT_ONCE if issubclass(kind, Path) else 1
    looks = LargeDict[Id, _File | str | None](_packed, _unpacked)

    def files() -> Iterator[tuple[Id, _File]]:
        every = ((i, one) for i, one in looks.items() if isinstance(one, _File))
        return ((i, one) for i, one in every if one.size <= most)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="contents") as threads:
        pairs = ((image_id, image_id) for image_id in image_ids)
        _each(threads, partial(_look, source), pairs, len(image_ids), looks, at_once)
        counts = Counter(one.size for _, one in files())
        fresh = (one for _, one in files() if counts[one.size] > 1 and one.size not in sizes)
        ends = _each_file(threads, _ends, fresh)
        alike = _repeated(ends.get(one.inode) for _, one in files())
        some = (one for _, one in files() if one.size in sizes or ends.get(one.inode) in alike)
        read = _each_file(threads, _whole, some)
    of_bytes = ((i, one) for i, one in looks.items() if isinstance(one, str))
    of_files = ((i, found) for i, one in files() if (found := read.get(one.inode)))
    return LargeDict.of(chain(of_bytes, of_files))


def _packed(one: _File | str | None) -> tuple[str, int, int] | str | None:
    return (str(one.path), *one[1:]) if isinstance(one, _File) else one


def _unpacked(found: tuple[str, int, int] | str | None) -> _File | str | None:
    return _File(Path(found[0]), *found[1:]) if isinstance(found, tuple) else found


def _each_file(
    threads: Executor, read: Callable[[_File], str | None], files: Iterable[_File]
) -> LargeDict[int, str | None]:
    """Return by its inode what `read` returns for each file; it is read once under all names."""
    inodes, found = LargeDict[int, Any](_packed, _unpacked), LargeDict[int, str | None]()
    for one in files:
        inodes.setdefault(one.inode, one)
    _each(threads, read, inodes.items(), len(inodes), found, AT_ONCE)
    return found


def _each(
    threads: Executor,
    read: Callable[[T], R],
    items: Iterable[tuple[K, T]],
    count: int,
    found: LargeDict[K, R],
    at_once: int,
) -> None:
    """Find what `read` returns for each item, of which there are `count`."""
    left = iter(items)
    shown = progress("compare pictures", count) if count >= MANY else nullcontext()

    def read_part(part: Sequence[tuple[K, T]]) -> Sequence[tuple[K, R]]:
        return [(key, read(value)) for key, value in part]

    with shown as advance:
        while several := list(islice(left, AT_ONCE * AHEAD)):
            parts = [several[first : first + at_once] for first in range(0, len(several), at_once)]
            for part in threads.map(read_part, parts):
                for key, value in part:
                    found.setdefault(key, value)
                if advance:
                    advance(len(part))


def _repeated(keys: Iterable[str | None]) -> Collection[str | None]:
    """Return the keys that occur more than once."""
    seen, repeated = Numbers[str](), LargeDict[str, None]()
    for key in keys:
        before = seen.count
        if key is not None and seen[key] < before:
            repeated.setdefault(key, None)
    return repeated


def kind_of(source: Source, image_id: Id) -> type:
    """Return the type of a picture, which is that of all pictures of nearly every source."""
    try:
        return type(source.picture(image_id))
    except ImageError:
        return bytes


def _look(source: Source, image_id: Id) -> _File | str | None:
    """Return the size of a file, or the digest of bytes."""
    try:
        picture = source.picture(image_id)
        if isinstance(picture, bytes):
            return digest(picture)
        if isinstance(picture, StoredPicture):  # to compare them, each would be read once more
            return picture.place
        if isinstance(picture, Path):
            found = os.stat(picture)
            hollow = found.st_size > BLOCK and 1024 * found.st_blocks < found.st_size
            if S_ISREG(found.st_mode) and not hollow:  # no picture has holes, which cost nothing
                return _File(picture, found.st_size, (found.st_dev << 64) + found.st_ino)
    except (ImageError, OSError, ValueError):  # ValueError: a path with a NUL
        pass  # whoever decodes it says why
    return None


def _ends(file: _File) -> str | None:
    """Return what tells most files of one size apart."""
    try:
        with open_regular(file.path) as opened:
            begin = opened.read(END)
            opened.seek(max(END, file.size - END))
            return f"{file.size} {digest(begin + opened.read(END))}"
    except OSError:
        return None


def _whole(file: _File) -> str | None:
    """Return the digest of a file; None if it is not as large as it was."""
    hasher, left = xxhash.xxh3_128(), file.size
    try:
        with open_regular(file.path) as opened:
            while left and (block := opened.read(min(BLOCK, left))):
                hasher.update(block)
                left -= len(block)
    except OSError:
        return None
    return None if left else hasher.hexdigest()
