"""The scripts under examples/, run as a reader of the README runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from frozen_vqa.pipeline.config import load_config
from frozen_vqa.pipeline.encoders.preprocess import load_rgb
from frozen_vqa.pipeline.sources.own.source import OwnSource
from frozen_vqa.pipeline.train.sweep_config import load_sweep
from tests.support.repository import DATA, ROOT

TRAIN = [
    ["what is the blue shape?", "circle", 0],
    ["is there not a red shape?", "yes", 0],
    ["does the image contain a circle?", "no", 1],
    ["which way up?", "north", 1],
]
TEST = [["what color is the shape?", "red", 0], ["what is the color of the circle?", "red", 0]]


def convert(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "examples" / "easy_vqa_to_jsonl.py"
    return subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def easy_vqa(tmp_path: Path) -> Path:
    root = tmp_path / "easy-vqa"
    for split, questions in {"train": TRAIN, "test": TEST}.items():
        (root / split / "images").mkdir(parents=True)
        (root / split / "questions.json").write_text(json.dumps(questions))
        for image_id in {entry[2] for entry in questions}:
            color = (image_id, 0, 0) if split == "train" else (0, 0, 200)
            Image.new("RGB", (4, 4), color).save(root / split / "images" / f"{image_id}.png")
    return root


def test_easy_vqa_becomes_a_jsonl_source(easy_vqa: Path, tmp_path: Path) -> None:
    run = convert(easy_vqa, tmp_path / "out")

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == (
        f"Wrote {tmp_path / 'out'} (train: 4 questions about 2 pictures; "
        f"test: 2 questions about 1 pictures). Use it as --dataset jsonl:{tmp_path / 'out'}\n"
    )
    source = OwnSource(tmp_path / "out")
    train, test = source.examples("train"), source.examples("test")
    assert [[e.question, *e.answers] for e in train] == [entry[:2] for entry in TRAIN]
    assert [e.question_id for e in train + test] == [1, 2, 3, 4, 5, 6]
    assert [e.answer_type for e in train] == ["other", "yes/no", "yes/no", "other"]
    assert [e.question_type for e in train + test] == [
        "what is the",
        "is there not",
        "does the image",
        "which way",
        "what color",
        "what is the color",
    ]


def test_pictures_of_equal_ids_are_kept_apart(easy_vqa: Path, tmp_path: Path) -> None:
    convert(easy_vqa, tmp_path / "out")
    source = OwnSource(tmp_path / "out")

    colors = {
        split: load_rgb(source.picture(source.examples(split)[0].image_id)).getpixel((0, 0))
        for split in ("train", "test")
    }

    assert colors == {"train": (0, 0, 0), "test": (0, 0, 200)}


def test_a_second_run_ends_in_the_same_files(easy_vqa: Path, tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {f: f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file()}

    convert(easy_vqa, tmp_path / "out")
    before = content()
    assert convert(easy_vqa, tmp_path / "out").returncode == 0

    assert content() == before
    assert len(before) == 5
    assert (easy_vqa / "train" / "images" / "0.png").is_file()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("questions.json", None, "questions.json: there is no such file; SOURCE must be"),
        ("questions.json", "{", "questions.json: is not JSON"),
        ("questions.json", "{}", "questions.json: it must be a list"),
        ("questions.json", '[["q?", "a", "0"]]', "entry 0 is ['q?', 'a', '0'], but must be"),
        ("images/0.png", None, "1 of 1 pictures missing (0.png)"),
    ],
)
def test_a_wrong_source_is_one_line_and_leaves_no_jsonl(
    easy_vqa: Path, tmp_path: Path, name: str, content: str | None, reason: str
) -> None:
    file = easy_vqa / "test" / name
    if content is None:
        file.unlink()
    else:
        file.write_text(content)

    run = convert(easy_vqa, tmp_path / "out")

    assert (run.returncode, run.stdout) == (1, "")
    assert reason in run.stderr
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "test.jsonl").exists()


def test_a_missing_folder_and_an_out_that_is_source(easy_vqa: Path, tmp_path: Path) -> None:
    run = convert(tmp_path / "no", tmp_path / "out")
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "there is no such folder" in run.stderr

    assert convert(easy_vqa, easy_vqa).returncode == 2


@pytest.mark.data
@pytest.mark.skipif(
    not (DATA / "easy-vqa").is_dir(),
    reason=f"no easy-vqa in {DATA}; set FROZEN_VQA_DATA to the folder that holds it",
)
def test_the_real_easy_vqa(tmp_path: Path) -> None:
    assert convert(DATA / "easy-vqa", tmp_path).returncode == 0

    source = OwnSource(tmp_path)
    for split, questions, pictures in [("train", 38_575, 4_000), ("test", 9_673, 1_000)]:
        assert len((tmp_path / f"{split}.jsonl").read_text().splitlines()) == questions
        assert len(list((tmp_path / "images" / split).glob("*.png"))) == pictures
        examples = source.examples(split)
        assert len({e.image_id for e in examples}) == pictures
        assert load_rgb(source.picture(examples[0].image_id)).size == (64, 64)


def test_settings_can_be_read() -> None:
    """Those of a single head, and those of two sweeps."""
    easy_vqa = load_config(ROOT / "examples" / "easy_vqa.toml", {})
    assert (easy_vqa.val_split, easy_vqa.dropout) == ("test", 0.0)
    assert len(load_sweep(ROOT / "examples" / "depth.toml", {})) == 6
    heads = load_sweep(ROOT / "examples" / "scenes.toml", {}).values()
    assert sorted((head.fusion, head.seed) for head in heads) == [
        *(("co-attention", seed) for seed in range(3)),
        *(("concat", seed) for seed in range(3)),
        ("image-only", 0),
        ("question-only", 0),
    ]
