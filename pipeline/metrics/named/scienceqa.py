"""ScienceQA: the letter of the right choice, by subject, grade and what the question comes with.

Source: haotian-liu/LLaVA at c121f04, llava/eval/eval_science_qa.py; the groups are those of the
authors' evaluate_acc.py, where IMG and TXT overlap. An answer is a letter, or begins "B. ", or
holds "The answer is B." once; any other is wrong, and so is a missing one.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.metrics.accuracy import Figure, mean
from frozen_vqa.pipeline.metrics.metric import (
    Annotation,
    Answered,
    Layout,
    Metric,
    chance,
    equal_to_one,
    require_choice,
    right_choice,
)
from frozen_vqa.pipeline.system.texts import to_json

LETTERS = "ABCDE"
_SENTENCE = re.compile(r"The answer is ([A-Z]).")
_SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}


class _Entry(TypedDict):
    id: str
    question: str
    choices: list[str]
    answer: int
    hint: str
    image: str | None
    subject: NotRequired[str]
    grade: NotRequired[str]
    category: NotRequired[str]
    topic: NotRequired[str]
    split: NotRequired[str]


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    choices = tuple(entry["choices"])
    right = require_choice(entry["answer"], choices)
    return Annotation(
        entry["id"],
        (choices[right],),
        entry.get("topic", ""),
        groups={kind: entry[kind] for kind in ("subject", "grade", "category") if kind in entry},
        choices=choices,
        right=right,
        split=entry.get("split", ""),
        record=entry,
    )


def choice_of(text: str, choices: Sequence[str]) -> int:
    """Return which choice a text names, -1 if none; see above."""
    found = _SENTENCE.findall(text)
    letter = text if text in list(LETTERS) else text[:1] if text[1:3] == ". " else "?"
    if letter not in LETTERS and len(found) == 1:
        letter = found[0]
    place = LETTERS.find(letter)
    return place if place < len(choices) else -1


def _read(layout: Layout, entry: Mapping[str, Any], question: Annotation) -> object:
    text = entry.get("text", entry.get("answer"))
    if not isinstance(text, str):
        return text
    place = choice_of(text, question.choices)
    return question.choices[place] if place >= 0 else ""


def _write(layout: Layout, answered: Sequence[Answered]) -> str:
    """Return a line for each question; by its prompt the script knows one with a picture."""
    lines = []
    for one in answered:
        choices = list(one.question.choices)
        text = LETTERS[choices.index(one.answer)] if one.answer in choices[:5] else one.answer
        entry = {"question_id": one.question.question_id, "prompt": "<image>", "text": text}
        lines.append(to_json(entry))
    return "".join(f"{line}\n" for line in lines)


def _classes(question: Annotation) -> list[str]:
    """Return the authors' classes of a question; those of its context need the official file."""
    grade = re.sub(r"\D", "", question.groups.get("grade", ""))
    classes = [_SUBJECTS.get(question.groups.get("subject", ""), "")]
    classes += [("G1-6" if int(grade) <= 6 else "G7-12") if grade else ""]
    if question.record:
        picture, hint = bool(question.record["image"]), bool(question.record["hint"])
        classes += ["IMG"] * picture + ["TXT"] * hint + ["NO"] * (not picture and not hint)
    return [name for name in classes if name]


def _figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    found, parts = chance(answered), dict[str, list[float]]()
    for one in answered:
        for name in _classes(one.question):
            parts.setdefault(name, []).append(one.score)
    found |= {name: Figure(100 * mean(scores), len(scores)) for name, scores in parts.items()}
    prompted = [one.score for one in answered if "<image>" in str(one.entry.get("prompt", ""))]
    if prompted:
        found["<image> in the prompt"] = Figure(100 * sum(prompted) / len(prompted), len(prompted))
    said = [one for one in answered if isinstance(one.entry.get("text"), str)]
    if said:
        right = sum(_right_to_lmms_eval(one) for one in said)
        found["read as lmms-eval does, answered ones"] = Figure(100 * right / len(said), len(said))
    return found


def _right_to_lmms_eval(one: Answered) -> bool:
    text, right = one.entry["text"].strip(), LETTERS[one.question.right]
    return text.upper() == right or (text[1:2] == "." and text[0] == right)


LAYOUT = Layout(
    metric="scienceqa",
    form=_Entry,
    annotation=_annotation,
    id_key="id",
    read=_read,
    missing=True,
    results="results.jsonl",
    write=_write,
)
METRICS = (
    Metric(
        name="scienceqa",
        rule="ScienceQA accuracy: the right choice",
        layout=LAYOUT,
        score=equal_to_one(),
        given=right_choice,
        figures=_figures,
    ),
)
