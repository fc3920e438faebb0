"""Extraction beside the bare forward pass of its encoder: the same pictures in the same batches.

    python -m benchmarks.end_to_end.bare_encoder [--quick]

The encoder is DINOv2-small with random weights at 224 pixels; the pictures are JPEG files of
640 x 480. "bare" only calls the model on normalised batches in memory. "extraction" is all of
`extract`: it reads, decodes and resizes files, converts features to float16, digests them, builds
shards and syncs them to the disk, with one question for each picture. Both take turns in one
process, in an order drawn for each round. Prints one JSON object.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.generated import photograph
from benchmarks.harness import Json, median, rounds, spread
from benchmarks.models import DINOV2_SMALL, write_dinov2
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.system.console import console

SHARD_BATCHES = 2


def data_set(folder: Path, pictures: int) -> str:
    """Write pictures and a question about each; return how to name the data set."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = []
    for i in range(pictures):
        (folder / f"{i}.jpg").write_bytes(photograph(rng))
        line = {"image": f"{i}.jpg", "question": "what color is the sky?", "answer": "blue"}
        lines.append(json.dumps(line) + "\n")
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    return f"jsonl:{folder}"


def measure(folder: Path, pictures: int, batch: int, number: int) -> Json:
    """Run both in turns; return their rates and the ratio."""
    source = open_source(data_set(folder / "data", pictures))
    images = ImageEncoder(str(write_dinov2(folder / "vision", DINOV2_SMALL)), image_size=224)
    text = TextEncoder("tiny")
    plan = make_plan(source, splits=["train"], text=text)
    pixels = np.stack([images.pixels(load_rgb(source.picture(i))) for i in plan.images])
    normalised = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5
    row = (images.grid[0] * images.grid[1] + 1) * images.dim * 2
    size = pixels.nbytes / sum(path.stat().st_size for path in (folder / "data").glob("*.jpg"))
    assert size > 1, "these are no photographs"

    @torch.inference_mode()
    def bare(_: int) -> Json:
        started = time.perf_counter()
        for first in range(0, pictures, batch):
            images.weights(pixel_values=normalised[first : first + batch])
        return {"seconds": time.perf_counter() - started}

    def extraction(turn: int) -> Json:
        cache = folder / f"cache-{turn}"
        started = time.perf_counter()
        report = extract(
            source,
            plan,
            cache=cache,
            images=images,
            text=text,
            batch_size=batch,
            shard_bytes=SHARD_BATCHES * batch * row,
        )
        seconds = time.perf_counter() - started
        shutil.rmtree(cache)
        assert report.extraction is not None
        return {"seconds": seconds, **report.extraction.to_json()}

    console.quiet = True
    bare(0), extraction(-1)  # the first of all pays for loading
    found = rounds({"bare": bare, "extraction": extraction}, number)
    seconds = {name: [one["seconds"] for one in of] for name, of in found.items()}
    ratios = [a / b for a, b in zip(seconds["bare"], seconds["extraction"], strict=True)]
    parts = ("encoding", "waiting", "reading", "writing")
    return {
        "ratio": median(ratios),
        "ratio_spread": spread(ratios),
        "bare_images_per_second": pictures / median(seconds["bare"]),
        "extraction_images_per_second": pictures / median(seconds["extraction"]),
        **{part: median([one[part] for one in found["extraction"]]) for part in parts},
        "pictures": pictures,
        "batch_size": batch,
        "rounds": number,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="few pictures")
    options = parser.parse_args()
    pictures, batch, number = (16, 4, 3) if options.quick else (256, 32, 7)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), pictures, batch, number)))


if __name__ == "__main__":
    main()
