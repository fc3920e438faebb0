"""Rows of docs/bad-inputs.md: what stands in the way of decoding JPEGs on a GPU."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL.Image import Resampling

from frozen_vqa.pipeline.encoders.picture_files.nvjpeg import require_nvjpeg
from frozen_vqa.pipeline.encoders.preprocess import fit_rgb
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import ImageError, ModelError
from tests.support import fake_nvjpeg
from tests.support.bad_inputs import LEFT_OUT, REFUSED, STORED, Row
from tests.support.bad_options import EXTRACT, option
from tests.support.pictures import encoded, noise

TINY = "--vision-model tiny --text-model tiny --gpu-jpegs"
JPEG = encoded(noise(16, 16), "JPEG")


def unusable(error: Exception, resample: Resampling, _: Path) -> Row:
    def decode(*_: object, **__: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_nvjpeg, "GPU", "cuda:0")
        fake_nvjpeg.install(patch, decode)
        try:
            require_nvjpeg(torch.device("cuda:0"), resample, "MODEL")
        except ModelError as refused:
            return REFUSED, str(refused)
    return STORED, ""


def decoded(data: bytes, says: str | None, _: Path) -> Row:
    with pytest.MonkeyPatch.context() as patch:
        fake = fake_nvjpeg.install(patch)
        fake.fails = lambda data: says
        try:
            found = fit_rgb(data, np.array, Reading(gpu=fake_nvjpeg.GPU))
        except (ImageError, ModelError) as error:
            return LEFT_OUT if isinstance(error, ImageError) else REFUSED, str(error)
    pillow = np.array_equal(found, fit_rgb(data, np.array))
    return STORED, "Pillow decodes it" if pillow else "the GPU decodes it"


USUAL = Resampling.BICUBIC
GPU_JPEGS: dict[str, Callable[[Path], Row]] = {
    "`--gpu-jpegs` on a CPU": option(f"{EXTRACT} {TINY} --device cpu"),
    "with `--reduce-jpegs`": option(f"{EXTRACT} {TINY} --reduce-jpegs"),
    "with `--engine ray`": option(f"{EXTRACT} {TINY} --engine ray"),
    "without torchcodec": partial(unusable, ImportError("torchcodec"), USUAL),
    "torchcodec for CPUs": partial(
        unusable, RuntimeError("torchcodec was not compiled with nvJPEG support"), USUAL
    ),
    "torchcodec of another CUDA": partial(
        unusable, OSError("Could not load this library: libtorchcodec_image.so"), USUAL
    ),
    "a model that resizes with Lanczos": partial(unusable, OSError(), Resampling.LANCZOS),
    "a usual JPEG": partial(decoded, JPEG, None),
    "JPEG of grey": partial(decoded, encoded(noise(16, 16).convert("L"), "JPEG"), None),
    "JPEG that nvJPEG does not read": partial(decoded, JPEG, "nvjpegDecode failed: 4"),
    "JPEG without its end": partial(decoded, JPEG[:-40], None),
    "too little memory of the GPU": partial(decoded, JPEG, "nvjpegDecode failed: 5"),
}
