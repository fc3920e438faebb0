"""What the name of a model may be: a folder, or a repository of the Hub."""

import os
from pathlib import Path

from frozen_vqa.pipeline.errors import ModelError


def require_model_name(name: str) -> None:
    """Raise `ModelError` for a folder that is none, without any library and the Hub."""
    if os.path.isdir(name):
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise ModelError(
                f"{name} is not a complete model folder: config.json is missing; give the folder "
                f"that holds it beside the weights"
            )
    elif is_path(name):
        raise ModelError(
            f"{name}: there is no such folder, and it is not the name of a model on the Hub"
        )


def is_path(name: str) -> bool:
    """Return whether a name can only be that of a folder."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip()


def full_name(model: str) -> str:
    """Return a Hub name unchanged, and a folder as an absolute path, which survives any `cd`."""
    return str(Path(model).resolve()) if os.path.isdir(model) else model
