"""Records of made-up data sets in the official layouts; `official_sets.py` has the sets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class OfficialSet:
    """Annotations and predictions of one metric, and the percent of each question by them."""

    annotations: Any
    predictions: Any
    percents: list[float]
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


def as_lines(*records: Any) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def ten(*answers: str) -> list[str]:
    return [*answers, *(f"none of {i}" for i in range(10 - len(answers)))]


def objects(answers: list[str]) -> list[dict[str, Any]]:
    return [{"answer": one, "answer_confidence": "yes"} for one in answers]


def path_record(answer: str) -> dict[str, str]:
    return {"image": "test_0000", "question": "what?", "answer": answer}


def gqa(answer: str, structural: str, **more: Any) -> dict[str, Any]:
    return {
        "question": "is it a cup ?",
        "imageId": "n1",
        "answer": answer,
        "types": {"structural": structural, "semantic": "attr", "detailed": "x"},
        "semantic": [
            {"operation": "select", "argument": "cup (1)"},
            {"operation": "exist", "argument": "?"},
        ],
        "groups": {"global": None},
        "isBalanced": True,
        **more,
    }


def aokvqa(name: str, right: int, direct: list[str], *, difficult: bool) -> dict[str, Any]:
    return {
        "split": "val",
        "question_id": name,
        "question": "?",
        "choices": ["a cup", "A cup", "rain", "tea"],
        "correct_choice_idx": right,
        "direct_answers": direct,
        "difficult_direct_answer": difficult,
    }


AOKVQA = [
    aokvqa("p", 0, ten("cup", "cup"), difficult=False),
    aokvqa("q", 2, ten("rain", "rain", "rain"), difficult=True),
    aokvqa("r", 3, ten("tea"), difficult=False),
]
AOKVQA_SAID = {
    "p": {"multiple_choice": "A cup", "direct_answer": "cup"},
    "q": {"multiple_choice": "rain", "direct_answer": "rain"},
    "r": {"multiple_choice": "tea", "direct_answer": "Tea"},
}


def problem(answer: int, choices: int, grade: int, **more: Any) -> dict[str, Any]:
    texts = ["one", "two", "three", "four", "five"][:choices]
    base = {"question": "?", "choices": texts, "answer": answer, "hint": "", "image": None}
    return {**base, "grade": f"grade{grade}", "split": "test", **more}


def visual7w(name: int, answer: str, kind: str) -> dict[str, Any]:
    wrong = ["A dog.", "A cat.", "Rain."]
    asked = {"question": "?", "answer": answer, "multiple_choices": wrong, "type": kind}
    return {"qa_id": name, "image_id": 1, **asked}
