"""Which pictures a GPU decodes, how it resizes them, and what becomes of its errors."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import Resampling

from frozen_vqa.pipeline.encoders.picture_files.nvjpeg import GpuPicture, require_nvjpeg
from frozen_vqa.pipeline.encoders.picture_files.upright import ORIENTATION
from frozen_vqa.pipeline.encoders.preprocess import fit_crop, fit_rgb, fit_whole, load_rgb
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import ImageError, ModelError
from tests.support.fake_nvjpeg import GPU, FakeNvjpeg, brighter, install
from tests.support.pictures import encoded, noise

ON_GPU = Reading(gpu=GPU)
CUDA = torch.device("cuda", 1)
EDGES = st.integers(2, 70)  # PyTorch 2.13 on a CPU resizes the rows of one column wrongly


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeNvjpeg:
    return install(monkeypatch)


def jpeg(mode: str = "RGB", turned: int = 1, *, jfif: bool = True, **options: Any) -> bytes:
    """A JPEG with EXIF, without the mark of JFIF if it is not wanted."""
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    data = encoded(noise(40, 24).convert(mode), "JPEG", exif=exif, **options)
    start = data.find(b"JFIF") - 4
    return data if jfif or start < 0 else data[:start] + data[start + 18 :]


def on_gpu(image: Image.Image) -> Any:
    return GpuPicture(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())


def fitted(data: bytes, reading: Reading) -> np.ndarray:
    return fit_rgb(data, np.array, reading)


KINDS = {
    str((mode, turned, jfif, progressive)): (
        jpeg(mode, turned, jfif=jfif, progressive=progressive),
        mode == "RGB" and turned == 1 and jfif,
    )
    for mode, turned, jfif, progressive in product(
        ("RGB", "L", "CMYK"), range(1, 9), (True, False), (True, False)
    )
}
OTHERS = {
    "something behind its end": (jpeg() + b"more", True),
    "another picture in its EXIF": (jpeg().replace(b"Exif\0\0", b"Exif\0\0\xff\xda\xff\xd9"), True),
    "several pictures": (
        encoded(noise(9, 9), "MPO", save_all=True, append_images=[noise(9, 9)]),
        0,
    ),
    **{form: (encoded(noise(40, 24), form), False) for form in ("PNG", "WEBP", "TIFF", "BMP")},
}


def test_the_file_alone_decides_who_decodes(fake: FakeNvjpeg) -> None:
    for name, (data, on_gpu) in {**KINDS, **OTHERS}.items():
        fake.decoded.clear()
        found, plain = fitted(data, ON_GPU), fitted(data, Reading())
        assert bool(fake.decoded) == on_gpu, name
        assert np.array_equal(found, brighter(plain) if on_gpu else plain), name


@pytest.mark.parametrize("left", [0.3, 0.9, 0.999])
def test_a_cut_picture_is_left_out_as_without_a_gpu(left: float, fake: FakeNvjpeg) -> None:
    data = jpeg()
    with pytest.raises(ImageError, match="truncated or damaged"):
        fitted(data[: int(left * len(data))], ON_GPU)
    assert fake.decoded == []


def test_a_picture_to_show_comes_from_pillow(fake: FakeNvjpeg) -> None:
    assert load_rgb(jpeg(), ON_GPU).tobytes() == load_rgb(jpeg()).tobytes()
    assert fake.decoded == []


@pytest.mark.parametrize(
    ("said", "of_the_picture"),
    [
        *((f"decode_images, DecodeJpegCuda.cpp:404, nvjpegDecode failed: {status}", True)
          for status in (3, 4, 10)),
        *((f"decode_images, DecodeJpegCuda.cpp:404, nvjpegDecode failed: {status}", False)
          for status in (1, 2, 5, 6, 7, 8, 9, 13)),
        ("allocate_output, DecodeJpegCuda.cpp:10, Unknown chroma subsampling", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("CUDA out of memory. Tried to allocate 20.00 MiB", False),
    ],
)  # fmt: skip
def test_a_picture_that_nvjpeg_does_not_read_is_pillows_and_other_errors_end_the_run(
    said: str, of_the_picture: bool, fake: FakeNvjpeg
) -> None:
    fake.fails = lambda data: said
    if of_the_picture:
        assert np.array_equal(fitted(jpeg(), ON_GPU), fitted(jpeg(), Reading()))
        return
    with pytest.raises(
        ModelError, match=r"smaller --batch-size .* leave out --gpu-jpegs$"
    ) as refused:
        fitted(jpeg(), ON_GPU)
    assert said in str(refused.value)
    assert fake.streams == 0


@settings(max_examples=30, deadline=None)
@given(EDGES, EDGES, EDGES, EDGES, st.sampled_from([Resampling.BILINEAR, Resampling.BICUBIC]))
def test_a_gpu_resizes_as_pillow_does(
    width: int, height: int, rows: int, columns: int, resample: Resampling
) -> None:
    """Both fits, larger and smaller, and with black where a picture ends."""
    image = noise(width, height).point(lambda value: 64 + value // 2)  # so that nothing is clipped
    twin = on_gpu(image)
    fits: list[Callable[[Any], np.ndarray]] = [
        partial(fit_whole, sides=(rows, columns), resample=resample),
        partial(fit_crop, size=rows, shortest_edge=columns, resample=resample),
        partial(fit_crop, size=rows, shortest_edge=None, resample=resample),
    ]
    for fit in fits:
        one, other = fit(image), fit(twin)
        assert one.shape == other.shape
        assert one.dtype == other.dtype == np.uint8
        assert np.abs(one.astype(int) - other).max() <= 2


def test_what_is_cut_out_and_strips_are_pillows_pixels() -> None:
    image = noise(2, 5000)
    twin = on_gpu(image)
    for size, edge in ((30, None), (16, 10_000)):  # black at both sides; too large to resize whole
        one, other = (
            fit_crop(this, size=size, shortest_edge=edge, resample=Resampling.BICUBIC)
            for this in (image, twin)
        )
        assert np.array_equal(one, other)


def missing(*_: Any, **__: Any) -> None:
    raise ImportError("torchcodec")


def for_cpus(*_: Any, **__: Any) -> None:
    raise RuntimeError("torchcodec was not compiled with nvJPEG support")


def of_another_cuda(*_: Any, **__: Any) -> None:
    raise OSError("Could not load this library: libtorchcodec_image.so")


@pytest.mark.parametrize(
    ("device", "resample", "decode", "said"),
    [
        (torch.device("cpu"), Resampling.BICUBIC, None, "the device is cpu; leave it out"),
        (torch.device("mps"), Resampling.BICUBIC, None, "the device is mps; leave it out"),
        (CUDA, Resampling.LANCZOS, None, "m resizes pictures with lanczos, and a GPU has bili"),
        (CUDA, Resampling.NEAREST, None, "m resizes pictures with nearest, and a GPU has bili"),
        (CUDA, Resampling.BICUBIC, missing, r"pip install 'frozen-vqa\[nvjpeg\]'"),
        (CUDA, Resampling.BICUBIC, for_cpus, r"on cuda:1 \(torchcodec was not compiled"),
        (CUDA, Resampling.BICUBIC, of_another_cuda, r"on cuda:1 \(Could not load this"),
    ],
)
def test_it_is_said_at_once_why_a_gpu_cannot_decode(
    device: torch.device,
    resample: Resampling,
    decode: Any,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = install(monkeypatch, decode)
    monkeypatch.setattr(fake, "stream", None)
    monkeypatch.setattr("tests.support.fake_nvjpeg.GPU", "cuda:1")
    with pytest.raises(ModelError, match=said):
        require_nvjpeg(device, resample, "m")


def test_a_gpu_that_decodes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.fake_nvjpeg.GPU", "cuda:1")
    fake = install(monkeypatch)
    assert require_nvjpeg(CUDA, Resampling.BILINEAR, "m") == "cuda:1"
    assert len(fake.decoded) == 1
