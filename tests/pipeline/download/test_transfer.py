"""A server that cuts, stalls, misleads and lies: the file comes whole, or a sentence says why."""

import gzip
import hashlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from frozen_vqa.pipeline.download import server as answers
from frozen_vqa.pipeline.download import transfer
from frozen_vqa.pipeline.download.catalogue import RemoteFile
from frozen_vqa.pipeline.download.transfer import Transfer
from frozen_vqa.pipeline.errors import DownloadError
from tests.support.data_server import DataServer, code, cut, lead_to, serving, stall

DATA = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(answers, "STALLED_SECONDS", 0.15)


@pytest.fixture(scope="module")
def server() -> Iterator[DataServer]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def fresh(server: DataServer) -> None:
    for one in (server.files, server.faults, server.asked, server.etags):
        one.clear()
    server.files["/a.bin"] = DATA


def remote(server: DataServer, **known: object) -> RemoteFile:
    return RemoteFile(f"{server.base}/a.bin", **known)  # type: ignore[arg-type]


def fetched(server: DataServer, folder: Path, **known: object) -> bytes:
    counted: list[int] = []
    one, wanted = Transfer(folder, "x-", threading.Event()), remote(server, **known)
    there = one.so_far(wanted)
    data = one.fetch(wanted, counted.append).read_bytes()
    assert there + sum(counted) == len(data)  # what the bar shows
    return data


def test_a_file_comes_whole_and_its_size_is_asked_for(server: DataServer, tmp_path: Path) -> None:
    assert Transfer(tmp_path, "", threading.Event()).size(remote(server)) == len(DATA)
    assert fetched(server, tmp_path) == DATA


@pytest.mark.parametrize("cuts", [[1], [0, 5000], [3000, 3000, 3000], [len(DATA) - 1]])
def test_a_cut_file_goes_on_where_it_was_cut(
    server: DataServer, tmp_path: Path, cuts: list[int]
) -> None:
    server.faults["/a.bin"] = [cut(after) for after in cuts]

    assert fetched(server, tmp_path, sha256=hashlib.sha256(DATA).hexdigest()) == DATA

    places = [sum(cuts[: i + 1]) for i in range(len(cuts))]
    assert server.ranges("/a.bin") == ["", *(f"bytes={n}-" if n else "" for n in places)]


def test_a_disk_that_fills_up_is_told_and_the_next_command_goes_on(
    server: DataServer, tmp_path: Path
) -> None:
    """The kernel refuses the bytes after 5,000, as a full disk does."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(
            DownloadError, match=r"cannot be written \(.*Make room and run the comm"
        ):
            fetched(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all(path.stat().st_size <= 5000 for path in tmp_path.iterdir())
    assert fetched(server, tmp_path, sha256=hashlib.sha256(DATA).hexdigest()) == DATA


def test_the_next_command_goes_on_too(server: DataServer, tmp_path: Path) -> None:
    server.faults["/a.bin"] = [cut(4000), *[code(503)] * 5]
    with pytest.raises(DownloadError, match=r"code 503.*run the same command again"):
        fetched(server, tmp_path)
    server.faults.clear()
    server.asked.clear()

    assert fetched(server, tmp_path) == DATA
    assert server.ranges("/a.bin") == ["bytes=4000-"]


@pytest.mark.parametrize("obeys", [True, False])
@pytest.mark.parametrize("shorter", [True, False])
def test_a_file_that_has_changed_begins_again(
    server: DataServer, tmp_path: Path, obeys: bool, shorter: bool
) -> None:
    server.faults["/a.bin"] = [cut(4000), *[code(500)] * 5]
    with pytest.raises(DownloadError):
        fetched(server, tmp_path)
    other = bytes(1000 if shorter else 20_000)
    server.files["/a.bin"], server.etags["/a.bin"] = other, '"two"'
    server.faults.clear()
    if not obeys:  # it gives a part whatever the version is

        def give_part(handler: object, data: bytes) -> None:
            del handler.headers["If-Range"]  # type: ignore[attr-defined]
            handler.give(data)  # type: ignore[attr-defined]

        server.faults["/a.bin"] = [give_part]

    assert fetched(server, tmp_path) == other


def test_without_a_mark_of_the_version_nothing_is_added(server: DataServer, tmp_path: Path) -> None:
    server.etags["/a.bin"] = ""
    server.faults["/a.bin"] = [cut(4000)]

    assert fetched(server, tmp_path) == DATA
    assert server.ranges("/a.bin") == ["", ""]


@pytest.mark.parametrize("number", [408, 429, 500, 502, 503, 504])
def test_a_passing_fault_is_tried_again(server: DataServer, tmp_path: Path, number: int) -> None:
    server.faults["/a.bin"] = [code(number, Retry_After="0")] * 3

    assert fetched(server, tmp_path) == DATA


@pytest.mark.parametrize("said", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_long_wait_is_left_to_the_user(server: DataServer, tmp_path: Path, said: str) -> None:
    server.faults["/a.bin"] = [code(429, Retry_After=said)]

    with pytest.raises(DownloadError, match=r"code 429\. It asks to wait [0-9]+ seconds"):
        fetched(server, tmp_path)


@pytest.mark.parametrize(
    ("number", "why"),
    [(404, "does not have this file"), (403, "asks for a login or refuses"), (418, "no file")],
)
def test_a_lasting_fault_is_said_at_once(
    server: DataServer, tmp_path: Path, number: int, why: str
) -> None:
    server.faults["/a.bin"] = [code(number)]

    with pytest.raises(DownloadError, match=f"a.bin: the server .*{why}.*code {number}"):
        fetched(server, tmp_path)
    assert len(server.asked) == 1


def test_a_server_that_stalls_is_left_and_asked_again(server: DataServer, tmp_path: Path) -> None:
    server.faults["/a.bin"] = [stall(2000, 0.4)]
    assert fetched(server, tmp_path) == DATA
    assert server.ranges("/a.bin") == ["", "bytes=2000-"]


def test_redirects_are_followed_to_other_hosts_alone(server: DataServer, tmp_path: Path) -> None:
    server.files["/b"] = DATA
    other = server.base.replace("127.0.0.1", "localhost")
    server.faults["/a.bin"] = [lead_to(f"{other}/b")]
    assert fetched(server, tmp_path / "a") == DATA

    for place, why in (
        ("file:///etc/passwd", "none of the web"),
        ("ftp://localhost/a", "none of the web"),
        ("/a.bin", "without end"),
    ):
        server.faults["/a.bin"] = [lead_to(place)] * 20
        with pytest.raises(DownloadError, match=why):
            fetched(server, tmp_path / "b")


def test_no_redirect_leads_from_https_to_http() -> None:
    one = Transfer(Path("none"), "", threading.Event())
    seen: list[object] = []

    class Client:
        def __init__(self, **how: dict) -> None:
            seen.append(how["event_hooks"]["request"][0])
            raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers.httpx2, "Client", Client)
        with pytest.raises(InterruptedError):
            one.size(RemoteFile("https://a.org/x"))
    request = answers.httpx2.Request("GET", "http://a.org/x")
    with pytest.raises(DownloadError, match=r"from https to a\.org without encryption"):
        seen[0](request)  # type: ignore[operator]


LIES = {
    "short": ({"bytes": len(DATA) + 5}, {}, f"has {len(DATA):,} bytes, and .* were published"),
    "long": ({"bytes": len(DATA) - 5}, {}, f"has {len(DATA):,} bytes, and .* were published"),
    "no size": ({}, {"Content-Length": ""}, "does not say how many bytes"),
    "no size, and more": (
        {"bytes": len(DATA) - 5},
        {"Content-Length": ""},
        "sends more than the 10,235 bytes",
    ),
    "no size, and fewer": (
        {"bytes": len(DATA) + 5},
        {"Content-Length": "", "ETag": ""},
        "ended after 10,240 of 10,245 bytes",
    ),
    "another digest": ({"sha256": "0" * 64}, {}, "have the SHA-256 .* thrown away"),
    "packed": ({}, {"Content-Encoding": "gzip"}, "packed as 'gzip'"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_the_bytes_is_found(server: DataServer, tmp_path: Path, lie: str) -> None:
    known, headers, sentence = LIES[lie]
    server.faults["/a.bin"] = [lambda handler, data: handler.give(data, **headers)] * 6  # type: ignore[list-item]

    with pytest.raises(DownloadError, match=sentence):
        fetched(server, tmp_path, **known)
    if lie in ("another digest", "no size, and more"):
        assert list(tmp_path.iterdir()) == []


def test_a_size_that_is_not_told_is_that_published(server: DataServer, tmp_path: Path) -> None:
    server.faults["/a.bin"] = [lambda handler, data: handler.give(data, **{"Content-Length": ""})]

    assert fetched(server, tmp_path, bytes=len(DATA)) == DATA


def test_a_packed_file_may_be_called_packed(server: DataServer, tmp_path: Path) -> None:
    data = gzip.compress(DATA)
    server.files["/a.tar.gz"] = data
    server.faults["/a.tar.gz"] = [
        lambda handler, found: handler.give(found, **{"Content-Encoding": "x-gzip"})
    ]
    one = RemoteFile(f"{server.base}/a.tar.gz")

    path = Transfer(tmp_path, "", threading.Event()).fetch(one, lambda _: None)

    assert path.read_bytes() == data


def test_a_link_in_place_of_a_file_is_not_followed(server: DataServer, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    work = tmp_path / "work"
    work.mkdir()
    (work / "x-a.bin.partial").symlink_to(victim)

    assert fetched(server, work) == DATA
    assert victim.read_bytes() == b"mine"


def test_no_server_at_all_is_a_sentence(tmp_path: Path) -> None:
    one = RemoteFile("http://127.0.0.1:9/a")

    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/a: the connection failed"):
        Transfer(tmp_path, "", threading.Event()).fetch(one, lambda _: None)
