"""A window, and JPEGs not in full: in the cache, when it resumes, and when it is asked."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.cache import FeatureCache, load_manifest
from frozen_vqa.pipeline.ask.asked import ask_about, ask_from
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.encoders.reading import Reading, reading_of
from frozen_vqa.pipeline.encoders.tiny import IMAGE_SIZE as SIDE
from frozen_vqa.pipeline.extract.decoder import stored_thumbnails
from tests.support.command import error_of, run_command
from tests.support.pictures import noise

VALUES = np.random.default_rng(1).integers(0, 4096, (20, 30)).astype(np.uint16)
VALUES[0, 0] = 4095


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    Image.fromarray(VALUES).save(folder / "a.png")
    (folder / "train.csv").write_text("image,question,answer\na.png,what?,lung\n")
    return folder


def test_12_bits_in_16_are_named_until_a_window_is_given(data: Path) -> None:
    said = "hold values of 12 bits, up to 4,095 of 65,535, so they come out nearly black. Give "
    plain = run_command("check-data", f"jsonl:{data}", "--json")
    assert said + "--window 0 4095" in " ".join(plain.err.split())
    assert plain.json()["grey_bits"] == 12
    given = run_command("check-data", f"jsonl:{data}", "--window", 0, 4095, "--json")
    assert "nearly black" not in given.err
    assert given.json()["grey_bits"] is None
    Image.fromarray(VALUES * 16).save(data / "a.png")
    assert "nearly black" not in run_command("check-data", f"jsonl:{data}").err


def test_what_is_asked_is_seen_through_the_window_of_the_run(data: Path) -> None:
    right = np.asarray(load_rgb(data / "a.png", Reading((0, 4095))))
    window = Reading((0, 4095))
    asked = [*ask_about(data / "a.png", ["what?"], window), *ask_about(data, ["?"], window)]
    asked += ask_from(data / "train.csv", window)[0]
    assert len(asked) == 3
    for one in asked:
        assert np.array_equal(np.asarray(one.load()), right)


def test_a_cache_keeps_its_window(data: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = ["extract-features", "--dataset", f"jsonl:{data}", "--split", "train"]
    words += ["--cache", cache, "--vision-model", "tiny", "--text-model", "tiny"]
    assert run_command(*words, "--window", 0, 4095).code == 0
    manifest = load_manifest(cache)
    assert manifest.spec.vision["window"] == [0, 4095]
    grey = stored_thumbnails(cache, manifest, [0])
    assert abs(grey.mean() - VALUES.mean() * 255 / 4095) < 2  # and not a sixteenth of it
    assert "vision window is [0" in error_of(run_command(*words, "--window", 0, 4096))


def test_a_cache_of_reduced_jpegs_is_asked_alike(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()
    noise(400, 240).save(data / "a.jpg", quality=95)
    (data / "train.csv").write_text("image,question,answer\na.jpg,what?,lung\n")
    words = ["extract-features", "--dataset", f"jsonl:{data}", "--split", "train"]
    words += ["--vision-model", "tiny", "--text-model", "tiny", "--cache"]
    assert run_command(*words, tmp_path / "full").code == 0
    assert run_command(*words, tmp_path / "reduced", "--reduce-jpegs").code == 0
    stored = {}
    for name, side in ("full", None), ("reduced", SIDE):
        cache = FeatureCache(tmp_path / name)
        encoder = ImageEncoder("tiny")
        reading = reading_of(cache.spec.vision)
        assert reading == Reading(jpeg_side=side)
        patches, _ = encoder.encode(encoder.pixels(load_rgb(data / "a.jpg", reading))[None])
        stored[name] = np.empty(patches.shape, np.float16)
        cache.read_images(np.array([0]), stored[name])
        assert np.array_equal(stored[name], patches.numpy().astype(np.float16))
    assert not np.array_equal(stored["full"], stored["reduced"])
    assert f"vision jpeg side is {SIDE}" in error_of(run_command(*words, tmp_path / "reduced"))
