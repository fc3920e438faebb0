"""Reading official VQA files, and scoring a results file without a training run.

    results      [{"question_id": …, "answer": "…"}, …]
    annotations  {"annotations": [{"question_id", "answers": [{"answer"}, …], types}, …]}
    questions    {"questions": [{"question_id", …}, …]}

Any of them may be gzipped. A score must be of exactly the questions that were asked, so one bad
entry refuses the file. Stage one leaves bad entries out (`pipeline/sources/official/joined.py`).

Source of the formats: https://visualqa.org/download.html. The metric is in `vqa_accuracy.py`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import MetricError, SourceError
from frozen_vqa.pipeline.metrics.vqa_accuracy import (
    Accuracy,
    Rules,
    accuracy,
    percent,
    pick_rules,
    question_score,
)
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.sources.strict_json import entries_in, read_json
from frozen_vqa.pipeline.sources.validation import shown

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Annotation:
    """The given answers of one question, at least one, as the annotators wrote them.

    Types, such as "what color is" and "yes/no", are "" where the file has none.
    """

    question_id: Id
    answers: tuple[str, ...]
    question_type: str = ""
    answer_type: str = ""


def _refusal(path: Path | str, found: str, needed: str, remedy: str) -> SourceError:
    return SourceError(f"{path}: {found}; {needed} is needed. {remedy}")


def _some(items: Collection[object]) -> str:
    shown = ", ".join(f"{item!r:.80}" for item in list(items)[:_SHOWN])
    return f"{shown}, …" if len(items) > _SHOWN else shown


def _check(
    path: Path | str, entries: Sequence[Any], fault: Callable[[dict[str, Any]], str], need: str
) -> None:
    """Raise `SourceError` if an entry is no object with an id, has a `fault`, or repeats an id."""
    texts = (_id_fault(entry) or fault(entry) for entry in entries)
    faults = [(i, entries[i], text) for i, text in enumerate(texts) if text]
    if faults:
        shown = ", ".join(f"{_place(i, entry)} {text}" for i, entry, text in faults[:_SHOWN])
        more = ", …" if len(faults) > _SHOWN else ""
        found = f"{len(faults)} of {len(entries)} entries cannot be used: {shown}{more}"
        remedy = "Correct these entries (counted from 0)."
        raise _refusal(path, found, f"an object with {need}", remedy)
    counts = Counter(entry["question_id"] for entry in entries)
    if twice := [question_id for question_id, count in counts.items() if count > 1]:
        found = f"{len(twice)} question ids occur more than once: {_some(twice)}"
        raise _refusal(path, found, "each id once", "Remove the repeats.")


def _place(index: int, entry: Any) -> str:
    known = isinstance(entry, dict) and type(entry.get("question_id")) in (int, str)
    return f"entry {index}" + (f" (question {entry['question_id']!r:.40})" if known else "")


def _id_fault(entry: Any) -> str:
    if not isinstance(entry, dict):
        return f"is {shown(entry)}"
    if "question_id" not in entry:
        return "has no question_id"
    found = entry["question_id"]
    return "" if type(found) in (int, str) else f"has {shown(found)} as question_id"


def _answer_fault(entry: dict[str, Any]) -> str:
    if "answer" not in entry:
        return "has no answer"
    found = entry["answer"]
    return "" if type(found) is str else f"has {shown(found)} as answer"


def _annotation_fault(entry: dict[str, Any]) -> str:
    if not isinstance(answers := entry.get("answers"), list) or not answers:
        return "has no list of answers"
    if not all(isinstance(a, dict) and isinstance(a.get("answer"), str) for a in answers):
        return "has an answer without text"
    types = (entry.get("question_type", ""), entry.get("answer_type", ""))
    return "" if all(isinstance(kind, str) for kind in types) else "has a type that is not text"


def read_predictions(path: Path | str) -> dict[Id, str]:
    """Return the predicted answer of each question in an official results file, in its order.

    Raises:
        SourceError: if the file is not readable JSON (see `read_json`), is no list of predictions,
            or answers one question twice.
    """
    content = read_json(path)
    need = 'a "question_id" (a whole number or text) and an "answer" (text)'
    if not isinstance(content, list):
        found, remedy = f"found {shown(content)}", "Write the official results format."
        raise _refusal(path, found, f"a list of objects with {need}", remedy)
    _check(path, content, _answer_fault, need)
    return {entry["question_id"]: entry["answer"] for entry in content}


def _require_same_ids(where: str, found: Iterable[Id], needed: Iterable[Id], remedy: str) -> None:
    have, want = dict.fromkeys(found), dict.fromkeys(needed)
    missing = [question_id for question_id in want if question_id not in have]
    unknown = [question_id for question_id in have if question_id not in want]
    parts = [f"{len(missing)} are missing ({_some(missing)})"] if missing else []
    parts += [f"{len(unknown)} are unknown ({_some(unknown)})"] if unknown else []
    if parts:
        differences = f"of {len(want)} questions {' and '.join(parts)}"
        raise MetricError(f"{where}: {differences}; exactly the same ids are needed. {remedy}")


def read_annotations(path: Path | str, questions: Path | str | None = None) -> list[Annotation]:
    """Return the records of an official annotation file, in its order.

    With the question file of the same split it also checks that both hold the same ids.

    Raises:
        SourceError: if a file is not readable JSON, not in the official form, or has no entries.
        MetricError: if the two files hold different questions.
    """
    entries = entries_in(path, "annotations")
    if not entries:
        remedy = "Check that this is the right file."
        raise _refusal(path, "the list of annotations is empty", "at least one", remedy)
    need = '"question_id", "answers" (a list of objects with "answer") and types, if any, as text'
    _check(path, entries, _annotation_fault, need)
    if questions is not None:
        asked = entries_in(questions, "questions")
        _check(questions, asked, lambda entry: "", '"question_id"')
        _require_same_ids(
            f"{path} against {questions}",
            (entry["question_id"] for entry in entries),
            (entry["question_id"] for entry in asked),
            "Give the two files of one split.",
        )
    return [
        Annotation(
            entry["question_id"],
            tuple(answer["answer"] for answer in entry["answers"]),
            entry.get("question_type", ""),
            entry.get("answer_type", ""),
        )
        for entry in entries
    ]


def score_files(
    *,
    predictions: Path | str,
    annotations: Path | str,
    questions: Path | str | None = None,
    rules: Rules | None = None,
) -> tuple[Accuracy, dict[Id, float]]:
    """Score an official results file; return the accuracy and each question's percent.

    The results must be of exactly the questions of `annotations`, whose order is kept. A question
    file is only read to check that it belongs to them. `rules` are as in `pick_rules`.

    Raises:
        SourceError: if a file cannot be read or is not in the official form.
        MetricError: if the files hold different questions.

    Source: GT-Vision-Lab/VQA at a013f00, vqa.py `loadRes`, vqaEval.py `evaluate`.
    """
    records = read_annotations(annotations, questions)
    predicted = read_predictions(predictions)
    _require_same_ids(
        f"{predictions} against {annotations}",
        predicted,
        (record.question_id for record in records),
        "Predict every question of this split, and no other.",
    )
    chosen = pick_rules((len(record.answers) for record in records), rules)
    scores = [question_score(predicted[r.question_id], r.answers, rules=chosen) for r in records]
    answer_types = [record.answer_type for record in records]
    question_types = [record.question_type for record in records]
    each = {r.question_id: percent(s, chosen) for r, s in zip(records, scores, strict=True)}
    return accuracy(scores, answer_types, question_types, chosen), each
