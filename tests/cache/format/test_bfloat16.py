"""bfloat16 by its bits: what torch rounds to, and what any h5py reads."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from frozen_vqa.cache import FeatureCache, load_manifest
from frozen_vqa.cache.format.bfloat16 import BFLOAT16, round_to_bfloat16, to_floats
from frozen_vqa.cache.format.finite import largest_by_row, unusable_rows
from frozen_vqa.cache.verify import verify
from frozen_vqa.pipeline.system.tensors import as_array, as_tensor, torch_dtype
from tests.support.caches import Row, make_cache, make_spec

EVERY = np.arange(1 << 16, dtype=np.uint32).astype(BFLOAT16)
NEAR = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
"""Lower halves of a float32: none, less than half a step, half of it, more."""


def by_torch(numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(numbers).to(torch.bfloat16)


def test_each_number_and_what_lies_beside_it_is_rounded_as_torch_does() -> None:
    numbers = ((EVERY.astype("<u4")[:, None] << 16) | NEAR).view("<f4")
    found, expected = round_to_bfloat16(numbers), by_torch(numbers)
    nan = np.isnan(numbers)
    assert np.array_equal(found[~nan], as_array(expected)[~nan])
    assert np.isnan(to_floats(found)[nan]).all()
    assert np.array_equal(to_floats(EVERY), as_tensor(EVERY).float().numpy(), equal_nan=True)
    assert as_array(as_tensor(EVERY)) is not EVERY
    assert np.shares_memory(as_array(as_tensor(EVERY)), EVERY)
    assert torch_dtype(BFLOAT16) == torch.bfloat16


@settings(max_examples=100, deadline=None)
@given(arrays_of.arrays(np.float32, (3, 5), elements=st.floats(width=32)))
def test_the_largest_of_a_row_is_that_of_its_floats(numbers: np.ndarray) -> None:
    bits = round_to_bfloat16(numbers)
    assert np.array_equal(largest_by_row(bits), largest_by_row(to_floats(bits)), equal_nan=True)
    assert np.array_equal(unusable_rows(bits), unusable_rows(to_floats(bits)))


def test_any_h5py_reads_floats_that_float16_cannot_hold(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3, 6, 5)).astype(np.float32) * np.float32(10) ** np.arange(
        -20, 10, 5
    ).reshape(6, 1)
    states = [features[0, :, :1].repeat(7, 1), features[1, :2, :1].repeat(7, 1)]
    made = make_cache(
        tmp_path, {"val": [Row(i, i % 2) for i in range(3)]},
        patch_embeddings=features, states=states, spec=make_spec(dtype="bfloat16"),
    )  # fmt: skip
    found = []
    for shard in sorted((tmp_path / "images").glob("*.h5")):
        with h5py.File(shard) as file:
            assert file["patch_embeddings"].dtype == np.float32
            assert file["patch_embeddings"].id.get_type().get_size() == 2
            found.append(file["patch_embeddings"][()])
    assert np.array_equal(np.concatenate(found), by_torch(features).float().numpy())
    assert np.array_equal(np.concatenate(found), made.patch_embeddings)
    questions = FeatureCache(tmp_path).questions
    for i, state in enumerate(states):
        assert questions.states(i).dtype == np.float32
        assert np.array_equal(questions.states(i), by_torch(state).float().numpy())
    assert not [bad for _, bad in verify(tmp_path, load_manifest(tmp_path)) if bad]


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_other_arrays_stay_what_they_are(dtype: str) -> None:
    array = np.arange(6, dtype=dtype)
    assert to_floats(array) is array
    assert as_array(as_tensor(array)).dtype == array.dtype
