"""The command `download`: what it says, and a process that is killed in the middle of a file."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.pipeline.download import command, download
from frozen_vqa.pipeline.download.catalogue import (
    DATA_SETS,
    NOT_FETCHED,
    DataSet,
    RemoteFile,
)
from frozen_vqa.pipeline.download.command import download_command
from frozen_vqa.pipeline.errors import DownloadError
from frozen_vqa.pipeline.system.console import size
from tests.support.archives import zipped
from tests.support.data_server import DataServer, serving, stall

FILES = {"questions.json": b"[]", "images/a.jpg": os.urandom(300_000)}
DATA = zipped(FILES)


@pytest.fixture
def server() -> Iterator[DataServer]:
    with serving() as found:
        found.files["/all.zip"] = DATA
        yield found


def made_up(server: DataServer) -> DataSet:
    files = (RemoteFile(f"{server.base}/all.zip"),)
    return DataSet(files, "CC0 of a test", "https://example.org", "jsonl", ("coco2014",), "Ask.")


def test_it_says_what_it_takes_before_it_fetches(
    server: DataServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "DATA_SETS", {"made-up": made_up(server)})
    monkeypatch.setattr(download.os, "sync", lambda: None)

    first = download_command("made-up", to=tmp_path)
    again = download_command("made-up", to=tmp_path)

    said = " ".join(capsys.readouterr().err.split())
    assert "made-up: licence CC0 of a test; https://example.org" in said
    assert f"1 of 1 files to fetch, {size(len(DATA))}; they take {size(2 * len(DATA))} more" in said
    assert "download coco2014 --to" in said
    assert "was in" in said
    assert [one["was_there"] for one in (*first["files"], *again["files"])] == [False, True]
    assert first["dataset"] == f"jsonl:{tmp_path}"
    assert json.dumps(first)


def test_a_process_that_is_killed_goes_on(
    server: DataServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults["/all.zip"] = [stall(100_000, 30)]
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from frozen_vqa.pipeline.download.catalogue import DataSet, RemoteFile\n"
        "from frozen_vqa.pipeline.download.download import Download\n"
        "files = (RemoteFile(sys.argv[1]),)\n"
        "one = Download('made-up', DataSet(files, '', ''), Path(sys.argv[2]))\n"
        "one.run(one.plan())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, f"{server.base}/all.zip", str(tmp_path)]
    )
    part = tmp_path / ".download" / "made-up-all.zip.partial"
    try:
        until = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == 100_000):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert sorted(os.listdir(tmp_path)) == [".download"]

    monkeypatch.setattr(download.os, "sync", lambda: None)
    one = download.Download("made-up", made_up(server), tmp_path)
    one.run(one.plan())

    assert server.ranges("/all.zip")[-1] == "bytes=100000-"
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES


def test_names_that_are_not_fetched_are_refused_with_the_reason(tmp_path: Path) -> None:
    for name in (*NOT_FETCHED, "okvq", "VQAv2", "", "x" * 999):
        with pytest.raises(DownloadError, match=r"not fetched, because|no data set") as found:
            download_command(name, to=tmp_path / "to")
        assert len(str(found.value)) < 500
    assert not (tmp_path / "to").exists()


def test_the_catalogue_is_of_files_below_one_folder_and_says_whose_they_are() -> None:
    assert not set(DATA_SETS) & set(NOT_FETCHED)
    for name, data in DATA_SETS.items():
        names = [one.name for one in data.files]
        assert len(set(names)) == len(names), name
        assert data.licence, name
        assert data.page.startswith("https://"), name
        assert set(data.pictures) <= set(DATA_SETS), name
        for one in data.files:
            assert one.url.startswith(("https://", "http://images.", "http://vision.")), name
            assert one.sha256 is None or len(one.sha256) == 64
            assert one.packed or one.name.endswith(".json")
