"""The columns and rows of a Hugging Face data set: their names and types, and wrong values."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Features, Value

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import LeftOut, VqaExample
from frozen_vqa.pipeline.sources.hub import HubSource
from tests.support.hub_data import (
    _offline,  # noqa: F401  (a fixture)
    plain,
    png,
    row,
    save,
)


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


def save_classes(folder: Path, classes: list[int | None]) -> None:
    features = Features(
        {
            "image": datasets.Image(),
            "question": Value("string"),
            "answers": ClassLabel(names=["cat", "dog"]),
        }
    )
    image = {"bytes": png("red"), "path": None}
    rows = [{"image": image, "question": "q?", "answers": number} for number in classes]
    save(folder / "train.parquet", rows, features)


def test_a_class_answer_is_its_name(tmp_path: Path) -> None:
    save_classes(tmp_path, [1, 0])

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


def test_answers_may_be_null_or_any_number_of_them(tmp_path: Path) -> None:
    columns = {"question": ["q?"] * 4, "image_id": [1] * 4, "image": [png("red")] * 4}
    plain(tmp_path / "train.parquet", **columns, answers=[["a"], [], None, None])
    plain(tmp_path / "val.parquet", **columns, answers=[["x"] * n for n in (0, 1, 10, 11)])
    source = HubSource(str(tmp_path))

    seen = [e.answers for e in source.examples("train")]
    assert seen == [("a",)]
    assert [len(e.answers) for e in source.examples("val")] == [1, 10, 11]
    assert [fault.question_id for fault in source.left_out("train")] == [1, 2, 3]
    assert [fault.question_id for fault in source.left_out("val")] == [0]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("question", 5, "column 'question' of .*train.parquet holds int64, and text is needed"),
        ("question_id", 1.5, "column 'question_id' .* holds double, and text or whole numbers are"),
        ("answers", True, "column 'answers' .* holds bool, and a text, a list of texts, or rec"),
        ("image", 5, "column 'image' .* holds int64, and pictures are needed"),
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
        SourceError, match=r"train: there are no questions; at least one is needed\."
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


def test_a_class_that_is_not_there_or_not_given(tmp_path: Path) -> None:
    """`datasets` stores -1 for the unknown class of a test split."""
    save_classes(tmp_path, [-1, None])
    source = HubSource(str(tmp_path))

    assert [e.answers for e in source.examples("train")] == [(), ()]


def test_a_class_that_no_name_is_given_for_costs_its_row(tmp_path: Path) -> None:
    """`datasets` itself would not write one."""
    note = {"info": {"features": Features({"answers": ClassLabel(names=["cat"])}).to_dict()}}
    columns = {"question": ["q?"] * 3, "image": [png("red")] * 3, "answers": [0, 1, -2]}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(note)})
    pq.write_table(table, tmp_path / "train.parquet")
    source = HubSource(str(tmp_path))

    assert [e.answers for e in source.examples("train")] == [("cat",)]
    assert [fault.reason for fault in source.left_out("train")] == [
        "class 1 is not among 0 to 0",
        "class -2 is not among 0 to 0",
    ]
