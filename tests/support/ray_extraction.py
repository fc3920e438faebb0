"""An extraction with encoders made of arithmetic, on a cluster or in this process."""

from pathlib import Path
from typing import Any

import torch

from frozen_vqa.pipeline.extract.engines.crew import Cluster
from frozen_vqa.pipeline.extract.engines.engine import Engine
from frozen_vqa.pipeline.extract.extract import Report, extract
from frozen_vqa.pipeline.extract.plan import make_plan
from tests.support.frozen import Images, Source, Text, picture
from tests.support.ranks_worker import BAD, IMAGE_IDS, QUESTIONS


def open_both(_: torch.device) -> tuple[Any, Any]:
    """Return both encoders, on whatever device."""
    return Images(), Text()


def source() -> Source:
    """Pictures of which one cannot be read, and three are copies of others."""
    pictures = {image_id: picture(seed) for seed, image_id in enumerate(IMAGE_IDS)}
    copies = {"b": pictures[7], 13: pictures["b"], 14: pictures[4]}
    return Source(QUESTIONS, pictures | {BAD: b"no picture"} | copies)


def run(cache: Path, engine: Engine | None = None, **options: Any) -> Report:
    """Extract everything, or go on with it."""
    images, text = open_both(torch.device("cpu"))
    given = {"source": source(), "images": images, "text": text} | options
    plan = make_plan(given["source"], splits=list(QUESTIONS), text=given["text"])
    options = {"dtype": "float32", "batch_size": 2, "shard_bytes": 450} | given
    return extract(plan=plan, cache=cache, engine=engine, **options)


def run_on(cluster: Cluster, cache: Path, **options: Any) -> Report:
    """Extract on a cluster."""
    return run(cache, Engine(cluster, options.pop("open_both", open_both)), **options)
