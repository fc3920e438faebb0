"""A plan whose lists and dictionaries lie in files is the plan that lies in memory."""

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache import CacheSpec, Manifest
from frozen_vqa.pipeline.extract.chunks import find_missing_work
from frozen_vqa.pipeline.extract.origin import describe_origin
from frozen_vqa.pipeline.extract.plan import (
    make_plan,
    merge_same_pictures,
    split_table,
    with_pictures,
)
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from tests.support.extractions import run
from tests.support.frozen import Source, Text, files, picture
from tests.support.large import in_files

SPEC = CacheSpec({"model": "none"}, {"model": "none"}, (1, 1), 4, 4)
IDS: list[Id] = [7, "7", "a", "b", 3]
texts = st.text("ab ", max_size=3)
asked = st.builds(
    VqaExample,
    st.integers() | texts,
    st.sampled_from(IDS),
    texts,
    st.lists(texts, max_size=3).map(tuple),
    texts,
    texts,
    groups=st.dictionaries(texts, texts, max_size=2),
    choices=st.lists(texts, max_size=2).map(tuple),
    right_choice=st.none() | st.integers(0, 1),
    more_images=st.lists(st.sampled_from(IDS), max_size=2).map(tuple),
)
several = st.lists(asked, min_size=4, max_size=40)


def made(splits: dict[str, Sequence[VqaExample]], limit: int | None) -> list[object]:
    """Return all that stage one makes of some questions without an encoder."""
    source = Source({}, {i: picture(place % 3) for place, i in enumerate(IDS)})
    read = {name: (examples, ()) for name, examples in splits.items()}
    plan = make_plan(source, splits=list(splits), text=Text(), limit=limit, read=read)
    origin = describe_origin("jsonl:data", {}, plan.splits, limit, 2)
    plan = merge_same_pictures(plan, source)
    work = find_missing_work(plan, Path(), Manifest(SPEC), shard_bytes=64, origin=origin)
    rows = {str(image_id): row for row, image_id in enumerate(plan.image_ids)}
    questions = {text: row for row, text in enumerate(plan.questions)}
    kept, without = with_pictures(plan.splits["train"], rows.keys() - {"a"})
    return [
        {name: list(examples) for name, examples in plan.splits.items()},
        {name: list(faults) for name, faults in plan.left_out.items()},
        [list(plan.image_ids), list(plan.images), list(plan.questions.items())],
        [plan.tokens, plan.prefixes, dict(plan.names), plan.counts(), plan.picture_counts()],
        origin,
        [(key, list(chunk)) for key, chunk in work.images.items()],
        [(key, chunk.to_json(), list(chunk.paths)) for key, chunk in work.questions.items()],
        without,
        b"".join(map(bytes, split_table(plan, kept, rows, questions).to_hdf5().pieces)),
    ]


@settings(deadline=None, max_examples=15)
@given(
    train=several,
    val=several,
    kept=st.sampled_from([0, 1, 20]),
    limit=st.none() | st.integers(1, 60),
)
def test_all_that_is_made_of_it_is_the_same(
    train: list[VqaExample], val: list[VqaExample], kept: int, limit: int | None
) -> None:
    train = [VqaExample(0, 3, "a", ()), *train]  # one that is always kept
    splits: dict[str, Sequence[VqaExample]] = {"train": train, "val": [train[0], *val]}
    whole = made(splits, limit)
    with in_files(kept):
        assert made(splits, limit) == whole


def test_an_extraction_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """Begun and then extended, with two ids of one picture."""

    def extracted(folder: Path) -> dict[str, bytes]:
        run(folder, "train", same={5: 3})
        run(folder, same={5: 3, 6: 7})
        named = files(folder)
        return {name: data for name, data in named.items() if name != "extractions.jsonl"}

    whole = extracted(tmp_path / "whole")
    with in_files(1):
        assert extracted(tmp_path / "large") == whole
