"""A step on a GPU, with a fake one: where it computes, in which type, and that it never waits.

`test_trainer_gpu.py` runs these tests in a process of their own, because PyTorch asks which devices
there are before the first gradient of a process.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from frozen_vqa.pipeline.config import PRESETS
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.model.config import FUSIONS
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.predict import _best, batch_logits
from frozen_vqa.pipeline.train.optimizer import build_optimizer
from frozen_vqa.pipeline.train.trainer import Trainer
from tests.support.caches import Made
from tests.support.fake_gpu import NAME, batch_on, fake_gpu, head_on
from tests.support.trainings import make_trainer

KINDS = {
    **{fusion: {"fusion": fusion} for fusion in FUSIONS},
    **{f"preset {name}": {**preset, "width": 16, "heads": 2} for name, preset in PRESETS.items()},
    "gated, two layers": {"merge": "gated", "layers": 2, "ema": 0.9},
    "plain order": {"group_by_image": False, "feature_dropout": 0.1},
}


def put_on(device: torch.device, trainer: Trainer) -> None:
    """Let a trainer continue on a fake GPU, with weights that nobody knows."""
    head = head_on(device, trainer.model)
    assert isinstance(head, VqaModel)
    trainer.device = device
    trainer.loss = torch.zeros((), device=device)
    trainer.optimizer = build_optimizer(head, trainer.config)
    if trainer.average is not None:
        head_on(device, trainer.average.model)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_stays_on_the_gpu_and_can_be_repeated(
    kind: str, precision: str, scenes: Made
) -> None:
    """A read of a number raises in the step; so does an operand on another device."""
    trainer = make_trainer(scenes, **{"dropout": 0.1, **KINDS[kind], "precision": precision})
    batch = trainer.train_reader.read(trainer.begin(0)[0])
    part = batch.parts[0]
    with fake_gpu() as (device, seen):
        put_on(device, trainer)
        on_gpu = batch_on(device, batch)
        seen.results.clear()
        assert trainer.learn(on_gpu)
        assert seen.moved_to_the_cpu() == []
        moments = [x for of in trainer.optimizer.state.values() for x in of.values()]
        kept = [*trainer.model.parameters(), *moments, trainer.loss]
        assert {x.device.type for x in kept} == {NAME}
        assert {x.dtype for x in kept} == {torch.float32}
    assert seen.not_repeatable() == set()
    products = {one.dtype for one in seen.results if one.operation in ("mm", "addmm", "bmm")}
    assert products == {torch.float32, getattr(torch, precision)}  # the last one is the answers'
    if precision == "bfloat16" and part.patch_embeddings is not None:
        whole = part.patch_embeddings.shape
        single = [r for r in seen.results if r.dtype == torch.float32 and r.shape == whole]
        assert single == [], "a copy of all patches in single precision"


@pytest.mark.parametrize("kind", KINDS)
def test_answers_stay_on_the_gpu(kind: str, scenes: Made) -> None:
    trainer = make_trainer(scenes, **KINDS[kind])
    batch = trainer.train_reader.read(trainer.begin(0)[0])
    with fake_gpu() as (device, seen), torch.inference_mode():
        put_on(device, trainer)
        on_gpu = batch_on(device, batch)
        seen.results.clear()
        largest, classes = _best(batch_logits(trainer.scored.eval(), on_gpu))
        assert (largest.device, classes.device) == (device, device)
        assert (largest.dtype, classes.dtype) == (torch.float32, torch.int64)
    assert seen.moved_to_the_cpu() == []


def test_the_fake_gpu_notices(scenes: Made) -> None:
    """A tensor of a batch that is left behind, and a number that is read."""
    trainer = make_trainer(scenes)
    batch = trainer.train_reader.read(trainer.begin(0)[0])
    with fake_gpu() as (device, _):
        put_on(device, trainer)
        on_gpu = batch_on(device, batch)
        states = torch.empty_like(on_gpu.parts[0].hidden_states, device="cpu")
        left = replace(on_gpu.parts[0], hidden_states=states)
        with pytest.raises(RuntimeError, match="same device"):
            trainer.learn(replace(on_gpu, parts=[left]))
        with pytest.raises(RuntimeError):
            trainer.loss.item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_encoders_stay_on_the_gpu_until_their_features_are_copied(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stage one: each batch of pictures and questions, in the type that was chosen."""
    images = ImageEncoder("tiny", compute_dtype=dtype)
    text = TextEncoder("tiny", compute_dtype=dtype)
    pixels = np.zeros((3, images.image_size, images.image_size, 3), np.uint8)
    tokens = text.tokens(["is it red?"]) * 2
    encoders: list[ImageEncoder | TextEncoder] = [images, text]
    for one in encoders:
        assert one.weights is not None  # loaded before any number is fake
    with fake_gpu() as (device, seen):
        for one in encoders:
            head_on(device, one.weights)
            one.device = device
        # Numbers of Python and numpy, which a fake GPU cannot take.
        pixels_on_cpu = torch.empty(pixels.shape, dtype=torch.uint8)
        monkeypatch.setattr(torch, "from_numpy", lambda array: pixels_on_cpu)
        for name in ("tensor", "as_tensor"):
            monkeypatch.setattr(
                torch, name, lambda values, **how: torch.empty(np.shape(values), **how)
            )
        seen.results.clear()
        patches, cls = images.encode(pixels)
        states = text.encode(tokens)
    assert seen.moved_to_the_cpu() == []
    assert {(x.device, x.dtype) for x in (patches, cls, states)} == {(device, dtype)}
    assert patches.shape == (3, images.grid[0] * images.grid[1], images.dim)
    assert states.shape == (2, len(tokens[0]), text.dim)
