"""Which pictures of a data set have the same content, whatever they are called.

Content is the bytes of a file or of a row, not the pixels, because to decode all pictures twice
would double the time of stage one. So a copy that was saved again counts as another picture. At a
URL, the URL counts in place of the content, because to ask for that would be to read all twice.

Few files are read whole: a size that occurs once tells enough, and so do the two ends of files of
one size. A picture without bytes, which a source draws, is like no other.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple, TypeVar

import xxhash
from PIL import Image

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.pipeline.errors import ImageError
from frozen_vqa.pipeline.sources.example import Id, Source
from frozen_vqa.pipeline.sources.pictures.stored import StoredPicture
from frozen_vqa.pipeline.system.console import progress

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")

END = 4096
"""Bytes at each end of a file. Those of compressed pictures differ within a few."""

BLOCK = 1 << 20
THREADS = min(16, max(4, os.cpu_count() or 4))
AT_ONCE = 32
"""Files that a thread takes at a time, because to hand one over costs as much as to read it."""

MANY = 5_000
"""Pictures whose reading shows its progress; fewer are done at once."""


LARGEST = 64 << 20
"""Bytes of a file that is compared. Larger ones count as different pictures."""


class _File(NamedTuple):
    path: Path
    size: int
    inode: tuple[int, int] = (0, 0)  # with its device: a file may have many names, links too


def digests_of(
    source: Source, image_ids: Sequence[Id], sizes: Collection[int], most: int
) -> dict[Id, str]:
    """Return the digests of those pictures that may have the same content as another one.

    The other one is among these pictures, or it is stored and has one of `sizes` in bytes. A file
    that cannot be read, or that has more than `most` bytes, has no digest.
    """
    if getattr(source, "ids_are_digests", False):  # as those of a Hub data set without ids
        return {image_id: str(image_id) for image_id in image_ids}
    kind = kind_of(source, image_ids[0]) if image_ids else Image.Image
    if issubclass(kind, Image.Image):
        return {}
    # Bytes one at a time, because a Hub data set reads rows that lie together.
    at_once = AT_ONCE if issubclass(kind, Path) else 1
    with ThreadPoolExecutor(THREADS, thread_name_prefix="contents") as threads:
        looks = _each(threads, partial(_look, source), {i: i for i in image_ids}, at_once)
        digests = {i: one for i, one in looks.items() if isinstance(one, str)}
        files = {i: one for i, one in looks.items() if isinstance(one, _File) and one.size <= most}
        alike = _repeated({i: one.size for i, one in files.items()})
        fresh = {i: files[i] for i in alike if files[i].size not in sizes}
        ends = _each_file(threads, _ends, fresh)
        whole = {i: one for i, one in files.items() if one.size in sizes}
        whole |= {i: files[i] for i in _repeated(ends)}
        read = _each_file(threads, _whole, whole)
    return digests | {i: one for i, one in read.items() if one is not None}


def _each_file(
    threads: Executor, read: Callable[[_File], R], files: Mapping[Id, _File]
) -> dict[Id, R]:
    """Return what `read` returns for each file, which is read once under all of its names."""
    inodes = {one.inode: one for one in files.values()}
    found = _each(threads, read, inodes, AT_ONCE)
    return {i: found[one.inode] for i, one in files.items()}


def _each(
    threads: Executor, read: Callable[[T], R], items: Mapping[K, T], at_once: int
) -> dict[K, R]:
    """Return what `read` returns for each item."""
    names, values = list(items), list(items.values())
    parts = [values[first : first + at_once] for first in range(0, len(values), at_once)]
    shown = progress("compare pictures", len(names)) if len(names) >= MANY else nullcontext()
    done: list[R] = []
    with shown as advance:
        for part in threads.map(lambda part: [read(one) for one in part], parts):
            done += part
            if advance:
                advance(len(part))
    return dict(zip(names, done, strict=True))


def _repeated(keys: Mapping[Id, object]) -> list[Id]:
    """Return the ids whose key, unless it is None, another one has as well."""
    counts = Counter(keys.values())
    return [i for i, key in keys.items() if key is not None and counts[key] > 1]


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
            return picture.url
        if isinstance(picture, Path):
            found = os.stat(picture)
            hollow = found.st_size > BLOCK and 1024 * found.st_blocks < found.st_size
            if S_ISREG(found.st_mode) and not hollow:  # no picture has holes, which cost nothing
                return _File(picture, found.st_size, (found.st_dev, found.st_ino))
    except (ImageError, OSError, ValueError):  # ValueError: a path with a NUL
        pass  # whoever decodes it says why
    return None


def _ends(file: _File) -> tuple[int, str] | None:
    """Return what tells most files of one size apart."""
    try:
        with open_regular(file.path) as opened:
            begin = opened.read(END)
            opened.seek(max(END, file.size - END))
            return file.size, digest(begin + opened.read(END))
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
