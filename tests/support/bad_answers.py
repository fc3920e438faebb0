"""The rows of docs/bad-inputs.md about the forms of answers, in all sources that are text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support.bad_inputs import (
    LEFT_OUT,
    LINE,
    REFUSED,
    STORED,
    Row,
    asked,
    given,
    write_official,
)


def line(fields: dict[str, Any], sentence: str = "", seen: Any = None) -> Callable[[Path], Row]:
    """A case of a line of `.jsonl` after a good one; it has these fields and no other answer."""

    def make(folder: Path) -> Row:
        bare = {key: value for key, value in LINE.items() if key != "answer"}
        content = f"{json.dumps(LINE)}\n{json.dumps({**bare, **fields})}\n"
        (folder / "train.jsonl").write_text(content)
        return outcome(f"jsonl:{folder}", sentence, seen)

    return make


def annotated(answers: Any, sentence: str = "", seen: Any = None) -> Callable[[Path], Row]:
    """A case of an annotation of VQAv2 after a good one."""

    def make(folder: Path) -> Row:
        second = {"question_id": 2, "answers": answers}
        write_official(folder, [asked(1), asked(2)], [given(1), second])
        return outcome(f"vqav2:{folder}", sentence, seen)

    return make


def outcome(spec: str, sentence: str, seen: Any) -> Row:
    if seen is None:
        with pytest.raises(SourceError) as caught:
            open_source(spec).examples("train")
        return REFUSED, str(caught.value)
    source = open_source(spec)
    found = [example.answers for example in source.examples("train")]
    if seen == ():  # beside a question that has an answer
        (fault,) = source.left_out("train")
        assert found == [("dog",)]
        return LEFT_OUT, f"{fault.where}: {fault.reason}"
    assert found == [("dog",), seen]
    return STORED, sentence


ANSWERS: dict[str, Callable[[Path], Row]] = {
    "no answer field": line({}, seen=()),
    "empty list": line({"answers": []}, seen=()),
    "null": line({"answer": None}, seen=()),
    "empty list beside an answer": line({"answers": [], "answer": "cat"}, "the answer", ("cat",)),
    "one text in `answers`": line({"answers": "cat"}, "as it is", ("cat",)),
    "list in `answer`": line({"answer": ["cat", "dog"]}, "both", ("cat", "dog")),
    "objects with `answer`": line({"answers": [{"answer": "cat"}]}, "the text", ("cat",)),
    "object with a list": line({"answers": {"answer": ["a", "b"]}}, "both", ("a", "b")),
    "number": line({"answer": 7}),
    "number with a point": line({"answer": 2.0}),
    "number in a list": line({"answers": ["cat", 7]}),
    "number in an object": line({"answers": [{"answer": 7}]}),
    "true or false": line({"answer": True}),
    "true or false in a list": line({"answers": [False]}),
    "null in a list": line({"answers": ["cat", None]}),
    "null in an object of a list": line({"answers": [{"answer": None}]}),
    "empty text": line({"answer": ""}),
    "blank text": line({"answer": " \t"}),
    "empty text in a list": line({"answers": ["cat", ""]}),
    "objects with `text`": line({"answers": [{"text": "cat"}]}),
    "object with `answers`": line({"answer": {"answers": ["cat"]}}),
    "object with `text`": line({"answer": {"text": "cat"}}),
    "empty object": line({"answer": {}}),
    "list in a list": line({"answers": [["cat"]]}),
    "object in an object": line({"answer": {"answer": {"answer": "cat"}}}),
    "list in an object of a list": line({"answers": [{"answer": ["cat"]}]}),
    "`vqav2:` list of texts": annotated(["cat"], "as they are", ("cat",)),
    "`vqav2:` empty list": annotated([], seen=()),
    "`vqav2:` number": annotated([{"answer": 7}]),
    "`vqav2:` null among answers": annotated([{"answer": "cat"}, {"answer": None}]),
    "`vqav2:` empty text": annotated([{"answer": ""}]),
    "`vqav2:` objects with `text`": annotated([{"text": "cat"}]),
    "`vqav2:` object with `answers`": annotated({"answers": ["cat"]}),
    "`vqav2:` true or false": annotated([{"answer": True}]),
}
