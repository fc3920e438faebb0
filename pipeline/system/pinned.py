"""Memory that a GPU reads and writes by itself, while the processor goes on."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pinned_empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return pinned memory, or ordinary memory where the system gives no more that is pinned.

    A container may allow little of it. Copies from ordinary memory are right too, but slower.
    """
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError:  # each version of torch has another class for it
        return torch.empty(shape, dtype=dtype)
