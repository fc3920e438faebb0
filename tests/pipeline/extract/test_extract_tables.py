"""Groups, choices, further pictures and the metric of a data set reach the table of its split."""

from dataclasses import replace
from pathlib import Path

import pytest

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.runs.held_out import read_split
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from tests.support.extractions import OPTIONS, prefixes_of
from tests.support.frozen import BAD, Images, Source, Text, picture

ASKED = [
    VqaExample(1, "a", "ab", ("x",), groups={"modality": "CT"}, choices=("x", "y"), right_choice=0),
    VqaExample(2, "b", "abc", ("z",), groups={"organ": "lung"}, more_images=("a", 7)),
    VqaExample(3, 7, "xy", ()),
    VqaExample(4, "a", "xy", (), more_images=("bad",)),
]


def stored(cache: Path, asked: list[VqaExample], *bad: Id, metric: str | None) -> FeatureCache:
    ids = dict.fromkeys(image for one in asked for image in one.images)
    pictures = {image_id: picture(seed) for seed, image_id in enumerate(ids)}
    source = Source({"train": asked}, pictures | dict.fromkeys(bad, BAD))
    if metric:
        source.metric = metric  # type: ignore[attr-defined]
    plan = make_plan(source, splits=["train"], text=Text())
    extract(source, plan, cache=cache, images=Images(), text=Text(), **OPTIONS)
    return FeatureCache(cache)


def test_a_table_has_all_that_a_question_has(tmp_path: Path) -> None:
    cache = stored(tmp_path / "cache", ASKED, "bad", metric="vizwiz")
    table, ids = cache.split("train"), cache.image_ids()

    assert table.question_ids == [1, 2, 3]  # the second picture of 4 cannot be read
    assert [[ids[row] for row in rows] for rows in table.more_images] == [[], ["a", "7"], []]
    assert table.groups == {"modality": ["CT", "", ""], "organ": ["", "lung", ""]}
    assert table.choices == [("x", "y"), (), ()]
    assert table.right_choices == [0, -1, -1]
    texts = [[cache.questions.texts[row] for row in rows] for rows in table.choice_rows]
    assert texts == [["ab x", "ab y"], [], []]
    assert cache.manifest.prefix_rows == len(
        prefixes_of(*(text for one in ASKED for text in one.texts))
    )
    assert cache.split_record("train").metric == "vizwiz"
    assert cache.split_record("train").origin["without_picture"] == [[4, "bad"]]
    with pytest.raises(CacheError, match=r"split 'train': its questions are about 1 to 3 pictures"):
        read_split(cache, "train")
    with pytest.raises(CacheError, match="no split 'val' in this cache"):
        cache.split_record("val")


def test_what_no_question_has_takes_no_place(tmp_path: Path) -> None:
    plain = [replace(one, groups={}, choices=(), right_choice=None) for one in (ASKED[0], ASKED[2])]
    cache = stored(tmp_path / "cache", plain, metric=None)
    table = cache.split("train")

    assert (table.groups, table.choices, table.right_choices, table.more_images) == ({}, [], [], [])
    assert table.choice_rows == []
    assert cache.split_record("train").metric is None
    assert read_split(cache, "train").question_ids == [1, 3]
