"""Commands on a stranger's files, watched: what they start, whom they ask, what they change.

    found = attack("evaluate", "--run", run, place=tmp_path, writes=[run])
    found.require_harmless()

A forgery is a folder that a test makes below `place`. `attack` runs the command in this process,
under an audit hook, and compares everything below `place` before and after.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.runs.environment import OURS
from tests.support.command import Finished, error_of, run_command

PROCESSES = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork", "pty.spawn")
SOCKETS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
WATCHED = (*PROCESSES, *SOCKETS, "socket.bind", "builtins.input")

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
NOT_FINITE = re.compile(r"(?<![\w.'])[-+]?(nan|inf|infinity)\b(?!')", re.IGNORECASE)

_seen: list[str] | None = None


def _watch(event: str, details: tuple[Any, ...]) -> None:
    if _seen is None or event not in WATCHED or _is_our_git(event, details):
        return
    _seen.append(f"{event} {details!s:.200}")


def _is_our_git(event: str, details: tuple[Any, ...]) -> bool:
    """Whether it asks for the revision of our own checkout, in our own folder."""
    return event == "subprocess.Popen" and details[0] == "git" and details[2] == OURS


@contextmanager
def watched() -> Iterator[list[str]]:
    """Yield the list of every process, address, socket and question at the terminal."""
    global _seen
    if _watch not in _HOOKS:
        _HOOKS.append(_watch)
        sys.addaudithook(_watch)  # it stays for ever, and is idle outside of this block
    _seen = seen = []
    try:
        yield seen
    finally:
        _seen = None


_HOOKS: list[Any] = []


@dataclass(frozen=True)
class Attacked:
    """What a command printed, what it did, and which files it changed that it may not write."""

    finished: Finished
    did: Sequence[str]
    changed: Sequence[str]

    def require_harmless(self) -> str:
        """Raise unless nothing happened outside; return the sentence of a refusal, or ""."""
        assert not self.did, self.did
        assert not self.changed, self.changed
        printed = self.finished.out + self.finished.err
        assert not CONTROL.search(printed), printed
        assert not NOT_FINITE.search(printed), printed
        assert self.finished.code in (0, 1, 3), self.finished
        return error_of(self.finished) if self.finished.code == 1 else ""


def attack(*words: object, place: Path, writes: Sequence[Path] = ()) -> Attacked:
    """Run a command; `writes` are the only paths below `place` that it may change."""
    before = _snapshot(place, writes)
    with watched() as did:
        finished = run_command(*words)
    after = _snapshot(place, writes)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return Attacked(finished, tuple(did), sorted(changed))


def _snapshot(place: Path, without: Sequence[Path]) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of everything below a folder; a link's content is its target."""
    found: dict[str, tuple[int, bytes]] = {}
    for folder, folders, files in os.walk(place):
        folders[:] = [name for name in folders if Path(folder, name) not in without]
        for name in (*folders, *files):
            path = Path(folder, name)
            content = b""
            if path.is_symlink():
                content = os.fsencode(os.readlink(path))
            elif path.is_file():
                content = path.read_bytes()
            if path not in without:
                found[str(path)] = (path.lstat().st_mode, content)
    return found
