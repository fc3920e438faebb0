"""Reading the official files of VQAv2 and of data sets in its form.

    results      [{"question_id": …, "answer": "…"}, …]
    annotations  {"annotations": [{"question_id", "answers": [{"answer"}, …], types}, …]}
    questions    {"questions": [{"question_id", …}, …]}

Any of them may be gzipped. A score must be of exactly the questions that were asked, so one bad
entry refuses the file. Stage one leaves bad entries out (`pipeline/sources/official/joined.py`).

Source of the formats: https://visualqa.org/download.html. The metric is in `vqa_accuracy.py`;
`records.py` reads other layouts.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import MetricError, SourceError
from frozen_vqa.pipeline.metrics.metric import Annotation
from frozen_vqa.pipeline.metrics.named.vqav2 import annotation
from frozen_vqa.pipeline.metrics.records import SHOWN, require_once, some
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.sources.strict_json import entries_in, entries_under, read_json
from frozen_vqa.pipeline.sources.validation import shown


def _refusal(path: Path | str, found: str, needed: str, remedy: str) -> SourceError:
    return SourceError(f"{path}: {found}; {needed} is needed. {remedy}")


def _check(
    path: Path | str, entries: Sequence[Any], fault: Callable[[dict[str, Any]], str], need: str
) -> None:
    """Raise `SourceError` if an entry is no object with an id, has a `fault`, or repeats an id."""
    texts = (_id_fault(entry) or fault(entry) for entry in entries)
    faults = [(i, entries[i], text) for i, text in enumerate(texts) if text]
    if faults:
        shown = ", ".join(f"{_place(i, entry)} {text}" for i, entry, text in faults[:SHOWN])
        more = ", …" if len(faults) > SHOWN else ""
        found = f"{len(faults)} of {len(entries)} entries cannot be used: {shown}{more}"
        remedy = "Correct these entries (counted from 0)."
        raise _refusal(path, found, f"an object with {need}", remedy)
    require_once(path, [entry["question_id"] for entry in entries])


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


def require_no_others(
    where: str, count: int, missing: Sequence[Id], unknown: Sequence[Id], remedy: str
) -> None:
    """Raise `MetricError` that names what is missing and unknown, if anything is."""
    parts = [f"{len(missing)} are missing ({some(missing)})"] if missing else []
    parts += [f"{len(unknown)} are unknown ({some(unknown)})"] if unknown else []
    if parts:
        differences = f"of {count} questions {' and '.join(parts)}"
        raise MetricError(f"{where}: {differences}; exactly the same ids are needed. {remedy}")


def read_annotations(path: Path | str, questions: Path | str | None = None) -> list[Annotation]:
    """Return the records of an official annotation file, in its order.

    With the question file of the same split it also checks that both hold the same ids.

    Raises:
        SourceError: if a file is not readable JSON, not in the official form, or has no entries.
        MetricError: if the two files hold different questions.
    """
    return annotations_in(path, read_json(path), questions)


def annotations_in(
    path: Path | str, content: Any, questions: Path | str | None = None
) -> list[Annotation]:
    """Return the records of what an official annotation file holds; see `read_annotations`."""
    entries = entries_under(path, content, "annotations")
    if not entries:
        remedy = "Check that this is the right file."
        raise _refusal(path, "the list of annotations is empty", "at least one", remedy)
    need = '"question_id", "answers" (a list of objects with "answer") and types, if any, as text'
    _check(path, entries, _annotation_fault, need)
    if questions is not None:
        asked = entries_in(questions, "questions")
        _check(questions, asked, lambda entry: "", '"question_id"')
        ids, wanted = ([one["question_id"] for one in part] for part in (entries, asked))
        have, want = {str(i) for i in ids}, {str(i) for i in wanted}
        require_no_others(
            f"{path} against {questions}",
            len(wanted),
            [i for i in wanted if str(i) not in have],
            [i for i in ids if str(i) not in want],
            "Give the two files of one split.",
        )
    return [annotation(entry) for entry in entries]
