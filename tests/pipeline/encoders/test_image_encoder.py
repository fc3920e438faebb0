"""The frozen image encoder gives what transformers gives; and what holds for both encoders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from frozen_vqa.pipeline.encoders.checkpoint import quiet_transformers
from frozen_vqa.pipeline.encoders.image_encoder import Fit, ImageEncoder
from frozen_vqa.pipeline.encoders.reading import sides_of
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from tests.support import encoders
from tests.support.encoders import OWN_SIZE, PATCH, save_dinov2

# Fixtures; the first is in force in every test.
_home, dinov2, llama = encoders._home, encoders.dinov2, encoders.llama


def picture(width: int = 90, height: int = 61) -> Image.Image:
    values = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(encoder: ImageEncoder, *images: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    return encoder.encode(np.stack([encoder.pixels(image) for image in images]))


def through_transformers(folder: Path, image: Image.Image, **options: Any) -> torch.Tensor:
    """Return all tokens of one picture, without a line of our own."""
    with quiet_transformers(), torch.inference_mode():
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        return model(**processor(image, return_tensors="pt", **options)).last_hidden_state


KINDS = [("plain", 0), ("4 registers", 4), ("1 register", 1)]


@pytest.mark.parametrize(("kind", "registers"), KINDS)
@pytest.mark.parametrize("side", [None, 28, 84, "28x70"])
def test_patch_embeddings_of_the_whole_picture_are_those_of_transformers(
    dinov2: dict[str, Path], kind: str, registers: int, side: int | str | None
) -> None:
    """All but its own are sizes that the model was not made for: its positions are interpolated."""
    encoder = ImageEncoder(str(dinov2[kind]), image_size=side)
    height, width = sides_of(side or OWN_SIZE)
    direct = [
        through_transformers(
            dinov2[kind], image, do_center_crop=False, size={"height": height, "width": width}
        )[0]
        for image in (picture(), picture(40, 120))
    ]

    patches, cls = encoded(encoder, picture(), picture(40, 120))

    assert encoder.image_size == (side or OWN_SIZE)
    assert encoder.grid == (height // PATCH, width // PATCH)
    for i, tokens in enumerate(direct):
        torch.testing.assert_close(patches[i], tokens[1 + registers :], atol=1e-5, rtol=0)
        torch.testing.assert_close(cls[i], tokens[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [None, 84])
def test_crop_is_the_processors_own_resize_and_cut(
    dinov2: dict[str, Path], side: int | None
) -> None:
    folder, square = dinov2["plain"], side or OWN_SIZE
    own = {"shortest_edge": 64 * square // OWN_SIZE}
    options = {"size": own, "crop_size": {"height": square, "width": square}} if side else {}
    direct = through_transformers(folder, picture(), **options)

    patches, _ = encoded(ImageEncoder(str(folder), fit="crop", image_size=side), picture())
    whole, _ = encoded(ImageEncoder(str(folder), image_size=side), picture())

    torch.testing.assert_close(patches, direct[:, 1:], atol=1e-5, rtol=0)
    assert (whole - patches).abs().max() > 0.1  # so the comparison can tell them apart


def test_patches_come_in_rows_from_the_top_left(tmp_path: Path) -> None:
    """Without layers a patch embedding depends on its own pixels alone."""
    encoder = ImageEncoder(str(save_dinov2(tmp_path / "flat", layers=0)))
    black = np.zeros((1, OWN_SIZE, OWN_SIZE, 3), dtype=np.uint8)
    marked = black.copy()
    marked[0, 1 * PATCH : 2 * PATCH, 3 * PATCH : 4 * PATCH] = 255  # row 1, column 3

    before, after = encoder.encode(black)[0], encoder.encode(marked)[0]

    changed = (before != after).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [1 * 4 + 3]


@pytest.mark.parametrize(
    ("side", "near"),
    [(55, 56), (64, 70), (60, 56), (15, 14), (13, 14), (1, 14), (0, 14), (-14, 14)],
)
def test_a_size_between_patches_is_refused_with_the_nearest(
    dinov2: dict[str, Path], side: int, near: int
) -> None:
    match = (
        rf"image size {side} is not a multiple of .*/plain's patch size 14; .*--image-size {near}$"
    )
    with pytest.raises(ModelError, match=match):
        ImageEncoder(str(dinov2["plain"]), image_size=side)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("50x56", r"50x56 is not a multiple of .* patch size 14; use --image-size 56$"),
        ("56x50", r"56x50 is not a multiple of .* patch size 14; use --image-size 56$"),
        ("28x40", r"28x40 is not a multiple of .* patch size 14; use --image-size 28x42$"),
        ("0x28", r"0x28 is not a multiple of .* patch size 14; use --image-size 14x28$"),
        ("14x1806", r"14x1806 is 1 by 129 patches, the limit is 128 by 128; use a smaller"),
        (1806, r"1806 is 129 by 129 patches, the limit is 128 by 128; use a smaller"),
    ],
)
def test_each_side_is_a_multiple_of_patches_and_not_too_long(
    dinov2: dict[str, Path], size: int | str, said: str
) -> None:
    with pytest.raises(ModelError, match=f"^image size {said}"):
        ImageEncoder(str(dinov2["plain"]), image_size=size)
    assert ImageEncoder(str(dinov2["plain"]), image_size="14x1792").grid == (1, 128)


def test_a_cut_is_square(dinov2: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"^image size 28x42 is not square, .*; use --fit whole, "):
        ImageEncoder(str(dinov2["plain"]), image_size="28x42", fit="crop")
    encoder = ImageEncoder(str(dinov2["plain"]), image_size="28x28", fit="crop")
    assert encoder.settings["image size"] == 28


@pytest.mark.parametrize("keep", [{"size": {"height": 42, "width": 42}}, {}])
def test_a_processor_that_does_not_crop_still_has_a_size(
    tmp_path: Path, dinov2: dict[str, Path], keep: dict[str, Any]
) -> None:
    folder = save_dinov2(tmp_path / "model")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings |= {"crop_size": None, "do_center_crop": False, **keep}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))

    assert ImageEncoder(str(folder)).image_size == (42 if keep else OWN_SIZE)


@pytest.mark.parametrize("fit", ["whole", "crop"])
def test_pixels_are_uint8_of_the_models_size(dinov2: dict[str, Path], fit: Fit) -> None:
    """A white picture stays white whatever is done to it: nothing is filled in or cut short."""
    encoder = ImageEncoder(str(dinov2["plain"]), fit=fit, image_size=42)
    for size in ((90, 61), (5, 300), (42, 42)):
        pixels = encoder.pixels(Image.new("RGB", size, "white"))
        assert pixels.shape == (42, 42, 3)
        assert pixels.dtype == np.uint8
        assert (pixels == 255).all()


def test_settings_name_what_fixes_the_numbers(dinov2: dict[str, Path]) -> None:
    encoder = ImageEncoder(str(dinov2["plain"]), fit="crop", image_size=28)
    settings = encoder.settings
    assert settings.pop("revision").startswith("xxh3:")
    assert settings == {
        "model": str(dinov2["plain"]),
        "image size": 28,
        "fit": "crop",
        "compute dtype": "float32",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.25],
        "resample": 3,
    }


def test_two_folders_with_other_weights_have_other_revisions(dinov2: dict[str, Path]) -> None:
    revisions = {ImageEncoder(str(folder)).settings["revision"] for folder in dinov2.values()}
    assert len(revisions) == 3


@pytest.mark.parametrize("part", ["vision", "text"])
def test_weights_are_frozen_in_eval_mode_and_in_the_dtype_asked_for(
    tmp_path: Path, llama: dict[str, Path], part: str
) -> None:
    """A checkpoint stored in bfloat16 runs in float32 where that is asked for."""
    folder = save_dinov2(tmp_path / "half", dtype=torch.bfloat16) if part == "vision" else None
    encoder: Any = ImageEncoder(str(folder)) if folder else TextEncoder(str(llama["3"]))

    assert "weights" not in vars(encoder)  # nothing is loaded before the first batch
    assert not any(module.training for module in encoder.weights.modules())
    parameters = list(encoder.weights.parameters())
    assert len(parameters) > 10
    assert not any(parameter.requires_grad for parameter in parameters)
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    output = (
        encoded(encoder, picture())[0]
        if folder
        else encoder.encode(encoder.tokens(["Who is there?"]))
    )
    assert not output.requires_grad


def test_a_folder_is_known_by_its_absolute_path(
    dinov2: dict[str, Path], llama: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dinov2["plain"].parent)
    assert ImageEncoder("plain").name == str(dinov2["plain"])
    monkeypatch.chdir(llama["3"].parent)
    assert TextEncoder("./3").name == str(llama["3"])


def test_tiny_is_the_demo_encoder_even_beside_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ImageEncoder("tiny").name == "tiny"
    assert TextEncoder("tiny").name == "tiny"


@pytest.mark.parametrize("make", [ImageEncoder, TextEncoder])
def test_an_encoder_of_the_wrong_kind_is_refused(
    dinov2: dict[str, Path], llama: dict[str, Path], make: Callable[..., Any]
) -> None:
    folder = llama["3"] if make is ImageEncoder else dinov2["4 registers"]
    found = "llama" if make is ImageEncoder else "dinov2_with_registers"
    needed = "DINOv2 .* SigLIP" if make is ImageEncoder else "Llama .* ModernBERT"
    match = rf"{folder} is a '{found}' model; one of these types is needed: {needed} \([^()]*\)$"
    with pytest.raises(ModelError, match=match):
        make(str(folder))
