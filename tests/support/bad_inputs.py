"""What the tables of bad inputs share: the outcomes of the page, a good line, official files."""

import json
from pathlib import Path
from typing import Any

STORED, LEFT_OUT, REFUSED = "stored", "left out, exit 3", "refused, exit 1"
SCORED, NAMED = "scored", "named, exit 1"

Row = tuple[str, str]
"""Outcome and sentence."""

LINE = {"image": "a.png", "question": "What?", "answer": "dog"}


def write_official(folder: Path, questions: object, annotations: object = ()) -> None:
    names = {"OpenEnded_mscoco_train2014_questions": ("questions", questions)}
    names["mscoco_train2014_annotations"] = ("annotations", annotations)
    for name, (key, content) in names.items():
        (folder / f"v2_{name}.json").write_text(json.dumps({key: content}))


def asked(number: int, **fields: Any) -> dict[str, Any]:
    return {"question_id": number, "image_id": number, "question": "What?", **fields}


def given(number: int, answers: Any = ("dog",)) -> dict[str, Any]:
    return {"question_id": number, "answers": answers and [{"answer": text} for text in answers]}
