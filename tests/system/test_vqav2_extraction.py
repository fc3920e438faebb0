"""Stage one from the official files of VQAv2: what is stored, left out, added later and refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from tests.support import vqav2_data
from tests.support.command import Finished, run_command
from tests.support.vqav2_data import (
    ASKED,
    BROKEN,
    JPEG,
    KINDS,
    MISSING,
    ODD,
    TRAIN,
    VAL,
    extract,
    files,
    write_split,
)

# Fixtures; the first is in force in every test.
_home, official, place = vqav2_data._home, vqav2_data.official, vqav2_data.place
extracted, extended = vqav2_data.extracted, vqav2_data.extended


def test_unreadable_pictures_are_listed_and_all_others_are_there(
    extracted: Finished, official: Path, place: Path
) -> None:
    assert extracted.code == 3
    found = extracted.json()
    assert found["images"] == {"total": 9, "ids": 9, "encoded": 7, "skipped": 2}
    tokens = TextEncoder("tiny").tokens(ASKED)
    prefixes = {tuple(ids[:n]) for ids in tokens for n in range(1, len(ids) + 1)}
    assert found["questions"] == {
        "total": 27,
        "distinct": 3,
        "tokens": 9 * sum(map(len, tokens)),
        "prefixes": len(prefixes),
        "skipped": 0,
    }
    assert found["left_out"] == 6
    folder = official / "train2014"
    missing, broken = found["failures"]
    assert missing == {
        "kind": "image",
        "id": "7",
        "where": str(folder / "COCO_train2014_000000000007.jpg"),
        "reason": "the file is missing",
    }
    assert broken["where"] == str(folder / "COCO_train2014_000000000008.jpg")
    assert broken["reason"].startswith("truncated or damaged (")
    for failure in (missing, broken):
        assert f"  {failure['where']}: {failure['reason']}\n" in extracted.err
    assert "2 pictures cannot be read; 6 questions are left out" in extracted.err

    cache = FeatureCache(place / "cache")
    assert cache.image_ids()[:7] == ["1", "2", "3", "4", "5", "6", "9"]
    table = cache.split("train")
    readable = [i for i in TRAIN if i not in (MISSING, BROKEN)]
    assert table.question_ids == [i * 1000 + k for i in readable for k in range(3)]
    assert [cache.image_ids()[row] for row in table.image_rows] == [
        str(i) for i in readable for _ in range(3)
    ]
    assert [cache.questions.texts[row] for row in table.question_rows] == list(ASKED) * 7
    assert table.answers[0] == ("blue",) * 7 + ("a dog", "Red.", "blue")
    assert table.question_types[:3] == [kind for kind, _ in KINDS]
    assert table.answer_types[:3] == ["other", "yes/no", "number"]
    assert found["bytes"] > 0
    assert found["seconds"] > 0


@pytest.mark.parametrize(
    "image_id", ODD, ids=["gray", "CMYK", "RGBA", "palette", "16-bit", "rotated"]
)
def test_an_odd_picture_is_stored_as_a_person_sees_it(
    extracted: Finished, place: Path, image_id: int
) -> None:
    cache, encoder = FeatureCache(place / "cache"), ImageEncoder("tiny")
    seen = Image.fromarray(ODD[image_id][1])
    expected, _ = encoder.encode(encoder.pixels(seen)[np.newaxis])
    stored = np.empty((1, *expected.shape[1:]), np.float16)
    cache.read_images(np.array([cache.image_ids().index(str(image_id))]), stored)
    np.testing.assert_allclose(stored, expected.numpy(), atol=0.02)
    mirrored, _ = encoder.encode(np.ascontiguousarray(encoder.pixels(seen)[np.newaxis, :, ::-1]))
    assert np.abs(stored - mirrored.numpy()).max() > 0.2  # the tolerance hides no turn


def test_hidden_states_are_stored_for_each_question(extracted: Finished, place: Path) -> None:
    questions, encoder = FeatureCache(place / "cache").questions, TextEncoder("tiny")
    assert questions.texts[:3] == list(ASKED)
    for row, text in enumerate(ASKED):
        expected = encoder.encode(encoder.tokens([text]))[0].numpy()
        np.testing.assert_allclose(questions.states(row), expected, atol=4e-3)


def test_a_split_added_later_leaves_old_shards_as_they_were(
    extended: Finished, place: Path
) -> None:
    assert extended.code == 0  # nothing is wrong with the pictures of this split
    assert extended.json()["images"] == {"total": 2, "ids": 2, "encoded": 2, "skipped": 0}
    assert extended.json()["failures"] == []
    cache = FeatureCache(place / "cache")
    assert cache.image_ids() == ["1", "2", "3", "4", "5", "6", "9", "42", "43"]
    assert [len(cache.split(name)) for name in ("train", "val")] == [21, 6]
    assert len(cache.questions.texts) == 3
    verified = run_command("verify-cache", place / "cache", "--json")
    assert verified.code == 0
    assert verified.json()["damaged"] == []


def test_a_second_extraction_encodes_nothing_and_says_so(
    extended: Finished, official: Path, place: Path
) -> None:
    before = files(place / "cache")
    again = extract(official, place / "cache", "--split", "train", "--split", "val", "--json")
    after = files(place / "cache")
    assert again.code == 3
    assert again.json()["images"] == {"total": 11, "ids": 11, "encoded": 0, "skipped": 2}
    assert "nothing to encode: every readable picture is in the cache" in again.err
    assert {name: data for name, (data, _) in after.items()} == {
        name: data for name, (data, _) in before.items()
    }
    shards = [name for name in before if name.startswith(("images/", "questions/"))]
    assert len(shards) == 3
    assert [after[name] for name in shards] == [before[name] for name in shards]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--text-layer", 0), "text layer is -1, asked for -3"),
        (("--image-size", 56), "vision image size is 112, asked for 56"),
        (("--fit", "crop"), "vision fit is 'whole', asked for 'crop'"),
        (("--dtype", "float32"), "dtype is 'float16', asked for 'float32'"),
        (("--vision-model", "OTHER"), "vision model is 'tiny', asked for 'OTHER'"),
    ],
)
def test_a_cache_made_otherwise_is_refused_with_both_values(
    extended: Finished, official: Path, place: Path, words: tuple, said: str
) -> None:
    other = ImageEncoder("tiny").checkpoint.place  # the same weights under another name
    words = tuple(other if word == "OTHER" else word for word in words)
    before = files(place / "cache")
    found = extract(official, place / "cache", "--split", "train", *words, "--json")
    assert found.code == 1
    assert found.out == ""
    (line,) = [line for line in found.err.splitlines() if line.startswith("error:")]
    assert found.err.endswith(f"{line}\n")
    assert f"{place / 'cache'}: this cache was made with other settings: " in line
    assert said.replace("OTHER", other) in line
    assert files(place / "cache") == before


def test_a_mended_picture_is_encoded_by_the_next_extraction(official: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    write_split(root, "val2014", {42: None, 43: VAL[43], 44: JPEG})
    first = extract(root, tmp_path / "cache", "--split", "val", "--json")
    assert (first.code, first.json()["images"]["encoded"]) == (3, 2)
    before = files(tmp_path / "cache")

    (root / "val2014" / "COCO_val2014_000000000042.jpg").write_bytes(VAL[42] or b"")
    second = extract(root, tmp_path / "cache", "--split", "val", "--json")

    assert second.code == 0
    assert second.json()["images"] == {"total": 3, "ids": 3, "encoded": 1, "skipped": 0}
    after = files(tmp_path / "cache")
    assert after["images/00000.h5"] == before["images/00000.h5"]
    cache = FeatureCache(tmp_path / "cache")
    assert cache.image_ids() == ["43", "44", "42"]
    assert cache.split("val").image_rows.tolist() == [2, 2, 2, 0, 0, 0, 1, 1, 1]
    assert cache.manifest.failures == ()


def test_limit_takes_the_first_questions(official: Path, tmp_path: Path) -> None:
    found = extract(official, tmp_path / "cache", "--split", "val", "--limit", 4, "--json")
    assert found.code == 0
    assert found.json()["images"]["encoded"] == 2
    assert found.json()["questions"]["total"] == 4
    table = FeatureCache(tmp_path / "cache").split("val")
    assert table.question_ids == [42_000, 42_001, 42_002, 43_000]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_dry_run_tells_and_writes_nothing(official: Path, tmp_path: Path, split: str) -> None:
    (official / "train2014" / "COCO_train2014_000000000001.jpg").rename(tmp_path / "away.jpg")
    try:  # the first picture of the training split cannot be read, which is no reason to fail
        cache = tmp_path / "new" / "cache"
        found = extract(official, cache, "--split", split, "--dry-run", "--batch-size", 2, "--json")
    finally:
        (tmp_path / "away.jpg").rename(official / "train2014" / "COCO_train2014_000000000001.jpg")
    assert found.code == 0
    pictures = {"train": 9, "val": 2}[split]
    said = found.json()
    assert said["dry_run"] is True
    assert said["images"] == {"total": pictures, "ids": pictures}
    row_bytes = (8 * 8 + 1) * 192 * 2
    assert said["bytes"] == pictures * row_bytes + said["questions"]["prefixes"] * 128 * 2
    assert "nothing was written" in found.err
    assert not (tmp_path / "new").exists()
