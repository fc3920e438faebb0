"""What share of its device's arithmetic a training step reaches.

The peak is that of one large matrix product in the same process and type. What a step computes is
counted by PyTorch: the matrix products alone, each addition and each multiplication as one.
"""

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

SIZES = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the product: large enough for the peak, and done in about 50 ms."""
SECONDS = 1.0


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_of_products(device: torch.device, dtype: torch.dtype, seconds: float = SECONDS) -> float:
    """Return the operations a second of the fastest of several large products."""
    size = SIZES.get(device.type, SIZES["cpu"])
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    fastest, until = float("inf"), time.perf_counter() + seconds
    runs = 0
    while runs < 3 or time.perf_counter() < until:
        synchronize(device)
        began = time.perf_counter()
        one @ other
        synchronize(device)
        fastest = min(fastest, time.perf_counter() - began)
        runs += 1
    return 2 * size**3 / fastest


def operations_of(step: Callable[[], object]) -> int:
    """Return the operations of the matrix products that a call makes, gradients included."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())
