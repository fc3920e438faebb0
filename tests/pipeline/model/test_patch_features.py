"""What heads make of patch embeddings without their weights: once, and before the projection."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.format.quantise import quantise
from frozen_vqa.pipeline.batches.batch import BatchPart
from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.model import patch_features as patches
from frozen_vqa.pipeline.model.config import POOLINGS, ModelConfig
from frozen_vqa.pipeline.model.patch_features import Patches
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.predict import batch_logits
from tests.support.caches import GRID, TEXT_DIM, VISION_DIM, make_scenes, make_spec
from tests.support.heads import with_scores

IMAGES, SLOTS, TOKENS, PATCHES = 3, 2, 4, 6
CONFIG = ModelConfig(
    vision_dim=VISION_DIM, text_dim=TEXT_DIM, grid=GRID, answers=4, width=8, heads=2, dropout=0.5
)
AVERAGED: dict[str, dict[str, Any]] = {
    f"{fusion}, {pooling}, dropped {dropped}": {
        "fusion": fusion,
        "pooling": pooling,
        "feature_dropout": dropped,
    }
    for fusion in ("concat", "image-only")
    for pooling in POOLINGS
    for dropped in (0.0, 0.5)
}
KINDS: dict[str, dict[str, Any]] = {
    **AVERAGED,
    "co-attention": {"feature_dropout": 0.5},
    "text-to-image": {"fusion": "text-to-image"},
}


def make_head(seed: int = 0, **settings: Any) -> VqaModel:
    torch.manual_seed(seed)
    return with_scores(VqaModel(replace(CONFIG, **settings)))


def gradients(head: VqaModel, logits: Tensor) -> list[Tensor]:
    torch.manual_seed(9)
    return list(torch.autograd.grad((logits * torch.randn_like(logits)).sum(), head.parameters()))


@pytest.mark.parametrize("kind", AVERAGED.values(), ids=AVERAGED)
@pytest.mark.parametrize("int8", [False, True], ids=["float16", "int8"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
def test_averaged_before_the_projection_is_averaged_after_it(
    kind: dict, int8: bool, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same draws, an empty picture at the end, empty slots, and padded words."""
    head = make_head(**kind).double().train(training)
    torch.manual_seed(5)
    embeddings = torch.randn(IMAGES, PATCHES, VISION_DIM).half()
    embeddings[-1] = 0
    scales = None
    if int8:
        embeddings, scales = map(torch.from_numpy, quantise(embeddings.numpy()))
    states = torch.randn(IMAGES, SLOTS, TOKENS, TEXT_DIM)
    mask = torch.arange(TOKENS) < torch.tensor([[2, 4], [3, 0], [0, 0]])[..., None]

    def average_of_all(self: VqaModel, of: Patches) -> Tensor:
        assert self.vision_projection is not None
        assert self.patches_pooling is not None
        each = self.vision_projection(of.each(self.dtype)).unsqueeze(1)
        return self.patches_pooling.over_patches(each)(each)

    projected: list[torch.Size] = []
    assert head.vision_projection is not None
    head.vision_projection.linear.register_forward_hook(
        lambda _, x, __: projected.append(x[0].shape)
    )

    def result() -> list[Tensor]:
        torch.manual_seed(6)
        logits = head(embeddings, states, mask, scales)
        return [logits, *gradients(head, logits)]

    first = result()
    assert projected == [(IMAGES, 1, VISION_DIM)]  # one row a picture
    monkeypatch.setattr(VqaModel, "_project", average_of_all)
    for one, other in zip(first, result(), strict=True):
        assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("int8", [False, True], ids=["float16", "int8"])
def test_an_average_does_not_depend_on_how_many_are_made_at_a_time(
    int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, scales = torch.randn(7, PATCHES, VISION_DIM), None
    if int8:
        embeddings, scales = map(torch.from_numpy, quantise(embeddings.numpy()))
    exact = embeddings.double() * (1 if scales is None else scales.double()[..., None])
    expected = F.layer_norm(exact, (VISION_DIM,)).mean(1, keepdim=True)
    for pictures in (1, 3, 7, 100):
        monkeypatch.setattr(patches, "TOGETHER", pictures * PATCHES * VISION_DIM)
        got = Patches(embeddings, scales).average(torch.float64)
        assert_close(got, expected, atol=1e-12, rtol=0)


@pytest.fixture(scope="module", params=["float16", "bfloat16", "int8"])
def batch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BatchPart:
    folder: Path = tmp_path_factory.mktemp(request.param)
    made = make_scenes(folder, train=6, val=1, spec=make_spec(dtype=request.param))
    features = ResidentFeatures(FeatureCache(made.directory), device=torch.device("cpu"))
    split = features.cache.split("train")
    order = plan_batches(split.image_rows, batch_size=64, grouped=True, shuffle=None)
    (found,) = BatchReader(features, split).batches(order)
    (part,) = found.parts
    return part


def test_a_head_has_the_bits_that_it_has_alone(batch: BatchPart) -> None:
    """Whatever heads of any kind and precision have made of the batch before."""
    heads = [(make_head(i, **kind), kind) for i, kind in enumerate(KINDS.values())]
    # Each in bfloat16 after all have been in float32, and the other way round.
    turns = [torch.bfloat16, torch.float32, torch.bfloat16]

    def step(head: VqaModel, of: BatchPart, dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(8)
        logits = batch_logits(head, of, dtype)
        return [logits, *gradients(head, logits)]

    for dtype in turns:
        for head, kind in heads:
            together = step(head, batch, dtype)
            alone = step(head, replace(batch), dtype)  # has its own `patches`
            assert all(map(torch.equal, together, alone)), (kind, dtype)


def test_what_has_no_weights_is_made_once_a_batch(
    batch: BatchPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, ...]] = []
    real = patches.normalise

    def normalise(x: Tensor, parts: Sequence[int]) -> Tensor:
        made.append(x.shape)
        return real(x, parts)

    monkeypatch.setattr(patches, "normalise", normalise)
    fresh = replace(batch)
    for dtype in (torch.float32, torch.bfloat16):
        for kind in KINDS.values():
            batch_logits(make_head(**kind), fresh, dtype)
    # One average for both precisions, and each patch once for either.
    assert made == 3 * [(len(batch.image_rows), PATCHES, VISION_DIM)]
