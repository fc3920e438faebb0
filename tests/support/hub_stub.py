"""A Hub on loopback: repositories with commits and branches. It misbehaves as a test asks it to."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

Files = dict[str, bytes]
Answer = Callable[["Handler", bytes], bool]
"""Answers a request in place of the Hub, or returns False."""


@dataclass
class HubStub:
    """What is on the Hub, and which requests came."""

    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    base: str = ""

    def push(self, name: str, folder: Path, branch: str = "main") -> str:
        """Add a commit with the files of a folder, and return it."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        known = self.commits.setdefault(name, {})
        text = f"{name} {len(known)} {[hashlib.sha1(data).digest() for data in files.values()]}"
        commit = hashlib.sha1(text.encode()).hexdigest()
        known[commit] = files
        self.branches.setdefault(name, {})[branch] = commit
        return commit

    def fetched(self) -> set[str]:
        """The names of all files of models whose content was asked for."""
        return {
            path.rpartition("/")[2]
            for method, path in self.asked
            if method == "GET" and "/resolve/" in path
        }


def etag_of(name: str, data: bytes) -> str:
    """Return what the Hub calls a file: SHA-256 of large ones, the hash of git for the others."""
    if name.endswith((".safetensors", ".bin")):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers as the Hub does."""

    hub: HubStub

    def do_GET(self) -> None:
        self.hub.asked.append((self.command, self.path))
        name, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        commits = self.hub.commits.get(name)
        commit = self.hub.branches.get(name, {}).get(revision, revision)
        data = (commits or {}).get(commit, {}).get(file)
        fault = self.hub.faults.get(file) or self.hub.faults.get("*")
        if rest and fault and fault(self, data or b""):
            return
        if commits is None:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif commit not in commits:
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif data is None:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        else:
            self.give(file, data, commit)

    do_HEAD = do_GET

    def give(self, file: str, data: bytes, commit: str, *, most: int | None = None) -> None:
        """Send a file, or what was asked for of it; `most` bytes, whatever the headers say."""
        asked = self.headers.get("Range", "")
        first = int(asked.removeprefix("bytes=").partition("-")[0] or 0)
        part = data[first:]
        headers = {"ETag": f'"{etag_of(file, data)}"', "X-Repo-Commit": commit}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self.answer(206 if asked else 200, part, most=most, **headers)

    def answer(
        self, code: int, data: bytes = b"", *, most: int | None = None, **headers: str
    ) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[:most])

    def log_message(self, *_: Any) -> None:
        pass


def status(code: int, *, error: str = "", only: str = "") -> Answer:
    """Answer every request, or those of one method, with a status."""

    def answer(handler: Handler, _: bytes) -> bool:
        if only and handler.command != only:
            return False
        handler.answer(code, **({"X-Error-Code": error} if error else {}))
        return True

    return answer


def cut() -> Answer:
    """Close the connection in the middle of a file."""

    def answer(handler: Handler, data: bytes) -> bool:
        if handler.command == "GET":
            handler.give("", data, "0" * 40, most=len(data) // 2)
        return handler.command == "GET"

    return answer


def other(change: Callable[[bytes], bytes]) -> Answer:
    """Give another content than the head of the file has told of."""

    def answer(handler: Handler, data: bytes) -> bool:
        if handler.command == "GET":
            handler.answer(200, change(data))
        return handler.command == "GET"

    return answer


@contextmanager
def hub_on_loopback(cache: Path) -> Iterator[HubStub]:
    """Let the client of the Hub ask a server of the test, with a local cache of its own."""
    hub = HubStub()
    kind = type("Bound", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    hub.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.base)
        template = hub.base + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(_http.time, "sleep", lambda _: None)
        patch.setenv("HF_TOKEN", "hf_of_a_test")
        huggingface_hub.set_client_factory(_http.default_client_factory)
        try:
            yield hub
        finally:
            huggingface_hub.close_session()
            server.shutdown()
            server.server_close()
            thread.join()
