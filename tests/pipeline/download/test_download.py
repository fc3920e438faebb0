"""A data set comes whole into a folder, twice the same, and replaces nothing there."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.cache.disk.lock import sole_writer
from frozen_vqa.cache.errors import CacheBusyError
from frozen_vqa.pipeline.download import download as module
from frozen_vqa.pipeline.download import transfer
from frozen_vqa.pipeline.download.catalogue import DataSet, RemoteFile
from frozen_vqa.pipeline.download.download import Download
from frozen_vqa.pipeline.errors import DownloadError
from tests.support.archives import tarred, zipped
from tests.support.data_server import DataServer, code, cut, serving

TRAIN = {"train/a.jpg": b"a" * 900, "train/b.jpg": b"b" * 50}
WHOLE = {"questions.json": b"[]", "images/train/a.jpg": b"a" * 900, "images/train/b.jpg": b"b" * 50}
SERVED = {
    "/questions.json": b"[]",
    "/train.zip": zipped(TRAIN),
    "/more.tar.gz": tarred({"more/c.txt": b"c"}),
}


@pytest.fixture(scope="module")
def server() -> Iterator[DataServer]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def fresh(server: DataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(module.os, "sync", lambda: None)  # that of this machine may take long
    server.faults.clear()
    server.asked.clear()
    server.files.clear()
    server.files.update(SERVED)


def data_of(server: DataServer) -> DataSet:
    files = (
        RemoteFile(f"{server.base}/questions.json", sha256=hashlib.sha256(b"[]").hexdigest()),
        RemoteFile(f"{server.base}/train.zip", len(SERVED["/train.zip"]), into="images"),
        RemoteFile(f"{server.base}/more.tar.gz"),
    )
    return DataSet(files, "CC0", "https://example.org", "jsonl")


def fetch(server: DataServer, to: Path) -> list[bool]:
    """Fetch all, and return which files were there before."""
    one = Download("made-up", data_of(server), to)
    plan = one.plan()
    one.run(plan)
    return [step.done for step in plan]


def content(to: Path) -> dict[str, bytes]:
    files = (path for path in to.rglob("*") if path.is_file())
    found = {str(path.relative_to(to)): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if not name.startswith(".download/")}


ALL = WHOLE | {"more/c.txt": b"c"}


def test_all_comes_and_is_kept(server: DataServer, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "to") == [False] * 3
    assert content(tmp_path / "to") == ALL
    left = {path.suffix for path in (tmp_path / "to" / ".download").iterdir()}
    assert left == {".done", "", ".lock"} - {".lock"}  # no archive, no part, no version
    server.asked.clear()

    assert fetch(server, tmp_path / "to") == [True] * 3
    assert server.asked == []


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("how", ["gone", "shorter"])
def test_what_is_no_longer_right_is_not_taken_for_done(
    server: DataServer, tmp_path: Path, name: str, how: str
) -> None:
    fetch(server, tmp_path)
    if how == "gone":
        (tmp_path / name).unlink()
        fetch(server, tmp_path)
        assert content(tmp_path) == ALL
    else:
        (tmp_path / name).write_bytes(b"!")
        with pytest.raises(DownloadError, match=f"{re.escape(name)}: another file"):
            fetch(server, tmp_path)
        assert content(tmp_path) == ALL | {name: b"!"}


def test_what_was_there_before_counts_if_it_is_right(server: DataServer, tmp_path: Path) -> None:
    for name, data in {**ALL, "mine.txt": b"mine"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}

    assert fetch(server, tmp_path) == [True, False, False]

    assert content(tmp_path) == {**ALL, "mine.txt": b"mine"}
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())


def test_a_file_that_fails_stops_no_other_and_the_next_command_goes_on(
    server: DataServer, tmp_path: Path
) -> None:
    server.faults["/train.zip"] = [cut(100), *[code(503)] * 10]
    with pytest.raises(DownloadError, match=r"train\.zip: .*code 503"):
        fetch(server, tmp_path)
    assert content(tmp_path) == {"questions.json": b"[]", "more/c.txt": b"c"}
    server.faults.clear()
    server.asked.clear()

    assert fetch(server, tmp_path) == [True, False, True]
    assert content(tmp_path) == ALL
    assert server.ranges("/train.zip") == ["bytes=100-"]


def test_a_damaged_archive_is_not_kept(server: DataServer, tmp_path: Path) -> None:
    server.files["/more.tar.gz"] = b"\x1f\x8b damaged"
    with pytest.raises(DownloadError, match="the archive is damaged"):
        fetch(server, tmp_path)
    server.files.update(SERVED)

    fetch(server, tmp_path)
    assert content(tmp_path) == ALL


def test_a_full_disk_is_said_before_anything_is_written(
    server: DataServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _: 100)

    with pytest.raises(DownloadError, match=r"are needed, and 100 B are free"):
        fetch(server, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_nothing_comes_through_a_link(server: DataServer, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "to").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DownloadError, match="this is a link"):
        fetch(server, tmp_path / "to")
    for name in (".download", "images"):
        folder = tmp_path / name.strip(".")
        folder.mkdir()
        (folder / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DownloadError, match="link"):
            fetch(server, folder)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_of_somebody_else_is_left(server: DataServer, tmp_path: Path) -> None:
    (tmp_path / ".download").mkdir()
    (tmp_path / ".download" / "mine").write_bytes(b"mine")

    with pytest.raises(DownloadError, match=r"\.download: the folder holds 'mine'"):
        fetch(server, tmp_path)


def test_a_forged_record_leads_nowhere(server: DataServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    record = tmp_path / ".download" / "made-up-train.zip.done"
    whole = record.read_text()
    for forged in (
        "",
        "[",
        "{}",
        whole.replace("train/a.jpg", "../../x"),
        whole.replace("900", "9e9"),
    ):
        record.write_text(forged)
        assert fetch(server, tmp_path) == [True, False, True]
        assert record.read_text() == whole


def test_two_commands_do_not_write_at_once(server: DataServer, tmp_path: Path) -> None:
    one = Download("made-up", data_of(server), tmp_path)
    plan = one.plan()
    one._own.claim()
    with sole_writer(tmp_path / ".download"), pytest.raises(CacheBusyError, match="download"):
        one.run(plan)
