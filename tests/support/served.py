"""A server of `serve` in a process of its own, with a head to ask and pictures to ask about."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support.command import run_command
from tests.support.tiny_commands import extract, train

QUICK = """
import sys
from frozen_vqa.pipeline.serve import gate
gate.BODY_SECONDS = 1.0
from frozen_vqa.cli import main
main()
"""
"""The command, with less patience for slow bodies."""


@dataclass
class Server:
    """A server that runs."""

    url: str
    process: subprocess.Popen[str]
    home: Path
    said: list[str]

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 0)

    def memory(self) -> int:
        """Return the bytes that it holds."""
        (found,) = re.findall(
            r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text()
        )
        return 1024 * int(found)


@contextmanager
def served(run: Path, home: Path) -> Iterator[Server]:
    """Serve a run; afterwards Ctrl-C has to end it, and to leave nothing."""
    home.mkdir()
    words = ["serve", str(run), "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", QUICK, *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(home), "HF_HUB_OFFLINE": "1"},
    )
    said: list[str] = []
    assert process.stderr
    try:
        for line in process.stderr:
            said.append(line.rstrip("\n"))
            if found := re.match(r"ready: (http://\S+) ", line):
                break
        else:
            pytest.fail(f"the server ended: {said}")
        reader = threading.Thread(
            target=lambda: said.extend(line.rstrip("\n") for line in process.stderr or ())
        )
        reader.start()
        yield Server(found[1], process, home, said)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        reader.join()
        assert said[-1] == "stopped"
        told = "\n".join(said)
        assert "Traceback" not in told, told[told.index("Traceback") :][:5_000]
        assert [str(path) for path in home.rglob("*")] == []
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache of scenes and a head trained on it."""
    pytest.importorskip("gradio")
    place = tmp_path_factory.mktemp("serve")
    assert extract(place, "--split", "train", "--split", "val").code == 0
    assert train(place, "--no-report").code == 0
    return place


@pytest.fixture(scope="module")
def questions(place: Path) -> list[tuple[Path, str]]:
    """Pictures with a question about each."""
    source, found = ShapesSource(images=8), {}
    for example in source.examples("train"):
        found.setdefault(example.image_id, example.question)
    made = []
    for number, (image, question) in enumerate(found.items()):
        source.picture(image).save(place / f"{number}.png")
        made.append((place / f"{number}.png", question))
    return made


def asked_by_command(run: Path, picture: Path, question: str) -> list[tuple[str, str]]:
    """Return the answers of `ask`, as the page writes them."""
    found = run_command("ask", run, "--image", picture, "--question", question, "--json").json()
    return [(one["answer"], f"{100 * one['probability']:.1f} %") for one in found["answers"]]
