"""Tensors and numpy arrays that share their memory, bfloat16 too, which numpy knows by its bits."""

import numpy as np
import torch
from torch import Tensor

from frozen_vqa.cache.format.bfloat16 import BFLOAT16


def as_tensor(array: np.ndarray) -> Tensor:
    """Return an array of a cache as a tensor of the same memory."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if array.dtype == BFLOAT16 else tensor


def as_array(tensor: Tensor) -> np.ndarray:
    """Return a tensor on the CPU as an array of the same memory."""
    bits = tensor.dtype == torch.bfloat16
    return (tensor.view(torch.uint16) if bits else tensor).numpy()


def torch_dtype(dtype: np.dtype) -> torch.dtype:
    """Return the dtype that `as_tensor` gives an array of a dtype."""
    return as_tensor(np.empty(0, dtype)).dtype
