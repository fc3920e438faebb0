"""The `score` command: any results file against any annotation file, without torch."""

from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.pipeline.commands.tables import show_accuracy
from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.official_files import score_files
from frozen_vqa.pipeline.metrics.vqa_accuracy import Rules
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.texts import to_json


def score_command(
    *,
    predictions: Path,
    annotations: Path,
    questions: Path | None,
    rules: Rules | None,
    per_question: Path | None,
) -> dict[str, Any]:
    """Score a results file and show the tables."""
    accuracy, each = score_files(
        predictions=predictions, annotations=annotations, questions=questions, rules=rules
    )
    show_accuracy(accuracy, str(predictions))
    if per_question is not None:
        advice = "Make room or give another --per-question."
        with explain_write_errors(per_question, MetricError, advice):
            write_atomically(per_question, to_json(each).encode())
        console.print(f"percent of each question: {per_question}", soft_wrap=True)
    return accuracy.to_json()
