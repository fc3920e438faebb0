"""docs/bad-inputs.md against the code: each row is made, read, and compared with the page.

A case makes one input and returns the row's outcome and its sentence, with the folder written as
DATA, the text encoder as MODEL, and words that are a library's as "…". The page must hold exactly
these rows.
"""

import io
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frozen import Text
from PIL import Image

from pipeline.errors import ImageError, SourceError
from pipeline.examples import LeftOut, VqaExample
from pipeline.images import load_rgb
from pipeline.plan import make_plan
from pipeline.sources import open_source

PAGE = (Path(__file__).parents[1] / "docs" / "bad-inputs.md").read_text(encoding="utf-8")
STORED, LEFT_OUT, REFUSED = "stored", "left out, exit 3", "refused, exit 1"

Row = tuple[str, str]
"""Outcome and sentence."""

LINE = {"image": "a.png", "question": "What?", "answer": "dog"}
RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def halves(mode: str = "RGB", size: tuple[int, int] = (32, 16)) -> Image.Image:
    """A picture, the left half red and the right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image.convert(mode)


# Pictures


def picture(content: bytes | Image.Image, sentence: str = "", *, close_to: Any = None) -> Any:
    """A case of a file with this content; `sentence` is what the page says of a stored one."""

    def make(folder: Path) -> Row:
        data = content if isinstance(content, bytes) else encoded(content)
        (folder / "a.jpg").write_bytes(data)
        return seen(folder, sentence, close_to)

    return make


def seen(folder: Path, sentence: str = "", close_to: Any = None) -> Row:
    try:
        found = load_rgb(folder / "a.jpg")
    except ImageError as error:
        return LEFT_OUT, str(error)
    expected = np.broadcast_to(np.asarray(close_to, dtype=int), (*found.size[::-1], 3))
    assert found.mode == "RGB"
    assert np.abs(np.asarray(found).astype(int) - expected).max() <= 2
    return STORED, sentence


def no_permission(folder: Path) -> Row:
    def refuse(path: Path) -> bytes:  # chmod would not stop root
        raise PermissionError(13, "Permission denied", str(path))

    (folder / "a.jpg").write_bytes(encoded(halves()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        return seen(folder)


def placed(place: Callable[[Path], None], sentence: str = "", close_to: Any = None) -> Any:
    """A case of what `place` puts at a path."""

    def make(folder: Path) -> Row:
        place(folder / "a.jpg")
        return seen(folder, sentence, close_to)

    return make


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(600_000_000)  # sparse


def outside(path: Path) -> None:
    (path.parent.parent / "other.png").write_bytes(encoded(halves()))
    path.symlink_to("../other.png")


def of_hub(image: str | None) -> Any:
    """A case of a parquet row with this in place of a picture."""

    def make(folder: Path) -> Row:
        columns = {"question": ["q?"], "answers": ["x"], "image_id": [1]}
        table = pa.table(columns).append_column("image", pa.array([image], pa.string()))
        pq.write_table(table, folder / "train.parquet")
        source = open_source(f"hub:{folder}")
        source.examples("train")
        with pytest.raises(ImageError) as caught:
            source.picture(1)
        return LEFT_OUT, str(caught.value)

    return make


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(halves().transpose(Image.Transpose.ROTATE_90), exif=exif)


def grey_16() -> Image.Image:
    return Image.fromarray(np.array([[0, 257, 65535]], np.uint16))


GREY = np.array([[[0] * 3, [1] * 3, [255] * 3]])
SIDES = np.array(halves())

PICTURES: dict[str, Callable[[Path], Row]] = {
    "truncated JPEG": picture(encoded(halves(), "JPEG")[:-40]),
    "zero-byte file": picture(b""),
    "text named `.jpg`": picture(b"hello, world\n"),
    "git-lfs pointer": picture(b"version https://git-lfs.github.com/spec/v1\n"),
    "PNG named `.jpg`": picture(halves(), "the name does not matter", close_to=SIDES),
    "decompression bomb of 90 megapixels": picture(Image.new("1", (9500, 9500))),
    "decompression bomb of 400 megapixels": picture(Image.new("1", (20000, 20000))),
    "file of more than 500 MB": placed(huge),
    "1 by 1": picture(Image.new("RGB", (1, 1), RED), "one colour everywhere", close_to=RED),
    "20,000 by 10": picture(
        halves(size=(20000, 10)),
        "the whole of it, squeezed to a square",
        close_to=np.array(halves(size=(20000, 10))),
    ),
    "grayscale": picture(
        Image.new("L", (4, 4), 90), "equal red, green and blue", close_to=(90, 90, 90)
    ),
    "CMYK JPEG": picture(
        encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100),
        "as RGB",
        close_to=RED,
    ),
    "RGBA": picture(
        Image.new("RGBA", (4, 4), (255, 0, 0, 0)),
        "transparent becomes white",
        close_to=(255, 255, 255),
    ),
    "palette": picture(halves("P"), "the colours of the palette", close_to=SIDES),
    "16-bit": picture(grey_16(), "65,535 becomes 255", close_to=GREY),
    "float TIFF, 0 to 1 or 0 to 255": picture(
        encoded(Image.fromarray(np.array([[0, 1 / 255, 1]], np.float32)), "TIFF"),
        "the largest becomes 255",
        close_to=GREY,
    ),
    "float TIFF of another range": picture(
        encoded(Image.fromarray(np.array([[0, 300]], np.float32)), "TIFF")
    ),
    "float TIFF with NaN": picture(
        encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF")
    ),
    "animated GIF": picture(
        encoded(halves(), "GIF", save_all=True, append_images=[Image.new("RGB", (32, 16))]),
        "its first frame",
        close_to=SIDES,
    ),
    "EXIF-rotated": picture(turned(), "turned upright", close_to=SIDES),
    "folder": placed(Path.mkdir),
    "no read permission": no_permission,
    "missing file": placed(lambda path: None),
    "dangling link": placed(lambda path: path.symlink_to("nowhere.png")),
    "link to itself": placed(lambda path: path.symlink_to(path)),
    "link to a picture outside the data folder": placed(
        outside, "followed, for the folder's owner put it there", SIDES
    ),
    "named pipe": placed(os.mkfifo),
    "`hub:` a path that leaves the data folder": of_hub("../a.png"),
    "`hub:` an address": of_hub("https://example.org/a.png"),
    "`hub:` a row without picture": of_hub(None),
}


# Questions and answers


def lines(*faulty: dict[str, Any] | bytes | str, sentence: str = "", answers: Any = None) -> Any:
    """A case of lines after a good one of jsonl, and another good one after them."""

    def make(folder: Path) -> Row:
        raw = [line if isinstance(line, bytes) else as_json(line) for line in (LINE, *faulty, LINE)]
        (folder / "train.jsonl").write_bytes(b"\n".join(raw))
        source = open_source(f"jsonl:{folder}")
        examples = source.examples("train")
        assert {1, 2 + len(faulty)} <= {e.question_id for e in examples}  # the good ones are there
        return row(examples, source.left_out("train"), len(faulty) + 2, sentence, answers)

    return make


def as_json(line: dict[str, Any] | str) -> bytes:
    return (line if isinstance(line, str) else json.dumps({**LINE, **line})).encode()


def row(
    examples: Sequence[VqaExample],
    left_out: Sequence[LeftOut],
    count: int,
    sentence: str,
    answers: Any,
) -> Row:
    """The row of some questions: all of them are stored, or one is left out."""
    if not left_out:
        assert len(examples) == count
        assert answers in (None, examples[1].answers)
        return STORED, sentence
    (fault,) = left_out
    return LEFT_OUT, f"{fault.where}: {fault.reason}"


def official(
    questions: Sequence[Any], annotations: Sequence[Any], *, sentence: str = "", answers: Any = None
) -> Any:
    """A case of VQAv2's train; the question 1 is good, and none but it and 2 is there."""

    def make(folder: Path) -> Row:
        write_official(folder, questions, annotations)
        source = open_source(f"vqav2:{folder}")
        examples = source.examples("train")
        assert examples[0] == VqaExample(1, 1, "What?", ("dog",))
        return row(examples, source.left_out("train"), len(questions), sentence, answers)

    return make


def write_official(folder: Path, questions: object, annotations: object = ()) -> None:
    names = {"OpenEnded_mscoco_train2014_questions": ("questions", questions)}
    names["mscoco_train2014_annotations"] = ("annotations", annotations)
    for name, (key, content) in names.items():
        (folder / f"v2_{name}.json").write_text(json.dumps({key: content}))


def asked(number: int, **fields: Any) -> dict[str, Any]:
    return {"question_id": number, "image_id": number, "question": "What?", **fields}


def given(number: int, answers: Any = ("dog",)) -> dict[str, Any]:
    return {"question_id": number, "answers": answers and [{"answer": text} for text in answers]}


def two_folders(folder: Path) -> Row:
    write_official(folder, [asked(1)], [given(1)])
    test = {"questions": [asked(1), asked(2)]}
    (folder / "v2_OpenEnded_mscoco_test2015_questions.json").write_text(json.dumps(test))
    source = open_source(f"vqav2:{folder}")
    source.examples("train")
    examples = source.examples("test")
    assert [e.question_id for e in examples] == [2]
    return row(examples, source.left_out("test"), 2, "", None)


def two_pictures(folder: Path) -> Row:
    return lines({"image": "b.png", "image_id": "a.png"})(folder)


def words(count: int, max_tokens: int, sentence: str = "") -> Any:
    """A case of a question of so many words, for a text model of so many tokens."""

    def make(folder: Path) -> Row:
        long = {**LINE, "question": " ".join(["why"] * count)}
        content = "\n".join(json.dumps(line) for line in (LINE, long, LINE))
        (folder / "train.jsonl").write_text(content)
        source = open_source(f"jsonl:{folder}")
        plan = make_plan(source, splits=["train"], text=Text(max_tokens=max_tokens))
        assert len(plan.splits["train"]) >= 2
        return row(plan.splits["train"], plan.left_out["train"], 3, sentence, None)

    return make


PAIR = [asked(1), asked(2)]

QUESTIONS: dict[str, Callable[[Path], Row]] = {
    "question id given twice, the rest equal or not": lines({"question_id": 1}),
    "line given twice, without question ids": lines({}, sentence="two questions"),
    "question without image": lines('{"question": "What?", "answer": "dog"}'),
    "image is null": lines({"image": None}),
    "path that leaves the data folder": lines({"image": "../a.png"}),
    "absolute path": lines({"image": "/data/a.png"}),
    "image id given to another picture": two_pictures,
    "empty question": lines({"question": ""}),
    "blank question": lines({"question": " \t"}),
    "question is no text": lines({"question": 7}),
    "NUL in a question": lines({"question": "a\0?"}),
    "lone surrogate in a question": lines({"question": "a\ud83d"}),
    "NUL or lone surrogate in an answer": lines({"answers": ["a", "\ud83d"]}),
    "NUL or lone surrogate in an id": lines({"question_id": "\0"}),
    "NUL or lone surrogate in a type": lines({"answer_type": "\0"}),
    "question id of a wrong type": lines({"question_id": 1.5}),
    "image id of a wrong type": lines({"image_id": True}),
    "whole number beyond 64 bits as id": lines({"question_id": 2**63}),
    "5,000 words that the text model has positions for": words(5000, 20_000, "as it is"),
    "more words than the text model has positions for": words(5000, 512),
    "zero answers": lines({"answer": None, "answers": []}, sentence="unanswered", answers=()),
    "answer is null": lines({"answer": None}, sentence="unanswered", answers=()),
    "null among answers": lines(
        {"answers": ["a", None]}, sentence="the others are its answers", answers=("a",)
    ),
    "one answer": lines({"answers": ["a"]}, sentence="as it is", answers=("a",)),
    "eleven answers": lines({"answers": ["a"] * 11}, sentence="as it is", answers=("a",) * 11),
    "answers that are numbers": lines(
        {"answers": [7, 2.0, 1.5]},
        sentence="7 as 7, 2.0 as 2, 1.5 as 1.5",
        answers=("7", "2", "1.5"),
    ),
    "answer is true or false": lines({"answer": True}),
    "answer is an object": lines({"answer": {"text": "dog"}}),
    "list in `answer`, or one text in `answers`": lines({"answers": "dog"}),
    "line of broken JSON": lines('{"image": "a.png", "question"'),
    "line that is no object": lines('["a.png", "What?", "dog"]'),
    "key twice in a line": lines('{"image": "a.png", "image": "b.png", "question": "What?"}'),
    "NaN in a line": lines('{"image": "a.png", "question": "What?", "answer": NaN}'),
    "last line cut short within a letter": lines('{"image": "é'.encode()[:-1]),
    "line of another split": lines({"split": "val"}),
    "`vqav2:` question without annotation": official(PAIR, [given(1)]),
    "`vqav2:` annotation without question": official(PAIR[:1], [given(1), given(2)]),
    "`vqav2:` second annotation of a question": official(PAIR[:1], [given(1), given(1)]),
    "`vqav2:` annotation without answers": official(PAIR, [given(1), {"question_id": 2}]),
    "`vqav2:` answers are null or none": official(
        PAIR, [given(1), given(2, None)], sentence="unanswered", answers=()
    ),
    "`vqav2:` question without image": official(
        [asked(1), {"question_id": 2, "question": "What?"}], [given(1), given(2)]
    ),
    "`vqav2:` image id of another folder": two_folders,
    "`vqav2:` entry that is no object": official([asked(1), "What?"], [given(1)]),
}


# Files and splits


def refused(write: Callable[[Path], str], *splits: str) -> Any:
    """A case of a data set; `write` returns its SPEC."""

    def make(folder: Path) -> Row:
        with pytest.raises(SourceError) as caught:
            make_plan(open_source(write(folder)), splits=splits or ["train"], text=Text())
        return REFUSED, str(caught.value)

    return make


def of_file(name: str, content: bytes | str, kind: str = "jsonl", *, whole: bool = False) -> Any:
    """A data set whose file `name` has this content."""

    def write(folder: Path) -> str:
        write_official(folder, [asked(1)], [given(1)])
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return f"{kind}:{folder / name if whole else folder}"

    return write


def without(name: str) -> Any:
    def write(folder: Path) -> str:
        write_official(folder, [asked(1)], [given(1)])
        (folder / name).unlink()
        return f"vqav2:{folder}"

    return write


def parquet(**splits: Sequence[int]) -> Any:
    """A data set of one row each, of pictures that differ."""

    def write(folder: Path) -> str:
        for number, (name, image_ids) in enumerate(splits.items()):
            columns = {"question": ["q?"], "answers": ["x"], "image_id": image_ids}
            table = pa.table({**columns, "image": [encoded(Image.new("L", (2, 2), number))]})
            pq.write_table(table, folder / f"{name}.parquet")
        return f"hub:{folder}"

    return write


QUESTION_FILE = "v2_OpenEnded_mscoco_train2014_questions.json"
ANNOTATION_FILE = "v2_mscoco_train2014_annotations.json"
GOOD = json.dumps(LINE) + "\n"

FILES: dict[str, Callable[[Path], Row]] = {
    "no such file or folder": refused(lambda folder: f"jsonl:{folder}/no.jsonl"),
    "named pipe": refused(
        lambda folder: os.mkfifo(folder / "a.jsonl") or f"jsonl:{folder / 'a.jsonl'}"
    ),
    "folder without `.jsonl`": refused(lambda folder: f"jsonl:{folder}"),
    "`.jsonl` that is not UTF-8": refused(
        of_file("train.jsonl", GOOD.encode() + GOOD.replace("dog", "chien né").encode("latin-1"))
    ),
    "`.jsonl` without lines": refused(of_file("train.jsonl", "\n")),
    "no line can be used": refused(of_file("train.jsonl", '{\n{"image": "a.png"}\n')),
    "half of the lines name a split": refused(
        of_file("all.jsonl", GOOD + json.dumps({**LINE, "split": "train"}), whole=True)
    ),
    "split that is not in the folder": refused(of_file("train.jsonl", GOOD), "train", "val"),
    "split that no line names": refused(
        of_file("all.jsonl", json.dumps({**LINE, "split": "train"}), whole=True), "val"
    ),
    "one file as two splits": refused(of_file("all.jsonl", GOOD, whole=True), "train", "val"),
    "split twice": refused(of_file("train.jsonl", GOOD), "train", "train"),
    "`vqav2:` no question file": refused(without(QUESTION_FILE)),
    "`vqav2:` no annotation file": refused(without(ANNOTATION_FILE)),
    "`vqav2:` not UTF-8": refused(of_file(QUESTION_FILE, b'{"questions": ["\xe9"]}', "vqav2")),
    "`vqav2:` truncated JSON": refused(of_file(QUESTION_FILE, '{"questions": [{"qu', "vqav2")),
    "`vqav2:` JSON of the wrong shape": refused(of_file(QUESTION_FILE, "[]", "vqav2")),
    "`vqav2:` key twice in an object": refused(
        of_file(ANNOTATION_FILE, '{"annotations": [], "annotations": []}', "vqav2")
    ),
    "`vqav2:` NaN or Infinity": refused(
        of_file(ANNOTATION_FILE, '{"annotations": [NaN]}', "vqav2")
    ),
    "`vqav2:` empty split": refused(of_file(QUESTION_FILE, '{"questions": []}', "vqav2")),
    "`vqav2:` files of two releases": refused(
        of_file(ANNOTATION_FILE, json.dumps({"annotations": [given(9)]}), "vqav2")
    ),
    "`hub:` no such split": refused(parquet(train=[1]), "test"),
    "`hub:` one split under two names": refused(parquet(validation=[1]), "val", "validation"),
    "`hub:` image ids that start anew in each split": refused(
        parquet(train=[0], val=[0]), "train", "val"
    ),
}


SECTIONS = {
    "Pictures": PICTURES,
    "Questions and answers": QUESTIONS,
    "Files and splits": FILES,
}
CASES = [(section, name) for section, cases in SECTIONS.items() for name in cases]


def rows_of_page(section: str) -> dict[str, Row]:
    """Return the rows of the page's table by input."""
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    rows: dict[str, Row] = {}
    for line in re.findall(r"^\| (.*) \|$", body, re.MULTILINE)[1:]:
        name, outcome, sentence = line.split(" | ")
        assert name not in rows, f"{name} stands twice"
        rows[name] = outcome, re.sub(r"^(`+) ?(.*?) ?\1$", r"\2", sentence)
    return rows


def plainly(sentence: str, folder: Path) -> str:
    """Write the folder as DATA, the encoder as MODEL, and what a library says as "…"."""
    sentence = sentence.replace(str(folder), "DATA").replace(Text.name, "MODEL")
    return re.sub(r"(damaged|cannot be read) \(.*\)$", r"\1 (…)", sentence)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("section", "name"), CASES)
def test_the_page_says_what_happens(section: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()

    outcome, sentence = SECTIONS[section][name](folder)

    assert rows_of_page(section)[name] == (outcome, plainly(sentence, folder))
    assert "\n" not in sentence


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_no_other_rows(section: str) -> None:
    assert list(rows_of_page(section)) == list(SECTIONS[section])
