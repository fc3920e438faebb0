"""Scoring a results file against an annotation file, without a training run.

The annotation file tells its layout, and that the metric, unless one is given. Ids are compared as
text. Results of other questions than those of the file are refused, and ids that occur twice,
unless the official rule counts them; then a note says how many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import MetricError, SourceError
from frozen_vqa.pipeline.metrics.accuracy import (
    ANSWER_TYPE,
    QUESTION_TYPE,
    Accuracy,
    summarise,
)
from frozen_vqa.pipeline.metrics.find import LAYOUTS, find_metric, pick_metric
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered, Layout, Metric
from frozen_vqa.pipeline.metrics.named import gqa, vqav2
from frozen_vqa.pipeline.metrics.official_files import (
    annotations_in,
    read_predictions,
    require_no_others,
)
from frozen_vqa.pipeline.metrics.records import (
    annotations_of,
    find_layout,
    read_content,
    refuse,
    require_once,
    results_of,
    some,
)
from frozen_vqa.pipeline.sources.example import Id
from frozen_vqa.pipeline.sources.strict_json import read_json
from frozen_vqa.pipeline.sources.validation import shown


def score_files(
    *,
    predictions: Path | str,
    annotations: Path | str,
    questions: Path | str | None = None,
    metric: str | None = None,
) -> tuple[Accuracy, dict[Id, float]]:
    """Score an official results file; return the accuracy and each question's percent.

    Where the annotation file holds several splits, the predictions decide which one is scored, and
    have to be of all its questions.

    Args:
        questions: Of VQAv2 the question file, to check that all files match; of GQA the file of
            choices.
        metric: Its name; without it that of the layout, or as in `pick_metric`.

    Raises:
        SourceError: if a file cannot be read or is not in the official form.
        MetricError: if the files hold different questions, or there is no such metric.
    """
    chosen = find_metric(metric) if metric else None
    layout, records = _read_annotations(Path(annotations), questions, chosen)
    path = Path(predictions)
    entries = _read_predictions(path, layout)
    records = _of_one_split(records, {str(name) for name, _ in entries})
    counts = (len(record.answers) for record in records)
    chosen = chosen or pick_metric(counts, layout.metric)
    answered, notes = _match(path, Path(annotations), records, entries, layout, chosen)
    found = score_answered(answered, chosen)
    each = {
        one.question.question_id: chosen.percent(one.score)
        for one in answered
        if chosen.counts(one.question)
    }
    return replace(found, notes=tuple(notes)), each


def score_answered(
    answered: Sequence[Answered], metric: Metric, *, figures: bool = True
) -> Accuracy:
    """Return the means of scored answers, and the figures of the metric."""
    counted = [one for one in answered if metric.counts(one.question)]
    questions = [one.question for one in counted]
    groups = [{**question.groups, **metric.groups(question)} for question in questions]
    names = dict.fromkeys(name for some in groups for name in some)
    kinds: dict[str, list[str]] = {
        ANSWER_TYPE: [question.answer_type for question in questions],
        QUESTION_TYPE: [question.question_type for question in questions],
        **{name: [some.get(name, "") for some in groups] for name in names},
    }
    scores = [one.score for one in counted]
    found = summarise(scores, kinds, metric=metric.name, percent=metric.percent)
    return replace(found, figures=metric.figures(answered)) if figures else found


def _read_annotations(
    path: Path, questions: Path | str | None, metric: Metric | None
) -> tuple[Layout, list[Annotation]]:
    content = read_content(path)
    layout = find_layout(content, LAYOUTS) or (metric.layout if metric else vqav2.LAYOUT)
    if layout is vqav2.LAYOUT and not (isinstance(content, dict) and layout.place in content):
        found = "lines that are no JSON" if isinstance(content, tuple) else shown(content)
        raise SourceError(
            f"{path}: found {found} with entries of no known layout; an official annotation file "
            f"is needed. Check that this is the right file; --metric with the name of its data set "
            f"makes this message say what it lacks."
        )
    if metric and metric.layout.form is layout.form:  # A-OKVQA's two metrics have a key each
        layout = metric.layout
    if layout is vqav2.LAYOUT:
        return layout, annotations_in(path, content, questions)
    if questions is not None and layout is not gqa.LAYOUT:
        raise MetricError(
            f"{questions}: an annotation file of {layout.metric} holds its questions; leave out "
            f"--questions"
        )
    records = annotations_of(path, content, layout)
    return layout, records if questions is None else _with_choices(Path(questions), records)


def _read_predictions(path: Path, layout: Layout) -> Sequence[tuple[Id, Mapping[str, Any]]]:
    if layout is vqav2.LAYOUT:
        return [(name, {"answer": answer}) for name, answer in read_predictions(path).items()]
    return results_of(path, read_content(path), layout)


def _with_choices(path: Path, records: Sequence[Annotation]) -> list[Annotation]:
    """Return the records of GQA with the valid and plausible answers of its file of choices."""
    choices = read_json(path)
    need = 'an object of {"valid", "plausible"} lists by question id is needed'
    if not isinstance(choices, dict):
        raise SourceError(f"{path}: found {shown(choices)}; {need}. Give GQA's file of choices.")
    found = []
    for record in records:
        one = choices.get(str(record.question_id))
        if one is not None and not _has_lists(one):
            raise SourceError(f"{path}: question {record.question_id!r} has {shown(one)}; {need}.")
        more = {} if one is None else {"choices": one}
        found.append(replace(record, record={**record.record, **more}))
    return found


def _has_lists(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(kind), list) for kind in ("valid", "plausible")
    )


def _of_one_split(records: Sequence[Annotation], predicted: set[str]) -> list[Annotation]:
    """Return the records of the split that most predictions are of."""
    splits: dict[str, int] = {}
    for record in records:
        splits[record.split] = splits.get(record.split, 0) + (str(record.question_id) in predicted)
    wanted = max(splits, key=lambda split: splits[split])
    return [record for record in records if record.split == wanted]


def _match(
    path: Path,
    annotations: Path,
    records: Sequence[Annotation],
    entries: Sequence[tuple[Id, Mapping[str, Any]]],
    layout: Layout,
    metric: Metric,
) -> tuple[list[Answered], list[str]]:
    """Return each question with its prediction, and notes on what the official rule forgives."""
    if not layout.repeated:
        require_once(path, [name for name, _ in entries])
    by_id = {str(name): entry for name, entry in entries}
    known = {str(record.question_id): record for record in records}
    answers = _answers(path, {i: by_id[i] for i in by_id if i in known}, known, layout)
    # GQA counts the balanced questions alone; its consistency takes what else is answered.
    counted = [record for record in records if metric.counts(record)]
    missing = [r.question_id for r in counted if str(r.question_id) not in answers]
    unknown = [name for name, _ in entries if str(name) not in known]
    require_no_others(
        f"{path} against {annotations}",
        len(counted),
        [] if layout.missing and len(missing) < len(counted) else missing,
        [] if layout.unknown else unknown,
        "Predict every question of this split, and no other."
        if answers or not any(name in known for name in by_id)
        else f"No prediction has an answer under {layout.answer_key!r}.",
    )
    notes = []
    if missing:
        notes.append(f"without a prediction, which counts 0: {len(missing):,} ({some(missing)})")
    if unknown:
        notes.append(f"ignored, of unknown questions: {len(unknown):,} ({some(unknown)})")
    if repeats := len(entries) - len(by_id):
        notes.append(f"repeated predictions, of which the last counts: {repeats:,}")
    answered = []
    for name, record in known.items():
        if name in answers:
            if not (given := metric.given(record)):
                raise MetricError(
                    f"{annotations}: question {record.question_id!r} has no given answers, and a "
                    f"score needs at least one. Score a split that has answers, such as val."
                )
            score = metric.score(answers[name], given)
            answered.append(Answered(record, answers[name], score, by_id[name]))
        elif metric.counts(record):
            answered.append(Answered(record, "", 0.0))
    return answered, notes


def _answers(
    path: Path,
    entries: Mapping[str, Mapping[str, Any]],
    known: Mapping[str, Annotation],
    layout: Layout,
) -> dict[str, str]:
    """Return the answer of each entry; those without one may be missing, by the official rule."""
    found, faults = {}, []
    for name, entry in entries.items():
        value = layout.read(layout, entry, known[name])
        if type(value) in (str, int):
            found[name] = str(value)
        elif value is not None or not layout.missing:
            faults.append(f"question {name} has {shown(value)} as answer")
    if faults:
        refuse(path, faults, len(entries), "a text or a whole number is")
    return found
