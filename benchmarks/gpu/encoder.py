"""DINOv2-base on a device: as it is, compiled, and as CUDA graphs; and what a small batch costs.

    python -m benchmarks.gpu.encoder [--small]

Random weights, batches of 128. For each way: the seconds until the first batch is encoded, pictures
a second, the share of the device's peak, and how far patch embeddings are from those of the model
as it is (relative L2, and whether the bits are equal). The rate of each batch size says what a
rest of a few pictures costs. --small takes a tiny model, whose graph is traced but not compiled.
Prints one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Json
from benchmarks.models import SIZES, write_dinov2
from benchmarks.peak import operations_of, peak_of_products, synchronize
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.extract.models.precision import relative_distance
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import choose_device

BATCHES, FEW = (1, 4, 16, 32, 64, 128), (1, 2)
SECONDS, MOMENT = 3.0, 0.1
"""Of each measurement."""

WAYS: Mapping[str, dict[str, Any] | None] = {
    "as it is": None,
    "compiled": {},
    "CUDA graphs": {"mode": "reduce-overhead"},
}
"""What `torch.compile` is told; None does without."""
TRACED = {"backend": "eager"}
"""The same in miniature, where a compiler may be missing."""


def rate(encoder: ImageEncoder, pixels: np.ndarray, seconds: float) -> float:
    """Return the pictures a second of batches like this one."""
    synchronize(encoder.device)
    began, batches = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        for _ in range(4):  # the host runs ahead
            encoder.encode(pixels)
        synchronize(encoder.device)
        batches += 4
    return batches * len(pixels) / (time.perf_counter() - began)


def measure(folder: Path, *, small: bool) -> Json:
    """Return the figures of each way and of each batch size."""
    device, seconds = choose_device("auto"), MOMENT if small else SECONDS
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    model = str(write_dinov2(folder / "vision", SIZES["tiny" if small else "base"][0]))
    sizes = FEW if small else BATCHES
    pixels = np.random.default_rng(0).integers(0, 256, (sizes[-1], 224, 224, 3), np.uint8)
    peak, plain = peak_of_products(device, dtype), torch.empty(0)
    ways: Json = {}
    for way, options in WAYS.items():
        encoder = ImageEncoder(model, image_size=224, device=device, compute_dtype=dtype)
        if options is not None:
            torch._dynamo.reset()  # so that nothing of another way is used again
            encoder.weights.compile(**(TRACED if small else options))
        try:
            ways[way], features = measure_way(encoder, pixels, seconds)
        except RuntimeError as error:
            ways[way] = {"failed": str(error)[:500]}
            continue
        if options is None:
            plain = features
            operations = operations_of(lambda: encoder.encode(pixels)) / len(pixels)  # noqa: B023
            of_sizes = {size: rate(encoder, pixels[:size], seconds) for size in sizes}
        ways[way] |= {
            "share_of_peak": ways[way]["pictures_per_second"] * operations / peak,
            "relative_distance": relative_distance(features, plain),
            "same_bits": torch.equal(features, plain),
        }
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "batch_size": sizes[-1],
        "ways": ways,
        "pictures_per_second_by_batch_size": of_sizes,
    }


def measure_way(encoder: ImageEncoder, pixels: np.ndarray, seconds: float) -> tuple[Json, Tensor]:
    """Return the times of one way, and the patch embeddings of the batch."""
    began = time.perf_counter()
    features = encoder.encode(pixels)[0].cpu()
    first = time.perf_counter() - began
    encoder.encode(pixels), encoder.encode(pixels)  # a graph is recorded after a few
    return {"first_seconds": first, "pictures_per_second": rate(encoder, pixels, seconds)}, features


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="a tiny model, for a CPU too")
    options = parser.parse_args()
    console.quiet = True
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), small=options.small)))


if __name__ == "__main__":
    main()
