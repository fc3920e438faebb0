"""The rows of docs/bad-inputs.md about `score`: a case for each, beside a good question."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import MetricError, SourceError
from frozen_vqa.pipeline.metrics.official_files import score_files
from tests.support.bad_inputs import REFUSED, STORED, Row, asked, given

GOOD, MISSING = {"question_id": 1, "answer": "dog"}, object()
TEN = ("dog",) * 10

Case = Callable[[Path], Row]


def scored(
    results: Any = MISSING,
    annotations: Any = MISSING,
    questions: Any = MISSING,
    *,
    sentence: str = "",
) -> Case:
    """A case of three files; what is not given is good, bytes are the file itself."""

    def make(folder: Path) -> Row:
        write(folder / "results.json", [GOOD] if results is MISSING else results)
        if annotations is MISSING or isinstance(annotations, list):
            entries = [given(1, TEN)] if annotations is MISSING else annotations
            write(folder / "annotations.json", {"annotations": entries})
        else:
            write(folder / "annotations.json", annotations)
        paths = {name: folder / f"{name}.json" for name in ("results", "annotations")}
        asked_file = None
        if questions is not MISSING:
            asked_file = folder / "questions.json"
            write(
                asked_file, {"questions": questions} if isinstance(questions, list) else questions
            )
        try:
            found, _ = score_files(
                predictions=paths["results"],
                annotations=paths["annotations"],
                questions=asked_file,
            )
        except (SourceError, MetricError) as error:
            return REFUSED, str(error)
        assert str(found.overall) in sentence
        return STORED, sentence

    return make


def write(path: Path, content: Any) -> None:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def predicted(*entries: Any) -> Case:
    return scored([GOOD, *entries], [given(1, TEN), given(2, TEN)])


def annotated(*entries: Any) -> Case:
    return scored([GOOD, {"question_id": 2, "answer": "dog"}], [given(1, TEN), *entries])


def folded(written: Sequence[str], answer: str, sentence: str) -> Case:
    """A case of ten given answers, not all one text, and a prediction."""
    return scored([{"question_id": 1, "answer": answer}], [given(1, written)], sentence=sentence)


MANY = [{"question_id": i, "answer": 7} for i in range(9)]

SCORES: dict[str, Case] = {
    "results are an object": scored({"results": [GOOD]}),
    "results are a text": scored("dog"),
    "results are null": scored(None),
    "results are not JSON": scored(b"question_id,answer\n1,dog\n"),
    "results are empty": scored(b""),
    "results are cut short": scored(json.dumps([GOOD]).encode()[:-3]),
    "results are not UTF-8": scored('[{"question_id": 1, "answer": "café"}]'.encode("latin-1")),
    "results are a gzip that is cut short": scored(gzip.compress(json.dumps([GOOD]).encode())[:-9]),
    "results are an empty list": scored([]),
    "a prediction is a list": predicted([2, "dog"]),
    "a prediction is null": predicted(None),
    "a prediction without `question_id`": predicted({"answer": "dog"}),
    "a prediction without `answer`": predicted({"question_id": 2}),
    "an answer is a number": predicted({"question_id": 2, "answer": 2}),
    "an answer is null": predicted({"question_id": 2, "answer": None}),
    "an answer is a list": predicted({"question_id": 2, "answer": ["dog"]}),
    "an answer is true": predicted({"question_id": 2, "answer": True}),
    "a `question_id` of 2.0": predicted({"question_id": 2.0, "answer": "dog"}),
    "a `question_id` of true": predicted({"question_id": True, "answer": "dog"}),
    "a `question_id` of null": predicted({"question_id": None, "answer": "dog"}),
    "a `question_id` as text, annotated as a number": predicted(
        {"question_id": "2", "answer": "dog"}
    ),
    "a question is predicted twice": predicted(GOOD),
    "a question is not predicted": predicted(),
    "an unknown question is predicted": predicted(
        {"question_id": 2, "answer": "dog"}, {"question_id": 3, "answer": "dog"}
    ),
    "nine bad predictions": scored(MANY),
    "annotations are a list": scored(annotations=b"[]"),
    "annotations without `annotations`": scored(annotations={"answers": []}),
    "annotations are an empty list": scored(annotations=[]),
    "an annotation is null": annotated(None),
    "an annotation without `question_id`": annotated({"answers": [{"answer": "dog"}]}),
    "an annotation without `answers`": annotated({"question_id": 2}),
    "`answers` are an empty list": annotated(given(2, [])),
    "`answers` are a text": annotated({"question_id": 2, "answers": "dog"}),
    "`answers` are plain texts": annotated({"question_id": 2, "answers": ["dog"] * 10}),
    "a given answer is a number": annotated({"question_id": 2, "answers": [{"answer": 2}]}),
    "a given answer has no text": annotated({"question_id": 2, "answers": [{"answer_id": 1}]}),
    "an `answer_type` is a number": annotated(given(2, TEN) | {"answer_type": 3}),
    "a `question_type` is null": annotated(given(2, TEN) | {"question_type": None}),
    "a question is annotated twice": annotated(given(1, TEN)),
    "questions are a list": scored(questions=b"[]"),
    "questions of another split": scored(questions=[asked(5)]),
    "one question more than annotations": scored(questions=[asked(1), asked(2)]),
    "a question without `question_id`": scored(questions=[{"question": "What?"}]),
    "one given answer a question": scored(
        annotations=[given(1)], sentence="scored plainly: 100.0, because ten answers are needed"
    ),
    "an empty prediction": scored(
        [{"question_id": 1, "answer": ""}], sentence="0.0, unless the given answers are empty too"
    ),
    "ΟΔΟΣ, given as οδοσ": folded(
        ["οδοσ"] * 9 + ["cat"], "ΟΔΟΣ", "100.0: the last sigma is like any other, as in Python 2.7"
    ),
    "İ, given as i": folded(
        ["i"] * 9 + ["cat"], "\u0130", "100.0: one letter becomes one letter, as in Python 2.7"
    ),
    "a Mongolian vowel separator (U+180E) between two words": folded(
        ["red dog"] * 9 + ["cat"], "red\u180edog", "100.0: it is a space, as in Python 2.7"
    ),
    "a zero width space (U+200B) between two words": folded(
        ["red dog"] * 9 + ["cat"], "red\u200bdog", "0.0: it is no space, as in Python 2.7"
    ),
}
