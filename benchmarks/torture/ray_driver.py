"""The driver of one extraction on a Ray cluster, with encoders made of arithmetic.

    python -m benchmarks.torture.ray_driver CACHE ADDRESS

The torture starts it, and kills it.
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.extract.engines.engine import Engine
from frozen_vqa.pipeline.extract.engines.on_ray import ray_cluster
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.example import VqaExample
from tests.support.frozen import BAD, Images, Source, Text, picture

PICTURES, QUESTIONS = 180, 170
SLOW = 0.3
"""Seconds of each batch, so that there is something to kill."""


def open_slow(_: torch.device) -> tuple[Any, Any]:
    """Return both encoders; a real batch takes time, too."""
    return Images(partial(time.sleep, SLOW)), Text(partial(time.sleep, SLOW))


def run(cache: Path, engine: Engine | None = None, *, slow: bool = False) -> None:
    """Extract everything, or go on with it: about 100 chunks, two pictures that cannot be read."""
    pictures = {i: picture(i) for i in range(PICTURES)}
    pictures |= {PICTURES // 2: BAD, PICTURES - 5: BAD}
    pictures |= {PICTURES - 1: pictures[3], PICTURES - 9: pictures[4]}  # copies
    examples = [
        VqaExample(i, i % PICTURES, f"{i * 7919 % 1000:03d} {i % 7}", ("yes",))
        for i in range(max(PICTURES, QUESTIONS))
    ]
    source = Source({"train": examples[:QUESTIONS], "val": examples[QUESTIONS // 2 :]}, pictures)
    wait = partial(time.sleep, SLOW / 10 if slow else 0)
    images, text = Images(wait), Text(wait)
    extract(
        source,
        make_plan(source, splits=["train", "val"], text=text),
        cache=cache,
        images=images,
        text=text,
        dtype="float32",
        batch_size=2,
        shard_bytes=450,
        engine=engine,
    )


def main() -> None:
    """Connect to the cluster and extract."""
    try:
        with ray_cluster(sys.argv[2], "cpu") as cluster:
            run(Path(sys.argv[1]), Engine(cluster, open_slow))
    except PipelineError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
