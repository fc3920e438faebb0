"""The device and precision of a computation, and the memory and cores that this process may use.

Limits of a container count. Source: the kernel's cgroup-v2 and cgroup-v1 documentation (memory.max,
cpu.max, cpu.cfs_quota_us).
"""

import ctypes
import difflib
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from frozen_vqa.pipeline.errors import ConfigError

if TYPE_CHECKING:
    import torch

DEVICES = ("cpu", "cuda", "mps")
Precision = Literal["auto", "float32", "bfloat16"]
NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""The kernel's names for it on x86 and ARM."""
PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def choose_device(name: str) -> "torch.device":
    """Return a device by its name: "cuda" is this rank's GPU, "auto" that or the CPU.

    Raises `ConfigError` if there is no such device.
    """
    import torch

    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name == "auto" or (name == "cuda" and torch.cuda.is_available()):
        rank = count_in_environment("LOCAL_RANK", 0)  # torchrun: each rank its own GPU
        return torch.device("cuda", rank % torch.cuda.device_count())
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" can hold a tensor, but not its numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(_unusable_device(name)) from error
    return device


def count_in_environment(name: str, default: int) -> int:
    """Return the whole number in an environment variable of `torchrun`, or raise `ConfigError`."""
    text = os.environ.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ConfigError(
            f"the environment variable {name} is {text!r}, and a whole number from 0 is needed; "
            f"start the command with torchrun, which sets it, or unset it"
        )
    return int(text)


def _unusable_device(name: str) -> str:
    """Return why a device cannot be used, and which can."""
    import torch

    kind, _, number = name.partition(":")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable = ["cpu", *(f"cuda:{i}" for i in range(gpus))]
    if kind == "cuda" and (not number or number.isdecimal()):
        found = f"this process sees {gpus} GPUs of CUDA."
    elif kind in DEVICES:
        found = f"there is no {name} here."
    else:
        close = difflib.get_close_matches(kind.lower(), DEVICES, n=1, cutoff=0.5)
        meant = "cuda" if kind.lower() in ("gpu", "nvidia") else close[0] if close else ""
        found = "there is no such device." + (f" Did you mean {meant}?" if meant else "")
    return (
        f"device {name!r} cannot be used: {found} Names are auto, cpu, cuda, cuda:N and mps; "
        f"usable here are auto, {', '.join(usable)}."
    )


def device_name(device: "torch.device | str") -> str:
    """Return the name of a device for people: "cpu", or a GPU's number and model."""
    import torch

    device = torch.device(device)
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def encoder_dtype(device: "torch.device") -> "torch.dtype":
    """Return bfloat16 on a GPU that multiplies it natively, else float32."""
    import torch

    native = device.type == "cuda" and _has_bfloat16(device)
    return torch.bfloat16 if native else torch.float32


def training_dtype(precision: Precision, device: "torch.device") -> "torch.dtype":
    """Return the dtype of matrix products in training: "auto" is bfloat16 where it is native.

    Measured on an AMD EPYC with avx512_bf16: twice the arithmetic of float32.
    """
    import torch

    if precision == "float32":
        return torch.float32
    native = _has_bfloat16(device)
    return torch.bfloat16 if native or precision == "bfloat16" else torch.float32


def _has_bfloat16(device: "torch.device") -> bool:
    """Whether a device multiplies bfloat16 natively.

    GPUs before Ampere, as T4 and V100, emulate it. They take float32 then: float16 would be faster
    there, but its range is that of numbers up to 65,504, and gradients need a scale that adapts.
    """
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):  # the question is about the current one
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has_bfloat16()


def generator_state(device: "torch.device") -> "torch.Tensor | None":
    """Return the state of a device's random generator, on the CPU; None if that is the CPU's."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None


def set_generator_state(device: "torch.device", state: "torch.Tensor") -> None:
    """Set what `generator_state` returned."""
    import torch

    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.mps.set_rng_state(state)


@contextmanager
def tensor_cores(device: "torch.device") -> Iterator[None]:
    """Let a GPU multiply float32 as TF32, which keeps ten bits of each factor's fraction.

    bfloat16 keeps seven, and full float32 takes several times as long. docs/log.md has the drift.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    try:
        yield
    finally:
        matmul.allow_tf32 = before


@contextmanager
def repeatable(device: "torch.device") -> Iterator[None]:
    """Let a GPU add in the same order each time, so that a resumed training ends the same.

    What has no such kernel, as may be in a fusion of the user's own, gets a warning of PyTorch.
    Products are those of `tensor_cores`.
    """
    import torch

    memory: Any = torch.utils.deterministic
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # it would write all memory twice
    try:
        with tensor_cores(device):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
        memory.fill_uninitialized_memory = filled


@cache
def _cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively; emulation is slower than float32."""
    return not NATIVE_BFLOAT16.isdisjoint(_words(PROC / "cpuinfo"))


def use_cores() -> None:
    """Let torch use as many threads as this process may keep busy.

    By default it counts the machine's cores, but a container may have only some of them. Threads
    that share a core wait for each other in every operation.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and usable_cores() < torch.get_num_threads():
        torch.set_num_threads(usable_cores())


def keep_freed_memory() -> None:
    """Let glibc keep the memory that a step frees, because the next step takes the same sizes.

    By default the kernel maps and clears new pages for each large tensor: measured, a quarter of a
    training step on the CPU, and a seventh of DINOv2-small's forward in batches of 32.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def give_back_memory(device: "torch.device") -> None:
    """Give what was freed back to the system, although `keep_freed_memory` would keep it."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform.startswith("linux") and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def free_memory() -> int | None:
    """Return the bytes that are free without swapping, or None where the system does not say."""
    found = list(_free_of_machine_and_groups())
    return max(0, min(found)) if found else None


def usable_cores() -> int:
    """Return the number of cores that this process may keep busy, at least one."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu"):
        quota = _words(group / "cpu.max")
        if not quota:
            quota = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0].isdecimal() and quota[1].isdecimal() and int(quota[1]):
            own = min(own, max(1, int(quota[0]) // int(quota[1])))
    return own


def _free_of_machine_and_groups() -> Iterator[int]:
    memory = _table(PROC / "meminfo")
    if "MemAvailable:" in memory:
        yield memory["MemAvailable:"] * 1024
    for group in _groups("memory"):
        for limit, used, inactive in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            numbers = _words(group / limit) + _words(group / used)
            if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
                # The kernel gives back pages of files that were not used lately.
                reclaimable = _table(group / "memory.stat").get(inactive, 0)
                yield int(numbers[0]) - int(numbers[1]) + reclaimable


def _groups(controller: str) -> Iterator[Path]:
    """Yield this process's control group and those above it, whose limits all hold."""
    for line in _lines(PROC / "self" / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUP / controller if controllers else CGROUP
        place = root / path.strip("/")
        # Inside a container the path may be that of the host; the container's root is its own.
        yield from (p for p in (place, *place.parents) if p == root or root in p.parents)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}
