"""Questions with choices and several pictures: a batch gives the logits of the plain formulas."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from frozen_vqa.cache import CacheDamagedError, CacheWriter, FeatureCache
from frozen_vqa.cache.format.spec import DTYPES
from frozen_vqa.pipeline.batches.batch import NO_CHOICE
from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.batches.rows import Rows, same_pictures
from frozen_vqa.pipeline.model.config import FUSIONS, HeadSettings
from frozen_vqa.pipeline.model.reference import reference_twin, score_choices
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from tests.support.caches import (
    GRID,
    TEXT_DIM,
    VISION_DIM,
    Made,
    Row,
    make_cache,
    make_spec,
)

PICTURES, TEXTS = 5, 9
CPU = torch.device("cpu")


@st.composite
def splits(draw: st.DrawFn) -> list[Row]:
    """Up to 40 questions, each about equally many pictures, with one to four choices."""
    pictures = draw(st.integers(1, 3))
    image, text = st.integers(0, PICTURES - 1), st.integers(0, TEXTS - 1)
    several = st.lists(image, min_size=pictures, max_size=pictures)
    choices = st.lists(text, min_size=1, max_size=4)
    questions = draw(st.lists(st.tuples(several, text, choices), min_size=1, max_size=40))
    return [Row(i[0], q, choices=tuple(c), more_images=tuple(i[1:])) for i, q, c in questions]


def make_head(pictures: int, answers: int, fusion: str) -> VqaModel:
    torch.manual_seed(0)
    chosen = HeadSettings(fusion=fusion, width=8, heads=2)
    shapes = {"vision_dim": VISION_DIM, "text_dim": TEXT_DIM, "answers": answers}
    head = VqaModel(chosen.with_shapes(grid=GRID, pictures=pictures, **shapes)).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return head.eval()


@torch.no_grad()
def by_the_reference(made: Made, head: VqaModel, row: Row, *, choosing: bool) -> Tensor:
    """Return the logits of a question, from the features themselves."""
    pictures = made.patch_embeddings[[row.image, *row.more_images]].reshape(-1, VISION_DIM)
    texts = row.texts if choosing else (row.question,)
    states = [torch.from_numpy(made.states[text]).double() for text in texts]
    twin, patches = reference_twin(head), torch.from_numpy(pictures).double()
    if choosing:
        return score_choices(twin, patches, states)
    mask = torch.ones(1, len(states[0]), dtype=torch.bool)
    return twin(patches[None], states[0][None], mask)[0]


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    rows=splits(),
    choosing=st.booleans(),
    grouped=st.booleans(),
    fusion=st.sampled_from(FUSIONS),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 9),
)
def test_batches_give_the_logits_of_the_reference(
    rows: list[Row],
    choosing: bool,
    grouped: bool,
    fusion: str,
    dtype: str,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever else is in the batch: no padding and no neighbour changes a logit."""
    made = make_one(tmp_path_factory.mktemp("rows"), rows, dtype)
    cache = FeatureCache(made.directory)
    table = cache.split("val")
    answers = 1 if choosing else 3
    head = make_head(1 + len(rows[0].more_images), answers, fusion)
    reader = BatchReader(ResidentFeatures(cache, device=CPU), table, choosing=choosing)
    plan = plan_batches(same_pictures(table), batch_size=7, grouped=grouped, shuffle=(seed, 0))
    seen = []
    for batch in reader.batches(plan):
        with torch.no_grad():
            logits = batch.logits(head)
        for number, got in zip(batch.questions.tolist(), logits, strict=True):
            expected = by_the_reference(made, head, rows[number], choosing=choosing)
            assert_close(got[: len(expected)], expected, atol=1e-5, rtol=0)
            assert (got[len(expected) :] == NO_CHOICE).all()
            assert bool(len(got) > len(expected)) <= choosing
            seen.append(number)
    assert sorted(seen) == list(range(len(rows)))


def make_one(folder: Path, rows: list[Row], dtype: str) -> Made:
    last = Row(PICTURES - 1, TEXTS - 1)  # so that each cache has all pictures and texts
    spec = make_spec(dtype=dtype)
    return make_cache(folder, {"val": rows, "other": [last]}, spec=spec)


def test_questions_about_the_same_pictures_in_the_same_order_share_them(tmp_path: Path) -> None:
    pairs = [(0, 1), (1, 0), (0, 1), (0, 2), (1, 0)]
    made = make_cache(tmp_path, {"val": [Row(a, 0, more_images=(b,)) for a, b in pairs]})
    table = FeatureCache(made.directory).split("val")
    assert same_pictures(table).tolist() == [0, 2, 0, 1, 2]
    assert [
        sorted(entry.tolist())
        for entry in plan_batches(same_pictures(table), batch_size=9, grouped=True, shuffle=None)[0]
    ] == [[0, 2], [3], [1, 4]]


def test_one_picture_is_its_own_group(tmp_path: Path) -> None:
    """As in every cache so far, so that their batches stay the same."""
    made = make_cache(tmp_path, {"val": [Row(2, 0), Row(0, 1), Row(2, 1)]})
    table = FeatureCache(made.directory).split("val")
    assert same_pictures(table) is table.image_rows


def test_choices_find_their_questions_in_any_order() -> None:
    rows = Rows(np.zeros((5, 1), int), np.arange(5), np.array([0, 2, 3, 5]))
    assert [entry.tolist() for entry in rows.spread([np.array([2, 0]), np.array([1])])] == [
        [3, 4, 0, 1],
        [2],
    ]
    assert rows.most == 2
    found = rows.place(np.array([2, 4, 3, 0]), np.array([2, 0, 1]))
    assert found.tolist() == [[2, 0, 0, 1], [0, 1, 0, 0]]


def test_a_choice_beyond_the_texts_of_a_cache_is_damage(tmp_path: Path) -> None:
    make_cache(tmp_path, {"val": [Row(0, 1, choices=(0, 1), right=0)]})
    table = FeatureCache(tmp_path).split("val")
    with CacheWriter(tmp_path, make_spec()) as writer:
        writer.set_split("val", replace(table, choice_rows=[(0, 2)]), left_out=0, origin={})
    with pytest.raises(CacheDamagedError, match="points outside"):
        FeatureCache(tmp_path).split("val")
