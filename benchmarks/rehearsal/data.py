"""A made-up VQAv2 in its official files: JPEGs of COCO's size, questions of VQAv2's length.

Most questions of VQA have four to ten words (Antol et al., 2015). Two of three pictures are for
training, as in VQAv2.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.generated import photograph
from benchmarks.harness import Json

COCO_NOISE = 20.0
"""Makes files of 161 kB; those of train2014.zip have 163 kB on average."""

PICTURES = {"train": 82_783, "val": 40_504}
QUESTIONS = {"train": 443_757, "val": 214_354}
SOURCE = "https://visualqa.org/download.html"
"""Of both counts."""

THINGS = ("dog", "cat", "horse", "bus", "train", "car", "table", "pizza", "clock", "bench", "kite")
PEOPLE = ("man", "woman", "boy", "girl", "person", "child", "skier", "player")
DOING = ("holding", "wearing", "riding", "eating", "looking at", "standing on", "playing with")
COLORS = ("red", "blue", "green", "white", "black", "brown", "yellow", "gray")
PLACES = ("in the background", "on the left", "behind the fence", "on the table", "by the road")

FORMS = (
    ("What color is the {thing}?", "what color is the", "other", COLORS),
    ("What is the {person} {doing}?", "what is the", "other", THINGS),
    ("What kind of {thing} is {place}?", "what kind of", "other", COLORS),
    ("Where is the {person} with the {thing}?", "where is the", "other", PLACES),
    ("Is the {thing} {place} {color}?", "is the", "yes/no", ("yes", "no")),
    ("Is there a {color} {thing} {place}?", "is there a", "yes/no", ("yes", "no")),
    ("Does the {person} have a {thing}?", "does the", "yes/no", ("yes", "no")),
    ("How many {thing}s are {place}?", "how many", "number", tuple("0123456")),
)
"""Texts, their types in the official files, and answers."""


def write_vqav2(root: Path, pictures: int, questions: int, seed: int = 0) -> Json:
    """Write the official files of `train` and `val`; return what was written.

    Args:
        root: A folder to be made.
        pictures: In both splits, at least 2.
        questions: In both splits, at least 2; each picture has as many as another, within one.
        seed: The same arguments give the same files.
    """
    rng = np.random.default_rng(seed)
    train = min(pictures - 1, round(pictures * PICTURES["train"] / sum(PICTURES.values())))
    ids = np.sort(rng.choice(600_000, pictures, replace=False)).tolist()
    asked = [ids[i % pictures] for i in range(questions)]
    counts, jpegs, texts = {"pictures": pictures, "questions": questions}, 0, 0
    for split, own in (("train", ids[:train]), ("val", ids[train:])):
        name = f"{split}2014"
        (root / name).mkdir(parents=True)
        for image_id in own:
            path = root / name / f"COCO_{name}_{image_id:012d}.jpg"
            jpegs += path.write_bytes(photograph(rng, COCO_NOISE))
        records = [_record(i, image_id, rng) for i, image_id in enumerate(asked) if image_id in own]
        texts += _write(root, name, records)
        counts[f"{split} questions"] = len(records)
    return counts | {"jpeg_bytes": jpegs, "text_bytes": texts}


def _record(number: int, image_id: int, rng: np.random.Generator) -> tuple[Json, Json]:
    """Return a question and its annotation, with the answers of ten people."""

    def pick(words: Any) -> str:
        return str(words[rng.integers(len(words))])

    form, question_type, answer_type, answers = FORMS[rng.integers(len(FORMS))]
    text = form.format(
        thing=pick(THINGS),
        person=pick(PEOPLE),
        doing=pick(DOING),
        color=pick(COLORS),
        place=pick(PLACES),
    )
    most = pick(answers)
    ten = [most if rng.random() < 0.7 else pick(answers) for _ in range(10)]
    ids = {"image_id": image_id, "question_id": image_id * 1000 + number}
    given = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": i}
        for i, answer in enumerate(ten, 1)
    ]
    kind = {"question_type": question_type, "answer_type": answer_type}
    annotation = {**kind, "multiple_choice_answer": most, "answers": given, **ids}
    return {**ids, "question": text}, annotation


def _write(root: Path, name: str, records: list[tuple[Json, Json]]) -> int:
    """Write a split's two JSON files; return their bytes."""
    head = {"info": {"version": "2.0"}, "data_type": "mscoco", "data_subtype": name, "license": {}}
    questions = {**head, "task_type": "Open-Ended", "questions": [one for one, _ in records]}
    annotations = {**head, "annotations": [one for _, one in records]}
    return sum(
        (root / file).write_text(json.dumps(content), encoding="utf-8")
        for file, content in (
            (f"v2_OpenEnded_mscoco_{name}_questions.json", questions),
            (f"v2_mscoco_{name}_annotations.json", annotations),
        )
    )
