"""The rows of docs/bad-inputs.md about typed columns and about files that are replaced."""

import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.bad_inputs import REFUSED, STORED, Row
from tests.support.hub_data import png
from tests.support.replaced_files import KINDS, Write, replace

SPEC = "hub:{}"
NAMES = {"_type": "ClassLabel", "names": ["cat", "dog"]}
TEXT = {"_type": "Value", "dtype": "string"}


def column(
    field: str,
    value: Any,
    kind: pa.DataType | None = None,
    *,
    note: Any = None,
    card: str = "",
    sentence: str = "",
    seen: Any = None,
) -> Callable[[Path], Row]:
    """A case of one row whose `field` has this value; `note` is what `datasets` says of it."""

    def make(folder: Path) -> Row:
        row = {"question": pa.array(["q?"]), "answers": pa.array(["x"]), "image": [png("red")]}
        array = value if isinstance(value, pa.Array) else pa.array([value], kind)
        table = pa.table({**row, field: array})
        if note:
            notes = {"info": {"features": {field: note}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(notes)})
        pq.write_table(table, folder / "train.parquet")
        if card:
            (folder / "README.md").write_text(card)
        return outcome(SPEC.format(folder), field, sentence, seen)

    return make


def outcome(spec: str, field: str, sentence: str, seen: Any) -> Row:
    """The row of a set of one question, whose `field` is expected to be `seen`."""
    if seen is None:
        with pytest.raises(SourceError) as caught:
            open_source(spec).examples("train")
        return REFUSED, str(caught.value)
    source = open_source(spec)
    example = source.examples("train")[0]
    found = source.picture(example.image_id) if field == "image" else getattr(example, field)
    assert found == seen
    return STORED, sentence


def answers(value: Any, kind: pa.DataType | None = None, **how: Any) -> Callable[[Path], Row]:
    return column("answers", value, kind, **how)


def csv(answer: str, sentence: str = "", seen: Any = None) -> Callable[[Path], Row]:
    """A case of a CSV file of one row with this answer."""

    def make(folder: Path) -> Row:
        content = f"image,question,image_id,answers\na.png,q?,1,{answer}\n"
        (folder / "train.csv").write_text(content)
        return outcome(SPEC.format(folder), "answers", sentence, seen)

    return make


def json_lines(*values: Any, sentence: str = "", seen: Any = None) -> Callable[[Path], Row]:
    """A case of JSON lines with these answers; `seen` is what is read of the first."""

    def make(folder: Path) -> Row:
        lines = [{"image": "a.png", "question": "q?", "image_id": 1, "answers": v} for v in values]
        (folder / "train.json").write_text("\n".join(json.dumps(line) for line in lines))
        return outcome(SPEC.format(folder), "answers", sentence, seen)

    return make


def two_files(**second: Any) -> Callable[[Path], Row]:
    """A case of two files of a split, the second of which has other columns."""

    def make(folder: Path) -> Row:
        row = {"question": ["q?"], "answers": ["x"], "image": [png("red")], "image_id": [1]}
        for number, columns in enumerate([row, {**row, **second}]):
            table = pa.table({name: value for name, value in columns.items() if value})
            pq.write_table(table, folder / f"train-0000{number}-of-00002.parquet")
        return outcome(SPEC.format(folder), "answers", "", None)

    return make


def twice(folder: Path) -> Row:
    names, values = ["question", "image", "answers", "answers"], ["q?", png("red"), "x", "y"]
    table = pa.Table.from_arrays([pa.array([value]) for value in values], names)
    pq.write_table(table, folder / "train.parquet")
    return outcome(SPEC.format(folder), "answers", "", None)


def not_utf8() -> pa.Array:
    return pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"], pa.binary()).buffers())


def json_values(*values: str) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(values))


def replaced(write: Write) -> Callable[[Path], Row]:
    def make(folder: Path) -> Row:
        open_source(write(folder, "cat")).examples("train")
        replace(write, folder, "dog")
        return outcome(write(folder, "dog"), "answers", "read anew", ("dog",))

    return make


CARD = (
    "---\ndataset_info:\n  features:\n  - name: answers\n    dtype:\n      class_label:\n"
    "        names:\n          '0': cat\n          '1': dog\n---\n"
)
DAY = datetime.date(2020, 1, 2)
MOMENT = datetime.datetime(2020, 1, 2, 3)
OF_TEXT = pa.struct({"text": pa.string()})
LABELS = pa.list_(pa.int64())

COLUMNS: dict[str, Callable[[Path], Row]] = {
    "answer: large text": answers("a", pa.large_string(), sentence="as it is", seen=("a",)),
    "answer: text view": answers("a", pa.string_view(), sentence="as it is", seen=("a",)),
    "answer: dictionary of texts, as pandas writes a category": answers(
        pa.array(["a"]).dictionary_encode(), sentence="the text", seen=("a",)
    ),
    "answer: class label": answers(1, note=NAMES, sentence="the name of the class", seen=("dog",)),
    "answer: class label in 8 bits": answers(
        1, pa.int8(), note=NAMES, sentence="the name of the class", seen=("dog",)
    ),
    "answer: class label that only the card of the set names": answers(
        1, card=CARD, sentence="the name of the class", seen=("dog",)
    ),
    "answer: class -1, which is not given": answers(-1, note=NAMES, sentence="unanswered", seen=()),
    "answers: list of class labels": answers(
        [1, 0],
        note={"_type": "List", "feature": NAMES},
        sentence="their names",
        seen=("dog", "cat"),
    ),
    "answers: large list of class labels": answers(
        [1, 0],
        pa.large_list(pa.int32()),
        note={"_type": "List", "feature": NAMES},
        sentence="their names",
        seen=("dog", "cat"),
    ),
    "answers: old `Sequence` of class labels": answers(
        [1], LABELS, note={"_type": "Sequence", "feature": NAMES}, sentence="names", seen=("dog",)
    ),
    "answers: list of records with a class label": answers(
        [{"answer": 1}],
        note={"_type": "List", "feature": {"answer": NAMES}},
        sentence="its name",
        seen=("dog",),
    ),
    "answers: old `Sequence` of records with a class label": answers(
        {"answer": [1, 1]},
        note={"_type": "Sequence", "feature": {"answer": NAMES}},
        sentence="their names",
        seen=("dog", "dog"),
    ),
    "answers: record of a list": answers({"answer": ["a", "b"]}, sentence="both", seen=("a", "b")),
    "answers: list of a fixed length": answers(
        ["a", "b"], pa.list_(pa.string(), 2), sentence="both", seen=("a", "b")
    ),
    "answers: JSON values": answers(json_values('["a"]'), sentence="the values", seen=("a",)),
    "answers: column of nulls": answers(None, pa.null(), sentence="unanswered", seen=()),
    "answer: class label whose names are lost": answers(1),
    "answers: list of class labels whose names are lost": answers([0, 1]),
    "answer: unsigned number": answers(1, pa.uint8()),
    "answer: float": answers(2.0),
    "answer: half-precision float": answers(2.0, pa.float16()),
    "answer: decimal": answers(decimal.Decimal("1.50")),
    "answer: true or false in a column": answers(True),
    "answer: date": answers(DAY),
    "answer: time stamp": answers(MOMENT),
    "answer: time stamp with a zone": answers(MOMENT, pa.timestamp("s", "UTC")),
    "answer: time of day": answers(datetime.time(1, 2)),
    "answer: duration": answers(datetime.timedelta(seconds=3)),
    "answer: bytes": answers(b"a"),
    "answer: bytes of a fixed length": answers(b"ab", pa.binary(2)),
    "answer: map": answers([("answer", "a")], pa.map_(pa.string(), pa.string())),
    "answer: record without `answer`": answers({"text": "a"}),
    "answers: list of records without `answer`": answers([{"text": "a"}], pa.list_(OF_TEXT)),
    "answers: list of records with a number": answers([{"answer": 1}]),
    "answers: list of lists": answers([["a"]]),
    "answers: list of time stamps": answers([MOMENT]),
    "answers: list of floats": answers([1.5]),
    "answers: list of bytes": answers([b"a"]),
    "answers: JSON value of another form": answers(json_values('{"text": "a"}')),
    "answers: JSON value that is a number": answers(json_values("7")),
    "answers: null in a list of texts": answers(["a", None]),
    "answers: empty text in a list": answers(["a", ""]),
    "answers: class -1 in a list": answers([-1], note={"_type": "List", "feature": NAMES}),
    "question: number": column("question", 5),
    "question: true or false": column("question", True),
    "question: list of texts": column("question", ["q?"]),
    "question: bytes": column("question", b"q?"),
    "question: date": column("question", DAY),
    "question: column of nulls": column("question", None, pa.null()),
    "question: text that is not UTF-8": column("question", not_utf8()),
    "question: dictionary of texts": column(
        "question", pa.array(["q?"]).dictionary_encode(), sentence="the text", seen="q?"
    ),
    "question id: float": column("question_id", 1.0),
    "question id: true or false in a column": column("question_id", True),
    "question id: date": column("question_id", DAY),
    "question id: list": column("question_id", [1]),
    "question id: column of nulls": column("question_id", None, pa.null()),
    "question id: number of 8 bits": column(
        "question_id", 7, pa.uint8(), sentence="as it is", seen=7
    ),
    "image id: bytes": column("image_id", b"a"),
    "image id: decimal": column("image_id", decimal.Decimal("7")),
    "image id: large text": column(
        "image_id", "a", pa.large_string(), sentence="as it is", seen="a"
    ),
    "image id: class label": column("image_id", 1, note=NAMES, sentence="its name", seen="dog"),
    "question type: number": column("question_type", 5),
    "question type: class label": column(
        "question_type", 0, note=NAMES, sentence="its name", seen="cat"
    ),
    "answer type: list": column("answer_type", ["other"]),
    "answer type: column of nulls": column(
        "answer_type", None, pa.null(), sentence="none", seen=""
    ),
    "picture: number": column("image", 5),
    "picture: list of pictures": column("image", [png("red")]),
    "picture: pixels as a list of numbers": column("image", [[1, 2], [3, 4]]),
    "picture: record without bytes or path": column("image", {"url": "a.png"}),
    "picture: record of a list of bytes": column("image", {"bytes": [1, 2]}),
    "picture: column of nulls": column("image", None, pa.null()),
    "picture: large bytes": column(
        "image", png("blue"), pa.large_binary(), sentence="as it is", seen=png("blue")
    ),
    "picture: record of bytes alone": column(
        "image", {"bytes": png("blue")}, sentence="as it is", seen=png("blue")
    ),
    "column given twice": twice,
    "split whose files have answers of two types": two_files(answers=[5]),
    "split whose files differ in their columns": two_files(image_id=None),
    "JSON: texts that look like dates": json_lines("2015-01-01", "2016-01-01"),
    "JSON: a text that looks like a date beside others": json_lines(
        "2015-01-01", "dog", sentence="the text", seen=("2015-01-01",)
    ),
    "JSON: number beside a text": json_lines(7, "dog"),
    "JSON: null before a text": json_lines(None, "dog", sentence="the text alone", seen=("dog",)),
    "JSON: the text null beside a list": json_lines("null", ["dog"]),
    "JSON: text beside a list": json_lines("cat", ["dog"], sentence="the text", seen=("cat",)),
    "JSON: objects of different keys": json_lines(
        [{"answer": "cat", "nr": 1}], [{"answer": "dog"}], sentence="the text", seen=("cat",)
    ),
    "JSON: objects, one of them without `answer`": json_lines(
        [{"answer": "cat"}], [{"text": "dog"}]
    ),
    "CSV: NA": csv("NA", "the text NA", ("NA",)),
    "CSV: None": csv("None", "the text None", ("None",)),
    "CSV: number": csv("007", "the text 007", ("007",)),
    "CSV: True": csv("True", "the text True", ("True",)),
    "CSV: empty cell": csv(""),
    **{f"{kind}, a file is replaced": replaced(write) for kind, write in KINDS.items()},
}
