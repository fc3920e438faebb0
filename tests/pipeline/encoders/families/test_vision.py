"""Every type of picture model gives, in the cache too, what its formulas give in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.encoders.families.vision import VISION
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.example import VqaExample
from tests.support import encoders
from tests.support.extractions import cls_of
from tests.support.families import PATCH, SIDE, VISION_SIZES, Saved, drawn, expected, save_vision
from tests.support.frozen import Source, Text, picture
from tests.support.reference_parts import distance

_home = encoders._home  # a fixture that is in force in every test

SIZES: list[int | str] = [SIDE, 3 * PATCH, 6 * PATCH, f"{3 * PATCH}x{5 * PATCH}"]
"""Its own, a smaller one, a larger one, and one that is no square."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Saved]:
    folder = tmp_path_factory.mktemp("vision")
    return {kind: save_vision(folder / kind, kind) for kind in VISION}


@pytest.mark.parametrize("kind", VISION)
def test_patch_embeddings_are_those_of_the_formulas_at_every_size(
    saved: dict[str, Saved], kind: str
) -> None:
    model = saved[kind]
    for size in SIZES:
        encoder = ImageEncoder(str(model.folder), image_size=size)
        pixels = np.stack([encoder.pixels(drawn(seed)) for seed in range(2)])

        patches, cls = encoder.encode(pixels)

        assert pixels.shape[1:3] == encoder.sides
        assert patches.shape == (2, encoder.grid[0] * encoder.grid[1], encoder.dim)
        assert encoder.settings["image size"] == size
        for i in range(2):
            embeddings, whole = expected(model, pixels[i])
            assert distance(patches[i], embeddings) < 1e-5
            assert distance(cls[i], whole) < 1e-5


@pytest.mark.parametrize("kind", VISION)
def test_a_cache_gives_them_back(saved: dict[str, Saved], kind: str, tmp_path: Path) -> None:
    images: Any = ImageEncoder(str(saved[kind].folder), image_size=SIZES[-1])
    text: Any = Text()
    rows = [VqaExample(i, i, "what is it?", ()) for i in range(3)]
    source = Source({"val": rows}, {i: picture(i) for i in range(3)})
    plan = make_plan(source, splits=["val"], text=text)
    extract(source, plan, cache=tmp_path, images=images, text=text, dtype="float32", batch_size=2)

    cache = FeatureCache(tmp_path)

    assert cache.spec.grid == (3, 5)
    assert cache.spec.vision["image size"] == "24x40"
    patches = np.empty((3, 15, images.dim), np.float32)
    cache.read_images(np.arange(3), patches)
    for i in range(3):
        embeddings, cls = expected(saved[kind], images.pixels(load_rgb(picture(i))))
        assert distance(patches[i], embeddings) < 1e-5
        assert distance(cls_of(tmp_path, i), cls) < 1e-5


@pytest.mark.parametrize("kind", ["dinov2", "dinov3_vit", "vit", "siglip"])
def test_a_model_may_have_a_size_with_a_rest_that_it_does_not_see(
    kind: str, tmp_path: Path
) -> None:
    """As SigLIP of 384 pixels in patches of 14: no other size of that kind is taken."""
    model = save_vision(tmp_path, kind, VISION_SIZES | {"image_size": SIDE + 3})
    encoder = ImageEncoder(str(tmp_path))
    pixels = encoder.pixels(drawn(0))
    assert (encoder.sides, encoder.grid) == ((SIDE + 3, SIDE + 3), (4, 4))
    assert distance(encoder.encode(pixels[None])[0][0], expected(model, pixels)[0]) < 1e-5
    with pytest.raises(ModelError, match=r"image size 36 is not a multiple of .* patch size 8"):
        ImageEncoder(str(tmp_path), image_size=SIDE + 4)


@pytest.mark.parametrize("kind", [kind for kind in VISION if VISION[kind].part])
def test_only_the_part_of_pictures_is_loaded_and_counted(
    saved: dict[str, Saved], kind: str
) -> None:
    encoder = ImageEncoder(str(saved[kind].folder))

    numbers = sum(one.numel() for one in encoder.weights.parameters())

    assert encoder.checkpoint.count_weights(encoder.config) == numbers
    names = dict(encoder.weights.named_parameters())
    assert not any("text" in name or name.startswith("head") for name in names)
    for name, value in names.items():
        assert torch.equal(value.double(), saved[kind].weights[name])


def test_a_type_that_is_not_read_is_refused_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "swin"}')
    with pytest.raises(ModelError) as refused:
        ImageEncoder(str(tmp_path))
    assert str(refused.value) == (
        f"{tmp_path} is a 'swin' model; one of these types is needed: DINOv2 (dinov2, "
        f"dinov2_with_registers), DINOv3 (dinov3_vit), ViT (vit), CLIP (clip, clip_vision_model), "
        f"SigLIP (siglip, siglip_vision_model)"
    )
    (tmp_path / "config.json").write_text('{"model_type": "siglip2"}')
    with pytest.raises(ModelError, match=r"another number for each picture .* type siglip; take"):
        ImageEncoder(str(tmp_path))
