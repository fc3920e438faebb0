"""A small VQAv2 in its official files, odd pictures among them, and what is made from it."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from tests.support.command import Finished, run_command
from tests.support.pictures import encoded

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
VAL: dict[int, bytes | None] = {
    image_id: encoded(Image.fromarray(pattern(image_id)), "JPEG") for image_id in (42, 43)
}


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
    models = TINY[2:] if "--vision-model" in words else TINY  # a second one would be added
    return run_command("extract-features", "--dataset", dataset, "--cache", cache, *models, *words)


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
    return run_command("train-head", "--cache", cache, "--run", run, *HEAD, "--json")


@pytest.fixture(scope="module")
def evaluated(place: Path, trained: Finished) -> Finished:
    return run_command("evaluate", "--run", place / "run", "--json")


def files(cache: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of every file of a cache but the lock and the log."""
    return {
        str(path.relative_to(cache)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(cache.rglob("*"))
        if path.is_file()
        and not path.name.startswith((".lock", ".frozen-vqa", "extractions.jsonl"))
    }
