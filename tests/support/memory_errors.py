"""What python, numpy, torch and CUDA raise where memory does not suffice."""

from collections.abc import Callable

import numpy as np
import torch
from numpy._core._exceptions import _ArrayMemoryError  # type: ignore[attr-defined]

ERRORS: list[Callable[[], Exception]] = [
    MemoryError,
    lambda: _ArrayMemoryError((10**6, 10**6), np.dtype("float32")),
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a"),
    lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 400 bytes. Error code 12 (Cannot allocate memory)"
    ),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    lambda: RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronous"),
]
