"""What stage one cannot take: bad pictures are left out and listed, the rest is refused at once."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.cache import (
    CacheBusyError,
    CacheError,
    CacheMismatchError,
    CacheWriter,
    FeatureCache,
    load_manifest,
)
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.models.several import cache_spec
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from tests.support.extractions import (
    IMAGE_IDS,
    OPTIONS,
    TRAIN,
    VAL,
    check_cache,
    no_spot_checks,  # noqa: F401  (a fixture)
    note_decoded,
    pixels_of,
    plan_of,
    run,
    source_of,
)
from tests.support.frozen import BAD, Images, Source, Text, files, picture


def test_an_unreadable_picture_is_listed_and_only_its_questions_leave(tmp_path: Path) -> None:
    bad: tuple[Id, ...] = (7, 6)
    report, _, images, _ = run(tmp_path, bad=bad)

    check_cache(tmp_path, left_out=bad)
    assert report.images == {"total": 8, "ids": 8, "encoded": 6, "skipped": 2}
    assert report.left_out == 2 + 1 + 1
    assert [(f.id, f.where) for f in report.failures] == [
        ("7", "picture 7.png"),
        ("6", "picture 6.png"),
    ]
    assert all("damaged" in failure.reason for failure in report.failures)
    manifest = load_manifest(tmp_path)
    assert manifest.failures == tuple(report.failures)
    assert {name: r.left_out for name, r in manifest.splits.items()} == {"train": 2, "val": 2}
    assert not set(pixels_of(*bad)) & set(images.encoded)


def test_a_rerun_tries_only_what_failed(tmp_path: Path) -> None:
    run(tmp_path, bad=(7, 6))
    before = files(tmp_path)

    again = run(tmp_path, bad=(7, 6))
    assert again.source.read == [7, 6]
    assert (again.images.encoded, again.text.encoded) == ([], [])
    assert again.report.left_out == 4
    assert files(tmp_path) == before

    mended = run(tmp_path, bad=(6,))
    assert mended.source.read == [7, 6]
    assert mended.images.encoded == pixels_of(7)
    assert mended.report.images == {"total": 8, "ids": 8, "encoded": 1, "skipped": 1}
    check_cache(tmp_path, left_out=(6,))
    after = files(tmp_path)
    assert {name for name in before if before[name] != after.get(name)} == {
        "cache.json", "cache.copy.json", "failures.jsonl", "splits/train.h5", "splits/val.h5"
    }  # fmt: skip
    assert {name for name in after if name.startswith("splits/")} == {
        "splits/train~2.h5", "splits/val~2.h5"
    }  # fmt: skip
    listed = [json.loads(line) for line in after["failures.jsonl"].splitlines()]
    assert [(f["kind"], f["id"], f["where"]) for f in listed] == [("image", "6", "picture 6.png")]
    assert [f.id for f in load_manifest(tmp_path).failures] == ["6"]


def test_a_failure_of_another_split_is_not_this_runs(tmp_path: Path) -> None:
    run(tmp_path, "train", bad=("a",))
    report = run(tmp_path, "val", bad=("a",)).report

    assert (report.images["skipped"], list(report.failures), report.left_out) == (0, [], 0)
    assert len(load_manifest(tmp_path).failures) == 1


def test_no_picture_at_all_can_be_read(tmp_path: Path) -> None:
    report = run(tmp_path, bad=tuple(IMAGE_IDS)).report

    assert report.images == {"total": 8, "ids": 8, "encoded": 0, "skipped": 8}
    assert report.left_out == len(TRAIN + VAL)
    assert FeatureCache(tmp_path).split("val").question_ids == []


def test_what_a_source_cannot_say_is_no_unreadable_picture(tmp_path: Path) -> None:
    source = source_of()
    del source.pictures[3]
    with pytest.raises(KeyError, match="3"):
        extract(source, plan_of(source_of()), cache=tmp_path, images=Images(), text=Text())


@pytest.mark.spot_checks
def test_other_pictures_under_known_ids_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    before = files(tmp_path)
    run(tmp_path)  # the same ones are no others

    source = source_of()
    source.pictures[9] = picture(99)
    with pytest.raises(CacheMismatchError, match=r"picture 9.png: .* another picture as image '9'"):
        extract(source, plan_of(source), cache=tmp_path, images=Images(), text=Text(), **OPTIONS)
    assert files(tmp_path) == before

    source.pictures[9] = BAD  # gone by now: its features stay
    report = extract(
        source, plan_of(source), cache=tmp_path, images=Images(), text=Text(), **OPTIONS
    )
    assert report.failures == []
    assert files(tmp_path) == before


@pytest.mark.spot_checks
@pytest.mark.parametrize("step", [-1, 1])
def test_a_picture_that_was_saved_again_is_the_same_one(step: int, tmp_path: Path) -> None:
    """A lossy format moves a grey level up or down; both are far from another picture."""
    source, plan = source_of(), plan_of(source_of())
    extract(source, plan, cache=tmp_path, images=Images(), text=Text(), **OPTIONS)
    before = files(tmp_path)
    for image_id, data in source.pictures.items():
        moved = np.asarray(Image.open(io.BytesIO(data))).astype(int) + step
        saved = io.BytesIO()
        Image.fromarray(moved.clip(0, 255).astype(np.uint8)).save(saved, "PNG")
        source.pictures[image_id] = saved.getvalue()

    extract(source, plan, cache=tmp_path, images=Images(), text=Text(), **OPTIONS)
    assert files(tmp_path) == before


@pytest.mark.spot_checks
def test_a_few_pictures_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = note_decoded(monkeypatch)
    source = Source({"val": [VqaExample(i, i, "a", ()) for i in range(60)]},
                    {i: picture(i) for i in range(60)})  # fmt: skip
    plan = plan_of(source, "val")
    for _ in range(2):
        extract(source, plan, cache=tmp_path, images=Images(), text=Text(), **OPTIONS)

    assert len(decoded) == 60 + 8


def test_a_number_beyond_float16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"patch embeddings of image '7' .*--dtype bfloat16"):
        run(tmp_path, dtype="float16", images=Images(scale=1e5))
    assert set(files(tmp_path)) == {"cache.json", "cache.copy.json"}
    for dtype in ("float32", "bfloat16"):
        run(tmp_path / dtype, dtype=dtype, images=Images(scale=1e5))
        assert FeatureCache(tmp_path / dtype).manifest.images[0].largest > 65_504
    with pytest.raises(CacheError, match=r"not finite in bfloat16, .*--compute-dtype float32"):
        run(tmp_path / "wider", dtype="bfloat16", images=Images(scale=1e20))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float16"}, "dtype is 'float32', asked for 'float16'"),
        ({"text": Text(layer=-2)}, "text layer is -1, asked for -2"),
        ({"images": Images(scale=2)}, "vision scale is 1.0, asked for 2"),
    ],
)
def test_a_cache_made_otherwise_is_refused_before_any_work(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run(tmp_path, "train")
    before = files(tmp_path)

    with pytest.raises(CacheMismatchError, match=message):
        run(tmp_path, **changes)
    assert files(tmp_path) == before


def test_two_extractions_at_once_are_refused(tmp_path: Path) -> None:
    with (
        CacheWriter(tmp_path, cache_spec(Images(), Text(), "float32")),
        pytest.raises(CacheBusyError, match=f"process {os.getpid()}"),
    ):
        run(tmp_path)
