"""`--gpu-jpegs` from the command line: recorded, kept, and asked about without a GPU."""

from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import FeatureCache, load_manifest
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import fit_rgb
from frozen_vqa.pipeline.encoders.reading import Reading, reading_of
from frozen_vqa.pipeline.extract.origin import rebuild_command
from tests.support.command import error_of, run_command
from tests.support.fake_nvjpeg import GPU, FakeNvjpeg, claim_a_gpu
from tests.support.pictures import noise


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeNvjpeg:
    return claim_a_gpu(monkeypatch)


def test_a_cache_of_a_gpus_jpegs_is_kept_apart_and_made_again(
    fake: FakeNvjpeg, tmp_path: Path
) -> None:
    (data := tmp_path / "data").mkdir()
    for name in ("a.jpg", "b.jpg", "c.png"):
        noise(70, 50).rotate(ord(name[0])).save(data / name)
    for count in (2, 3):
        rows = [f"{name},what?,lung" for name in ("a.jpg", "c.png", "b.jpg")[:count]]
        (data / "train.csv").write_text("\n".join(["image,question,answer", *rows, ""]))
        words = ["extract-features", "--dataset", f"jsonl:{data}", "--split", "train"]
        words += ["--vision-model", "tiny", "--text-model", "tiny", "--cache"]
        assert run_command(*words, tmp_path / "gpu", "--gpu-jpegs").code == 0
        if count == 2:
            assert len(fake.decoded) == 1  # the rest is Pillow's
    assert len(fake.decoded) >= 3  # one is compared with what is stored

    manifest = load_manifest(tmp_path / "gpu")
    assert manifest.spec.vision["jpeg decoder"] == "nvjpeg"
    assert reading_of(manifest.spec.vision) == Reading()  # what is asked may have no GPU
    encoder = ImageEncoder("tiny")
    cache = FeatureCache(tmp_path / "gpu")
    for row, name in enumerate(("a.jpg", "c.png", "b.jpg")):
        pixels = fit_rgb(data / name, encoder.pixels, Reading(gpu=GPU))
        patches, _ = encoder.encode(pixels[None])
        found = np.empty(patches.shape, np.float16)
        cache.read_images(np.array([row]), found)
        assert np.array_equal(found, patches.numpy().astype(np.float16))

    assert "vision jpeg decoder is 'nvjpeg'" in error_of(run_command(*words, tmp_path / "gpu"))
    again = rebuild_command(tmp_path / "gpu", manifest, "images/00000.h5").split()
    assert run_command(*again[1:], "--json").json()["rebuilt"][0]["same_bytes"]
