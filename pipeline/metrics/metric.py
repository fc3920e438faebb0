"""What a metric and an official layout are. Each has the name of the data set that it belongs to.

    annotation file ── Layout ── Annotation ─┐
                                             ├─ Metric.score ── Answered ── Metric.figures
    results file ───── Layout ── answer ─────┘

A metric knows no files and a layout no rule, so any metric can score the files of any data set.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from frozen_vqa.pipeline.metrics.accuracy import Figure
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.system.texts import to_json


@dataclass(frozen=True, slots=True)
class Annotation:
    """What the annotators say of one question.

    Attributes:
        answers: As they wrote them; none where the question only has choices.
        question_type, answer_type: Such as "what color is" and "yes/no"; "" if there is none.
        groups: What else its score counts for: the name of a kind of group, and of the group.
        choices: What to choose from; `right` is the place of the right one, -1 if unknown.
        split: Where one file holds several splits.
        record: Its entry in the official file, where figures need more of it.
    """

    question_id: Id
    answers: tuple[str, ...]
    question_type: str = ""
    answer_type: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    right: int = -1
    split: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, the answer of a head, and its score in [0, 1].

    `entry` is what else the results file says, such as "answerable".
    """

    question: Annotation
    answer: str
    score: float
    entry: Mapping[str, Any] = field(default_factory=dict)


def _list_of_objects(layout: "Layout", answered: Sequence[Answered]) -> str:
    entries = [
        {layout.id_key: one.question.question_id, layout.answer_key: one.answer, **one.entry}
        for one in answered
    ]
    return to_json(entries, ensure_ascii=False)


def _read_answer(layout: "Layout", entry: Mapping[str, Any], _: Annotation) -> object:
    return entry.get(layout.answer_key, entry.get("answer"))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a data set writes annotations and results. Its fields are all that a new one needs.

    Attributes:
        metric: The metric of files of this layout.
        form: A `TypedDict` of an entry of the annotation file; its required keys tell the layout.
        annotation: Makes an `Annotation` of such an entry; it may raise `ValueError`.
        place: The key of the list of entries; "" for a list, JSON lines, or an object by id.
        parts: Makes entries of what the file lists, where they lie one level deeper.
        lines: Makes entries of the lines of a file that is no JSON.
        id_key, answer_key: The keys of a results file. Without `id_key` its order decides, and a
            question's id is its place in the file, from 0.
        read: Returns the answer of an entry of a results file.
        line: Makes such an entry of a line of a file that is no JSON.
        missing, unknown, repeated: Whether the official rule takes results without a question,
            which then counts 0; with an unknown one; or with one twice, of which the last counts.
        results: The name of a results file.
        write: Returns its text.
    """

    metric: str
    form: Any
    annotation: Callable[[Any], Annotation]
    place: str = ""
    parts: Callable[[Any], Sequence[Any]] | None = None
    lines: Callable[[Sequence[str]], Sequence[Any]] | None = None
    id_key: str = "question_id"
    answer_key: str = "answer"
    read: Callable[["Layout", Mapping[str, Any], Annotation], object] = _read_answer
    line: Callable[[str], Any] | None = None
    missing: bool = False
    unknown: bool = False
    repeated: bool = False
    results: str = "results.json"
    write: Callable[["Layout", Sequence[Answered]], str] = _list_of_objects


def all_answers(question: Annotation) -> Sequence[str]:
    """Return all given answers."""
    return question.answers


def every_question(question: Annotation) -> bool:
    """Return True."""
    return True


def no_groups(question: Annotation) -> Mapping[str, str]:
    """Return no group."""
    return {}


def right_choice(question: Annotation) -> Sequence[str]:
    """Return the right one of the choices, alone; without choices the answers."""
    if question.choices:
        return question.choices[question.right : question.right + 1] if question.right >= 0 else ()
    return question.answers


def require_choice(place: int, choices: Sequence[str]) -> int:
    """Return the place of the right choice; raise `ValueError` if there is none."""
    if not 0 <= place < len(choices):
        raise ValueError(f"the right choice is number {place} of {len(choices)}, counted from 0")
    return place


def chance(answered: Sequence[Answered]) -> dict[str, Figure]:
    """Return what a guess among the choices scores, in percent."""
    shares = [1 / len(one.question.choices) for one in answered if one.question.choices]
    return {"chance": Figure(100 * sum(shares) / len(shares), len(shares))} if shares else {}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How the answers of one data set are scored.

    Attributes:
        rule: What it does, in a few words for tables.
        score: The score in [0, 1] of an answer, against the answers that the question was given.
        normalise: Texts with the same normal form are one class of a head.
        soft: The soft target of a class that `matches` of `given` answers name; None: its score.
        soft_is_score: Whether that is also the score wherever the given answers differ.
        percent: A score in percent; the rules of VQAv2 round it.
        counts: Whether a question is in the means. `figures` gets all.
        groups: The groups of a question for the tables, besides those of its annotation.
        given: What an answer is compared with.
        unanswerable: The answer that a question has none; results then hold how sure a head is that
            it has one.
        figures: What the data set reports beside the accuracy. It may raise `MetricError`.
    """

    name: str
    rule: str
    layout: Layout
    score: Callable[[str, Sequence[str]], float]
    normalise: Callable[[str], str] = str
    soft: Callable[[int, int], float] | None = None
    soft_is_score: bool = False
    percent: Callable[[float], float] = lambda score: 100 * score
    counts: Callable[[Annotation], bool] = every_question
    groups: Callable[[Annotation], Mapping[str, str]] = no_groups
    given: Callable[[Annotation], Sequence[str]] = all_answers
    unanswerable: str = ""
    figures: Callable[[Sequence[Answered]], Mapping[str, Figure]] = lambda answered: {}

    @property
    def chooses(self) -> bool:
        """Whether the right answer is one of a question's choices, where it has any."""
        return self.given is right_choice


def equal_to_one(
    normalise: Callable[[str], str] = str,
) -> Callable[[str, Sequence[str]], float]:
    """Return a score of 1 for an answer whose normal form is that of a given one, else 0."""
    return lambda answer, given: float(normalise(answer) in map(normalise, given))
