"""Parts of a row are found by their names and layers, and cut where they lie."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.cache import CacheError
from frozen_vqa.cache.format.parts import Part, columns, find_parts, labels, spans
from frozen_vqa.cache.format.quantise import dequantise, quantise, quantise_parts

BASE, SIGLIP, OTHER = "facebook/dinov2-base", "google/siglip", "me/dinov2-base"
PARTS = [
    Part({"model": BASE, "layer": -5}, 4),
    Part({"model": BASE}, 4),
    Part({"model": SIGLIP}, 3),
]
DEPTHS = {BASE: 12}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", [0, 1, 2]),
        (" ", [0, 1, 2]),
        ("dinov2-base", [0, 1]),
        ("facebook/dinov2-base", [0, 1]),
        ("dinov2-base@-1", [1]),
        ("dinov2-base@12", [1]),
        ("dinov2-base@-5", [0]),
        ("dinov2-base@8", [0]),
        ("siglip", [2]),
        ("siglip@-1", [2]),
        ("siglip + dinov2-base@8", [0, 2]),
        ("siglip+siglip", [2]),
        ("-5", [0]),
        ("8", [0]),
    ],
)
def test_a_part_is_found_by_every_name_of_it(asked: str, found: list[int]) -> None:
    assert find_parts(asked, PARTS, DEPTHS, "here") == found


@pytest.mark.parametrize(
    "asked", ["dinov2", "siglip@8", "dinov2-base@7", "@", "siglip+", "13", "siglip@", "x@1e3"]
)
def test_what_is_no_part_is_refused_with_what_there_is(asked: str) -> None:
    there = "give one of dinov2-base@-5, dinov2-base@-1, siglip, or several joined by +"
    with pytest.raises(CacheError, match=rf"^here: there is no .* {re.escape(there)}$"):
        find_parts(asked, PARTS, DEPTHS, "here")


@pytest.mark.parametrize("asked", ["each", "each+siglip", "siglip+each"])
def test_each_part_beside_others_is_refused(asked: str) -> None:
    with pytest.raises(CacheError, match=r"'each' stands alone on the command line.*; give one of"):
        find_parts(asked, PARTS, DEPTHS, "here")


def test_a_short_name_of_two_models_is_refused() -> None:
    parts = [*PARTS, Part({"model": OTHER}, 2)]
    with pytest.raises(CacheError, match=f"'dinov2-base' is {BASE} and {OTHER}; give one of"):
        find_parts("dinov2-base", parts, {}, "here")
    assert find_parts(OTHER, parts, {}, "here") == [3]


def test_a_label_finds_its_part_alone() -> None:
    parts = [*PARTS, Part({"model": OTHER}, 2), Part({"model": "tiny", "layer": 0}, 2)]
    for number, label in enumerate(labels(parts)):
        assert find_parts(label, parts, {}, "here") == [number], label
    assert labels(PARTS[2:]) == ["siglip"]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_columns_are_those_of_the_chosen_parts(dims: list[int], data: st.DataObject) -> None:
    parts = [Part({}, dim) for dim in dims]
    chosen = sorted(data.draw(st.sets(st.integers(0, len(dims) - 1), min_size=1)))
    row = np.arange(sum(dims))
    expected = np.concatenate([row[at] for at in np.array(spans(parts))[chosen]])
    found = np.full(len(expected), -1)
    for to, at in columns(parts, chosen):
        found[to] = row[at]
    assert (found == expected).all()
    gaps = sum(b - a > 1 for a, b in pairwise(chosen))
    assert len(columns(parts, chosen)) == 1 + gaps  # neighbours are copied at once


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_each_part_is_quantised_as_if_it_were_alone(dims: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    each = [10.0**i * rng.standard_normal((2, 3, dim)).astype("f4") for i, dim in enumerate(dims)]
    integers, scales = quantise_parts(np.concatenate(each, -1), dims)
    alone = [quantise(one) for one in each]
    np.testing.assert_array_equal(integers, np.concatenate([one for one, _ in alone], -1))
    of_parts = scales.reshape(2, 3, len(dims))
    for i, (_, one) in enumerate(alone):
        np.testing.assert_array_equal(of_parts[..., i], one)
    np.testing.assert_array_equal(
        dequantise(integers, scales, dims), np.concatenate([dequantise(*one) for one in alone], -1)
    )
