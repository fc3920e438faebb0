"""An S3 server on loopback that misbehaves, and counts what it is asked (moto, as in the tests).

    python -m benchmarks.torture.faulty_s3

It prints its port, and ends with its standard input. POST /faults?on=1 lets requests fail, answers
be cut and all be slow; GET /faults gives the counts since the last POST.
"""

import json
import logging
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

FAILS, CUTS, SECONDS = 0.05, 0.01, 0.02
"""Shares of the requests that fail and of the answers that are cut; the mean time of an answer."""

OBJECT = re.compile(r"/(images|questions|splits|manifest)/[0-9a-f]{32}\.")


class Faults:
    """Stands between the client and moto."""

    def __init__(self, app: Any) -> None:
        self.app, self.on, self.counts = app, False, Counter[str]()
        self.random, self.lock = random.Random(0), threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/faults":
            if method == "POST":
                self.on, self.counts = environ["QUERY_STRING"] == "on=1", Counter()
            data = json.dumps(self.counts).encode()
            start("200 OK", [("Content-Length", str(len(data)))])
            return [data]
        with self.lock:
            self.counts["requests"] += 1
            fails, cuts = (self.on and self.random.random() < one for one in (FAILS, CUTS))
            seconds = self.random.expovariate(1 / SECONDS) if self.on else 0
        time.sleep(seconds)
        if fails:
            self.counts["failed"] += 1
            start("503 Slow Down", [("Content-Length", "0")])
            return [b""]
        answers: list[Any] = []
        body = self.app(environ, lambda *said, **_: answers.append(said))
        data = b"".join(body)
        ((status, headers),) = [said[:2] for said in answers]
        if method == "PUT" and OBJECT.search(path) and status.startswith("200"):
            self.counts["objects"] += 1
        if cuts and method != "HEAD":
            self.counts["cut"] += 1
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
            headers.append(("Content-Length", str(len(data) + 1)))
            data = data[: len(data) // 2]
        start(status, headers)
        return [data]


def main() -> None:
    """Serve until the standard input ends."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app: Any = Faults(DomainDispatcherApplication(create_backend_app))
    made = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    print(made.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
