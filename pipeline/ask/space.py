"""A Space of the Hub that answers with a head: what it needs beside the files of the run.

Its `app.py` downloads the encoders and runs `frozen-vqa serve` on the folder that it lies in.
"""

import re
from pathlib import Path

import frozen_vqa
from frozen_vqa.cache.disk.files import read_file, write_atomically
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.encoders.checks.repository import recorded_commit
from frozen_vqa.pipeline.encoders.tiny import NAME as TINY
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.plugins import is_own
from frozen_vqa.pipeline.runs.card import CARD
from frozen_vqa.pipeline.runs.description import named_parts
from frozen_vqa.pipeline.runs.folder import LARGEST_TEXT
from frozen_vqa.pipeline.runs.run import Run
from frozen_vqa.pipeline.system.texts import to_json

GRADIO = "6.31.0"
"""The version that was tested; a Space names one."""

_ON_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)

_APP = '''"""Answers with the head in this folder, as `frozen-vqa serve` does."""

import sys
from pathlib import Path

from frozen_vqa.cli import main
from huggingface_hub import snapshot_download

for encoder, commit in {encoders}:
    snapshot_download(encoder, revision=commit, ignore_patterns=["*.bin", "*.pth", "original/*"])
folder = str(Path(__file__).parent)
sys.argv = ["frozen-vqa", "serve", folder, "--host", "0.0.0.0", "--port", "7860"]
main()
'''

_FRONT = """---
title: {title}
sdk: gradio
sdk_version: {gradio}
app_file: app.py
tags:
- visual-question-answering
---
"""


def encoders_of_space(run: Run) -> list[tuple[str, str | None]]:
    """Return the encoders that a Space downloads from the Hub, each with its commit.

    Raises `RunError` if it cannot get one, or the head is of the user's own code.
    """
    if is_own(run.config.fusion):
        raise RunError(
            f"{run.path}: a Space has no code of your own, and this head needs "
            f"{run.config.fusion}; write a Space that imports it yourself"
        )
    parts = named_parts(run.encoders).values()
    found = [(str(part.get("model")), recorded_commit(part.get("revision"))) for part in parts]
    for name, _ in found:
        if name != TINY and not _ON_HUB.fullmatch(name):
            raise RunError(
                f"{run.path}: a Space cannot load the encoder {name!r:.200}, which is not on the "
                f"Hub; push that first, and train from features of it"
            )
    return [one for one in dict.fromkeys(found) if one[0] != TINY]


def write_space(run: Run, folder: Path, title: str) -> None:
    """Write what a Space needs into the folder of a published run.

    Raises `RunError` as `encoders_of_space` does.
    """
    files = {
        "app.py": _APP.format(encoders=encoders_of_space(run)),
        "requirements.txt": f"frozen-vqa[serve]=={frozen_vqa.__version__}\n",
        CARD: _FRONT.format(title=to_json(title), gradio=GRADIO) + _body_of_card(folder),
    }
    for name, text in files.items():
        write_atomically(path_in(folder, name), text.encode())


def _body_of_card(folder: Path) -> str:
    """Return the card of a run without its head, which is that of a model."""
    try:
        card = read_file(folder / CARD, most=LARGEST_TEXT).decode()
    except FileNotFoundError:  # no training has ended
        return ""
    return re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
