"""GQA: equal texts, over the balanced questions, and how the answers hang together.

Source: the official eval.py. Validity and plausibility need the file of choices, and consistency
the questions that a right answer entails; what the files lack is left out.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from frozen_vqa.pipeline.metrics.accuracy import Figure, mean
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric, equal_to_one


class _Types(TypedDict):
    structural: str
    semantic: str
    detailed: str


class _Step(TypedDict):
    operation: str
    argument: str


# In this form, because "global" is a word of Python.
_Groups = TypedDict("_Groups", {"global": str | None}, total=False)


class _Choices(TypedDict):
    valid: list[str]
    plausible: list[str]


class _Entry(TypedDict):
    questionId: str
    question: str
    imageId: str
    answer: str
    types: _Types
    semantic: list[_Step]
    entailed: NotRequired[list[str]]
    groups: NotRequired[_Groups]
    isBalanced: NotRequired[bool]
    choices: NotRequired[_Choices]  # from the file of choices


NOT_A_STEP = ("exist", "query: name", "choose name")
COMMON = ["color", "material", "shape"]


def _annotation(entry: Mapping[str, Any]) -> Annotation:
    steps = (f"{step['operation']}: {step['argument']}" for step in entry["semantic"])
    structural = entry["types"]["structural"]
    return Annotation(
        entry["questionId"],
        (entry["answer"],),
        question_type=entry["types"]["detailed"],
        answer_type="open" if structural == "query" else "binary",
        groups={
            "structural": structural,
            "semantic": entry["types"]["semantic"],
            "steps": str(sum(not any(no in step for no in NOT_A_STEP) for step in steps)),
            "words": str(len(entry["question"].split())),
            "balanced": "yes" if entry.get("isBalanced", True) else "no",
            "global": entry.get("groups", {}).get("global") or "",
        },
        record=entry,
    )


def _is_balanced(question: Annotation) -> bool:
    return question.groups.get("balanced") != "no"


def _figures(answered: Sequence[Answered]) -> dict[str, Figure]:
    counted = [one for one in answered if _is_balanced(one.question)]
    balanced = [one for one in counted if one.question.record]
    found = {}
    if entailed := _entailed(answered, balanced):
        found["consistency"] = Figure(100 * mean(entailed), len(entailed))
    if balanced and all("choices" in one.question.record for one in balanced):
        for name, kind in (("validity", "valid"), ("plausibility", "plausible")):
            scores = [float(_belongs(one, kind)) for one in balanced]
            found[name] = Figure(100 * mean(scores), len(scores))
    grouped = [(group, one) for one in counted if (group := one.question.groups.get("global"))]
    if grouped:
        distance = Figure(_chi_square(grouped), len(grouped), unit="")
        found["distribution (lower is better)"] = distance
    return found


def _entailed(answered: Sequence[Answered], balanced: Sequence[Answered]) -> list[float]:
    """Return the mean score on what each right answer entails; none unless all is answered."""
    scores = {str(one.question.question_id): one.score for one in answered}
    means = []
    for one in balanced:
        ids = [i for i in one.question.record.get("entailed", ()) if i != one.question.question_id]
        if one.score and ids:
            if not all(i in scores for i in ids):
                return []
            means.append(mean([scores[i] for i in ids]))
    return means


def _belongs(one: Answered, kind: str) -> bool:
    record = one.question.record
    return one.answer in (
        COMMON if "Common" in record["types"]["detailed"] else record["choices"][kind]
    )


def _chi_square(grouped: Sequence[tuple[str, Answered]]) -> float:
    """Return how far the answers of each global group are from the given ones, over 100."""
    given: dict[str, Counter[str]] = defaultdict(Counter)
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for group, one in grouped:
        given[group][one.question.answers[0]] += 1
        said[group][one.answer] += 1
    total = 0.0
    for group, counts in given.items():
        score = 0.0
        for answer, count in counts.items():
            score += float(said[group][answer] - count) ** 2 / count
        total += score * counts.total()
    return total / sum(counts.total() for counts in given.values()) / 100


LAYOUT = Layout(
    metric="gqa",
    form=_Entry,
    annotation=_annotation,
    id_key="questionId",
    answer_key="prediction",
    unknown=True,
)
METRICS = (
    Metric(
        name="gqa",
        rule="GQA accuracy: equal texts, balanced questions",
        layout=LAYOUT,
        score=equal_to_one(),
        counts=_is_balanced,
        figures=_figures,
    ),
)
