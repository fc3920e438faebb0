"""The same questions in any form are the same examples, and no form is taken for another."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import Id, VqaExample
from frozen_vqa.pipeline.sources.own.source import OwnSource

Row = Mapping[str, Any]

TEXT = st.text(
    st.sampled_from(list(",;\t|\"'\n\r{}[]: ab1é\u2028😀\\"))
    | st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    min_size=1,
    max_size=12,
).filter(lambda text: bool(text.strip()))
IDS = st.integers(-(2**62), 2**62) | TEXT.filter(lambda text: not text.strip("-").isdigit())
ROWS = st.lists(
    st.fixed_dictionaries(
        {"image": st.sampled_from(["a.png", "b/c d.png", "é.png"]), "question": TEXT},
        optional={
            "answer": TEXT,
            "answers": st.lists(TEXT, min_size=1, max_size=3),
            "question_id": IDS,
            "image_id": IDS,
            "question_type": TEXT,
            "note": TEXT,
        },
    ),
    min_size=1,
    max_size=4,
)


def as_lines(rows: Sequence[Row]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def as_table(delimiter: str, rows: Sequence[Row]) -> str:
    """Write a table as Excel does; several answers are a JSON list in their cell."""
    out = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, delimiter=delimiter)
    writer.writeheader()
    for row in rows:
        cells = {n: json.dumps(v) if isinstance(v, list) else v for n, v in row.items()}
        writer.writerow(cells)
    return out.getvalue()


FORMS: dict[str, Callable[[Sequence[Row]], str]] = {
    "JSONL": as_lines,
    "JSON list": json.dumps,
    "JSON list on lines": partial(json.dumps, indent=1),
    "JSON list in an object": lambda rows: json.dumps({"version": 1, "data": rows}),
    "CSV with commas": partial(as_table, ","),
    "CSV with semicolons": partial(as_table, ";"),
    "CSV with bars": partial(as_table, "|"),
    "TSV": partial(as_table, "\t"),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
SUFFIXES = ("csv", "tsv", "json", "jsonl", "txt")


def outcome(file: Path) -> tuple[list[VqaExample], list[Id | None], str]:
    """Return the questions of a file, those left out, and the name of its form."""
    source = OwnSource(file)
    try:
        examples = source.examples("train")
    except SourceError:  # no question can be used
        return [], [], ""
    left_out = [fault.question_id for fault in source.left_out("train")]
    return examples, left_out, source.form("train").kind.partition(", UTF")[0]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS, encoding=st.sampled_from(ENCODINGS), suffix=st.sampled_from(SUFFIXES))
def test_the_same_rows_in_any_form_are_the_same_examples(
    tmp_path: Path, rows: list[dict[str, Any]], encoding: str, suffix: str
) -> None:
    (tmp_path / "plain.jsonl").write_text(as_lines(rows), "utf-8")
    expected, left_out, _ = outcome(tmp_path / "plain.jsonl")
    for name, write in FORMS.items():
        file = tmp_path / f"train.{suffix}"
        file.write_bytes(write(rows).encode(encoding))

        found = outcome(file)

        assert found[:2] == (expected, left_out), name
        assert not expected or found[2] == name.partition(" o")[0].partition(" in")[0], name


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('["image","question","answer"]\n{"image": "a.png", "question": "q?"}', "JSONL, UTF-8"),
        ('{"image": "a.png", "question": "image,question"}', "JSONL, UTF-8"),
        ("[x],question,image\n1,q?,a.png\n", "CSV with commas, UTF-8"),
        ("note;question;image,s\nimage,question;q?;a.png\n", "CSV with semicolons, UTF-8"),
        ('\n\nquestion\timage\n"a, b; c"\ta.png\n', "TSV, UTF-8"),
        ('"question","image"\r\n"one\r\ntwo","a.png"\r\n', "CSV with commas, UTF-8"),
        ("question|image\rq?|a.png\r", "CSV with bars, UTF-8"),
    ],
)
def test_a_form_is_not_taken_for_another(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "questions").write_bytes(text.encode())
    source = OwnSource(
        tmp_path / "questions", columns={"image": "image,s"} if "image,s" in text else {}
    )

    assert len(source.examples("train")) == 1
    assert source.form("train").kind == kind


@pytest.mark.parametrize("name", FORMS)
def test_a_fault_names_its_line_or_entry(tmp_path: Path, name: str) -> None:
    good = {"image": "a.png", "question": "two\nlines?", "answer": "x"}
    rows = [good, {**good, "image": "http://x.org/a.png"}, {**good, "answer": None}, good]
    file = tmp_path / "train"
    file.write_text(FORMS[name](rows))
    source = OwnSource(file)

    assert [example.question_id for example in source.examples("train")] == [1, 4]
    places = [fault.where.removeprefix(str(file)) for fault in source.left_out("train")]
    tables = [":4", ":6"]  # the names, and two lines a row
    lines = {"JSONL": [":2", ":3"]}.get(name, [": entry 2", ": entry 3"])
    assert places == (tables if name[1:3] == "SV" else lines)


def test_bytes_of_another_encoding_are_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("question,image\nq?,a.png\nOù?,a.png\n".encode("cp1252"))
    with pytest.raises(SourceError, match=r"a\.csv:3: byte 26 of the file is not UTF-8.*Excel"):
        OwnSource(tmp_path / "a.csv").examples("train")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"question": "q?",\n"image": ', r"a\.json:1: column "),
        ("a.jsonl", '{"question": "q?",\n"image": ', r"no line|a\.jsonl:1: "),
        ("a.jsonl", '[{"question": "q?",\n"image": ', r"a\.jsonl:1: "),
        ("a.json", '[{"question": "q?",\n"image": ', r"a\.json: line 2, column "),
        ("a.csv", 'question,image\nq?,a.png\n"q" q?,a.png\n', r"a\.csv:3: a quotation mark in"),
    ],
)
def test_damage_is_said_in_the_words_of_its_form(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=said):
        OwnSource(tmp_path / name).examples("train")
