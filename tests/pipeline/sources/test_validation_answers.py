"""The forms of answers that are known, the same in every source; any other stops the source."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.hub import HubSource
from frozen_vqa.pipeline.sources.official.vqav2 import Vqav2Source
from frozen_vqa.pipeline.sources.own.source import OwnSource
from tests.support import jsonl_files, vqav2_files
from tests.support.hub_data import plain, png

Read = Callable[[Path, object], tuple[list[VqaExample], str]]
"""Writes a good question and one of these answers; returns both, and the place of the second."""


def of_jsonl(field: str) -> Read:
    def read(folder: Path, answers: object) -> tuple[list[VqaExample], str]:
        line = {"image": "a.png", "question": "q?"}
        good = {**line, "answer": "dog"}
        file = jsonl_files.write(folder / "train.jsonl", good, {**line, field: answers})
        return OwnSource(file).examples("train"), f"{file}:2: "

    return read


def of_vqav2(folder: Path, answers: object) -> tuple[list[VqaExample], str]:
    entries: list[Any] = [vqav2_files.annotation(1, 1, ["dog"]), {"question_id": 2}]
    entries[1]["answers"] = answers
    questions = [vqav2_files.question(n, n) for n in (1, 2)]
    vqav2_files.write(folder, "train", questions, entries)
    place = f"{folder}/v2_mscoco_train2014_annotations.json: entry 1: "
    return Vqav2Source(folder).examples("train"), place


def of_hub(folder: Path, answers: object) -> tuple[list[VqaExample], str]:
    stored = pa.array([json.dumps("dog"), None if answers is None else json.dumps(answers)])
    table = {"question": ["q?"] * 2, "image_id": [1] * 2, "image": [png("red")] * 2}
    column = pa.ExtensionArray.from_storage(pa.json_(), stored)
    plain(folder / "train.parquet", **table, answers=column)
    return HubSource(str(folder)).examples("train"), f"hub:{folder}, train row 1: "


SOURCES: dict[str, Read] = {
    "jsonl answers": of_jsonl("answers"),
    "jsonl answer": of_jsonl("answer"),
    "vqav2": of_vqav2,
    "hub": of_hub,
}

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)
LEAVES = TEXT | st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2)
KEYS = st.sampled_from(["answer", "answers", "text"])
FORMS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=2)
        | st.lists(st.fixed_dictionaries({"answer": inner}), min_size=1, max_size=2)
    ),
    max_leaves=5,
)


def is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


def meant(value: Any) -> tuple[str, ...] | None:
    """Return the answers that a value means; None if its form is not known."""
    match value:
        case None | [] | {"answer": None | []}:
            return ()
        case str() if is_text(value):
            return (value,)
        case {"answer": str(text)} if is_text(text):
            return (text,)
        case {"answer": [*texts]} if all(map(is_text, texts)):
            return tuple(texts)
        case [*items]:
            texts = [one.get("answer") if isinstance(one, dict) else one for one in items]
            return tuple(texts) if all(map(is_text, texts)) else None
    return None


def check(read: Read, folder: Path, answers: object) -> None:
    expected = meant(answers)
    if expected is not None:
        examples, _ = read(folder, answers)
        # The first question has an answer, so the second one is left out without one.
        assert [e.answers for e in examples] == [("dog",), *([expected] if expected else [])]
        return
    with pytest.raises(SourceError) as caught:
        read(folder, answers)
    _, place = read(folder, "dog")
    assert str(caught.value).startswith(f"{place}an answer is ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=FORMS)
def test_answers_are_what_was_written_or_stop_the_source(
    tmp_path: Path, source: str, answers: object
) -> None:
    check(SOURCES[source], tmp_path, answers)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "answers",
    [
        [{"text": "dog"}],
        {"answers": ["dog"]},
        {"text": "dog"},
        {},
        [{}],
        7,
        [7],
        [2.0],
        {"answer": 7},
        [{"answer": 7}],
        True,
        [False],
        [["dog"]],
        [[]],
        ["dog", None],
        [None],
        [{"answer": None}],
        "",
        " ",
        ["dog", ""],
        [{"answer": "dog"}, {"answer": ""}],
        {"answer": {"answer": "dog"}},
        [{"answer": ["dog"]}],
    ],
)
def test_these_forms_are_not_known(tmp_path: Path, source: str, answers: object) -> None:
    assert meant(answers) is None
    check(SOURCES[source], tmp_path, answers)


def test_no_answer_field_is_no_answer(tmp_path: Path) -> None:
    line = {"image": "a.png", "question": "q?"}
    assert jsonl_files.read(tmp_path, line)[0].answers == ()
