"""The server behind the page: a folder for uploads, and an end by Ctrl-C or SIGTERM."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from frozen_vqa.pipeline.serve.answerer import Answerer
from frozen_vqa.pipeline.serve.port import is_loopback

MOST_CONNECTIONS = 200
"""One more is answered with code 503."""

SILENT_SECONDS = 15.0
"""How long a connection may send no whole request; a slow body has its own limit."""

END_SECONDS = 3
"""How long open requests may last after Ctrl-C."""


def serve(answerer: Answerer, listener: socket.socket, *, ready: Callable[[], None]) -> None:
    """Answer until Ctrl-C or SIGTERM, which are raised again at the end.

    Args:
        answerer: Who answers.
        listener: From `open_port`; an address that is not loopback lets others ask.
        ready: Called once the page answers.
    """
    local = is_loopback(listener.getsockname()[0])
    with tempfile.TemporaryDirectory(prefix="frozen-vqa-serve-") as folder:
        uploads = Path(os.path.realpath(folder))
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)  # read when Gradio is imported, and later
        from frozen_vqa.pipeline.serve.app import build_app

        app = build_app(answerer, uploads=uploads, local=local)
        config = uvicorn.Config(
            app,
            http=_Impatient,
            ws="none",
            log_level="critical",  # what fails is said by the gate
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=END_SECONDS,
        )
        _Server(config, ready).run(sockets=[listener])


class _Server(uvicorn.Server):  # type: ignore[misc]  # has type Any
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


class _Impatient(H11Protocol):  # type: ignore[misc]  # has type Any
    """Closes a connection that is silent, or sends its headers byte by byte."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._idle = False
        self._check = self.loop.call_later(SILENT_SECONDS, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._check.cancel()
        super().connection_lost(exc)

    def _close_if_idle(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._idle:
            self.transport.close()
            return
        self._idle = idle
        self._check = self.loop.call_later(SILENT_SECONDS, self._close_if_idle)
