"""Archives: what is in them lands whole below one folder, and what leads elsewhere does not."""

import os
import stat
import tarfile
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.download import unpack as module
from frozen_vqa.pipeline.download.catalogue import RemoteFile
from frozen_vqa.pipeline.download.unpack import unpack
from frozen_vqa.pipeline.errors import DownloadError
from tests.support.archives import Content, tarred, zipped

FILES = {"a.json": b"[1]", "train/b.jpg": bytes(3000), "train/c.jpg": b"c" * 5}


PACKERS: dict[str, Callable[..., bytes]] = {"x.zip": zipped, "x.tar.gz": tarred}


def unpacked(name: str, data: bytes, folder: Path, **how: object) -> list[tuple[str, int]]:
    work, into = folder / "work", folder / "data"
    for one in (work, into):
        one.mkdir(exist_ok=True)
    (work / name).write_bytes(data)
    known: dict = {"stop": threading.Event(), "room": lambda need: None} | how
    remote = RemoteFile(f"https://a.org/{name}")
    return unpack(work / name, into, remote, temporary=work / "one", **known)


def below(folder: Path) -> Content:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", PACKERS)
def test_files_land_whole_and_again(name: str, tmp_path: Path) -> None:
    data = PACKERS[name](FILES | {"__MACOSX/x": b"", "train/._b.jpg": b"junk"})

    for _ in range(2):  # what is there and right is kept
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.j*")}
        found = unpacked(name, data, tmp_path)
        assert below(tmp_path / "data") == FILES
        assert dict(found) == {one: len(content) for one, content in FILES.items()}
        assert all(path.stat().st_mtime_ns == then for path, then in times.items())


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("there", [b"[2]", b"", b"[1]\n", None])
def test_another_file_in_the_way_stays(name: str, there: bytes | None, tmp_path: Path) -> None:
    place = tmp_path / "data" / "a.json"
    place.parent.mkdir()
    if there is None:
        place.symlink_to("elsewhere")
    else:
        place.write_bytes(there)

    with pytest.raises(DownloadError, match=r"a\.json: another file .* left as it is"):
        unpacked(name, PACKERS[name](FILES), tmp_path)

    assert place.is_symlink() if there is None else place.read_bytes() == there


@pytest.mark.parametrize("name", PACKERS)
def test_a_link_in_place_of_a_folder_is_not_followed(name: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DownloadError, match=r"train: a link or a file stands in place"):
        unpacked(name, PACKERS[name](FILES), tmp_path)

    assert below(tmp_path / "elsewhere") == {}


LEADING = ["../x", "/etc/x", "a/../../x", "a//x", "a\0b", "..", ".", "a/./x", "x\n", "a" * 300]


@pytest.mark.parametrize("name", PACKERS)
@settings(max_examples=40, deadline=None)
@given(st.sampled_from(LEADING) | st.text(max_size=6))
def test_every_name_stays_below_the_folder(
    name: str, tmp_path_factory: pytest.TempPathFactory, inside: str
) -> None:
    folder = tmp_path_factory.mktemp("names")
    try:
        data = PACKERS[name]({inside: b"data"})
    except (ValueError, UnicodeError, OSError):  # no such name can be packed
        return
    before = set(folder.parent.iterdir())

    with suppress(DownloadError):
        unpacked(name, data, folder)

    assert set(folder.parent.iterdir()) == before
    assert set(os.listdir(folder)) <= {"work", "data"}
    assert set(below(folder / "data").values()) <= {b"data"}


def as_link(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def of_tar(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    return change


KINDS = {
    "a link in a zip": ("x.zip", zipped({"a": b"/etc/passwd"}, as_link)),
    "a link": ("x.tar.gz", tarred({"a": b""}, of_tar(tarfile.SYMTYPE))),
    "a hard link": ("x.tar.gz", tarred({"a": b""}, of_tar(tarfile.LNKTYPE))),
    "a pipe": ("x.tar.gz", tarred({"a": b""}, of_tar(tarfile.FIFOTYPE))),
    "a device": ("x.tar.gz", tarred({"a": b""}, of_tar(tarfile.CHRTYPE))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_only_files_are_unpacked(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="'a' is a link or no file"):
        unpacked(*KINDS[kind], tmp_path)
    assert below(tmp_path / "data") == {}


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_refused_before_it_fills_the_disk(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 100_000)
    data = PACKERS[name]({f"{i}": bytes(1_000_000) for i in range(5)})

    with pytest.raises(DownloadError, match="unpacks to more than 60 times its bytes"):
        unpacked(name, data, tmp_path)

    assert sum(map(len, below(tmp_path).values())) < 1_200_000


def test_a_zip_that_says_too_little_is_damaged(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": bytes(5000)}))
    place = data.rindex(b"PK\x01\x02") + 24
    data[place : place + 4] = (10).to_bytes(4, "little")

    with pytest.raises(DownloadError, match="damaged"):
        unpacked("x.zip", bytes(data), tmp_path)
    assert below(tmp_path / "data") == {}


@pytest.mark.parametrize("name", PACKERS)
def test_every_cut_and_every_flipped_byte_is_a_sentence_or_right(name: str, tmp_path: Path) -> None:
    whole = PACKERS[name](FILES)
    for i in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[i] ^= 0xFF
        for number, data in enumerate((whole[:i], bytes(flipped))):
            folder = tmp_path / f"{i}-{number}"
            folder.mkdir()
            with suppress(DownloadError):
                unpacked(name, data, folder)
            landed = below(folder / "data").items()
            assert all(FILES.get(one, content) == content for one, content in landed)


def test_room_is_asked_for_before_a_zip_is_unpacked(tmp_path: Path) -> None:
    def refuse(need: int) -> None:
        assert need == sum(map(len, FILES.values()))
        raise DownloadError("no room")

    with pytest.raises(DownloadError, match="no room"):
        unpacked("x.zip", zipped(FILES), tmp_path, room=refuse)
    assert below(tmp_path / "data") == {}
