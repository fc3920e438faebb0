"""A head on parts of a cache is asked through the encoders and layers that it reads alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.pipeline.ask.asker import Asker
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.evaluate.logits import load_logits
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support.command import run_command
from tests.support.encoders import save_dinov2
from tests.support.tiny_commands import at_home
from tests.support.trainings import CPU

SCENES = 3
HEADS: dict[str, tuple[tuple[object, ...], list[tuple[int, ...]], tuple[int, ...]]] = {
    "all": ((), [(-1, -2), (-1, -2)], (-1, -2)),
    "fused": (("--vision", "dino", "--vision", "tiny@1"), [(-2,), (-1, -2)], (-1, -2)),
    "one": (("--vision", "dino@-2", "--text-layer", "1"), [(-2,)], (-2,)),
}


@pytest.fixture(scope="module", params=["float16", "int8"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    with at_home(tmp_path_factory):
        place = tmp_path_factory.mktemp("asker")
        dino = save_dinov2(place / "dino", registers=1)
        done = run_command(
            "extract-features", "--cache", place / "cache", "--dataset", f"shapes:{SCENES}",
            "--split", "train", "--split", "val", "--image-size", 56, "--dtype", request.param,
            "--vision-model", "tiny", "--vision-model", dino, "--text-model", "tiny",
            "--vision-layer", -1, "--vision-layer", 1, "--text-layer", -1, "--text-layer", 1,
        )  # fmt: skip
        assert done.code == 0, done.err
        yield place


@pytest.mark.parametrize("name", HEADS)
def test_logits_are_those_of_evaluate(name: str, place: Path) -> None:
    words, layers, text_layers = HEADS[name]
    run = place / name
    training = ("--epochs", 1, "--width", 16, "--min-answer-count", 1, "--lr", 0.01, "--no-report")
    done = run_command("train-head", place / "cache", "--run", run, *training, *words)
    assert done.code == 0, done.err
    assert run_command("evaluate", run, "--save-logits").code == 0
    logits, ids, _ = load_logits(run / "evaluation" / "val" / "logits.safetensors")
    expected = dict(zip(ids, logits, strict=True))
    asker = Asker(load_run(run, CPU), CPU)
    encoders = getattr(asker.images, "each", (asker.images,))
    assert [encoder.layers for encoder in encoders] == layers  # and no other is loaded
    assert asker.words.layers == text_layers
    source = ShapesSource(images=SCENES)
    examples = source.examples("val")
    assert len(expected) == len(examples)
    for example in examples[::3]:
        found = asker.logits(load_rgb(source.picture(example.image_id)), [example.question])
        np.testing.assert_allclose(
            found[0].numpy(), expected[example.question_id], rtol=0, atol=2e-4
        )
