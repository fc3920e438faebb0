"""Nothing reaches Gradio but what the page itself sends, whatever comes to the gate."""

import asyncio
import json
import os
import re
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.serve import gate
from frozen_vqa.pipeline.serve.gate import FILE, JOIN, UPLOAD, Gate, make_room

Headers = dict[str, str]
HERE: Headers = {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}
FORM = {**HERE, "content-type": "multipart/form-data; boundary=x"}


@dataclass
class Page:
    """Takes the place of Gradio, and notes what reaches it."""

    reached: list[tuple[str, bytes]] = field(default_factory=list)
    fails: bool = False

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body = b""
        if scope["method"] == "POST":
            message = await receive()
            body = message["body"]
            assert not message["more_body"]
            told = [value for name, value in scope["headers"] if name == b"content-length"]
            assert told == [str(len(body)).encode()]
        self.reached.append((scope["path"], body))
        if self.fails:
            raise ValueError("a secret of the server")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})


@dataclass
class Gated:
    """A gate before such a page, with a folder of uploads that holds one picture."""

    uploads: Path
    page: Page = field(default_factory=Page)
    local: bool = True
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    @property
    def picture(self) -> str:
        return str(self.uploads / "abc" / "cat.png")

    def ask(
        self,
        method: str,
        path: str,
        parts: Sequence[bytes] = (b"",),
        headers: Headers = HERE,
        *,
        ends: bool = True,
    ) -> tuple[int, str]:
        """Return the code and what was answered."""
        return self.runner.run(self._ask(method, path, list(parts), headers, ends))

    async def _ask(
        self, method: str, path: str, parts: list[bytes], headers: Headers, ends: bool
    ) -> tuple[int, str]:
        made = Gate(self.page, uploads=self.uploads, events={2: 2, 3: 4}, local=self.local)
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            if not parts and not ends:
                await asyncio.sleep(60)
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await made({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)
        assert [message["type"] for message in sent] == [
            "http.response.start",
            "http.response.body",
        ]
        assert (b"content-security-policy", gate.POLICY.encode()) in sent[0]["headers"]
        return sent[0]["status"], sent[1]["body"].decode()

    def join(self, body: Any, **how: Any) -> tuple[int, str]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", JOIN, [data], **how)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Gated]:
    uploads = Path(os.path.realpath(tmp_path)) / "uploads"
    (uploads / "abc").mkdir(parents=True)
    (uploads / "abc" / "cat.png").write_bytes(b"picture")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (uploads / "abc" / "link.png").symlink_to(tmp_path / "secret.png")
    made = Gated(uploads)
    with made.runner:
        yield made


def asked(picture: object, question: object = "what?") -> dict[str, Any]:
    return {"data": [picture, question], "fn_index": 2, "session_hash": "s1", "trigger_id": 9}


def test_what_the_page_asks_passes(gated: Gated) -> None:
    sent = {"path": gated.picture, "url": "http://127.0.0.1/x", "orig_name": "cat.png", "size": 7}
    assert gated.join(asked(sent) | {"event_data": {"index": 1}, "oauth_token": "t"})[0] == 200
    ((path, body),) = gated.page.reached
    assert path == JOIN
    assert json.loads(body) == {
        "data": [{"path": gated.picture, "meta": {"_type": "gradio.FileData"}}, "what?"],
        "fn_index": 2,
        "session_hash": "s1",
        "trigger_id": 9,
        "event_data": None,
    }
    for path in ("/", "/config", "/theme.css", "/assets/index-a1.js", f"{FILE}{gated.picture}"):
        assert gated.ask("GET", path) == (200, "page")
    assert gated.ask("POST", UPLOAD, [b"a", b"b"], FORM) == (200, "page")
    assert gated.page.reached[-1] == (UPLOAD, b"ab")


def refused(found: tuple[int, str], *codes: int) -> str:
    """Return the sentence of a refusal."""
    assert found[0] in codes, found
    sentence = json.loads(found[1])
    assert sentence.keys() == {"detail"}
    assert re.fullmatch(r"[A-Z][^\n]{5,90}\.", sentence["detail"])
    return str(sentence["detail"])


PATHS = [
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=http://127.0.0.1:1/",
    "/gradio_api/file={uploads}/../secret.png",
    "/gradio_api/file={uploads}/abc/../abc/cat.png",
    "/gradio_api/file={uploads}/abc/link.png",
    "/gradio_api/file={uploads}/abc",
    "/gradio_api/file={uploads}/abc/none.png",
    "/gradio_api/file={uploads}/abc/cat.png\0",
    "/gradio_api/file=" + "x" * 10_000,
    "/gradio_api/proxy=http://127.0.0.1:1/",
    "/gradio_api/run/predict",
    "/gradio_api/heartbeat/s1",
    "/gradio_api/upload",
    "/static/../../app.py",
    "/assets/" + "x" * 300,
    "/monitoring",
    "",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_other_route_is_there(path: str, gated: Gated) -> None:
    refused(gated.ask("GET", path.replace("{uploads}", str(gated.uploads))), 404)
    assert gated.page.reached == []


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "GIBBER"])
def test_no_other_method_is_there(method: str, gated: Gated) -> None:
    for path in ("/", JOIN, UPLOAD):
        refused(gated.ask(method, path), 405)
    refused(gated.ask("POST", "/"), 405)
    assert gated.page.reached == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.sampled_from(["path", "url", "meta", "data", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = {
    "data": JSON | st.lists(JSON, max_size=5),
    "fn_index": JSON | st.integers(0, 4),
    "session_hash": JSON | st.just("s1"),
    "trigger_id": JSON,
    "event_data": JSON,
    "batched": JSON,
}


def test_whatever_is_asked_only_clean_values_reach_the_page(gated: Gated) -> None:
    """Of any JSON, and of any bytes, what comes through has the few types of the page."""

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=30) | JSON | st.fixed_dictionaries({}, optional=FIELDS))
    def check(body: object) -> None:
        gated.page.reached.clear()
        found = gated.join(body)
        if found[0] != 200:
            refused(found, 400, 410, 413)
            assert gated.page.reached == []
            return
        passed = json.loads(gated.page.reached[0][1])
        assert passed.keys() == {"data", "fn_index", "session_hash", "trigger_id", "event_data"}
        assert passed["fn_index"] in (2, 3)
        assert re.fullmatch(r"\w{1,64}", passed["session_hash"])
        assert len(passed["data"]) == {2: 2, 3: 4}[passed["fn_index"]]
        assert all(value is None or type(value) in (str, int) for value in passed["data"])

    check()


BODIES: dict[str, Any] = {
    "no JSON": b"{",
    "deep JSON": b"[" * 50_000,
    "not UTF-8": b"\xff\xfe",
    "NaN": b'{"data": [NaN], "fn_index": 2, "session_hash": "s1"}',
    "too many inputs": asked(None) | {"data": [None] * 5},
    "too few inputs": asked(None) | {"data": []},
    "a file elsewhere": asked({"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}),
    "an address": asked({"path": "http://127.0.0.1:1/x.png"}),
    "a picture in the request": asked({"url": "data:image/png;base64,AAAA"}),
    "a path with a NUL": asked({"path": "a\0b"}),
    "no path": asked({}),
    "a truth": asked(True),
    "a fraction": asked(0.5),
    "a large number": asked(10**400),
    "another function": asked(None) | {"fn_index": 1},
    "no session": {"data": [], "fn_index": 2},
    "a session that is a path": asked(None) | {"session_hash": "../a"},
    "a long session": asked(None) | {"session_hash": "s" * 65},
    "a long question": asked(None, "x" * 5_001),
    "a huge question": asked(None, "x" * 200_000),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_malformed_request_is_one_sentence(name: str, gated: Gated) -> None:
    refused(gated.join(BODIES[name]), 400, 410, 413)
    assert gated.page.reached == []


def test_half_of_a_pair_becomes_a_question_mark(gated: Gated) -> None:
    assert gated.join(b'{"data": [null, "a\\ud83d"], "fn_index": 2, "session_hash": "s"}')[0] == 200
    assert json.loads(gated.page.reached[0][1])["data"] == [None, "a?"]


def test_bodies_are_bounded_in_size_time_and_number(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.01)
    monkeypatch.setattr(gate, "MOST_UPLOADED", 10)
    assert gated.ask("POST", UPLOAD, [b"12345", b"67890"], FORM)[0] == 200
    assert "MB" in refused(gated.ask("POST", UPLOAD, [b"12345", b"678901", b"not read"], FORM), 413)
    assert "seconds" in refused(gated.ask("POST", UPLOAD, [], FORM, ends=False), 408)
    refused(gated.ask("POST", JOIN, [], HERE), 400)  # it ended early
    refused(gated.ask("POST", UPLOAD, [b"1"], HERE), 415)
    monkeypatch.setattr(gate, "MOST_BODIES", 0)
    assert "try again" in refused(gated.ask("POST", UPLOAD, [b"1"], FORM), 503)
    assert len(gated.page.reached) == 1


def test_only_pages_of_this_machine_ask_unless_others_may(gated: Gated) -> None:
    for host in ("127.0.0.1:7860", "127.0.0.1", "localhost:1", "[::1]:7860"):
        assert gated.ask("GET", "/", headers={"host": host})[0] == 200
    for host in ("", "evil.example", "evil.example:7860", "127.0.0.1.evil.example", "127.0.0.1@x"):
        refused(gated.ask("GET", "/", headers={"host": host}), 421)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:80", "http://localhost:7860"):
        refused(gated.join(asked(None), headers={**HERE, "origin": origin}), 403)
    gated.local = False
    headers = {"host": "name.hf.space", "origin": "https://elsewhere.example"}
    assert gated.join(asked(None), headers=headers)[0] == 200


def test_what_the_page_did_not_foresee_is_one_sentence(
    gated: Gated, capsys: pytest.CaptureFixture[str]
) -> None:
    gated.page.fails = True
    assert refused(gated.ask("GET", "/"), 500) == "The request failed."
    said = capsys.readouterr().err
    assert said == "warning: a request failed: ValueError: a secret of the server\n"


def test_the_oldest_pictures_make_room(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "a.png").write_bytes(b"1234")
        os.utime(tmp_path / str(i) / "a.png", (i, i))
    make_room(tmp_path, 100, 4)
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3", "4"]
    make_room(tmp_path, 11, 100)
    assert sorted(os.listdir(tmp_path)) == ["3", "4"]
    make_room(tmp_path, -1, 100)
    assert os.listdir(tmp_path) == []
