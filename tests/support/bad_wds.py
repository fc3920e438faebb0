"""The rows of docs/bad-inputs.md about WebDatasets: a case for each writes a shard and reads it."""

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

from frozen_vqa.cache.errors import StoreError
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.bad_inputs import LEFT_OUT, STORED, Row
from tests.support.frozen import picture
from tests.support.tars import Member, sample, shard, tar_of

GOOD, REFUSED = sample(0), "refused"
BLOCK = 512


def of(
    data: Callable[[], bytes], sentence: str = "", pattern: str = "train-0.tar"
) -> Callable[[Path], Row]:
    """A case of a shard; `sentence` is what the page says of one that is read."""

    def case(folder: Path) -> Row:
        (folder / "train-0.tar").write_bytes(data())
        return read(folder, sentence, pattern)

    return case


def read(folder: Path, sentence: str = "", pattern: str = "train-0.tar") -> Row:
    """Return what becomes of a shard."""
    try:
        source = open_source(f"wds:{folder / pattern}")
        examples = source.examples("train")
    except (SourceError, StoreError) as error:
        return REFUSED, str(error)
    for left_out in source.left_out("train"):
        assert len(examples) == 1
        return LEFT_OUT, f"{left_out.where}: {left_out.reason}"
    return STORED, f"{sentence}; {len(examples)} questions"


def members(*found: Member | tarfile.TarInfo, sentence: str = "") -> Callable[[Path], Row]:
    """A case of a good sample, and files behind it."""
    return of(lambda: tar_of([*GOOD, *found]), sentence)


def special(kind: bytes, name: str = "0001.jpg", to: str = "/etc/passwd") -> tarfile.TarInfo:
    """Return a file that is none."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def with_header(change: Callable[[bytearray], None]) -> bytes:
    """Return a good shard behind whose samples stands a header that was changed."""
    data = bytearray(tar_of([*GOOD, ("0001.jpg", b"x")]))
    place = data.index(b"0001.jpg")
    header = data[place : place + BLOCK]
    change(header)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[place : place + BLOCK] = header
    return bytes(data)


def sized(size: bytes) -> Callable[[], bytes]:
    """A header that declares another size."""

    def change(header: bytearray) -> None:
        header[124:136] = size

    return lambda: with_header(change)


def typed(kind: bytes, size: int) -> Callable[[], bytes]:
    """A header of another kind."""

    def change(header: bytearray) -> None:
        header[156:157] = kind
        header[124:136] = b"%011o\0" % size

    return lambda: with_header(change)


def chain() -> bytes:
    """Headers that each announce another one."""
    data = with_header(lambda header: header.__setitem__(slice(156, 157), b"x"))
    place = data.index(b"0001.jpg")
    return data[:place] + data[place : place + 2 * BLOCK] * 3000


def endless_holes() -> bytes:
    """A sparse file whose lists of holes have no end."""

    def change(header: bytearray) -> None:
        header[156:157], header[482:483] = b"S", b"\1"

    data = with_header(change)
    place = data.index(b"0001.jpg")
    return data[: place + BLOCK] + (b"0" * 504 + b"\1" + b"\0" * 7) * 5000


def json_of(text: bytes) -> Callable[[Path], Row]:
    return members(("0001.png", picture(1)), ("0001.json", text), sentence="read")


def with_holes(folder: Path) -> Row:
    """A picture of 600 MB, of which a file system keeps next to nothing."""
    large, data = tarfile.TarInfo("0001.png"), tar_of(GOOD).rstrip(b"\0")
    large.size = 600_000_000
    head = data.ljust(-len(data) % BLOCK + len(data), b"\0") + large.tobuf()
    with (folder / "train-0.tar").open("wb") as file:
        file.write(head)
        file.truncate(len(head) + -large.size % BLOCK + large.size)
        file.seek(0, 2)
        file.write(tar_of(sample(1)[1:]))
    return read(folder)


WEBDATASETS = {
    "a question in json": members(*sample(1), sentence="read"),
    "questions in a list": json_of(
        b'[{"question": "a?", "answer": "b"}, {"question": "c?", "answer": "d"}]'
    ),
    "questions in a list of an object": json_of(b'{"qa": [{"question": "a?", "answers": ["b"]}]}'),
    "a question in txt": members(
        ("0001.jpg", picture(1)), ("0001.txt", b"a?"), ("0001.answer.txt", b"b"), sentence="read"
    ),
    "no picture": members(sample(1)[1]),
    "two pictures": members(*sample(1), ("0001.jpg", b"x")),
    "no question": members(("0001.jpg", picture(1))),
    "json that is cut": json_of(b'{"question": "a'),
    "json that is a number": json_of(b"7"),
    "a text that is not UTF-8": members(("0001.jpg", b"x"), ("0001.txt", b"\xff\xfe")),
    "a json of 2 MB": json_of(b" " * 2_000_000),
    "a name of 5,000 letters": of(
        lambda: tar_of([*GOOD, ("a" * 5000 + ".jpg", b"x")], tarfile.PAX_FORMAT)
    ),
    "a name that leads out of the folder": members(
        *[(f"../../{name}", data) for name, data in sample(1)], sentence="a name only, never a path"
    ),
    "a link in place of the picture": members(special(tarfile.SYMTYPE)),
    "a hard link": members(special(tarfile.LNKTYPE)),
    "a device": members(special(tarfile.CHRTYPE)),
    "a folder and a hidden file": members(
        special(tarfile.DIRTYPE, "pics"), (".DS_Store", b"x"), sentence="passed over"
    ),
    "a picture of 600 MB of holes": with_holes,
    "a size beyond the end": of(sized(b"%011o\0" % (1 << 33))),
    "a negative size": of(sized(b"\xff" * 11 + b"\x00")),
    "a size that is no number": of(sized(b"seven seven\0")),
    "an extended header of a gigabyte": of(typed(b"x", 1 << 30)),
    "a long name of a gigabyte": of(typed(b"L", 1 << 30)),
    "3,000 extended headers, one upon the other": of(chain),
    "a sparse file without an end": of(endless_holes),
    "a tar that is cut": of(lambda: shard([0, 1])[:1700]),
    "a compressed tar": of(lambda: gzip.compress(shard([0]))),
    "no tar": of(lambda: b"<html>not found</html>" * 100),
    "an empty file": of(lambda: b""),
    "a shard that is missing": of(lambda: shard([0]), pattern="train-{0..1}.tar"),
    "a range that counts backwards": of(lambda: shard([0]), pattern="train-{9..0}.tar"),
    "a billion shards": of(lambda: shard([0]), pattern="{0..999}-{0..999}-{0..999}.tar"),
}
