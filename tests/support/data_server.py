"""A server on loopback that gives files, and misbehaves as a test asks it to."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler", bytes], None]


@dataclass
class DataServer:
    """Files by path, and what is done in place of giving one: a list for the requests in turn."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    etags: dict[str, str] = field(default_factory=dict)
    base: str = ""

    def ranges(self, path: str) -> list[str]:
        """The ranges that were asked for, but for the one byte that tells a size."""
        return [one for name, one in self.asked if name == path and one != "bytes=0-0"]


class Handler(BaseHTTPRequestHandler):
    """Gives a file or a part of it, as a good server does."""

    known: DataServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.known.asked.append((self.path, asked))
        data = self.known.files.get(self.path)
        faults = self.known.faults.get(self.path, [])
        if asked != "bytes=0-0" and faults:
            faults.pop(0)(self, data or b"")
        elif data is None:
            self.send_error(404)
        else:
            self.give(data)

    def give(self, data: bytes, *, most: int | None = None, **headers: str) -> None:
        """Send what was asked for; `most` bytes of it, whatever the headers say."""
        start, end, code = 0, len(data), 200
        etag = self.known.etags.get(self.path, '"one"')
        asked = self.headers.get("Range", "")
        if asked and self.headers.get("If-Range", etag) == etag:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end, code = int(first), int(last) + 1 if last else end, 206
        if start >= len(data) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        part = data[start:end]
        self.send_response(code)
        known = {"Content-Length": str(len(part)), "ETag": etag}
        if code == 206:
            known["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        for name, value in (known | headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(part[:most])

    def log_message(self, *_: Any) -> None:
        pass


def cut(after: int) -> Answer:
    return lambda handler, data: handler.give(data, most=after)


def code(number: int, **headers: str) -> Answer:
    def answer(handler: Handler, _: bytes) -> None:
        handler.send_response(number)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def lead_to(url: str) -> Answer:
    return code(302, Location=url)


def stall(after: int, seconds: float) -> Answer:
    def answer(handler: Handler, data: bytes) -> None:
        handler.give(data, most=after)
        handler.wfile.flush()
        time.sleep(seconds)

    return answer


@contextmanager
def serving() -> Iterator[DataServer]:
    known = DataServer()
    kind = type("Bound", (Handler,), {"known": known})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    known.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
