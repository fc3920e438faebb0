"""The environment of a training: versions, machine, revision of the code around it, and the cache.

RUN/environment.json is a list: the environment in which the training began, then each different one
in which it was resumed. It is meant for people; no command relies on it.
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from frozen_vqa import __version__
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.pipeline.runs.folder import ENVIRONMENT, explain_run_write_errors

PACKAGES = ("torch", "numpy", "h5py", "transformers", "datasets", "safetensors")
GIT_SECONDS = 2.0


def note_environment(run: Path, device: torch.device, cache: Mapping[str, Any]) -> None:
    """Add this process's environment to those of a run, unless the last is the same.

    `cache` is what `fingerprint_cache` returns. Raises `RunError` if the file cannot be written.
    """
    now = _describe_environment(device, cache)
    try:
        noted = json.loads((run / ENVIRONMENT).read_bytes())
    except (OSError, ValueError, RecursionError):
        noted = []
    noted = noted if isinstance(noted, list) else []
    if noted[-1:] != [now]:
        with explain_run_write_errors(run):
            text = json.dumps([*noted, now], indent=1, ensure_ascii=False)
            write_atomically(run / ENVIRONMENT, text.encode())


def _describe_environment(device: torch.device, cache: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values for JSON; an unknown value is None."""
    on_gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(),
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "cuda": torch.version.cuda if on_gpu else None,
        "threads": torch.get_num_threads(),
        "git": git_revision(Path.cwd()),
        "cache": dict(cache),
    }


@lru_cache(maxsize=1)
def _versions() -> dict[str, str | None]:
    """Return the version of this copy, and those that are installed, without importing them."""
    found = {"frozen-vqa": __version__, **dict.fromkeys(PACKAGES)}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@lru_cache(maxsize=1)
def git_revision(folder: Path) -> str | None:
    """Return the commit of a folder's checkout, with "-dirty" if files differ from it.

    None if there is none, or git is missing or takes longer than `GIT_SECONDS`.
    """
    try:
        found = subprocess.check_output(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # it writes nothing
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return found.strip() or None
