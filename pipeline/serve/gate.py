"""What may reach the page: few routes, and requests of bounded size, time, number and form.

Gradio has routes that this page does not need, which fetch addresses, show files or change code. An
input of it may name any file or address. So each request passes this gate first, and Gradio sees
only those that the page itself would send: whole, small, and about a picture that was uploaded.
"""

import asyncio
import json
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.system.console import console

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MOST_UPLOADED = 25_000_000
"""Bytes of a request with a picture; a photo of a phone has up to 15 million."""

MOST_ASKED = 100_000
"""Bytes of any other request."""

MOST_LETTERS = 5_000
"""Of a question."""

BODY_SECONDS = 30.0
"""How long the body of a request may take to arrive."""

MOST_BODIES = 8
"""Requests whose bodies are read or answered at a time; these bound the memory."""

MOST_KEPT, MOST_FILES = 500_000_000, 500
"""Bytes and number of uploaded pictures that lie on the disk; the oldest make room."""

UPLOAD, JOIN, FILE = "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/file="
GET = re.compile(
    r"/|/config|/theme\.css|/manifest\.json|/robots\.txt|/favicon\.ico"
    r"|/(?:assets|static)/[\w./@+-]+"
    r"|/gradio_api/(?:info|startup-events|queue/data|upload_progress)",
    re.ASCII,
)
"""What the page asks for; files of pictures have a rule of their own."""

LONGEST_PATH = 200
LOCAL = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[::1\]", re.ASCII)
SESSION = re.compile(r"\w{1,64}", re.ASCII)

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""The page may ask no other host for anything. Gradio's own scripts need the two unsafe words."""

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class RefusedError(Exception):
    """A request that is answered with a code and a sentence, and goes no further."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Gate:
    """An ASGI application before another one."""

    def __init__(
        self, app: App, *, uploads: Path, events: Mapping[int, int], local: bool = True
    ) -> None:
        """Guard an application.

        Args:
            app: The page of Gradio.
            uploads: The folder in which it keeps uploaded pictures.
            events: The numbers of its functions, and how many inputs each has.
            local: Whether only pages of this machine may ask. A page from elsewhere could lead a
                browser here, by a name of its own for this address, or by a form.
        """
        self.app, self.uploads, self.events = app, uploads, dict(events)
        self.local = local
        self._bodies = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            self._require_known(scope)
            if scope["method"] == "GET":
                await self._pass_on(scope, receive, send)
                return
            if self._bodies >= MOST_BODIES:
                raise RefusedError(503, "Too many requests at a time; try again in a moment.")
            self._bodies += 1
            try:
                body = await self._take(scope, receive)
                await self._pass_on(*_with_body(scope, body, receive), send)
            finally:
                self._bodies -= 1
        except RefusedError as refused:
            await _answer(send, refused.code, str(refused))

    def _require_known(self, scope: MutableMapping[str, Any]) -> None:
        """Raise `RefusedError` unless the page itself could send this request."""
        headers = _headers(scope)
        if self.local:
            host, origin = headers.get("host", ""), headers.get("origin")
            name = re.sub(r":\d+\Z", "", host)
            if not LOCAL.fullmatch(name):
                raise RefusedError(421, "This page answers on 127.0.0.1 and localhost alone.")
            if origin is not None and urlsplit(origin).netloc != host:
                raise RefusedError(403, "Only the page itself may ask here.")
        method, path = scope["method"], scope["path"]
        if method == "POST" and path in (UPLOAD, JOIN):
            return
        if method != "GET":
            raise RefusedError(405, "Only GET and the two requests of the page are known here.")
        if path.startswith(FILE):
            if not self._is_upload(path.removeprefix(FILE)):
                raise RefusedError(404, "There is no such picture.")
        elif len(path) > LONGEST_PATH or not GET.fullmatch(path) or ".." in path:
            raise RefusedError(404, "There is no such page.")

    def _is_upload(self, text: object) -> bool:
        """Whether a text is the path of a picture that was uploaded and is still here."""
        if not isinstance(text, str) or "\0" in text or not text.startswith(f"{self.uploads}/"):
            return False
        with suppress(OSError, ValueError):
            path = Path(text)
            return str(path.resolve()) == text and path.is_file()
        return False

    async def _take(self, scope: MutableMapping[str, Any], receive: Receive) -> bytes:
        """Return the whole body of a request, as the application may see it."""
        upload = scope["path"] == UPLOAD
        most = MOST_UPLOADED if upload else MOST_ASKED
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive, most)
        except TimeoutError:
            raise RefusedError(408, f"The request took over {BODY_SECONDS:.0f} seconds.") from None
        if upload:
            kind = _headers(scope).get("content-type", "")
            if not kind.startswith("multipart/form-data;"):
                raise RefusedError(415, "A picture is sent as multipart/form-data.")
            make_room(self.uploads, MOST_KEPT - len(body), MOST_FILES - 1)
            return body
        return json.dumps(self._asked(body)).encode()

    def _asked(self, body: bytes) -> dict[str, Any]:
        """Return what is asked of a function, without all that the page does not send."""
        try:
            found = finite_json(body)
        except (ValueError, RecursionError):
            raise RefusedError(400, "The request is not JSON.") from None
        data = found.get("data") if isinstance(found, dict) else None
        if not isinstance(data, list):
            raise RefusedError(400, "The request is none of this page.")
        number, session, trigger = (
            found.get(n) for n in ("fn_index", "session_hash", "trigger_id")
        )
        if type(number) is not int or number not in self.events:
            raise RefusedError(400, "There is no such function.")
        if len(data) != self.events[number]:
            raise RefusedError(400, "The function has another number of inputs.")
        if not isinstance(session, str) or not SESSION.fullmatch(session):
            raise RefusedError(400, "The request names no session.")
        return {
            "data": [self._value(one) for one in data],
            "fn_index": number,
            "session_hash": session,
            "trigger_id": trigger if type(trigger) is int else None,
            "event_data": None,
        }

    def _value(self, value: object) -> object:
        """Return an input of a function: a text, a number, nothing, or an uploaded picture."""
        if value is None or (type(value) is int and abs(value) < 10**6):
            return value
        if isinstance(value, str):
            if len(value) > MOST_LETTERS:
                raise RefusedError(413, f"A question has at most {MOST_LETTERS:,} letters.")
            return value.encode("utf-8", "replace").decode()  # no half of a surrogate pair
        if not isinstance(value, dict):
            raise RefusedError(400, "The request is none of this page.")
        if not self._is_upload(value.get("path")):
            raise RefusedError(410, "The picture is no longer here; choose it again.")
        return {"path": value["path"], "meta": {"_type": "gradio.FileData"}}

    async def _pass_on(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let the application answer; of what it did not foresee, only a sentence leaves."""
        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            await self.app(scope, receive, send_guarded)
        except Exception as error:  # it has said so itself, if it could
            console.warn(f"a request failed: {type(error).__name__}: {error}"[:300])
            if not begun:
                await _answer(send, 500, "The request failed.")


def make_room(folder: Path, most_bytes: int, most_files: int) -> None:
    """Remove the oldest uploads until at most so many bytes and files are left."""
    found = []
    for path in folder.glob("*/*"):
        with suppress(OSError):
            state = path.stat()
            found.append((state.st_mtime, state.st_size, path))
    kept, total = len(found), sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most_bytes and kept <= most_files:
            return
        shutil.rmtree(path.parent, ignore_errors=True)
        total, kept = total - size, kept - 1


async def _read(receive: Receive, most: int) -> bytes:
    """Return a whole body; raise `RefusedError` as soon as it is too long."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "The request ended early.")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise RefusedError(413, f"The request has over {most / 1e6:g} MB.")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _with_body(
    scope: MutableMapping[str, Any], body: bytes, receive: Receive
) -> tuple[MutableMapping[str, Any], Receive]:
    """Return a request with this body in place of its own."""
    told = {b"content-length", b"transfer-encoding", b"content-encoding"}
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in told]
    headers.append((b"content-length", str(len(body)).encode()))
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return rest.pop() if rest else await receive()

    return {**scope, "headers": headers}, replay


def _headers(scope: MutableMapping[str, Any]) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


async def _answer(send: Send, code: int, sentence: str) -> None:
    """Answer with one sentence; Gradio's page shows what stands under "detail"."""
    body = json.dumps({"detail": sentence}).encode()
    headers: Sequence[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of the body is not read
        *HEADERS,
    ]
    with suppress(OSError):
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})
