"""JPEG decoders beside Pillow: the time for a picture, and how far its pixels are from Pillow's.

    python -m benchmarks.jpegs [--pictures 100] [--rounds 5] [--json] [--out FILE]

Pictures of 640 x 480 as a camera makes them. Every library that is installed decodes them, on one
thread: milliseconds of the processor for a picture, alone and to 224 pixels, which Pillow resizes.
On a GPU, what `--gpu-jpegs` does is a row, too, and stage one's threads read with it and without:
pictures a second, files in memory. Grey levels of 255 are compared for these pictures and for
other kinds of JPEG; those of PyTorch's resizing on a CPU, too.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling

from benchmarks.generated import photograph
from benchmarks.harness import Json, finish, machine, show
from frozen_vqa.pipeline.encoders.picture_files.nvjpeg import GpuPicture, require_nvjpeg
from frozen_vqa.pipeline.encoders.preprocess import fit_rgb, fit_whole
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.decoder import DECODERS
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import choose_device

Decoder = Callable[[bytes], np.ndarray | Image.Image]

SIDE = 224
FIT = partial(fit_whole, sides=(SIDE, SIDE), resample=Resampling.BICUBIC)


def by_pillow(data: bytes) -> Image.Image:
    """Decode as stage one does."""
    image = Image.open(BytesIO(data))
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def libraries() -> Iterator[tuple[str, Decoder]]:
    """Yield the decoders that are installed and can be loaded."""
    yield "Pillow", by_pillow
    with suppress(ImportError):
        import simplejpeg

        yield "simplejpeg", partial(simplejpeg.decode_jpeg, colorspace="RGB")
    with suppress(ImportError, OSError, RuntimeError):
        from torchcodec.decoders import decode_jpeg

        yield "TorchCodec, CPU", lambda data: decode_jpeg(data).permute(1, 2, 0).numpy()
    with suppress(ImportError, OSError, RuntimeError):
        from torchvision.io import ImageReadMode
        from torchvision.io import decode_jpeg as decode_by_vision

        def by_vision(data: bytes) -> np.ndarray:
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            found = decode_by_vision(encoded, mode=ImageReadMode.RGB)
            return np.asarray(found.permute(1, 2, 0).numpy())

        yield "torchvision, CPU", by_vision


def kinds() -> list[bytes]:
    """Return JPEGs of all usual kinds, of even and odd sizes."""
    rng, found = np.random.default_rng(0), []
    rough = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
    for size, mode, sampling, progressive, quality in product(
        ((320, 240), (317, 213)), ("RGB", "L"), (0, 1, 2), (False, True), (50, 90)
    ):
        file, image = BytesIO(), rough.resize(size, Resampling.BICUBIC).convert(mode)
        options = {} if mode == "L" else {"subsampling": sampling}
        image.save(file, "JPEG", quality=quality, progressive=progressive, **options)
        found.append(file.getvalue())
    return found


def difference(decode: Decoder, plain: Decoder, files: Sequence[bytes]) -> Json:
    """Return the mean and the largest difference of grey levels."""
    pairs = [(np.asarray(decode(data)), np.asarray(plain(data))) for data in files]
    every = [np.abs(one.astype(int) - other) for one, other in pairs]
    return {
        "mean difference": float(np.mean([one.mean() for one in every])),
        "largest": int(max(one.max() for one in every)),
    }


def milliseconds(decode: Decoder, files: Sequence[bytes], rounds: int) -> float:
    """Return the processor's time for a picture, the least of all rounds."""
    least = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for data in files:
            decode(data)
        least = min(least, time.process_time() - began)
    return 1000 * least / len(files)


def to_side(decode: Decoder, data: bytes) -> np.ndarray:
    """Decode a picture, and resize it as stage one does."""
    image = decode(data)
    return FIT(image if isinstance(image, Image.Image) else Image.fromarray(image))


def by_torch(data: bytes) -> np.ndarray:
    """Decode with Pillow, and resize as `--gpu-jpegs` does."""
    pixels = torch.from_numpy(np.array(by_pillow(data))).permute(2, 0, 1).contiguous()
    return FIT(cast(Image.Image, GpuPicture(pixels)))


def pictures_per_second(reading: Reading, files: Sequence[bytes], rounds: int) -> float:
    """Return how fast the threads of stage one read pictures; the first of all rounds warms up."""
    fastest = 0.0
    with ThreadPoolExecutor(DECODERS) as threads:
        for number in range(rounds + 1):
            began = time.perf_counter()
            list(threads.map(lambda data: fit_rgb(data, FIT, reading), files))
            rate = len(files) / (time.perf_counter() - began)
            fastest = max(fastest, rate if number else 0.0)
    return fastest


def measure(pictures: int, rounds: int) -> Json:
    """Return a row for each decoder, and the pictures a second of all threads."""
    rng = np.random.default_rng(0)
    files = [photograph(rng) for _ in range(pictures)]
    compared, rows = [*files[:20], *kinds()], {}
    for name, decode in libraries():
        rows[name] = {
            "decode, ms": milliseconds(decode, files, rounds),
            "to 224 pixels, ms": milliseconds(partial(to_side, decode), files, rounds),
            **difference(decode, by_pillow, compared),
        }
    resizing = difference(by_torch, partial(to_side, by_pillow), compared)
    plain, threads = Reading(), {}
    readings = {"Pillow": plain}
    with suppress(ModelError):
        gpu = require_nvjpeg(choose_device("auto"), Resampling.BICUBIC, "")
        readings["--gpu-jpegs"] = Reading(gpu=gpu)
    for name, reading in readings.items():
        fit = partial(fit_rgb, fit=FIT, reading=reading)
        threads[name] = {
            "pictures/s": pictures_per_second(reading, files, rounds),
            **difference(fit, partial(fit_rgb, fit=FIT, reading=plain), compared),
        }
    nbytes = sum(map(len, files)) / len(files)
    return {
        "bytes": nbytes,
        "decoders": rows,
        "resized by PyTorch": resizing,
        "threads": DECODERS,
        "reading": threads,
    }


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="write the JSON object here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"machine": machine(), **measure(options.pictures, options.rounds)}
    console.print("resized by PyTorch:", result["resized by PyTorch"])
    for title, part in (("one thread", "decoders"), (f"{DECODERS} threads", "reading")):
        show(title, [{"decoder": name, **row} for name, row in result[part].items()])
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
