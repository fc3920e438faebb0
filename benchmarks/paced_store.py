"""A store on loopback that gives a stated rate: a folder's files, by S3's protocol, to readers.

    python -m benchmarks.paced_store FOLDER BYTES_A_SECOND

It prints its port, and ends with its standard input. All connections share the rate, as they share
a network. Bytes go from the page cache to the socket within the kernel (sendfile), so that the
store takes little of the processor that its readers need.
"""

import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BUCKET = "bucket"
PIECE = 1 << 18
"""Bytes that are sent at a time, so that connections take turns."""


class Pace:
    """Lets bytes go at a rate, those of all threads together."""

    def __init__(self, rate: float) -> None:
        self._rate, self._free, self._lock = rate, 0.0, threading.Lock()

    def wait(self, count: int) -> None:
        """Return when so many bytes may have gone."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + count / self._rate
            left = self._free - time.monotonic()
        if left > 0:
            time.sleep(left)


class Reading(BaseHTTPRequestHandler):
    """Answers GET, with or without a range that begins at 0."""

    protocol_version = "HTTP/1.1"
    folder: Path
    pace: Pace

    def do_GET(self) -> None:
        path = self.folder / self.path.partition("?")[0].removeprefix(f"/{BUCKET}/")
        asked = re.fullmatch(r"bytes=0-(\d+)", self.headers.get("Range", ""))
        try:
            file = path.open("rb")
        except OSError:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            end = min(size, int(asked[1]) + 1) if asked else size
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(end))
            self.send_header("Content-Range", f"bytes 0-{end - 1}/{size}")
            self.end_headers()
            place = 0
            while place < end:
                self.pace.wait(min(PIECE, end - place))
                left = min(PIECE, end - place)
                while left:
                    sent = os.sendfile(self.connection.fileno(), file.fileno(), place, left)
                    place, left = place + sent, left - sent

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until the standard input ends."""
    Reading.folder, Reading.pace = Path(sys.argv[1]), Pace(float(sys.argv[2]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Reading)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
