"""The `score` command: any results file against any annotation file, without torch."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.folders import require_own_file
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.cache.format.records.files import Id
from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.commands.tables import show_accuracy
from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.score import score_files
from frozen_vqa.pipeline.system.console import beside_the_work, console
from frozen_vqa.pipeline.system.texts import to_json


def score_command(
    *,
    predictions: Path,
    annotations: Path,
    questions: Path | None,
    metric: str | None,
    per_question: Path | None,
) -> dict[str, Any]:
    """Score a results file and show the tables."""
    if per_question is not None and not per_question.name:  # "", "." and "/"
        raise MetricError(f"--per-question {per_question} is no name of a file; give one")
    accuracy, each = score_files(
        predictions=predictions, annotations=annotations, questions=questions, metric=metric
    )
    show_accuracy(accuracy, str(predictions))
    lost: list[str] = []
    if per_question is not None:
        require_own_file(per_question, partial(_is_of, each), MetricError, "--per-question")
        advice = "Make room or give another --per-question."
        with beside_the_work(lost):
            with explain_write_errors(per_question, MetricError, advice):
                write_atomically(per_question, to_json(each).encode())
            console.show(f"percent of each question: {per_question}")
    return accuracy.to_json() | ({"not_written": lost} if lost else {})


def _is_of(each: Mapping[Id, float], found: bytes) -> bool:
    """Whether a file has a score for each of these questions, as this command writes it."""
    try:
        scores = finite_json(found)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(scores, dict)
        and scores.keys() == {str(question) for question in each}
        and all(isinstance(score, int | float) for score in scores.values())
    )
