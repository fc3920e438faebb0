"""The generated data set: the same from run to run, with clear pictures, in splits apart."""

import numpy as np
import pytest

from frozen_vqa.pipeline.errors import ConfigError, SourceError
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support import shapes_reader
from tests.support.shapes_reader import look, pixels

source = shapes_reader.source  # a fixture


def test_same_seed_gives_same_examples_and_pixels() -> None:
    first, second = ShapesSource(images=8, seed=5), ShapesSource(images=8, seed=5)

    for split in ("train", "val", "test"):
        assert first.examples(split) == second.examples(split)
    for image_id in {example.image_id for example in first.examples("train")}:
        assert first.picture(image_id).tobytes() == second.picture(image_id).tobytes()


def test_other_seed_gives_other_examples_and_pixels() -> None:
    first, second = ShapesSource(images=8, seed=5), ShapesSource(images=8, seed=6)
    image_id = first.examples("train")[0].image_id

    assert first.examples("train") != second.examples("train")
    assert first.picture(image_id).tobytes() != second.picture(image_id).tobytes()


@pytest.mark.parametrize("split", ["train", "val"])
def test_smaller_set_is_a_prefix_of_a_larger(split: str) -> None:
    small, large = ShapesSource(images=10), ShapesSource(images=20)
    few = small.examples(split)

    assert large.examples(split)[: len(few)] == few
    image_id = few[-1].image_id
    assert small.picture(image_id).tobytes() == large.picture(image_id).tobytes()


def test_objects_stand_clear_and_on_the_grid(source: ShapesSource) -> None:
    """Two to four regions, colors within the jitter, and sizes with nothing in between."""
    for image_id in range(2_000_000, 2_000_100):
        picture = source.picture(image_id)
        things = look(picture)

        assert (picture.size, picture.mode) == ((112, 112), "RGB")
        assert 2 <= len(things) <= 4
        assert len(things) == len(source.scene(image_id).things)
        assert all(thing.color_distance <= 9 for thing in things)
        assert all(13 <= thing.width <= 18 or 25 <= thing.width <= 33 for thing in things)
        assert pixels(picture)[0, 0].min() >= 230
        for thing in things:  # centred on the corner of four patches of 14 pixels
            assert (thing.x + 0.5) / 14 == pytest.approx(round((thing.x + 0.5) / 14), abs=0.05)
            assert (thing.y + 0.5) / 14 == pytest.approx(round((thing.y + 0.5) / 14), abs=0.05)


def test_size_scales_the_picture_but_not_the_questions() -> None:
    small, large = ShapesSource(images=3, size=112), ShapesSource(images=3, size=224)

    assert small.examples("train") == large.examples("train")
    assert large.picture(1_000_000).size == (224, 224)
    halved = pixels(large.picture(1_000_000).reduce(2))
    assert np.abs(halved - pixels(small.picture(1_000_000))).mean() < 1


def test_splits_share_no_picture_and_no_id(source: ShapesSource) -> None:
    ids: list[set] = []
    drawn: list[set] = []
    for split, length in (("train", 1600), ("val", 320), ("test", 320)):
        examples = source.examples(split)
        assert len({example.question_id for example in examples}) == len(examples)
        ids.append({example.image_id for example in examples})
        assert len(ids[-1]) == length
        drawn.append({source.picture(image_id).tobytes() for image_id in sorted(ids[-1])[:60]})

    assert len(set.union(*ids)) == 1600 + 320 + 320
    assert len(set.union(*drawn)) == 3 * 60


def test_every_question_can_be_used(source: ShapesSource) -> None:
    assert all(not source.left_out(split) for split in ("train", "val", "test"))


def test_unknown_split_names_the_splits_there_are() -> None:
    with pytest.raises(SourceError, match=r"no split 'dev'; there are train, val, test\. Choose"):
        ShapesSource(images=2).examples("dev")


@pytest.mark.parametrize("image_id", [0, 999_999, 1_000_002, 2_000_001, 4_000_000, "1000000"])
def test_unknown_picture_is_refused(image_id: int | str) -> None:
    with pytest.raises(SourceError, match=rf"no picture {image_id!r} among 2 train scenes and 1"):
        ShapesSource(images=2).picture(image_id)


def test_where_names_seed_split_and_index() -> None:
    assert ShapesSource(images=10, seed=4).where(2_000_001) == "shapes (seed 4), val scene 1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 0}, "images is 0, but must be 1 to 1000000"),
        ({"seed": -1}, "seed is -1, but must be 0 to"),
        ({"size": 8}, "size is 8, but must be 56 to 2048"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShapesSource(**values)
