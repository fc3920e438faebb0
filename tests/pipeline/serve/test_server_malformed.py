"""A thousand malformed requests leave `serve` answering, in bounded memory; needs Gradio.

make test-browser
"""

import json
import random
import re
import socket
import threading
import time
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.served import Server, asked_by_command, served
from tests.support.served import place as place
from tests.support.served import questions as questions
from tests.support.tiny_commands import _home as _home

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def send(server: Server, request: bytes, *, wait: float = 0.0) -> bytes:
    """Send bytes to the server, and return the beginning of what it answers."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 10) as link:
        link.settimeout(10)
        link.sendall(request)
        if wait:
            time.sleep(wait)
            return b""
        return link.recv(65536)
    return b""


def request(method: str, path: str, body: bytes, **headers: str) -> bytes:
    told = {"Host": "127.0.0.1", "Content_Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in told.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def form(data: bytes, name: str = "a.png", *, whole: bool = True) -> tuple[bytes, str]:
    line = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = line.encode() + data + (b"\r\n--b--\r\n" if whole else b"")
    return body, "multipart/form-data; boundary=b"


def malformed(rng: random.Random) -> bytes:
    """Return a request that no page of ours sends."""
    values: list[Any] = [None, True, -1, 10**30, 0.5, "x", "x" * 9_000, [], {}, {"path": 3}]
    values += [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]
    values += [{"path": "http://127.0.0.1:9/x.png", "url": "http://127.0.0.1:9/"}]
    join = {
        "data": [rng.choice(values) for _ in range(rng.randrange(6))],
        "fn_index": rng.choice([0, 1, 2, 3, 99, -1, "ask", None, True]),
        "session_hash": rng.choice(["s1", "../x", "", None, 7, uuid.uuid4().hex]),
        "trigger_id": rng.choice(values),
    }
    paths = ["/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd", "/../cli.py"]
    paths += ["/gradio_api/file=http://127.0.0.1:9/x", "/%2e%2e/%2e%2e/etc/passwd", "/docs", "/x"]
    paths += ["/gradio_api/queue/data?session_hash=none", "/gradio_api/queue/data", "/config?a=b"]
    paths += ["/static/img/../../../routes.py", "/assets/" + "a" * 9_000, "/gradio_api/info"]
    joined = json.dumps(join).encode()
    kind = rng.randrange(9)
    if kind == 0:
        return request("POST", "/gradio_api/queue/join", joined, Content_Type="application/json")
    if kind == 1:
        return request("POST", "/gradio_api/queue/join", joined[: rng.randrange(len(joined))])
    if kind == 2:
        return request(rng.choice(["GET", "POST", "PUT", "HEAD", "X"]), rng.choice(paths), b"")
    if kind == 3:
        body, told = form(
            rng.randbytes(200), rng.choice(["../../a", "a\0b", "", "a.svg", "x" * 999])
        )
        return request("POST", "/gradio_api/upload", body, Content_Type=told)
    if kind == 4:
        body, told = form(rng.randbytes(200), whole=False)
        return request("POST", "/gradio_api/upload", body, Content_Type=told)
    if kind == 5:
        return request("POST", "/gradio_api/upload", b"x" * 300, Content_Type="text/plain")
    if kind == 6:
        return rng.randbytes(rng.randrange(1, 400)) + b"\r\n\r\n"
    if kind == 7:
        return request("GET", "/", b"", Host=rng.choice(["evil.example", "", "127.0.0.1.x"]))
    return request("POST", "/gradio_api/queue/join", joined, Origin="http://evil.example")


def post(server: Server, path: str, body: bytes, kind: str) -> Any:
    asked = urllib.request.Request(f"{server.url}{path}", body, {"Content-Type": kind})
    with urllib.request.urlopen(asked, timeout=60) as found:
        return json.load(found)


def answered(server: Server, picture: Path, question: str) -> list[tuple[str, str]]:
    """Ask as the page does, and return the answers."""
    body, kind = form(picture.read_bytes())
    (path,) = post(server, "/gradio_api/upload", body, kind)
    with urllib.request.urlopen(f"{server.url}/config", timeout=60) as found:
        first = json.load(found)["dependencies"][0]["id"]
    session = uuid.uuid4().hex
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, question]
    join = {"data": data, "fn_index": first, "session_hash": session}
    post(server, "/gradio_api/queue/join", json.dumps(join).encode(), "application/json")
    stream = f"{server.url}/gradio_api/queue/data?session_hash={session}"
    with urllib.request.urlopen(stream, timeout=60) as found:
        for line in found:
            message = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if message.get("msg") == "process_completed":
                html = message["output"]["data"][0]
                rows = re.findall(r"<bdi>(.*?)</bdi>.*?<span>(.*?)</span>", html)
                return [(answer, share) for answer, share in rows]
    pytest.fail("the server did not answer")


def test_a_thousand_malformed_requests_leave_it_answering(
    place: Path, questions: list[tuple[Path, str]]
) -> None:
    picture, question = questions[0]
    expected = asked_by_command(place / "run", picture, question)
    rng = random.Random(20)
    with served(place / "run", place / "home of the attacked") as server:
        assert answered(server, picture, question) == expected
        before = server.memory()
        big, kind = form(b"x" * 30_000_000)
        slow = request("POST", "/gradio_api/upload", b"--b", Content_Length="900")
        for _ in range(2):
            found = send(server, request("POST", "/gradio_api/upload", big, Content_Type=kind))
            assert b" 200 " not in found[:20]
        found = send(server, slow)
        assert b" 408 " in found[:20], found  # after its second
        attackers = [
            threading.Thread(target=send, args=(server, piece), kwargs={"wait": 3.0})
            for piece in [slow, b"GET / HT", b"", b"GET / HTTP/1.1\r\nHost: "] * 20
        ]
        for one in attackers:  # many at a time, while the others are answered
            one.start()
        for _ in range(1_000):
            found = send(server, malformed(rng))
            assert b"root:" not in found
            assert b"Traceback" not in found
        for one in attackers:
            one.join()
        assert answered(server, picture, question) == expected
        assert server.memory() - before < 250_000_000
        kept = [path for path in server.home.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in kept) < 100_000_000
