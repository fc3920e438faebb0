"""A split of which no picture is there fails, unless the cache has its pictures already."""

import json
from pathlib import Path

import pytest

from frozen_vqa.pipeline.errors import ConfigError, SourceError
from frozen_vqa.pipeline.extract.data_check import (
    check_data,
    require_pictures,
    splits_to_extract,
)
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan, read_questions
from frozen_vqa.pipeline.sources.own.source import OwnSource
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from tests.support.frozen import Images, Text, picture


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split, image in {"train": "a.png", "val": "gone.png"}.items():
        line = {"image": image, "question": "q?", "answer": "x"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(line))
    (tmp_path / "a.png").write_bytes(picture(0))
    return tmp_path


def check(data: Path, split: str, cache: Path | None) -> int:
    source = OwnSource(data)
    checks = check_data(source, read_questions(source, [split]))
    require_pictures(source, checks, cache)
    return checks[0].missing


def test_of_data_of_ones_own_all_splits_are_taken_and_of_other_data_those_that_are_named(
    data: Path,
) -> None:
    assert list(splits_to_extract(OwnSource(data), f"jsonl:{data}")) == ["train", "val"]
    with pytest.raises(ConfigError, match=r"^shapes: name .* by --split; it has train, val, test$"):
        splits_to_extract(ShapesSource(), "shapes")


def test_no_picture_of_a_split_is_a_failure_in_a_new_and_in_an_old_cache(data: Path) -> None:
    cache = data / "cache"
    source, text = OwnSource(data), Text()
    plan = make_plan(source, splits=["train"], text=text)
    for place in (None, cache):
        with pytest.raises(SourceError, match=r"none of the 1 pictures can be read"):
            check(data, "val", place)
    extract(source, plan, cache=cache, images=Images(), text=text, batch_size=2)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=r"none of the 1 pictures can be read"):
        check(data, "val", cache)
    assert check(data, "train", cache) == 0
    (data / "a.png").unlink()
    assert check(data, "train", cache) == 1  # it is stored, and needed no more


def test_pictures_are_looked_for_evenly(data: Path) -> None:
    lines = [{"image": f"{i}.png", "question": "q?"} for i in range(10)]
    (data / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = OwnSource(data)
    (found,) = check_data(source, read_questions(source, ["test"]), most=5, limit=8)
    assert (len(found.images), found.looked, found.missing, found.answered) == (8, 5, 5, 0)
    assert found.where == str(data / "0.png")
