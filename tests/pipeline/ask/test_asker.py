"""New pictures and questions get the logits that `evaluate` has for them in the cache."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.ask.asker import Asker
from frozen_vqa.pipeline.ask.look import look
from frozen_vqa.pipeline.commands.convert_cache import convert_command
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.evaluate.logits import load_logits
from frozen_vqa.pipeline.model.config import Fusion
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support.command import run_command
from tests.support.tiny_commands import at_home, extract

SCENES = 8
CPU = torch.device("cpu")
HEADS = {str(kind): ("--fusion", kind) for kind in get_args(Fusion)} | {
    "basic": ("--preset", "basic"),
    "deep": ("--layers", 2),
    "plain order": ("--plain-order",),
}


CACHES: dict[str, tuple[str, int]] = {
    "float16": ("float16", 1),
    "bfloat16": ("bfloat16", 1),
    "pooled": ("float16", 2),
    "pooled int8": ("int8", 2),
}


@dataclass(frozen=True)
class Evaluated:
    """A run with the logits that `evaluate` saved, by question id."""

    run: Path
    logits: dict[object, np.ndarray]


NO_SQUARE = ("--image-size", "56x84")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with at_home(tmp_path_factory):
        place = tmp_path_factory.mktemp("asker")
        words = ("--dataset", f"shapes:{SCENES}", "--split", "train", "--split", "val")
        assert extract(place, *words, "--dtype", "float32", *NO_SQUARE).code == 0
        for name, (dtype, pool) in CACHES.items():
            convert_command(place / "cache", cache=place / name, dtype=dtype, pool=pool)
        yield place


@pytest.fixture(params=[*HEADS, *CACHES])
def evaluated(place: Path, request: pytest.FixtureRequest) -> Evaluated:
    name = request.param
    run, cache = place / f"run {name}", place / (name if name in CACHES else "float16")
    training = ("--epochs", 1, "--width", 16, "--min-answer-count", 1, "--lr", 0.01, "--no-report")
    words = ("--run", run, *training, *HEADS.get(name, ()))
    assert run_command("train-head", cache, *words).code == 0
    assert run_command("evaluate", run, "--save-logits").code == 0
    logits, ids, _ = load_logits(run / "evaluation" / "val" / "logits.safetensors")
    return Evaluated(run, dict(zip(ids, logits, strict=True)))


def test_logits_are_those_of_evaluate(evaluated: Evaluated, place: Path) -> None:
    """Asked together in another order, or alone: padding and neighbours change nothing."""
    source = ShapesSource(images=SCENES)
    examples = source.examples("val")
    asker = Asker(load_run(evaluated.run, CPU), CPU)
    rng = np.random.default_rng(0)
    assert FeatureCache(place / "cache").split("val").question_ids == list(evaluated.logits)
    for image in dict.fromkeys(example.image_id for example in examples):
        about = [example for example in examples if example.image_id == image]
        order = [about[i] for i in rng.permutation(len(about))]
        picture = load_rgb(source.picture(image))
        together = asker.logits(picture, [example.question for example in order])
        alone = asker.logits(picture, [order[0].question])
        expected = np.stack([evaluated.logits[example.question_id] for example in order])
        np.testing.assert_allclose(together.numpy(), expected, rtol=0, atol=1e-4)
        np.testing.assert_allclose(alone[0].numpy(), expected[0], rtol=0, atol=1e-4)
        for one in look(asker, picture, [order[0].question])[1]:
            assert one.question.shape[1:] == FeatureCache(asker.run.cache).spec.grid
    if evaluated.run.name != "run image-only":  # there is one picture
        assert np.ptp(list(evaluated.logits.values()), 0).max() > 0.01
