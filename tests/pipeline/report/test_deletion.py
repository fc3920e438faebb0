"""The deletion test tells a head that rests on what it attends to from one that does not."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.format.spec import DTYPES
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.report.attention import see_split
from frozen_vqa.pipeline.report.deletion import (
    SHARES,
    Deletion,
    area_interval,
    choose_patches,
    delete_patches,
    probabilities_without,
    read_patches,
)
from frozen_vqa.pipeline.runs.run import load_run
from tests.support.caches import Made, Row, make_cache, make_spec
from tests.support.heads import make_run
from tests.support.resuming import CPU

GRID = (8, 8)
PICTURES = 90
ROWS = [Row(i, i % 4, ("red",)) for i in range(PICTURES)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Pictures of 64 patches, one of which stands out in the first feature."""
    features = np.random.default_rng(5).normal(0, 0.1, (PICTURES, 64, 5))
    features[np.arange(PICTURES), np.arange(PICTURES) % 64, 0] = 9
    where = tmp_path_factory.mktemp("deletion") / "cache"
    return make_cache(where, {"val": ROWS}, patch_embeddings=features, spec=make_spec(grid=GRID))


class LooksAtOnePatch(nn.Module):
    """Answers 0 with certainty as long as a patch stands out."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 2)

    def forward(self, patches: Tensor, *_: Tensor, **__: Tensor) -> Tensor:
        largest = patches[..., 0].amax(1)
        return torch.stack([4 * largest - 18, 18 - 4 * largest], 1)


class SeesTheMean(nn.Module):
    """Its answer rests on the mean of the patches alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 1)

    def forward(self, patches: Tensor, *_: Tensor, **__: Tensor) -> Tensor:
        return patches.mean((1, 2))[:, None] * 9


def test_patches_are_replaced_by_the_mean_patch(made: Made) -> None:
    """To replace all of them changes no mean, and to replace one does."""
    cache = FeatureCache(made.directory)
    gone = np.stack([np.zeros(64, bool), np.ones(64, bool), np.arange(64) == 3])
    model: Any = SeesTheMean()
    whole, every, one = probabilities_without(model, cache, cache.split("val"), 3, gone, 0)
    assert every == pytest.approx(whole, abs=1e-6)
    assert abs(one - whole) > 1e-3


def areas_of(model: nn.Module, made: Made, maps: Sequence[np.ndarray]) -> np.ndarray:
    cache = FeatureCache(made.directory)
    table, rows = cache.split("val"), list(range(PICTURES))
    tested = delete_patches(model, cache, table, rows, maps, [0] * PICTURES)  # type: ignore[arg-type]
    assert ((tested.most >= 0) & (tested.most <= 1)).all()
    return tested.areas()


def test_the_area_is_large_where_one_patch_decides(made: Made) -> None:
    right = np.zeros((PICTURES, 2, 64))
    right[np.arange(PICTURES), 0, np.arange(PICTURES) % 64] = 1  # the first head sees it
    right[:, 1] = 1 / 64  # the second looks everywhere alike
    areas = areas_of(LooksAtOnePatch(), made, list(right))
    assert areas.shape == (PICTURES, 3)
    average, first, second = areas.mean(0)
    assert average == first > 0.65
    assert abs(second) < 0.1
    mean, interval = area_interval(areas[:, 1], np.arange(PICTURES))
    assert mean == pytest.approx(100 * first)
    assert interval.bounds is not None
    assert 50 < interval.bounds[0] < mean < interval.bounds[1]


def test_the_area_is_zero_where_the_picture_is_ignored(made: Made, tmp_path: Path) -> None:
    model = make_run(made, tmp_path / "run")
    assert model.vision_projection is not None
    maps = [np.random.default_rng(i).dirichlet(np.ones(64), 2) for i in range(PICTURES)]
    assert np.abs(areas_of(model, made, maps)).max() > 1e-4  # this head does see it
    nn.init.zeros_(model.vision_projection.linear.weight)
    assert np.abs(areas_of(model, made, maps)).max() < 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole_picture_gives_the_answer_of_the_evaluation(tmp_path: Path, dtype: str) -> None:
    rows = [Row(i // 2, i % 5, ("red",)) for i in range(12)]
    made = make_cache(tmp_path / "cache", {"val": rows}, spec=make_spec(dtype=dtype))
    make_run(made, tmp_path / "run")
    run, cache = load_run(tmp_path / "run", CPU), FeatureCache(made.directory)
    table = cache.split("val")
    seen = see_split(run, cache, table, set(range(12)))
    maps = [seen.attended[row].question_map() for row in range(12)]
    tested = delete_patches(run.model, cache, table, range(12), maps, seen.classes[:, 0].tolist())
    assert tested.whole == pytest.approx(seen.probabilities[:, 0], abs=1e-6)
    assert read_patches(cache, 3).numpy() == pytest.approx(made.patch_embeddings[3], abs=1e-6)


@pytest.mark.parametrize("patches", [1, 6, 64, 257])
@pytest.mark.parametrize("ties", [False, True])
def test_what_goes_is_what_is_attended_most_or_least(patches: int, ties: bool) -> None:
    rng = np.random.default_rng(patches)
    maps = rng.dirichlet(np.ones(patches), 3)
    maps = maps.round(2) if ties else maps
    whole, *gone = choose_patches(maps, rng)
    assert not whole.any()
    counts = [max(1, round(share * patches)) for share in SHARES]
    assert [int(one.sum()) for one in gone] == counts * 7  # random, then three maps at both ends
    random, most, least = gone[:4], gone[4:16], gone[16:]
    for order in (random, most[:4], least[-4:]):
        assert all((few <= more).all() for few, more in pairwise(order))
    for i, weights in enumerate(maps):
        for j in range(4):
            kept, lost = most[4 * i + j], least[4 * i + j]
            assert weights[kept].min() >= weights[~kept].max(initial=0)
            assert weights[lost].max() <= weights[~lost].min(initial=1)


def test_the_area_by_hand() -> None:
    most = np.array([[[0.8, 0.6, 0.4, 0.2]]])
    random = np.array([[0.9, 0.9, 0.9, 0.9]])
    one = Deletion(np.array([0.9]), most, most, random)
    differences, edges = [0, 0.1, 0.3, 0.5, 0.7], [0, 0.05, 0.1, 0.2, 0.4]
    expected = sum(
        (edges[i + 1] - edges[i]) * (differences[i] + differences[i + 1]) / 2 for i in range(4)
    )
    assert one.areas() == pytest.approx(np.array([[expected / 0.4]]))


def test_equal_weights_go_in_random_order() -> None:
    """Or the corner of the picture would go first for a head that looks everywhere alike."""
    first = {
        int(choose_patches(np.full((1, 64), 1 / 64), np.random.default_rng(seed))[5].argmax())
        for seed in range(20)
    }
    assert len(first) > 5


def test_a_model_is_left_as_it_was(made: Made, tmp_path: Path) -> None:
    model: VqaModel = make_run(made, tmp_path / "run")
    areas_of(model, made, [np.ones((2, 64)) / 64] * PICTURES)
    assert all(layer.text_to_image.watch is None for layer in model.layers)
