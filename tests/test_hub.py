"""Hugging Face data sets, through the real `datasets`, from parquet made here. No network."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from lmms_lab import LMMS_LAB
from PIL import Image

from pipeline.checks import UnusableError
from pipeline.errors import ImageError, SourceError
from pipeline.examples import LeftOut, VqaExample
from pipeline.hub import HubSource
from pipeline.hub_rows import example_of
from pipeline.images import load_rgb


@pytest.fixture(autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), color).save(buffer, "PNG")
    return buffer.getvalue()


def row(question_id: int, image_id: int, color: str, answers: Sequence[str] | None) -> dict:
    return {
        "question_type": "what is" if answers else None,
        "multiple_choice_answer": answers[0] if answers else None,
        "answers": None
        if answers is None
        else [
            {"answer": a, "answer_confidence": "yes", "answer_id": n}
            for n, a in enumerate(answers, 1)
        ],
        "image_id": image_id,
        "answer_type": "other" if answers else None,
        "question_id": question_id,
        "question": f"Question {question_id}?",
        "image": {"bytes": png(color), "path": None},
    }


def save(file: Path, rows: list[dict], features: Features | None = LMMS_LAB) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(file)
    return file


def plain(file: Path, **columns: list[Any]) -> Path:
    """Save parquet without the notes that `datasets` leaves in a file of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)
    return file


@pytest.fixture
def lmms_lab(tmp_path: Path) -> Path:
    """A folder as `hf download` leaves it: two shards of validation, one of testdev."""
    data = tmp_path / "VQAv2 [copy]" / "data"  # brackets mean something to a glob
    save(
        data / "validation-00000-of-00002.parquet",
        [row(10, 1, "red", ["dog"] * 10), row(11, 1, "red", ["yes", "no"])],
    )
    save(data / "validation-00001-of-00002.parquet", [row(20, 2, "blue", ["2"])])
    save(data / "testdev-00000-of-00001.parquet", [row(30, 3, "lime", None)])
    return data.parent


def test_the_columns_of_lmms_lab_are_the_default(lmms_lab: Path) -> None:
    examples = HubSource(str(lmms_lab)).examples("validation")

    assert examples == [
        VqaExample(10, 1, "Question 10?", ("dog",) * 10, "what is", "other"),
        VqaExample(11, 1, "Question 11?", ("yes", "no"), "what is", "other"),
        VqaExample(20, 2, "Question 20?", ("2",), "what is", "other"),
    ]


def test_null_answers_are_a_test_split(lmms_lab: Path) -> None:
    assert HubSource(str(lmms_lab)).examples("test-dev") == [VqaExample(30, 3, "Question 30?", ())]


def test_pictures_are_fetched_by_row_as_stored(lmms_lab: Path) -> None:
    source = HubSource(str(lmms_lab))
    source.examples("val")
    source.examples("testdev")

    assert source.picture(1) == png("red")
    assert load_rgb(source.picture(2)).getpixel((0, 0)) == (0, 0, 255)
    assert source.picture(3) == png("lime")
    assert source.where(2) == f"hub:{lmms_lab}, validation row 2"


def test_reading_questions_loads_no_picture(
    lmms_lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a picture was touched")

    monkeypatch.setattr("pipeline.hub._value", fail)
    monkeypatch.setattr(datasets.Image, "decode_example", fail)
    source = HubSource(str(lmms_lab))

    assert len(source.examples("val")) == 3
    with pytest.raises(AssertionError, match="a picture was touched"):
        source.picture(1)


def test_only_the_split_that_is_asked_for_is_prepared(lmms_lab: Path) -> None:
    (lmms_lab / "data" / "testdev-00000-of-00001.parquet").write_bytes(b"cut short")
    source = HubSource(str(lmms_lab))

    assert len(source.examples("val")) == 3
    with pytest.raises(SourceError, match="cannot be loaded"):
        source.examples("testdev")


@pytest.mark.parametrize("split", ["val", "validation", "valid", "dev"])
def test_splits_have_several_usual_names(lmms_lab: Path, split: str) -> None:
    assert len(HubSource(str(lmms_lab)).examples(split)) == 3


def test_an_unknown_split_lists_those_there(lmms_lab: Path) -> None:
    with pytest.raises(SourceError, match="no split 'train'; there are: testdev, validation"):
        HubSource(str(lmms_lab)).examples("train")


def test_files_may_be_named_after_splits(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", [row(1, 1, "red", ["a"])])
    save(tmp_path / "my_split.parquet", [row(2, 2, "red", ["a"])])
    source = HubSource(str(tmp_path))

    assert source.examples("train")[0].question_id == 1
    assert source.examples("my_split")[0].question_id == 2


def test_a_file_is_the_split_of_its_name_or_any_one(tmp_path: Path) -> None:
    named = save(tmp_path / "validation-00000-of-00001.parquet", [row(1, 1, "red", ["a"])])
    other = save(tmp_path / "vqa.parquet", [row(1, 1, "red", ["a"])])

    assert len(HubSource(str(named)).examples("val")) == 1
    with pytest.raises(SourceError, match="no split 'train'; there are: validation"):
        HubSource(str(named)).examples("train")
    source = HubSource(str(other))
    assert source.examples("train") == source.examples("train")
    assert source.where(1) == f"hub:{other}, train row 0"
    with pytest.raises(SourceError, match="read as split 'train', so it cannot be 'val' too"):
        source.examples("val")


def test_another_layout_is_left_to_datasets(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name, color in {"a": "red", "b": "blue"}.items():
        (tmp_path / "train" / f"{name}.png").write_bytes(png(color))
    (tmp_path / "train" / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "question": "q?", "answer": "x"}\n'
        '{"file_name": "b.png", "question": "q?", "answer": "y"}\n'
    )
    source = HubSource(str(tmp_path), {"answers": "answer"})

    first, second = source.examples("train")

    assert (first.answers, second.answers) == (("x",), ("y",))
    assert load_rgb(source.picture(second.image_id)).getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(SourceError, match="no split 'val'; there are: train"):
        source.examples("val")


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    plain(
        tmp_path / "train.parquet",
        query=["a?", "b?"],
        label=[["x", "y"], ["z"]],
        picture=[{"bytes": png("red")}, {"bytes": png("blue")}],
        key=["k1", "k2"],
    )
    columns = {"question": "query", "answers": "label", "image": "picture", "image_id": "key"}
    source = HubSource(str(tmp_path), columns)

    assert source.examples("train") == [
        VqaExample(0, "k1", "a?", ("x", "y")),
        VqaExample(1, "k2", "b?", ("z",)),
    ]
    assert source.picture("k2") == png("blue")


def test_without_image_ids_equal_pictures_are_one(tmp_path: Path) -> None:
    for split, colors in {"train": ["red", "blue", "red"], "val": ["blue"]}.items():
        plain(
            tmp_path / f"{split}.parquet",
            question=["q?"] * len(colors),
            answers=["x"] * len(colors),
            image=[png(color) for color in colors],
        )
    source = HubSource(str(tmp_path))

    first, second, third = (e.image_id for e in source.examples("train"))

    assert first == third != second
    assert [e.image_id for e in source.examples("val")] == [second]
    assert source.picture(second) == png("blue")


def test_a_class_answer_is_its_name(tmp_path: Path) -> None:
    features = Features(
        {
            "image": datasets.Image(),
            "question": Value("string"),
            "answers": ClassLabel(names=["cat", "dog"]),
        }
    )
    rows = [
        {"image": {"bytes": png("red"), "path": None}, "question": "q?", "answers": n}
        for n in (1, 0)
    ]
    save(tmp_path / "train.parquet", rows, features)

    seen = [e.answers for e in HubSource(str(tmp_path)).examples("train")]

    assert seen == [("dog",), ("cat",)]


def test_old_lists_of_records_are_read(tmp_path: Path) -> None:
    plain(
        tmp_path / "train.parquet",
        question=["q?"],
        answers=[{"answer": ["x", "y"], "answer_id": [1, 2]}],
        image=[png("red")],
    )

    assert HubSource(str(tmp_path)).examples("train")[0].answers == ("x", "y")


def with_paths(folder: Path, *paths: str | None) -> HubSource:
    """A data set of paths in place of pictures; the image ids are 0, 1, …"""
    count = len(paths)
    plain(
        folder / "train.parquet",
        question=["q?"] * count,
        answers=["x"] * count,
        image=list(paths),
        image_id=list(range(count)),
    )
    source = HubSource(str(folder))
    assert len(source.examples("train")) == count
    return source


def test_pictures_may_be_paths_beside_the_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png("red"))
    address = "https://example.org/a.png"
    source = with_paths(tmp_path, "a.png", str(tmp_path / "a.png"), "x/../a.png", address, None)

    for image_id in (0, 1, 2):
        assert source.picture(image_id) == tmp_path / "a.png"
    with pytest.raises(
        ImageError, match=r"^the row has an address, 'https://example\.org/a\.png', "
    ):
        source.picture(3)
    with pytest.raises(ImageError, match=r"^the row has no picture$"):
        source.picture(4)


def test_a_path_that_leaves_the_data_folder_is_refused(tmp_path: Path) -> None:
    paths = ["../a.png", str(tmp_path / "a.png"), "b/../../a.png", "/etc/passwd"]
    (tmp_path / "a.png").write_bytes(png("red"))
    source = with_paths(tmp_path / "data", *paths)

    for image_id, path in enumerate(paths):
        with pytest.raises(ImageError) as caught:
            source.picture(image_id)
        assert str(caught.value) == f"path {path!r} leaves the data folder; copy the picture there"


def test_a_data_folder_may_be_a_link_and_hold_links(tmp_path: Path) -> None:
    """`datasets` gives paths in the resolved folder; a link inside it is the owner's wish."""
    (tmp_path / "real").mkdir()
    (tmp_path / "a.png").write_bytes(png("red"))
    (tmp_path / "real" / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "data").symlink_to(tmp_path / "real")
    source = with_paths(tmp_path / "data", "link.png", str(tmp_path / "real" / "link.png"))

    assert load_rgb(source.picture(0)).size == (4, 3)
    assert load_rgb(source.picture(1)).size == (4, 3)


def test_pictures_that_datasets_has_fetched_are_read_from_its_cache(tmp_path: Path) -> None:
    fetched = Path(datasets.config.HF_DATASETS_CACHE) / "downloads" / "a.png"

    assert with_paths(tmp_path, str(fetched)).picture(0) == fetched


def test_a_row_without_picture_is_left_out_where_pictures_are_told_by_content(
    tmp_path: Path,
) -> None:
    plain(
        tmp_path / "train.parquet",
        question=["q?", "q?", "r?"],
        answers=["x"] * 3,
        image=[png("red"), None, png("red")],
    )
    source = HubSource(str(tmp_path))

    assert [e.question_id for e in source.examples("train")] == [0, 2]
    reason = "the row has no picture, or no id of one; both are needed"
    assert source.left_out("train") == [LeftOut(1, f"hub:{tmp_path}, train row 1", reason)]


def test_image_ids_that_start_anew_in_each_split_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", [row(1, 0, "red", ["a"]), row(2, 1, "blue", ["a"])])
    save(tmp_path / "val.parquet", [row(3, 5, "red", ["a"]), row(4, 1, "lime", ["a"])])
    source = HubSource(str(tmp_path))
    source.examples("train")

    with pytest.raises(SourceError, match=r"image_id 1 is one picture in train and another in val"):
        source.examples("val")

    by_content = HubSource(str(tmp_path), {"image_id": ""})
    ids = {e.image_id for split in ("train", "val") for e in by_content.examples(split)}
    assert len(ids) == 3


def test_a_picture_that_two_splits_share_is_fine(tmp_path: Path) -> None:
    save(tmp_path / "test.parquet", [row(1, 7, "red", None), row(2, 8, "blue", None)])
    save(tmp_path / "testdev.parquet", [row(1, 8, "blue", None)])
    source = HubSource(str(tmp_path))

    assert source.examples("test")[1].image_id == source.examples("test-dev")[0].image_id


def test_a_missing_column_lists_those_there(tmp_path: Path) -> None:
    plain(tmp_path / "train.parquet", query=["q?"], answers=["x"], image=[png("red")])

    with pytest.raises(
        SourceError,
        match=r"no column 'question' .*are: query, answers, image.* --column question=query",
    ):
        HubSource(str(tmp_path)).examples("train")
    with pytest.raises(SourceError, match=r"no column 'nr' for the question_id"):
        HubSource(str(tmp_path), {"question": "query", "question_id": "nr"}).examples("train")


def test_answers_may_be_said_to_be_absent(tmp_path: Path) -> None:
    plain(tmp_path / "test.parquet", question=["q?"], image=[png("red")])

    with pytest.raises(SourceError, match=r"no column 'answers'.*--column answers= if it has none"):
        HubSource(str(tmp_path)).examples("test")
    assert HubSource(str(tmp_path), {"answers": ""}).examples("test")[0].answers == ()
    with pytest.raises(SourceError, match="a column for the question is needed"):
        HubSource(str(tmp_path), {"answers": "", "question": ""}).examples("test")


def test_an_unknown_field_is_refused_with_a_hint() -> None:
    with pytest.raises(SourceError, match=r"no field 'questions'.*Did you mean 'question'"):
        HubSource("some/name", {"questions": "query"})


@pytest.mark.parametrize(
    ("column", "good", "value", "reason"),
    [
        ("question", "q?", None, "question is null; text is needed"),
        ("question", "q?", "a\0b", r"question 'a\x00b' holds a NUL or half of a surrogate pair"),
        ("question", "q?", " ", "question is blank; text is needed"),
        ("answers", ["x"], ["a\0"], r"an answer 'a\x00' holds a NUL"),
        ("answers", [1.0], [float("nan")], "an answer is nan; text or a number is needed"),
        ("image_id", "k", None, "the row has no picture, or no id of one; both are needed"),
        ("image_id", "k", "", "image_id is ''; text or a whole number of 64 bits is needed"),
        ("question_type", "t", "\0", r"question_type '\x00' holds a NUL"),
    ],
)
def test_a_row_with_a_wrong_value_is_left_out(
    tmp_path: Path, column: str, good: object, value: object, reason: str
) -> None:
    columns = {
        "question": ["q?"] * 3,
        "answers": [["x"]] * 3,
        "image_id": ["k"] * 3,
        "question_id": [11, 12, 13],
        "image": [png("red")] * 3,
    }
    plain(tmp_path / "train.parquet", **{**columns, column: [good, value, good]})
    source = HubSource(str(tmp_path))

    assert [e.question_id for e in source.examples("train")] == [11, 13]
    (fault,) = source.left_out("train")
    assert (fault.question_id, fault.where) == (12, f"hub:{tmp_path}, train row 1")
    assert fault.reason.startswith(reason)


def test_answers_may_be_numbers_null_or_any_number_of_them(tmp_path: Path) -> None:
    columns = {"question": ["q?"] * 4, "image_id": [1] * 4, "image": [png("red")] * 4}
    answers = [[1.5, 2.0], [], None, [None, 3.0]]
    plain(tmp_path / "train.parquet", **columns, answers=answers)
    plain(tmp_path / "val.parquet", **columns, answers=[["x"] * n for n in (0, 1, 10, 11)])
    source = HubSource(str(tmp_path))

    seen = [e.answers for e in source.examples("train")]
    assert seen == [("1.5", "2"), (), (), ("3",)]
    assert [len(e.answers) for e in source.examples("val")] == [0, 1, 10, 11]
    assert source.left_out("train") == source.left_out("val") == []


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("question", 5, r"row 0: question is 5; text is needed\. Mend"),
        ("question_id", 1.5, r"row 0: question_id is 1\.5; text or a whole number"),
        ("answers", True, "row 0: an answer is true; text or a number is needed"),
        ("image", 5, "column 'image' holds .*int64.*, and pictures are needed"),
    ],
)
def test_a_column_of_the_wrong_type_is_refused(
    tmp_path: Path, column: str, value: object, reason: str
) -> None:
    columns = {
        "question": ["q?"] * 2,
        "answers": ["x"] * 2,
        "image_id": ["k"] * 2,
        "question_id": [1, 2],
        "image": [png("red")] * 2,
    }
    plain(tmp_path / "train.parquet", **{**columns, column: [value] * 2})

    with pytest.raises(SourceError, match=reason):
        HubSource(str(tmp_path)).examples("train")


def test_a_split_without_rows_is_refused(tmp_path: Path) -> None:
    empty = pa.table({"question": pa.array([], pa.string()), "answers": pa.array([], pa.string())})
    empty = empty.append_column("image", pa.array([], pa.binary()))
    pq.write_table(empty, tmp_path / "train.parquet")

    with pytest.raises(
        SourceError, match=r"a parquet file has no rows, and a split needs one at least\. "
    ):
        HubSource(str(tmp_path)).examples("train")


def test_of_equal_question_ids_the_first_is_kept(tmp_path: Path) -> None:
    rows = [row(1, 1, "red", ["a"]), row(1, 9, "lime", ["b"]), row(2, 2, "blue", ["c"])]
    save(tmp_path / "train.parquet", rows)
    source = HubSource(str(tmp_path))

    assert [e.answers for e in source.examples("train")] == [("a",), ("c",)]
    reason = (
        "question_id 1 was used before, in row 0; the first is kept. Rows are counted by "
        "--column question_id="
    )
    assert source.left_out("train") == [LeftOut(1, f"hub:{tmp_path}, train row 1", reason)]
    assert source.picture(2) == png("blue")  # rows are counted with those left out
    assert source.where(2) == f"hub:{tmp_path}, train row 2"
    assert len(HubSource(str(tmp_path), {"question_id": ""}).examples("train")) == 3


def test_one_split_under_two_names_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "validation.parquet", [row(1, 1, "red", ["a"])])
    source = HubSource(str(tmp_path))
    assert source.examples("val") == source.examples("val")

    with pytest.raises(SourceError) as caught:
        source.examples("validation")
    assert str(caught.value) == (
        f"hub:{tmp_path}: 'validation' and 'val' are one split here, 'validation'. "
        "Give each split once."
    )


def test_a_class_that_is_not_there_or_not_given(tmp_path: Path) -> None:
    """`datasets` stores -1 for the unknown class of a test split."""
    features = Features(
        {
            "image": datasets.Image(),
            "question": Value("string"),
            "answers": ClassLabel(names=["cat", "dog"]),
        }
    )
    rows = [
        {"image": {"bytes": png("red"), "path": None}, "question": "q?", "answers": n}
        for n in (1, -1, None)
    ]
    save(tmp_path / "train.parquet", rows, features)
    source = HubSource(str(tmp_path))

    assert [e.answers for e in source.examples("train")] == [("dog",), (), ()]
    classes = {"answers": ["cat", "dog"]}
    with pytest.raises(UnusableError, match=r"^answers is class 7; there are 0 to 1$"):
        example_of({"image_id": 1, "question": "q?", "answers": 7}, 0, classes)


def test_a_damaged_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")

    with pytest.raises(SourceError, match=r"cannot be loaded \(Arrow"):
        HubSource(str(tmp_path)).examples("train")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be loaded"):
        HubSource(str(tmp_path)).examples("train")


def test_offline_and_not_cached_is_said_so() -> None:
    with pytest.raises(SourceError, match=r"hub:some/name: offline mode is on \(HF_HUB_OFFLINE\)"):
        HubSource("some/name").examples("train")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            datasets.exceptions.DatasetNotFoundError(
                "Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated"
            ),
            "gated. Ask for access .*`hf auth login`",
        ),
        (
            datasets.exceptions.DatasetNotFoundError(
                "Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."
            ),
            "no such data set on the Hub",
        ),
        (ConnectionError("Couldn't reach 'a/b' on the Hub (ConnectError)"), "Check the network"),
        (
            RuntimeError("Dataset scripts are no longer supported, but found b.py"),
            "a loading script.*in parquet",
        ),
        (
            ValueError("Config name is missing.\nPlease pick one among ['x', 'y']"),
            "several configurations",
        ),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_errors_of_the_hub_are_one_sentence_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    with pytest.raises(SourceError, match=f"hub:a/b: .*{reason}") as caught:
        HubSource("a/b").examples("train")
    assert "\n" not in str(caught.value)


def test_a_loading_script_is_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "vqa"
    folder.mkdir()
    (folder / "vqa.py").write_text("raise SystemExit('it ran')")

    with pytest.raises(SourceError, match="loading script"):
        HubSource(str(folder)).examples("train")
