"""The rows of docs/bad-inputs.md about questions and answers: a case for each, among good ones."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.sources.example import LeftOut, VqaExample
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.bad_inputs import LEFT_OUT, LINE, STORED, Row, asked, given, write_official
from tests.support.frozen import Text


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
    "one answer": lines({"answers": ["a"]}, sentence="as it is", answers=("a",)),
    "eleven answers": lines({"answers": ["a"] * 11}, sentence="as it is", answers=("a",) * 11),
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
    "`vqav2:` answers are null or none, and others' are not": official(
        PAIR, [given(1), given(2, None)]
    ),
    "`vqav2:` question without image": official(
        [asked(1), {"question_id": 2, "question": "What?"}], [given(1), given(2)]
    ),
    "`vqav2:` image id of another folder": two_folders,
    "`vqav2:` entry that is no object": official([asked(1), "What?"], [given(1)]),
}
