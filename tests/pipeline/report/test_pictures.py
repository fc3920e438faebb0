"""Pictures of a report: those that were encoded, small, or a sentence that says why not."""

import base64
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.commands.extract_features import extract_command
from frozen_vqa.pipeline.encoders.image_encoder import Fit, ImageEncoder
from frozen_vqa.pipeline.extract.decoder import grey_thumbnail
from frozen_vqa.pipeline.report import pictures
from frozen_vqa.pipeline.report.pictures import _fitted, read_pictures
from tests.support.encoders import save_dinov2

SIZES = [(40, 90), (300, 200), (64, 64)]


@pytest.fixture(scope="module", params=["whole", "crop"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three pictures and its cache."""
    place = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    (place / "data").mkdir()
    lines = []
    for i, (width, height) in enumerate(SIZES):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        small.resize((width, height)).save(place / "data" / f"{i}.png")
        lines.append({"image": f"{i}.png", "question": "what is it?", "answer": "noise"})
    (place / "data" / "val.jsonl").write_text("\n".join(map(json.dumps, lines)))
    extract_command(
        dataset=f"jsonl:{place / 'data'}",
        splits=["val"],
        cache=place / "cache",
        vision_models=["tiny"],
        text_model="tiny",
        fit=request.param,
        window=None,
        reduce_jpegs=False,
        dtype="float16",
        columns={},
        pictures=None,
        annotations=None,
        batch_size=None,
        device="cpu",
        limit=None,
        rebuild=[],
        dry_run=False,
    )
    return place


@pytest.fixture
def place(original: Path) -> Path:
    """The data set as it was extracted, whatever an earlier test did to it."""
    if not (original / "kept").exists():
        shutil.copytree(original / "data", original / "kept")
    shutil.rmtree(original / "data")
    shutil.copytree(original / "kept", original / "data")
    return original


def found(place: Path) -> pictures.Pictures:
    cache = FeatureCache(place / "cache")
    return read_pictures(cache, "val", [2, 0, 1])


def test_pictures_are_shown_small(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SIDES", (128,))
    all_three = found(place)
    assert all_three.missing == ""
    assert list(all_three.uris) == [2, 0, 1]
    for row, uri in all_three.uris.items():
        assert uri.startswith("data:image/webp;base64,")
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
            assert max(image.size) <= 128
            if FeatureCache(place / "cache").spec.vision["fit"] == "whole":
                width, height = SIZES[row]
                assert image.width / image.height == pytest.approx(width / height, rel=0.03)


def test_another_picture_of_the_same_name_is_not_shown(place: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(place / "data/2.png")
    (place / "data/0.png").unlink()
    rest = found(place)
    assert list(rest.uris) == [1]
    assert rest.missing.startswith("Pictures that cannot be shown: 2. One is ")


def test_without_the_data_set_it_says_why(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 1)
    assert found(place).missing == "Pictures left out, so that this file stays small: 3."
    shutil.rmtree(place / "data")
    gone = found(place)
    (place / "data").mkdir()
    assert not gone.uris
    assert gone.missing == f"The pictures of jsonl:{place / 'data'} cannot be read here any more."


def test_the_hub_is_not_asked(place: Path) -> None:
    cache = FeatureCache(place / "cache")
    cache.manifest.splits["val"].origin["dataset"] = "hub:lmms-lab/VQAv2"  # type: ignore[index]
    assert "on the Hub, which a report never asks" in read_pictures(cache, "val", [0]).missing


def test_a_cache_says_neither_which_code_runs_nor_how_long(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "strange_code.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(place)
    for dataset, said in (("strange_code:Data", "a report never runs"), ("shapes:1000000", "many")):
        cache = FeatureCache(place / "cache")
        cache.manifest.splits["val"].origin["dataset"] = dataset  # type: ignore[index]
        assert said in read_pictures(cache, "val", [0]).missing
    assert "strange_code" not in sys.modules


@pytest.mark.parametrize(("fit", "size"), [("crop", 42), ("whole", 42), ("whole", "28x70")])
@pytest.mark.parametrize("edges", [(48, 42), (42, 42), (None, 42)])
def test_what_was_encoded_is_known_again_by_the_settings(
    fit: Fit, size: int | str, edges: tuple[int | None, int], tmp_path: Path
) -> None:
    """Whatever size it has, and however its processor resizes."""
    edge, square = edges
    folder = save_dinov2(tmp_path / "model")
    file = folder / "preprocessor_config.json"
    file.write_text(
        json.dumps(
            json.loads(file.read_text())
            | {
                "size": {"shortest_edge": edge} if edge else {"height": square, "width": square},
                "do_center_crop": edge is not None,
                "crop_size": {"height": square, "width": square},
            }
        )
    )
    encoder = ImageEncoder(str(folder), fit=fit, image_size=size)
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((90, 51))
    other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    stored = grey_thumbnail(encoder.pixels(image))

    assert _fitted(image.copy(), encoder.settings, stored, 64) is not None
    assert _fitted(other, encoder.settings, stored, 64) is None
