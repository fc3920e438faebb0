"""The `doctor` command: what this machine has for both stages, and what mends what is missing."""

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from frozen_vqa.pipeline.system.console import console, loading, size
from frozen_vqa.pipeline.system.device import free_memory, usable_cores
from frozen_vqa.pipeline.system.disk import free_bytes

PACKAGE = "frozen-vqa"
HUB_SECONDS = 5.0
"""How long the Hub may take to answer about one model."""
LITTLE_DISK = 10e9
"""Bytes; both default models take 3 GB, and the features of 25,000 pictures another 10."""
FOR_DEVELOPERS = ("dev", "bench")
TORCH_ADVICE = "install the build that fits: https://pytorch.org/get-started/locally/"


MARKS = {"ok": "ok", "note": "note", "missing": "MISSING"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `mend` says what to do where it is not all right."""

    name: str
    state: Literal["ok", "note", "missing"]
    found: str
    mend: str = ""


def doctor_command(models: Sequence[str]) -> dict[str, Any]:
    """Look at the machine and at the access to `models`; "ready" is whether nothing is missing."""
    with loading():
        findings = [*_look_at_packages(), *_look_at_torch(), *_look_at_machine()]
    findings += [*_look_at_hub(), *_look_at_models(models), *_look_at_extras()]
    for one in findings:
        console.show(f"{MARKS[one.state]:<9}{one.name}: {one.found}")
        if one.mend:
            console.show(f"{'':9}{one.mend}")
    missing = [one.name for one in findings if one.state == "missing"]
    console.show(
        f"missing: {', '.join(missing)}" if missing else "nothing that is needed is missing"
    )
    return {"ready": not missing, "findings": [asdict(one) for one in findings]}


def _look_at_packages() -> Iterator[Finding]:
    yield Finding("Python", "ok", platform.python_version())
    needs = [name for name in _requirements() if "extra ==" not in name]
    wrong = [fault for need in needs if (fault := _fault(need))]
    if wrong:
        mend = f"python -m pip install --upgrade {PACKAGE}"
        yield Finding("packages", "missing", "; ".join(wrong), mend)
    elif needs:
        yield Finding("packages", "ok", f"all {len(needs)} that are needed")


def _requirements() -> Sequence[str]:
    try:
        return importlib.metadata.requires(PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return ()


def _fault(need: str) -> str:
    """Return why a requirement such as 'torch>=2.6' is not met, or ""."""
    name, _, least = need.split(";")[0].strip().partition(">=")
    try:
        there = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is not installed"
    numbers = [[int(n) for n in re.findall(r"\d+", text)[:3]] for text in (there, least)]
    return f"{name} is {there}, {least} is needed" if numbers[0] < numbers[1] else ""


def _look_at_torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of CUDA
        yield Finding("PyTorch", "missing", f"cannot be loaded ({error})", TORCH_ADVICE)
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    yield Finding("PyTorch", "ok", f"{torch.__version__}, {build}")
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        yield Finding(f"GPU {number}", "ok", f"{name}, {size(free)} of {size(total)} free")
    if torch.cuda.device_count():
        return
    if torch.backends.mps.is_available():
        yield Finding("GPU", "ok", "Apple MPS, with --device mps")
    elif shutil.which("nvidia-smi"):
        found = "there is a GPU of NVIDIA, but this PyTorch cannot use it"
        yield Finding("GPU", "note", found, TORCH_ADVICE)
    else:
        yield Finding("GPU", "note", "none; everything runs on the CPU, extraction slowly")


def _look_at_machine() -> Iterator[Finding]:
    memory = free_memory()
    free = "" if memory is None else f", {size(memory)} of memory free"
    yield Finding("CPU", "ok", f"{usable_cores()} cores{free}")
    from huggingface_hub import constants

    for name, folder, option in (
        ("disk here", Path.cwd(), "give --cache a folder on another disk"),
        ("disk of models", Path(constants.HF_HUB_CACHE), "export HF_HOME=/folder/on/another/disk"),
    ):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        if not os.access(there, os.W_OK):
            yield Finding(name, "missing", f"{folder} cannot be written to", option)
            continue
        room = free_bytes(folder)
        state: Literal["ok", "note"] = "ok" if room >= LITTLE_DISK else "note"
        mend = "" if state == "ok" else f"free some space, or {option}"
        yield Finding(name, state, f"{size(room)} free in {folder}", mend)


def _look_at_hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        mend = "unset HF_HUB_OFFLINE"
        yield Finding("Hub", "note", "offline mode is on: it is not asked", mend)
    if get_token():
        yield Finding("Hub login", "ok", "a token is stored")
    else:
        yield Finding("Hub login", "note", "no token; gated models need one", "hf auth login")


def _look_at_models(models: Sequence[str]) -> Iterator[Finding]:
    from huggingface_hub import constants

    asked = [model for model in models if not _is_here(model)]
    if asked and not constants.HF_HUB_OFFLINE:
        console.print(f"asking the Hub for {' and '.join(asked)}, {HUB_SECONDS:g} s at most each")
    for model in models:
        if model not in asked:
            yield Finding(model, "ok", "on this machine")
        elif constants.HF_HUB_OFFLINE:
            mend = f"unset HF_HUB_OFFLINE, then: hf download {model}"
            yield Finding(model, "missing", "not on this machine, and the Hub is not asked", mend)
        else:
            yield _ask_for(model)


def _is_here(model: str) -> bool:
    """Whether the local cache of the Hub has the configuration and weights of a model."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "config.json")
    return isinstance(found, str) and any(Path(found).parent.glob("*.safetensors"))


def _ask_for(model: str) -> Finding:
    """Ask the Hub for the head of one small file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(model, "config.json"), timeout=HUB_SECONDS)
    except GatedRepoError:
        mend = f"accept the licence at https://huggingface.co/{model}, then: hf auth login"
        return Finding(model, "missing", "gated, and this login has no access", mend)
    except RepositoryNotFoundError:
        return Finding(model, "missing", "the Hub shows no such model to you", "hf auth login")
    except Exception as error:  # the client raises its own, httpx's and the system's errors
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        mend = "check the network, or copy the model here and give its folder to extract-features"
        return Finding(model, "missing", f"the Hub cannot be asked ({reason})", mend)
    return Finding(model, "ok", "on the Hub, and open to you")


def _look_at_extras() -> Iterator[Finding]:
    every = _requirements()
    for extra in sorted({name for need in every for name in re.findall(r"extra == .(\w+)", need)}):
        if extra in FOR_DEVELOPERS:
            continue
        needs = [need for need in every if re.search(rf"extra == .{extra}\b", need)]
        wrong = [fault for need in needs if (fault := _fault(need))]
        mend = f"python -m pip install '{PACKAGE}[{extra}]'" if wrong else ""
        state: Literal["ok", "note"] = "note" if wrong else "ok"
        yield Finding(f"extra {extra}", state, "; ".join(wrong) or "installed", mend)
