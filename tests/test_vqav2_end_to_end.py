"""All commands, from the official files of VQAv2 to a score; then from parquet and from scenes."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from command import Finished, frozen_vqa
from datasets import Dataset
from lmms_lab import LMMS_LAB
from PIL import Image

from cache import FeatureCache
from pipeline.encoders import ImageEncoder, TextEncoder

TINY = ("--vision-model", "tiny", "--text-model", "tiny")
HEAD = ("--epochs", 1, "--min-answer-count", 1, "--width", 16, "--batch-size", 8, "--seed", 3)
MISSING, BROKEN = 7, 8
ASKED = ("What color is it?", "Is it a circle?", "How many dogs are there?")
KINDS = (("what color is", "other"), ("is it", "yes/no"), ("how many", "number"))


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        folder = tmp_path_factory.mktemp("datasets")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        datasets.disable_progress_bars()
        yield


def pattern(seed: int, channels: int = 3) -> np.ndarray:
    """Blocks of color, coarse enough that JPEG leaves them recognisable."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, channels), dtype=np.uint8)
    return blocks.repeat(20, axis=0).repeat(20, axis=1)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def odd_pictures() -> dict[int, tuple[bytes, np.ndarray]]:
    """Return, by image id, the bytes of odd pictures and the RGB pixels that a person sees."""
    gray = pattern(1, 1)[..., 0]
    cmyk = encoded(Image.fromarray(pattern(2)).convert("CMYK"), "JPEG", quality=95)
    color, alpha = pattern(3), pattern(33, 1) / 255.0
    rgba = np.dstack([color, (alpha * 255).round().astype(np.uint8)])
    palette = Image.fromarray(pattern(4)).quantize(12)
    deep = pattern(5, 1)[..., 0].astype(np.uint16) * 257
    upright = pattern(6)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right for looking
    stored = np.ascontiguousarray(np.rot90(upright))
    return {
        1: (encoded(Image.fromarray(gray), "PNG"), np.dstack([gray] * 3)),
        2: (cmyk, np.asarray(Image.open(io.BytesIO(cmyk)).convert("RGB"))),
        3: (
            encoded(Image.fromarray(rgba), "PNG"),
            (color * alpha + 255 * (1 - alpha)).round().astype(np.uint8),
        ),
        4: (encoded(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        5: (encoded(Image.fromarray(deep), "PNG"), np.dstack([(deep // 257).astype(np.uint8)] * 3)),
        6: (encoded(Image.fromarray(stored), "PNG", exif=exif), upright),
    }


ODD = odd_pictures()
JPEG = encoded(Image.fromarray(pattern(9)), "JPEG", quality=95)
TRAIN: dict[int, bytes | None] = {
    **{image_id: data for image_id, (data, _) in ODD.items()},
    MISSING: None,
    BROKEN: JPEG[: len(JPEG) // 2],
    9: JPEG,
}
VAL: dict[int, bytes | None] = {42: encoded(Image.fromarray(pattern(42)), "JPEG"), 43: JPEG}


def write_split(root: Path, split: str, pictures: Mapping[int, bytes | None]) -> None:
    """Write one split as https://visualqa.org/download.html has it."""
    folder = root / split
    folder.mkdir(parents=True)
    questions, annotations = [], []
    for image_id, data in pictures.items():
        if data is not None:
            (folder / f"COCO_{split}_{image_id:012d}.jpg").write_bytes(data)
        for k, (question, (question_type, answer_type)) in enumerate(
            zip(ASKED, KINDS, strict=True)
        ):
            question_id = image_id * 1000 + k
            entry = {"image_id": image_id, "question": question, "question_id": question_id}
            questions.append(entry)
            agreed = (("red", "blue"), ("yes", "no"), ("2", "3"))[k][image_id % 2]
            answers = [agreed] * 7 + ["a dog", "Red.", agreed]
            annotations.append(
                {
                    "question_type": question_type,
                    "multiple_choice_answer": agreed,
                    "answers": [
                        {"answer": answer, "answer_confidence": "yes", "answer_id": n}
                        for n, answer in enumerate(answers, 1)
                    ],
                    "image_id": image_id,
                    "answer_type": answer_type,
                    "question_id": question_id,
                }
            )
    head = {"info": {"version": "2.0"}, "license": {}, "data_type": "mscoco"}
    tail = {"task_type": "Open-Ended", "data_subtype": split}
    for name, content in (
        (f"v2_OpenEnded_mscoco_{split}_questions.json", {"questions": questions, **tail}),
        (f"v2_mscoco_{split}_annotations.json", {"annotations": annotations}),
    ):
        (root / name).write_text(json.dumps({**head, "data_subtype": split, **content}))


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vqav2")
    write_split(root, "train2014", TRAIN)
    write_split(root, "val2014", VAL)
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def extract(official: Path, cache: Path, *words: object) -> Finished:
    dataset = f"vqav2:{official}"
    return frozen_vqa("extract-features", "--dataset", dataset, "--cache", cache, *TINY, *words)


@pytest.fixture(scope="module")
def extracted(official: Path, place: Path) -> Finished:
    """The training split in a new cache."""
    return extract(official, place / "cache", "--split", "train", "--json")


@pytest.fixture(scope="module")
def extended(official: Path, place: Path, extracted: Finished) -> Finished:
    """The validation split added to it; beside it, what was there before."""
    before = files(place / "cache")
    found = extract(official, place / "cache", "--split", "val", "--json")
    after = files(place / "cache")
    assert {name: after.get(name) for name in before if name.endswith(".h5")} == {
        name: state for name, state in before.items() if name.endswith(".h5")
    }
    assert sorted(after.keys() - before.keys()) == ["images/00001.h5", "splits/val.h5"]
    return found


@pytest.fixture(scope="module")
def trained(place: Path, extended: Finished) -> Finished:
    cache, run = place / "cache", place / "run"
    return frozen_vqa("train-head", "--cache", cache, "--run", run, *HEAD, "--json")


@pytest.fixture(scope="module")
def evaluated(place: Path, trained: Finished) -> Finished:
    return frozen_vqa("evaluate", "--run", place / "run", "--json")


def files(cache: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of every file of a cache but the lock and the log."""
    return {
        str(path.relative_to(cache)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(cache.rglob("*"))
        if path.is_file() and not path.name.startswith((".lock", "extractions.jsonl"))
    }


def test_unreadable_pictures_are_listed_and_all_others_are_there(
    extracted: Finished, official: Path, place: Path
) -> None:
    assert extracted.code == 3
    found = extracted.json()
    assert found["images"] == {"total": 9, "encoded": 7, "skipped": 2}
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
    assert extended.json()["images"] == {"total": 2, "encoded": 2, "skipped": 0}
    assert extended.json()["failures"] == []
    cache = FeatureCache(place / "cache")
    assert cache.image_ids() == ["1", "2", "3", "4", "5", "6", "9", "42", "43"]
    assert [len(cache.split(name)) for name in ("train", "val")] == [21, 6]
    assert len(cache.questions.texts) == 3
    verified = frozen_vqa("verify-cache", place / "cache", "--json")
    assert verified.code == 0
    assert verified.json()["damaged"] == []


def test_a_second_extraction_encodes_nothing_and_says_so(
    extended: Finished, official: Path, place: Path
) -> None:
    before = files(place / "cache")
    again = extract(official, place / "cache", "--split", "train", "--split", "val", "--json")
    after = files(place / "cache")
    assert again.code == 3
    assert again.json()["images"] == {"total": 11, "encoded": 0, "skipped": 2}
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
    assert f"{place / 'cache'}: this cache was made otherwise: " in line
    assert said.replace("OTHER", other) in line
    assert files(place / "cache") == before


def test_a_head_is_trained_from_the_cache(trained: Finished, place: Path) -> None:
    assert trained.code == 0
    found = trained.json()
    expected = {
        "run",
        "fusion",
        "epochs",
        "best_accuracy",
        "trainable_parameters",
        "questions_per_second",
        "data_wait_fraction",
        "seconds",
    }
    assert expected <= set(found)
    assert found["run"] == str(place / "run")
    assert found["fusion"] == "co-attention"
    assert found["epochs"] == 1
    assert 0 <= found["best_accuracy"] <= 100
    assert found["trainable_parameters"] > 1000
    assert found["questions_per_second"] > 0
    assert 0 <= found["data_wait_fraction"] <= 1
    answers = json.loads((place / "run" / "answers.json").read_text())
    assert sorted(answers) == ["2", "3", "blue", "no", "red", "yes"]
    (line,) = (place / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["epoch"] == 1


def test_an_evaluation_scores_and_writes_the_official_form(
    evaluated: Finished, trained: Finished, place: Path
) -> None:
    assert evaluated.code == 0
    found = evaluated.json()
    assert set(found["accuracy"]) == {"overall", "other", "yes/no", "number"}
    assert set(found["by_question_type"]) == {kind for kind, _ in KINDS}
    assert found["questions"] == 6
    assert found["metric"] == "2021"
    assert found["split"] == "val"
    assert found["accuracy"]["overall"] == trained.json()["best_accuracy"]
    assert found["ceiling"] == 100.0
    results = json.loads(Path(found["results"]).read_text())
    assert [set(entry) for entry in results] == [{"question_id", "answer"}] * 6
    assert [entry["question_id"] for entry in results] == [
        42_000, 42_001, 42_002, 43_000, 43_001, 43_002
    ]  # fmt: skip
    vocabulary = set(json.loads((place / "run" / "answers.json").read_text()))
    assert {entry["answer"] for entry in results} <= vocabulary


@pytest.mark.parametrize("rules", [(), ("--metric", "2017")])
def test_score_gives_the_figures_of_evaluate(
    evaluated: Finished, official: Path, place: Path, rules: tuple
) -> None:
    ours = frozen_vqa("evaluate", "--run", place / "run", *rules, "--json").json()
    each = place / "each.json"
    scored = frozen_vqa(
        "score",
        *("--predictions", ours["results"]),
        *("--annotations", official / "v2_mscoco_val2014_annotations.json"),
        *("--questions", official / "v2_OpenEnded_mscoco_val2014_questions.json"),
        *("--per-question", each),
        *rules,
        "--json",
    )
    assert scored.code == 0
    found = scored.json()
    assert set(found) >= {"accuracy", "by_question_type", "questions", "metric"}
    for name in ("accuracy", "by_question_type", "questions", "metric"):
        assert found[name] == ours[name], name
    percents = json.loads(each.read_text())
    assert list(percents) == ["42000", "42001", "42002", "43000", "43001", "43002"]
    assert np.mean(list(percents.values())) == pytest.approx(found["accuracy"]["overall"], abs=0.01)


def test_a_head_on_its_training_split_answers_only_what_is_in_the_cache(
    trained: Finished, place: Path
) -> None:
    found = frozen_vqa("evaluate", "--run", place / "run", "--split", "train", "--json")
    assert found.code == 0
    assert found.json()["questions"] == 21
    assert found.json()["left_out"] == 6
    assert "6 questions are left out: their pictures could not be read" in found.err


def test_a_mended_picture_is_encoded_by_the_next_extraction(official: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    write_split(root, "val2014", {42: None, 43: VAL[43], 44: JPEG})
    first = extract(root, tmp_path / "cache", "--split", "val", "--json")
    assert (first.code, first.json()["images"]["encoded"]) == (3, 2)
    before = files(tmp_path / "cache")

    (root / "val2014" / "COCO_val2014_000000000042.jpg").write_bytes(VAL[42] or b"")
    second = extract(root, tmp_path / "cache", "--split", "val", "--json")

    assert second.code == 0
    assert second.json()["images"] == {"total": 3, "encoded": 1, "skipped": 0}
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
    assert said["images"] == {"total": pictures}
    row_bytes = (8 * 8 + 1) * 192 * 2
    assert said["bytes"] == pictures * row_bytes + said["questions"]["prefixes"] * 128 * 2
    assert "nothing was written" in found.err
    assert not (tmp_path / "new").exists()


def as_parquet(file: Path, official: Path, split: str, pictures: Mapping[int, Any]) -> None:
    """Write a split of the official folder in the schema of `lmms-lab/VQAv2`."""
    questions = json.loads((official / f"v2_OpenEnded_mscoco_{split}_questions.json").read_text())[
        "questions"
    ]
    annotations = json.loads((official / f"v2_mscoco_{split}_annotations.json").read_text())
    rows = [
        {
            **annotation,
            "question": question["question"],
            "image": {"bytes": pictures[question["image_id"]] or b"no picture", "path": None},
        }
        for question, annotation in zip(questions, annotations["annotations"], strict=True)
    ]
    Dataset.from_list(rows, features=LMMS_LAB).to_parquet(file)


def test_the_same_questions_from_parquet_give_the_same_features(
    official: Path, place: Path, extended: Finished, evaluated: Finished
) -> None:
    data = place / "parquet" / "data"
    data.mkdir(parents=True)
    as_parquet(data / "train-00000-of-00001.parquet", official, "train2014", TRAIN)
    as_parquet(data / "validation-00000-of-00001.parquet", official, "val2014", VAL)
    cache, run = place / "hub-cache", place / "hub-run"
    found = frozen_vqa(
        *("extract-features", "--dataset", f"hub:{data.parent}", "--cache", cache, *TINY),
        *("--split", "train", "--split", "val", "--json"),
    )
    assert found.code == 3
    assert found.json()["images"] == {"total": 11, "encoded": 9, "skipped": 2}
    assert found.json()["failures"][0]["where"] == f"hub:{data.parent}, train row 18"
    theirs, ours = FeatureCache(cache), FeatureCache(place / "cache")
    assert theirs.image_ids() == ours.image_ids()
    for name in ("train", "val"):
        for column in ("question_ids", "answers", "question_types", "answer_types"):
            assert getattr(theirs.split(name), column) == getattr(ours.split(name), column)
    stored = [np.empty((9, 64, 192), np.float16) for _ in range(2)]
    for which, out in zip((theirs, ours), stored, strict=True):
        which.read_images(np.arange(9), out)
    np.testing.assert_allclose(*stored, atol=4e-3)

    trained = frozen_vqa("train-head", "--cache", cache, "--run", run, *HEAD, "--json")
    assert (trained.code, trained.json()["epochs"]) == (0, 1)
    scored = frozen_vqa("evaluate", "--run", run, "--json")
    assert scored.code == 0
    assert scored.json()["questions"] == 6
    assert scored.json()["metric"] == "2021"
    assert scored.json()["ceiling"] == evaluated.json()["ceiling"]


def test_generated_scenes_go_through_every_command(place: Path) -> None:
    cache, run = place / "shapes-cache", place / "shapes-run"
    found = frozen_vqa(
        *("extract-features", "--dataset", "shapes:20", "--cache", cache, *TINY),
        *("--split", "train", "--split", "val", "--json"),
    )
    assert found.code == 0
    assert found.json()["images"] == {"total": 24, "encoded": 24, "skipped": 0}
    trained = frozen_vqa("train-head", "--cache", cache, "--run", run, *HEAD, "--json")
    assert trained.code == 0
    scored = frozen_vqa("evaluate", "--run", run, "--json")
    assert scored.code == 0
    best = trained.json()["best_accuracy"]
    assert scored.json()["accuracy"]["overall"] == pytest.approx(best, abs=0.011)
    held = frozen_vqa("inspect-cache", cache, "--json").json()
    assert held["images"] == {"rows": 24, "shards": 1}
    assert held["splits"]["val"]["questions"] == scored.json()["questions"]
    assert held["splits"]["val"]["left_out"] == 0
