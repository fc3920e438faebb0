"""A GPU that decodes JPEGs as TorchCodec would: with pixels of its own, and errors of its own."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from frozen_vqa.pipeline.encoders.picture_files import nvjpeg
from frozen_vqa.pipeline.extract.models import open_encoders

GPU = "cpu"
"""What holds the tensors; streams are left out."""

BRIGHTER = 3
"""Grey levels that tell who has decoded."""


class FakeNvjpeg:
    """What stands for `torchcodec.decoders.decode_jpeg`; `fails` raises in its place."""

    def __init__(self) -> None:
        self.decoded: list[bytes] = []
        self.streams = 0
        self.fails: Callable[[bytes], str | None] = lambda data: None

    def __call__(self, data: bytes, *, mode: str, device: str) -> Tensor:
        assert (mode, device, self.streams > 0) == ("RGB", GPU, True)
        assert b"Exif\0\0" not in data
        if reason := self.fails(data):
            raise RuntimeError(reason)
        self.decoded.append(data)
        rgb = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        return torch.from_numpy(brighter(rgb)).permute(2, 0, 1).contiguous()

    @contextmanager
    def stream(self, gpu: str) -> Iterator[None]:
        assert gpu == GPU
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1


def brighter(pixels: np.ndarray) -> np.ndarray:
    """Return the pixels that the fake GPU gives in the place of these."""
    return np.asarray(np.minimum(pixels, 255 - BRIGHTER) + BRIGHTER)


def install(patch: pytest.MonkeyPatch, decode: Any = None) -> FakeNvjpeg:
    """Let TorchCodec be there, with a decoder."""
    fake = FakeNvjpeg()
    package, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    decoders.decode_jpeg = decode or fake  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "torchcodec", package)
    patch.setitem(sys.modules, "torchcodec.decoders", decoders)
    patch.setattr(nvjpeg, "_own_stream", fake.stream)
    return fake


def claim_a_gpu(patch: pytest.MonkeyPatch) -> FakeNvjpeg:
    """Let `--gpu-jpegs` find a GPU, too."""
    fake = install(patch)
    patch.setattr(open_encoders, "require_nvjpeg", lambda *given: GPU)
    return fake
