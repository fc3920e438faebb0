"""The samples of a tar file, such as a WebDataset's shard: where each picture lies, and its texts.

A sample is what has one name up to its first dot, in files that follow each other: 0001.jpg and
0001.json. Pictures are passed over and read later, by their place. A shard may be a stranger's: no
part of it is unpacked onto a disk, and no more is read than a header or a text may have.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.lost_pictures import ENDINGS
from frozen_vqa.pipeline.sources.own.tables import LONGEST_LINE
from frozen_vqa.pipeline.sources.pictures.stored import MAX_BYTES
from frozen_vqa.pipeline.sources.validation import shown

Read = Callable[[int, int], bytes]
"""Returns some bytes of a file from a place on; fewer at its end."""

BLOCK = 8192
"""Bytes that are read at once: a header, the texts of a sample, and the next header."""

MOST_MEMBERS = 1_000_000
LONGEST_NAME = 1000
TEXTS = ("json", "txt", "question.txt", "answer.txt")


@dataclass(frozen=True, slots=True)
class Part:
    """Where a file lies in a shard."""

    name: str
    first: int
    size: int


@dataclass(slots=True)
class Sample:
    """What stands under one name; `fault` says why it cannot be used."""

    key: str
    pictures: list[Part] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    fault: str = ""


class _Window:
    """A file of which `tarfile` reads a little here and there; the rest is never asked for."""

    def __init__(self, read: Read) -> None:
        self._read, self._place, self._first, self._held = read, 0, 0, b""
        self.left = LONGEST_LINE
        """Bytes that may be read until the next file: of headers, which can be long or endless."""

    def seek(self, place: int, whence: int = 0) -> int:
        self._place = place
        return place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        self.left -= size
        if size < 0 or self.left < 0:
            raise tarfile.ReadError("a header is too long")
        begin = self._place - self._first
        if not 0 <= begin <= begin + size <= len(self._held):
            self._first, begin = self._place, 0
            self._held = self._read(self._place, max(size, BLOCK))
        found = self._held[begin : begin + size]
        self._place += len(found)
        return found


def read_samples(where: str, read: Read) -> Iterator[Sample]:
    """Yield the samples of a tar file in their order.

    Raises:
        SourceError: if it is no whole tar file.
    """
    window, sample, count, last = _Window(read), Sample(""), 0, -1
    if window.read(2) == b"\x1f\x8b":
        raise SourceError(f"{where}: it is compressed; a plain tar is needed. Run gunzip on it.")
    window.seek(0)
    try:
        with tarfile.open(fileobj=window, mode="r:") as tar:  # type: ignore[call-overload]
            while member := tar.next():
                tar.members.clear()  # which it would keep
                count, window.left = count + 1, LONGEST_LINE + (1 << 16)
                if count > MOST_MEMBERS or member.offset_data <= last or member.size < 0:
                    raise tarfile.ReadError("its headers lead back, or are too many")
                last = member.offset_data
                folder, slash, file = member.name.rpartition("/")
                stem, _, ending = file.partition(".")
                if member.isdir() or not stem:
                    continue
                key = f"{folder}{slash}{stem}"
                if key != sample.key:
                    yield from [sample] if sample.key else []
                    sample = Sample(key)
                _take(sample, member, ending.lower(), window)
            window.seek(tar.offset)
            if window.read(tarfile.BLOCKSIZE).strip(b"\0"):  # which `tarfile` takes for the end
                raise tarfile.ReadError("a header is damaged")
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        reason = "its headers" if isinstance(error, RecursionError) else shown(str(error))
        raise SourceError(
            f"{where}: no whole tar file ({reason}). Get it anew, or leave it out of the pattern."
        ) from None
    yield from [sample] if sample.key else []


def _take(sample: Sample, member: tarfile.TarInfo, ending: str, window: _Window) -> None:
    """Note a file of a sample."""
    is_picture = f".{ending.rpartition('.')[2]}" in ENDINGS
    if ending not in TEXTS and not is_picture:
        return
    if len(member.name) > LONGEST_NAME:
        sample.fault = f"a name has {len(member.name):,} characters; shorten it"
    elif not member.isreg() or member.issparse():
        sample.fault = f"{shown(member.name)} is a link or has holes; a whole file is needed"
    elif is_picture and member.size > MAX_BYTES:  # holes of a file cost its maker nothing
        sample.fault = f"{shown(member.name)} has {member.size:,} bytes; cut it to {MAX_BYTES:,}"
    elif is_picture:
        sample.pictures.append(Part(member.name, member.offset_data, member.size))
    elif member.size > LONGEST_LINE:
        sample.fault = f"{shown(member.name)} has {member.size:,} bytes; cut it"
    else:
        window.seek(member.offset_data)
        sample.texts[ending] = window.read(member.size)
        if len(sample.texts[ending]) < member.size:
            raise tarfile.ReadError("unexpected end of data")
