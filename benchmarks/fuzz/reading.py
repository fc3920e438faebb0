"""What a reader of several steps returns of a file, as plain values that can be compared."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from frozen_vqa.cache import CacheError
from frozen_vqa.cache.format.finite import unusable_rows
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.metrics.score import score_files
from frozen_vqa.pipeline.report.figures import read_curve
from frozen_vqa.pipeline.runs.card import render_card
from frozen_vqa.pipeline.runs.environment import note_environment, parse_environments
from frozen_vqa.pipeline.runs.publish import read_published
from frozen_vqa.pipeline.runs.run import load_run, read_outcome
from frozen_vqa.pipeline.sources.open_source import open_source

CPU = torch.device("cpu")


def weights(run: Path) -> Any:
    """Load a run, and return what decides its answers."""
    found = load_run(run, CPU)
    return [found.config, found.dtype, found.vocabulary.answers, found.model.state_dict()]


def answered(run: Path) -> Any:
    """Return what the outcome and the card of a run say."""
    outcome = read_outcome(run)
    return [outcome, render_card(run, outcome) if outcome else ""]


def curve(run: Path) -> Any:
    """Return the epochs of a training, as a report draws them and as they go to others."""
    return [read_curve(run), read_published(run)["metrics.jsonl"]]


def environments(run: Path) -> Any:
    """Return what a run says of its machines, as it goes to others, and after one more."""
    given = parse_environments(read_published(run)["environment.json"])
    note_environment(run, CPU, {})
    return given


def examples(kind: str, path: Path) -> Any:
    """Return the questions of a data set, and what is left out."""
    source = open_source(f"{kind}:{path}")
    return [source.examples("train"), source.left_out("train")]


def sized(path: Path) -> Any:
    """Return the size of a picture."""
    return load_rgb(path).size


def encoded_picture(folder: Path) -> Any:
    """Return the features of a picture by a model of this folder."""
    encoder = ImageEncoder(str(folder), device=CPU)
    picture = Image.new("RGB", (40, 30), "red")
    with torch.inference_mode():
        return _storable(encoder.encode(np.asarray(encoder.pixels(picture))[np.newaxis]))


def encoded_text(folder: Path) -> Any:
    """Return the features of a question by a model of this folder."""
    encoder = TextEncoder(str(folder), device=CPU)
    with torch.inference_mode():
        return _storable(encoder.encode(encoder.tokens(["What colour is it?"])))


def _storable(features: Any) -> Any:
    """Return features that can be stored; raise `CacheError` for others, as a shard does."""
    parts = (features,) if isinstance(features, torch.Tensor) else features
    if any(len(unusable_rows(np.asarray(part))) for part in parts):
        raise CacheError("not finite, so their shard was not written")
    return features


def scored(data: Path) -> Any:
    """Return the official scores of predictions."""
    found = score_files(
        predictions=data / "results.json",
        annotations=data / "given.json",
        questions=None,
        metric=None,
    )
    return [found[0].to_json(), found[1]]
