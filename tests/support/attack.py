"""Commands on a stranger's files, watched: what they start, ask, open, change, take and print.

    found = attack("evaluate", "--run", run, place=tmp_path, writes=[run])
    found.require_harmless()

A forgery is a folder that a test makes below `place`. `attack` runs the command in this process,
under an audit hook and under bounds of time and memory, and compares everything below `place`
before and after. What lies in `place`/secret is not the command's to open, whoever names it.
"""

import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.runs.environment import OURS
from tests.support.command import Finished, error_of, run_command

SECONDS, BYTES = 10.0, 2 << 30
"""What a command on a forged input may take, of wall time and of memory that it fills."""

SECRET, SECRET_WORD = "secret", "s3cr3t-w0rd"
"""A folder beside a forgery that no command may open, and a word of all its files."""

PROCESSES = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork", "pty.spawn")
SOCKETS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
WATCHED = (*PROCESSES, *SOCKETS, "socket.bind", "builtins.input")
CHANGES = {
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.chmod": ((0, 2),),
    "os.truncate": ((0, -1),),
}
"""Events that change a folder: where each path stands among their details, and its folder."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
NOT_FINITE = re.compile(r"(?<![\w.'])[-+]?(nan|inf|infinity)\b(?!')", re.IGNORECASE)

TEMPORARY = os.path.realpath(tempfile.gettempdir())
READABLE = {
    os.path.realpath(root)
    for root in (OURS, sys.prefix, sys.base_prefix, *filter(None, sys.path))
} | {"/proc", "/sys", "/dev", "/usr", "/lib", "/lib64"}  # fmt: skip
"""What a command may read besides its own folders, all of it the system's or Python's."""

_seen: list[str] | None = None
_secret, _linked = "", frozenset[str]()


def _watch(event: str, details: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event == "open":
        path, _, flags = details
        writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        where = _where(path, -1, follows=not (flags or 0) & os.O_NOFOLLOW)
        if where and not _may(where, writes=writes):
            _seen.append(f"open {where}{' to write' if writes else ''}")
    elif event in CHANGES:
        for at, folder in CHANGES[event]:
            where = _where(details[at], -1 if folder < 0 else details[folder], follows=False)
            if where and not _may(where, writes=True):
                _seen.append(f"{event} {where}")
    elif event in WATCHED and not _is_our_git(event, details):
        _seen.append(f"{event} {details!s:.200}")


def _where(path: Any, folder: int, *, follows: bool) -> str:
    """Return the real path that a call reaches, "" if it is given by a number or none at all."""
    if not isinstance(path, str | bytes | os.PathLike):
        return ""
    text = os.fsdecode(path)
    if "\0" in text or not text:
        return ""
    start = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()
    head, name = os.path.split(os.path.join(start, text))
    head = os.path.realpath(head)
    return os.path.realpath(os.path.join(head, name)) if follows else os.path.join(head, name)


def _may(path: str, *, writes: bool) -> bool:
    """Whether a command may touch this path at all; what it changes of `place` is compared."""
    if _secret and _below(path, {_secret}) and (writes or not _below(path, _linked)):
        return False
    roots = {TEMPORARY} if writes else {TEMPORARY, *READABLE}
    mine = path in ("/dev/null",) or "/__pycache__" in path  # Python keeps what it compiled
    return mine or _below(path, roots)


def _below(path: str, roots: Collection[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def _is_our_git(event: str, details: tuple[Any, ...]) -> bool:
    """Whether it asks for the revision of our own checkout, in our own folder."""
    return event == "subprocess.Popen" and details[0] == "git" and details[2] == OURS


@contextmanager
def watched(secret: Path | None = None, linked: Collection[Path] = ()) -> Iterator[list[str]]:
    """Yield the list of each process, address, question at the terminal, and path elsewhere.

    What the links in `linked` lead to may be read.
    """
    global _seen, _secret, _linked
    if _watch not in _HOOKS:
        _HOOKS.append(_watch)
        sys.addaudithook(_watch)  # it stays for ever, and is idle outside of this block
    _secret = os.path.realpath(secret) if secret else ""
    _linked = frozenset(os.path.realpath(link) for link in linked)
    _seen = seen = []
    try:
        yield seen
    finally:
        _seen = None


_HOOKS: list[Any] = []


class TooMuchError(BaseException):
    """A command took more time than a forged input may cost; no handler of ours catches it."""


@dataclass
class Taken:
    """What a block took: its seconds, and the bytes of memory that it filled at most."""

    seconds: float = 0.0
    bytes: int = 0


@contextmanager
def bounded(seconds: float = SECONDS, most: int = BYTES) -> Iterator[Taken]:
    """Raise `TooMuchError` in a block that takes longer; let it map no more than twice `most`."""

    def late(*_: object) -> None:
        raise TooMuchError(f"more than {seconds:g} s")

    taken, started = Taken(), time.monotonic()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    resident = _memory("VmRSS")
    handler = signal.signal(signal.SIGALRM, late)
    left = signal.setitimer(signal.ITIMER_REAL, seconds)[0]
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + 2 * most, hard))
    try:
        yield taken
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        taken.seconds = time.monotonic() - started
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, max(0.1, left - taken.seconds) if left else 0)
        taken.bytes = _memory("VmHWM") - resident


def _memory(name: str) -> int:
    """Return a figure of this process in bytes, as Linux counts it."""
    (line,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) << 10


@dataclass(frozen=True)
class Attacked:
    """What a command printed, what it did, and which files it changed that it may not write."""

    words: Sequence[object]
    finished: Finished
    did: Sequence[str]
    changed: Sequence[str]
    taken: Taken

    def require_harmless(self) -> str:
        """Raise unless nothing happened outside; return the sentence of a refusal, or ""."""
        assert not self.did, self.did
        assert not self.changed, self.changed
        assert self.taken.bytes <= BYTES, f"{self.taken.bytes:,} bytes"
        assert self.taken.seconds <= SECONDS, f"{self.taken.seconds:.1f} s"  # if it was caught
        printed = self.finished.out + self.finished.err
        assert not CONTROL.search(printed), printed
        # The sentence of a refusal may say that it found NaN. It is no figure that anybody uses.
        figures = [line for line in printed.splitlines() if not line.startswith("error: ")]
        assert not NOT_FINITE.search("\n".join(figures)), printed
        assert SECRET_WORD not in printed, printed
        assert "Traceback" not in printed, printed
        assert self.finished.code in (0, 1, 3), self.finished
        if self.finished.code != 1:
            return ""
        if self.words[0] == "verify-cache" and "error: " not in self.finished.err:
            self._require_findings()
            return ""
        sentence = error_of(self.finished)
        assert "memory of this machine does not suffice" not in sentence, sentence
        assert len(sentence) < 3000, sentence
        return sentence

    def _require_findings(self) -> None:
        """Raise unless each line is a file of the cache and what is wrong with it, or says more.

        What verify-cache finds is its result, and exit 1 tells that it found something.
        """
        told = ("  ", "verify, bytes: ")  # more of a finding, and how far it is
        lines = [line for line in self.finished.err.splitlines() if not line.startswith(told)]
        assert lines, self.finished
        for line in lines:
            file, _, fault = line.partition(": ")
            assert Path(file).is_relative_to(str(self.words[1])), line
            assert len(fault.split()) > 1, line


def attack(*words: object, place: Path, writes: Sequence[Path] = ()) -> Attacked:
    """Run a command; `writes` are the only paths below `place` that it may change.

    It may read through a link that lies there (docs/security.md), and still not tell what it read.
    """
    before = _snapshot(place, writes)
    linked = [path for path in place.rglob("*") if path.is_symlink()]
    with bounded() as taken, watched(place / SECRET, linked) as did:
        finished = run_command(*words)
    after = _snapshot(place, writes)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    leaked = [str(path) for folder in writes for path in _leaks(folder)]
    return Attacked(words, finished, tuple(did), sorted([*changed, *leaked]), taken)


def _leaks(folder: Path) -> Iterator[Path]:
    """Yield the files that a command wrote and that hold what is not its own to read."""
    for path in folder.rglob("*"):
        small = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24
        if small and SECRET_WORD.encode() in path.read_bytes():
            yield path


def _snapshot(place: Path, without: Sequence[Path]) -> dict[str, tuple[int, object]]:
    """Return mode and content of everything below a folder; a link's content is its target."""
    found: dict[str, tuple[int, object]] = {}
    for folder, folders, files in os.walk(place):
        folders[:] = [name for name in folders if Path(folder, name) not in without]
        for name in (*folders, *files):
            path = Path(folder, name)
            content: object = b""
            if path.is_symlink():
                content = os.fsencode(os.readlink(path))
            elif path.is_file():
                state = path.stat()
                small = state.st_size < 1 << 24
                content = path.read_bytes() if small else (state.st_size, state.st_mtime_ns)
            if path not in without:
                found[str(path)] = (path.lstat().st_mode, content)
    return found
