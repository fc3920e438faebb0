"""Heads that read two pictures a question: they learn what needs both, and which is which."""

from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.pipeline.ask.head import VqaHead
from frozen_vqa.pipeline.batches.dataset import FeatureDataset
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.evaluate import evaluate
from frozen_vqa.pipeline.evaluate.variants import assign_other_images
from frozen_vqa.pipeline.train.data import load_train_data
from tests.support.caches import PATCHES, VISION_DIM, Made, Row, make_cache
from tests.support.several import make_pairs
from tests.support.trainings import run_training, small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def run(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "head"
    run_training(made, path, epochs=6, lr=0.02)
    return path


def test_a_head_learns_what_needs_both_pictures_and_which_is_the_first(
    made: Made, run: Path
) -> None:
    """Without a mark on each picture, the third question would stay at about 75 %."""
    found = evaluate(run, split="val")
    assert found.accuracy is not None
    assert min(found.accuracy.by_answer_type.values()) > 90
    others = assign_other_images(FeatureCache(made.directory).split("val").picture_rows)
    shuffled = evaluate(run, split="val", variant="shuffled-images", image_rows=others)
    assert shuffled.accuracy is not None
    assert shuffled.accuracy.overall < 75


@pytest.mark.parametrize("fusion", ["concat", "image-only", "question-only", "text-to-image"])
def test_every_fusion_reads_pairs(fusion: str, made: Made, tmp_path: Path) -> None:
    run_training(made, tmp_path / "run", epochs=1, fusion=fusion)
    assert evaluate(tmp_path / "run").accuracy is not None


def test_an_item_of_a_data_set_has_the_patches_of_both(made: Made) -> None:
    data = FeatureDataset(made.directory, "val", min_answer_count=1)
    row = made.splits["val"][4]
    expected = made.patch_embeddings[[row.image, *row.more_images]].reshape(-1, VISION_DIM)
    np.testing.assert_array_equal(data[4].patch_embeddings, expected)
    (part,) = data.collate([data[i] for i in (0, 4, 1)]).parts
    assert part.patch_embeddings is not None
    assert part.patch_embeddings.shape == (4, 2 * PATCHES, VISION_DIM)
    np.testing.assert_array_equal(part.patch_embeddings[1], expected)


def test_what_a_head_of_pairs_cannot_do_is_one_sentence(run: Path, tmp_path: Path) -> None:
    head = VqaHead.from_pretrained(run)
    with pytest.raises(RunError, match=r"reads 2 pictures a question, but `ask` gives"):
        head.ask(np.zeros((8, 8, 3), np.uint8), "both?")
    one = make_cache(tmp_path, {"val": [Row(0, 0, ("a",))]})
    with pytest.raises(
        CacheError, match="pictures of each question: 1 in split 'val', and the head reads 2"
    ):
        evaluate(run, one.directory, "val")


def test_a_split_with_uneven_numbers_of_pictures_is_refused(tmp_path: Path) -> None:
    rows = [Row(0, 0, ("a",)), Row(1, 0, ("a",), more_images=(2,))]
    made = make_cache(tmp_path, {"train": rows, "val": rows[1:]})
    with pytest.raises(CacheError, match=r"split 'train': its questions are about 1 to 2 pictures"):
        load_train_data(made.directory, small())
    with pytest.raises(CacheError, match="1 to 2 pictures"):
        FeatureDataset(made.directory, "train", min_answer_count=1)


def test_both_splits_need_as_many_pictures(tmp_path: Path) -> None:
    pair = Row(1, 0, ("a",), more_images=(2,))
    made = make_cache(tmp_path, {"train": [pair], "val": [Row(0, 0, ("a",))]})
    with pytest.raises(CacheError, match="pictures of each question: 1 in split 'val'"):
        load_train_data(made.directory, small())


def test_pictures_of_one_question_are_never_held_out_alone(tmp_path: Path) -> None:
    """0-1-2 are linked by two questions, and 3-4 by one: no picture is on both sides."""
    pairs = [(0, 1), (2, 1), (3, 4), (4, 3)]
    rows = [Row(a, 0, ("a",), more_images=(b,)) for a, b in pairs]
    made = make_cache(tmp_path, {"train": rows})
    assert FeatureCache(made.directory).split("train").linked_rows.tolist() == [0, 0, 3, 3]
    data = load_train_data(made.directory, small(val_fraction=0.5))
    train, held = (set(split.all_image_rows.tolist()) for split in data.splits.values())
    assert not train & held
    assert train | held == {0, 1, 2, 3, 4}
