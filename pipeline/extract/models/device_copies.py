"""Copies of features from where an encoder runs to their rows in memory."""

import numpy as np
import torch

from frozen_vqa.cache.memory import aligned_empty
from frozen_vqa.pipeline.system.pinned import pinned_empty
from frozen_vqa.pipeline.system.tensors import as_array, as_tensor, torch_dtype


class DeviceCopies:
    """Copies features from the encoder's device to their rows in memory.

    A GPU copies them in a stream of its own while it encodes the next batches; nothing waits for
    it before `wait`.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return memory for rows; it is pinned for a GPU, which reads and writes it by itself."""
        if self._stream is None:
            return aligned_empty(shape, dtype)
        return as_array(pinned_empty(shape, torch_dtype(dtype)))

    def start(self, features: torch.Tensor, rows: np.ndarray) -> None:
        """Begin to copy features to `rows`, in their dtype; `rows` is from `empty`."""
        target = as_tensor(rows)
        if self._stream is None:
            target.copy_(features)
            return
        features = features.to(target.dtype).contiguous()  # narrow, before it is copied
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            target.copy_(features, non_blocking=True)
        features.record_stream(self._stream)  # its memory is not reused before

    def wait(self) -> None:
        """Wait until all copies are done."""
        if self._stream is not None:
            self._stream.synchronize()
