"""The rows of docs/bad-inputs.md about downloads: a case for each asks a server on loopback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.download import download as module
from frozen_vqa.pipeline.download import server as answers
from frozen_vqa.pipeline.download import transfer
from frozen_vqa.pipeline.download.catalogue import DataSet, RemoteFile
from frozen_vqa.pipeline.download.command import download_command
from frozen_vqa.pipeline.download.download import Download
from frozen_vqa.pipeline.errors import DownloadError
from tests.support.archives import tarred, zipped
from tests.support.bad_inputs import STORED, Row
from tests.support.data_server import Answer, code, cut, lead_to, serving

REFUSED = "refused"
DATA = b"[1, 2, 3]"


def served(
    *faults: Answer,
    data: bytes = DATA,
    name: str = "a.json",
    before: Callable[[Path], object] = lambda to: None,
    sentence: str = "",
    **known: Any,
) -> Callable[[Path], Row]:
    """A case of a file whose server does this first; `sentence` is that of the page, of success."""

    def case(folder: Path) -> Row:
        before(folder / "to")
        with serving() as server, pytest.MonkeyPatch.context() as patch:
            patch.setattr(transfer, "FIRST_WAIT", 0.0)
            patch.setattr(answers, "STALLED_SECONDS", 0.2)
            patch.setattr(module.os, "sync", lambda: None)
            server.files[f"/{name}"] = data
            server.faults[f"/{name}"] = list(faults)
            files = (RemoteFile(f"{server.base}/{name}", **known),)
            try:
                one = Download("made-up", DataSet(files, "", ""), folder / "to")
                one.run(one.plan())
            except DownloadError as error:
                return REFUSED, str(error).replace(server.base, "https://SERVER")
        return STORED, sentence

    return case


def named(name: str) -> Callable[[Path], Row]:
    def case(folder: Path) -> Row:
        with pytest.raises(DownloadError) as found:
            download_command(name, to=folder / "to")
        return REFUSED, str(found.value)

    return case


def in_the_way(to: Path) -> None:
    to.mkdir()
    (to / "a.json").write_bytes(b"[]")


def a_link(to: Path) -> None:
    (to.parent / "elsewhere").mkdir()
    to.symlink_to(to.parent / "elsewhere")


def unsized(handler: Any, data: bytes) -> None:
    handler.give(data, **{"Content-Length": ""})


def packed(handler: Any, data: bytes) -> None:
    handler.give(data, **{"Content-Encoding": "gzip"})


ARCHIVE: dict[str, Any] = {"name": "a.zip"}
DOWNLOADS: dict[str, Callable[[Path], Row]] = {
    "a file cut twice": served(cut(2), cut(3), sentence="it goes on where it was cut"),
    "503 three times": served(*[code(503)] * 3, sentence="it is asked again"),
    "503 always": served(*[code(503)] * 9),
    "429 for an hour": served(code(429, Retry_After="3600")),
    "404": served(code(404)),
    "403": served(code(403)),
    "led in a circle": served(*[lead_to("/a.json")] * 20),
    "led to a file": served(lead_to("file:///etc/passwd")),
    "another size": served(bytes=10),
    "another digest": served(sha256="0" * 64),
    "no size at all": served(unsized),
    "more than was published": served(unsized, bytes=8),
    "packed without being asked to be": served(packed),
    "another file is in the way": served(before=in_the_way),
    "DIR is a link": served(before=a_link),
    "a zip that leads elsewhere": served(data=zipped({"../x": b"1"}), **ARCHIVE),
    "a zip that is damaged": served(data=zipped({"x": b"1"})[:40], **ARCHIVE),
    "a tar that leads elsewhere": served(data=tarred({"/x": b"1"}), name="a.tar.gz"),
    "pathvqa": named("pathvqa"),
    "okvq": named("okvq"),
}
