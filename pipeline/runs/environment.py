"""The environment of a training: versions, machine, revision of this code, and the cache.

RUN/environment.json is a list: the environment in which the training began, then each different one
in which it was resumed. It is meant for people; no command relies on it.
"""

import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import frozen_vqa
from frozen_vqa.cache.disk.files import read_file, write_atomically
from frozen_vqa.cache.typed_json import Json, decode, finite_json
from frozen_vqa.pipeline.runs.folder import ENVIRONMENT, LARGEST_TEXT, explain_run_write_errors
from frozen_vqa.pipeline.runs.sealed import json_bytes

PACKAGES = ("torch", "numpy", "h5py", "transformers", "datasets", "safetensors")
GIT_SECONDS = 2.0
OURS = Path(frozen_vqa.__file__).resolve().parent
"""Where this copy is installed. No program runs in any other folder, and none reads one's settings:
git runs what they say."""


@dataclass(frozen=True)
class Environment:
    """Where a part of a training ran; None where that is not known."""

    python: str
    platform: str
    packages: Mapping[str, str | None]
    device: str
    cuda: str | None
    threads: int
    git: str | None
    cache: Mapping[str, Json]


def parse_environments(data: bytes) -> list[Environment]:
    """Return what environment.json holds; raise `ValueError` or `TypeError` if it is no such."""
    return decode(list[Environment], finite_json(data))


def note_environment(run: Path, device: torch.device, cache: Mapping[str, Any]) -> None:
    """Add this process's environment to those of a run, unless the last is the same.

    `cache` is what `fingerprint_cache` returns. Raises `RunError` if the file cannot be written.
    """
    now = _describe_environment(device, cache)
    noted: list[Mapping[str, Any]] = []
    with suppress(OSError, ValueError, TypeError, RecursionError):
        data = read_file(run / ENVIRONMENT, most=LARGEST_TEXT, follow=False)
        noted = [asdict(one) for one in parse_environments(data)]
    if noted[-1:] != [now]:
        with explain_run_write_errors(run):
            write_atomically(run / ENVIRONMENT, json_bytes([*noted, now]))


def _describe_environment(device: torch.device, cache: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an `Environment`."""
    on_gpu = device.type == "cuda"
    found = Environment(
        python=platform.python_version(),
        platform=_platform(),
        packages=_versions(),
        device=torch.cuda.get_device_name(device) if on_gpu else device.type,
        cuda=torch.version.cuda if on_gpu else None,
        threads=torch.get_num_threads(),
        git=own_revision(),
        cache=dict(cache),
    )
    return asdict(found)


@lru_cache(maxsize=1)
def _versions() -> dict[str, str | None]:
    """Return the version of this copy, and those that are installed, without importing them."""
    found = {"frozen-vqa": frozen_vqa.__version__, **dict.fromkeys(PACKAGES)}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _platform() -> str:
    """Return what `platform.platform()` does, which starts a process to know the processor."""
    system = os.uname()
    libc = "".join(platform.libc_ver())
    parts = [system.sysname, system.release, system.machine, *(["with", libc] if libc else [])]
    return "-".join(parts)


@lru_cache(maxsize=1)
def own_revision() -> str | None:
    """Return the commit of our own checkout, with "-dirty" if files differ from it.

    None if this copy is installed from a package, or git is missing or takes longer than
    `GIT_SECONDS`.
    """
    if not (OURS / ".git").exists():
        return None
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        found = subprocess.check_output(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=OURS,
            env={**kept, "GIT_OPTIONAL_LOCKS": "0"},  # it writes nothing
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return found.strip() or None
