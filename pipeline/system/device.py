"""Where and in what to compute, and one habit of the C library that is worth changing."""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import torch

from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.system.machine import usable_cores

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""What the kernel calls it on x86 and ARM."""


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is this rank's GPU, or the CPU, "cuda" its GPU.

    Raises:
        ConfigError: if there is no such device.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name == "auto" or (name == "cuda" and torch.cuda.is_available()):
        rank = int(os.environ.get("LOCAL_RANK", "0"))  # torchrun: each rank its own GPU
        return torch.device("cuda", rank % torch.cuda.device_count())
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" can hold a tensor, but no number
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0][:200]}); "
            f"use --device cpu, cuda or auto"
        ) from error
    return device


def device_name(device: torch.device | str) -> str:
    """Return how a device is called: "cpu", or a GPU's number and model."""
    device = torch.device(device)
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def encoder_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 on a GPU that has it, else float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def training_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return in what matrices are multiplied in training: "auto" is bfloat16 where it is native.

    Measured on an AMD EPYC with avx512_bf16: twice the arithmetic of float32.
    """
    if precision == "float32":
        return torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = _cpu_has_bfloat16()
    return torch.bfloat16 if native or precision == "bfloat16" else torch.float32


@cache
def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 by itself; in emulation it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return not NATIVE_BFLOAT16.isdisjoint(flags)


def use_cores() -> None:
    """Let torch use as many threads as this process may keep busy.

    By itself it counts the machine's cores, of which a container may have few, and threads that
    share a core wait for each other in every operation.
    """
    if "OMP_NUM_THREADS" not in os.environ and usable_cores() < torch.get_num_threads():
        torch.set_num_threads(usable_cores())


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees, for the next step takes the same sizes again.

    By default each large tensor is mapped anew and its pages are cleared by the kernel: measured, a
    quarter of a training step on the CPU, and a seventh of DINOv2-small's forward in batches of 32.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
