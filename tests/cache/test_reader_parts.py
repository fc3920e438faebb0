"""Some parts of the features are read as if there were no others, and checked as whole rows."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.cache import CacheDamagedError, CacheSpec, FeatureCache
from frozen_vqa.cache.format.parts import Part, spans
from frozen_vqa.cache.format.quantise import dequantise
from frozen_vqa.cache.memory import ResidentImages
from tests.support.caches import Made, Row, extent_of, make_cache, make_spec

DIMS, LAYERS = (3, 1, 4), (2, 5)
ROWS = np.array([2, 0, 2, 1])


def spec_of(dtype: str) -> CacheSpec:
    vision = [Part({"model": f"m{i}"}, dim) for i, dim in enumerate(DIMS)]
    text = [Part({"model": "t", "layer": -1 - i}, dim) for i, dim in enumerate(LAYERS)]
    return make_spec(
        vision=vision[0].settings, text=text[0].settings, vision_dim=sum(DIMS),
        text_dim=sum(LAYERS), more_vision=tuple(vision[1:]), more_text=tuple(text[1:]), dtype=dtype,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["float32", "int8"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place, spec = tmp_path_factory.mktemp("parts"), spec_of(request.param)
    return make_cache(place, {"val": [Row(i, i) for i in range(4)]}, spec=spec)


@given(st.sets(st.integers(0, 2), min_size=1), st.sets(st.integers(0, 1), min_size=1))
def test_a_pick_is_a_slice_of_all(made: Made, vision: set[int], text: set[int]) -> None:
    cache = FeatureCache(made.directory)
    parts, words = cache.spec.vision_parts, cache.spec.text_parts
    eyes, layers = sorted(vision), sorted(text)
    asked = "+".join(f"m{i}" for i in vision), "+".join(str(-1 - i) for i in text)
    pick = cache.pick(*asked)
    assert pick.spec == cache.spec.take(eyes, layers) or pick is cache
    expected = np.concatenate([made.patch_embeddings[..., spans(parts)[i]] for i in eyes], -1)
    for source in (pick, ResidentImages(pick)):
        shape = (len(ROWS), pick.spec.patches, pick.spec.vision_dim)
        out = np.zeros(shape, pick.spec.image_dtype)
        scales = np.zeros((len(ROWS), *pick.spec.scales), "f2") if pick.spec.quantised else None
        source.read_images(ROWS, out, scales)
        found = out if scales is None else dequantise(out, scales, pick.spec.vision_dims)
        np.testing.assert_array_equal(found, expected[ROWS])
    for i, states in enumerate(made.states):
        some = np.concatenate([states[:, spans(words)[layer]] for layer in layers], -1)
        np.testing.assert_array_equal(pick.questions.states(i), some)


def read(cache: FeatureCache, kind: str) -> None:
    if kind == "images":
        cache.read_images(np.array([0]), np.empty((1, 6, 3), "f4"))
    assert cache.questions


@pytest.mark.parametrize("channel", [0, 3])
def test_a_flipped_bit_in_any_part_of_a_row_is_refused(channel: int, tmp_path: Path) -> None:
    """Also in one that is not read: the digest is that of the row."""
    cache = make_cache(tmp_path, {"val": [Row(0, 0)]}, spec=spec_of("float32")).directory
    features = {"images": "patch_embeddings", "questions": "hidden_states"}
    for folder, feature in features.items():
        path = cache / folder / "00000.h5"
        whole, (offset, _) = path.read_bytes(), extent_of(path, feature)
        data = bytearray(whole)
        data[offset + 4 * channel] ^= 1
        path.write_bytes(data)
        pick = FeatureCache(cache).pick("m0", "-1")
        with pytest.raises(CacheDamagedError):
            read(pick, folder)
        path.write_bytes(whole)
