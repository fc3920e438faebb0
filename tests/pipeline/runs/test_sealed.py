"""The bytes of a file of tensors are those that safetensors writes, with our record in them."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from frozen_vqa.pipeline.runs import sealed
from frozen_vqa.pipeline.runs.sealed import DTYPES, seal, seal_parts, tensors_digest

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TENSORS = st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(list(DTYPES))), max_size=6)


@given(TENSORS, st.dictionaries(NAMES, st.integers() | NAMES, max_size=2), st.integers(0, 40))
def test_a_file_is_what_safetensors_writes(
    described: dict[str, tuple[tuple[int, ...], str]], record: dict[str, object], together: int
) -> None:
    """In parts of any size, without a copy of a large tensor."""
    rng = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randint(0, 99, shape, generator=rng).to(getattr(torch, dtype))
        for name, (shape, dtype) in described.items()
    }
    sealed_record = {**record, "xxh3": tensors_digest(tensors, record)}
    theirs = save(tensors, {"run": json.dumps(sealed_record, sort_keys=True)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed, "TOGETHER", together)
        parts = seal_parts(tensors, record)
    assert b"".join(parts) == theirs == seal(tensors, record)
    assert all(len(one) + len(other) > together for one, other in pairwise(parts))
    places = {np.frombuffer(part, np.uint8).ctypes.data for part in parts}
    large = {tensor.data_ptr() for tensor in tensors.values() if tensor.nbytes > together}
    assert large <= places
