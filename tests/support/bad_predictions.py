"""The rows of docs/bad-inputs.md about `score`: files of results, annotations and questions."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.bad_inputs import REFUSED, SCORED, Row
from tests.support.command import error_of, run_command

PREDICTIONS: list[Any] = [
    {"question_id": 1, "answer": "yes"},
    {"question_id": 2, "answer": "2"},
]
ANNOTATIONS: list[Any] = [
    {"question_id": 1, "answers": [{"answer": "yes"}] * 10, "answer_type": "yes/no"},
    {"question_id": 2, "answers": [{"answer": "2"}] * 10, "answer_type": "number"},
]
ASKED: list[Any] = [{"question_id": 1, "question": "?"}, {"question_id": 2, "question": "?"}]


def scored(
    *,
    p: Any = PREDICTIONS,
    a: Any = ANNOTATIONS,
    q: Any = None,
    words: str = "",
    sentence: str = "",
    says: str = "overall (2 questions)",
) -> Callable[[Path], Row]:
    """A case of three files, given as their content, as text or as bytes; None leaves one out."""

    def make(folder: Path) -> Row:
        for name, key, content in (("p", "", p), ("a", "annotations", a), ("q", "questions", q)):
            if isinstance(content, list) and key:
                content = {key: content}
            if not isinstance(content, str | bytes) and content is not None:
                content = json.dumps(content)
            if content is not None:
                data = content if isinstance(content, bytes) else content.encode()
                (folder / f"{name}.json").write_bytes(data)
        command = ["score", "--predictions", folder / "p.json", "--annotations", folder / "a.json"]
        command += ["--questions", folder / "q.json"] if q is not None else []
        found = run_command(*command, *words.replace("@", str(folder)).split())
        if sentence:
            assert (found.code, says in " ".join(found.err.split())) == (0, True), found
            return SCORED, sentence
        return REFUSED, error_of(found)

    return make


def second(entries: list[Any], **fields: Any) -> list[Any]:
    """The same entries, with other fields in the second; None removes one."""
    changed = {k: v for k, v in {**entries[1], **fields}.items() if v is not None}
    return [entries[0], changed]


RESULTS: dict[str, Callable[[Path], Row]] = {
    "no results file": scored(p=None),
    "no annotation file": scored(a=None),
    "results: empty file": scored(p=""),
    "results: cut short": scored(p='[{"question_id": 1, "ans'),
    "results: not UTF-8": scored(p=b'[{"question_id": 1, "answer": "\xff"}]'),
    "results: byte order mark": scored(
        p=b"\xef\xbb\xbf" + json.dumps(PREDICTIONS).encode(), sentence="the mark is skipped"
    ),
    "results: gzipped": scored(
        p=gzip.compress(json.dumps(PREDICTIONS).encode()), sentence="it is unpacked"
    ),
    "results: gzip cut short": scored(p=gzip.compress(json.dumps(PREDICTIONS).encode())[:-9]),
    "results: NaN": scored(p='[{"question_id": NaN, "answer": "yes"}]'),
    "results: key twice": scored(p='[{"question_id": 1, "question_id": 2, "answer": "yes"}]'),
    "results: brackets that nest deeply": scored(p="[" * 100_000),
    "results: id of thousands of digits": scored(p='[{"question_id": ' + "9" * 5000 + "}]"),
    "results: an object": scored(p={"1": "yes", "2": "2"}),
    "results: annotations in their place": scored(p={"annotations": ANNOTATIONS}),
    "results: empty list": scored(p=[]),
    "results: entry that is text": scored(p=["yes", "2"]),
    "results: without an id": scored(p=second(PREDICTIONS, question_id=None)),
    "results: id with a fraction": scored(p=second(PREDICTIONS, question_id=2.0)),
    "results: id true": scored(p=second(PREDICTIONS, question_id=True)),
    "results: id as text": scored(
        p=second(PREDICTIONS, question_id="2"), sentence="ids are compared as text"
    ),
    "results: without an answer": scored(p=second(PREDICTIONS, answer=None)),
    "results: answer that is a number": scored(p=second(PREDICTIONS, answer=2)),
    "results: answer that is a list": scored(p=second(PREDICTIONS, answer=["2"])),
    "results: empty answer": scored(
        p=second(PREDICTIONS, answer=""), sentence="it is no right answer", says="│ 50.00 │"
    ),
    "results: question answered twice": scored(p=[*PREDICTIONS, PREDICTIONS[1]]),
    "results: question missing": scored(p=PREDICTIONS[:1]),
    "results: question unknown": scored(p=[*PREDICTIONS, {"question_id": 3, "answer": "no"}]),
    "results: of another split": scored(p=[{"question_id": 9, "answer": "no"}]),
    "annotations: a list": scored(a=json.dumps(ANNOTATIONS)),
    "annotations: results in their place": scored(a=json.dumps(PREDICTIONS)),
    "annotations: questions in their place": scored(a={"questions": ASKED}),
    "annotations: empty list": scored(a=[]),
    "annotations: entry that is null": scored(a=[*ANNOTATIONS, None]),
    "annotations: without an id": scored(a=second(ANNOTATIONS, question_id=None)),
    "annotations: without answers": scored(a=second(ANNOTATIONS, answers=None)),
    "annotations: empty list of answers": scored(a=second(ANNOTATIONS, answers=[])),
    "annotations: answers that are texts": scored(a=second(ANNOTATIONS, answers=["2"] * 10)),
    "annotations: answer that is a number": scored(a=second(ANNOTATIONS, answers=[{"answer": 2}])),
    "annotations: type that is a number": scored(a=second(ANNOTATIONS, answer_type=3)),
    "annotations: question twice": scored(a=[*ANNOTATIONS, ANNOTATIONS[0]]),
    "annotations: fewer than ten answers": scored(
        a=second(ANNOTATIONS, answers=[{"answer": "2"}]),
        sentence="by plain accuracy, and the table says so",
        says="plain accuracy: equal after the official normalisation",
    ),
    "annotations: without types": scored(
        a=second(ANNOTATIONS, answer_type=None), sentence="the question counts in no row of a type"
    ),
    "questions: of another split": scored(q=[{"question_id": 1}, {"question_id": 3}]),
    "questions: without an id": scored(q=[{"question_id": 1}, {"question": "?"}]),
    "questions: annotations in their place": scored(q={"annotations": ANNOTATIONS}),
    "questions: no JSON": scored(q="question_id,question\n1,what?\n"),
    "`--per-question` that cannot be written": scored(words="--per-question @/p.json/each.json"),
}
