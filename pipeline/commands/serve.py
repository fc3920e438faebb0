"""The `serve` command: a page in the browser on which a trained head is asked."""

import importlib.util
from pathlib import Path

from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.runs.description import read_description
from frozen_vqa.pipeline.system.console import console, loading
from frozen_vqa.pipeline.system.device import choose_device


def serve_command(*, run: Path, host: str, port: int, device: str) -> None:
    """Load a head and its encoders, and answer until Ctrl-C."""
    read_description(run)
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError(
            'serve needs Gradio, which is not installed: pip install "frozen-vqa[serve]"'
        )
    with loading():
        from frozen_vqa.pipeline.ask.asker import Asker
        from frozen_vqa.pipeline.runs.run import load_run
        from frozen_vqa.pipeline.serve.answerer import Answerer
        from frozen_vqa.pipeline.serve.server import LOOPBACK, open_port, serve

    with open_port(host, port) as listener:
        chosen = choose_device(device)
        answerer = Answerer(Asker(load_run(run, chosen), chosen))
        address, number = listener.getsockname()[:2]

        def ready() -> None:
            shown = f"[{address}]" if ":" in address else address
            console.show(f"ready: http://{shown}:{number} (Ctrl-C ends it)")
            if address not in LOOPBACK:
                console.warn("--host lets everyone who reaches this port ask and upload pictures")

        serve(answerer, listener, ready=ready)
