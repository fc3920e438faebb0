"""A cache of several encoders and layers has the numbers of each of them alone."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozen_vqa.cache import CacheMismatchError, FeatureCache
from frozen_vqa.cache.convert import convert_shard, converted_spec, copy_splits, shards_left
from frozen_vqa.cache.memory import ResidentImages
from frozen_vqa.cache.writer import CacheWriter
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.decoder import PictureDecoder
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.models.several import ImageEncoders, for_each
from frozen_vqa.pipeline.extract.plan import make_plan
from tests.support.encoders import _home, save_dinov2, save_llama  # noqa: F401  (a fixture)
from tests.support.extractions import no_spot_checks, note_decoded, source_of  # noqa: F401
from tests.support.frozen import Images, SecondImages

SIZE, LARGER = 28, 56
VISION = {"plain": (-1, 1), "four": (-1, 1)}
TEXT = (-1, 1)
POOLS = {"float32": 1, "bfloat16": 2}
"""How patches are pooled, by the type that stores them."""

Wide = Callable[[str], FeatureCache]
"""A cache of all parts, by its type."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "plain": str(save_dinov2(folder / "plain")),
        "four": str(save_dinov2(folder / "four", registers=4, layers=3)),
        "llama": str(save_llama(folder / "llama")),
    }


def store(place: Path, vision: dict[str, Any], text: Any, models: Any, dtype: str) -> FeatureCache:
    """Extract some layers of encoders of pictures by name, and of the text encoder."""
    source = source_of("a")
    images = [
        ImageEncoder(models[n], layer=layers, image_size=SIZE) for n, layers in vision.items()
    ]
    words = TextEncoder(models["llama"], layer=text)
    plan = make_plan(source, splits=["train", "val"], text=words)
    how: dict[str, Any] = {"dtype": dtype, "pool": POOLS.get(dtype, 1), "batch_size": 3}
    extract(source, plan, cache=place, images=images, text=words, **how)
    return FeatureCache(place)


@pytest.fixture(scope="module")
def wide(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Wide:
    place = tmp_path_factory.mktemp("wide")
    return cache(lambda dtype: store(place / dtype, VISION, TEXT, models, dtype))


def read(cache: FeatureCache) -> list[np.ndarray]:
    """Everything that a head reads of a cache."""
    spec, rows = cache.spec, np.arange(cache.manifest.image_rows)
    out = np.zeros((len(rows), spec.patches, spec.vision_dim), spec.image_dtype)
    scales = np.zeros((len(rows), *spec.scales), np.float16) if spec.quantised else None
    cache.read_images(rows, out, scales)
    found = [out, cache.questions.hidden_states, cache.questions.path_rows]
    return found if scales is None else [*found, scales]


@pytest.mark.parametrize(
    "dtype", ["int8", *(pytest.param(name, marks=pytest.mark.slow) for name in POOLS)]
)
def test_each_part_is_that_of_a_cache_of_its_own(
    dtype: str, wide: Wide, models: dict[str, str], tmp_path: Path
) -> None:
    whole = wide(dtype)
    assert [part.dim for part in whole.spec.vision_parts] == [24] * 4
    pairs = [("plain", -1, -1), ("plain", 1, 1), ("four", -1, 1), ("four", 1, -1)]
    for number, (name, layer, words) in enumerate(pairs):
        alone = store(tmp_path / str(number), {name: layer}, words, models, dtype)
        label = f"{name}@{layer}"
        part = whole.pick(label, str(words))
        assert part.spec == alone.spec, label
        for found, expected in zip(read(part), read(alone), strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=label)
        memory = ResidentImages(part)
        assert memory.rows.shape[-1] == 24  # no other part is kept
        np.testing.assert_array_equal(memory.rows, read(alone)[0])
    fused = whole.pick("four@1+plain@-1")
    some = [read(whole.pick(name))[0] for name in ("plain@-1", "four@1")]
    np.testing.assert_array_equal(read(fused)[0], np.concatenate(some, -1))
    assert whole.pick("plain+four", "1+-1") is whole


def test_a_picture_is_decoded_once_for_all(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = note_decoded(monkeypatch)
    store(tmp_path, {"plain": -1, "four": (1, -1)}, -1, models, "float16")
    assert len(decoded) == len(set(decoded)) == 8
    one = PictureDecoder(source_of(), ImageEncoder(models["plain"], image_size=SIZE)).decode(7)
    stored = [*FeatureCache(tmp_path).manifest.images]
    assert stored
    again = ImageEncoders([ImageEncoder(models[n], image_size=SIZE) for n in ("plain", "four")])
    found = PictureDecoder(source_of(), again).decode(7)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.thumbnail, one.thumbnail)
    np.testing.assert_array_equal(again.shown(found.pixels), one.pixels)


def test_a_converted_cache_has_the_bytes_of_an_extraction(wide: Wide, tmp_path: Path) -> None:
    source = wide("float32")
    with CacheWriter(tmp_path, converted_spec(source, "int8")) as writer:
        for kind, record in shards_left(source, writer):
            convert_shard(source, writer, kind, record)
        copy_splits(source, writer)
    for found, expected in zip(read(FeatureCache(tmp_path)), read(wide("int8")), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_other_parts_than_those_of_the_cache_are_refused(
    wide: Wide, models: dict[str, str]
) -> None:
    for vision, text, named in [
        ({"plain": -1}, TEXT, r"plain@-1 and plain@-2 and four@-1 and four@-3 \(vision\), .*plain"),
        (VISION, -1, r"llama@-1 and llama@-3 \(text\), asked for llama\."),
        ({"four": (-1, 1), "plain": (-1, 1)}, TEXT, "vision model is .*plain', asked .*four'"),
    ]:
        with pytest.raises(CacheMismatchError, match=named):
            store(wide("float32").directory, vision, text, models, "float32")


def test_encoders_of_different_grids_are_refused_with_the_sizes_that_fit(
    models: dict[str, str],
) -> None:
    each = [ImageEncoder(models[n], image_size=s) for n, s in (("plain", SIZE), ("four", LARGER))]
    with pytest.raises(ModelError) as error:
        ImageEncoders(each)
    assert "2 x 2 patches from 28 pixels" in str(error.value)
    assert "4 x 4 patches from 56 pixels" in str(error.value)
    assert str(error.value).endswith(
        "give --image-size 28 --image-size 28, in the order of the models"
    )
    with pytest.raises(ModelError, match=r"plain is given twice; .* --vision-layer"):
        ImageEncoders([each[0], each[0]])


def test_a_jpeg_stays_large_enough_for_all_encoders() -> None:
    first, second = Images(), SecondImages()
    first.reading, second.reading = Reading((0, 9), 20), Reading((0, 9), 10)
    joined = ImageEncoders([first, second])  # type: ignore[list-item]
    assert joined.reading == first.reading == second.reading == Reading((0, 9), 20)


@pytest.mark.parametrize(
    ("layer", "words"), [(3, "goes from -3 to 2"), ((1, -2), "which is also 1"), (-4, "3 to 2")]
)
def test_a_layer_that_is_not_there_or_there_twice_is_refused(
    layer: Any, words: str, models: dict[str, str]
) -> None:
    with pytest.raises(ModelError, match=words):
        ImageEncoder(models["plain"], layer=layer)


def test_an_option_may_be_empty_for_some_models() -> None:
    assert for_each("--vision-revision", ["", "v2"], ["a", "b"]) == [None, "v2"]
    assert for_each("--vision-revision", [], ["a", "b"]) == [None, None]
    with pytest.raises(ModelError, match=r"An empty one \(--vision-revision ''\) leaves a model"):
        for_each("--vision-revision", ["v2"], ["a", "b"])
