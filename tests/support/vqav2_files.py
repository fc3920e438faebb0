"""Question and annotation files of VQAv2, as short as a test likes."""

import json
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.official.vqav2 import Vqav2Source

NAMES = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test-dev2015"}


def question(question_id: int, image_id: int, text: str = "What is it?") -> dict[str, Any]:
    return {"question_id": question_id, "image_id": image_id, "question": text}


def annotation(question_id: int, image_id: int, answers: list[str]) -> dict[str, Any]:
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question_type": "what is",
        "answer_type": "other",
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": n}
            for n, answer in enumerate(answers, 1)
        ],
    }


def write(root: Path, split: str, questions: object, annotations: object = None) -> None:
    name = NAMES[split]
    file = root / f"v2_OpenEnded_mscoco_{name}_questions.json"
    file.write_text(json.dumps({"info": {}, "questions": questions}))
    if annotations is not None:
        file = root / f"v2_mscoco_{name}_annotations.json"
        file.write_text(json.dumps({"info": {}, "annotations": annotations}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(
        tmp_path,
        "train",
        [question(42001, 42), question(7000, 7, "Is it red?")],
        [annotation(7000, 7, ["no", "yes"]), annotation(42001, 42, ["dog"] * 10)],
    )
    write(tmp_path, "val", [question(1, 3)], [annotation(1, 3, ["a"])])
    write(tmp_path, "test", [question(5, 9), question(6, 10)])
    write(tmp_path, "test-dev", [question(5, 9)])
    return tmp_path


def read(root: Path, split: str) -> tuple[list[VqaExample], list[tuple[object, str, str]]]:
    """Return the questions that are used, and of what is left out id, place and reason."""
    source = Vqav2Source(root)
    examples = source.examples(split)
    assert all(fault.where.startswith(f"{root}/v2_") for fault in source.left_out(split))
    return examples, [
        (fault.question_id, fault.where.removeprefix(f"{root}/v2_"), fault.reason)
        for fault in source.left_out(split)
    ]


QUESTIONS = "OpenEnded_mscoco_train2014_questions.json: entry"
ANNOTATIONS = "mscoco_train2014_annotations.json: entry"
