"""Results as tables for people, on stderr beside the progress."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from frozen_vqa.pipeline.evaluate.bootstrap import Interval
from frozen_vqa.pipeline.metrics.vqa_accuracy import Accuracy
from frozen_vqa.pipeline.system.console import console, duration

if TYPE_CHECKING:  # these import torch, which `score` does without
    from frozen_vqa.pipeline.evaluate.compare import Difference
    from frozen_vqa.pipeline.evaluate.evaluate import Evaluation
    from frozen_vqa.pipeline.train.sweep import SweepResult

RULE_NAMES = {
    "2021": "official VQA accuracy, rules of 2021",
    "2017": "official VQA accuracy, rules of 2017",
    "plain": "plain accuracy, as questions have fewer than ten answers",
}


def show_accuracy(accuracy: Accuracy, title: str, interval: Interval | None = None) -> None:
    """Print accuracy overall, by answer type and by question type."""
    table = Table("", "accuracy %", title=title, caption=RULE_NAMES[accuracy.rules], min_width=44)
    table.columns[1].justify = "right"
    between = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
    table.add_row(f"overall ({accuracy.questions:,} questions)", f"{accuracy.overall:.2f}{between}")
    for types in (accuracy.by_answer_type, accuracy.by_question_type):
        _add_section(table, types)
    console.print(table)


def _add_section(table: Table, types: Mapping[str, float]) -> None:
    if types:
        table.add_section()
    for name, value in sorted(types.items()):
        table.add_row(name, f"{value:.2f}")


def show_evaluation(evaluation: "Evaluation") -> None:
    """Print what one head scores, or that it only predicted."""
    if evaluation.accuracy is None:
        console.print(f"{evaluation.split}: no answers to score against; predictions only")
    else:
        variant = f", {evaluation.variant}" if evaluation.variant else ""
        title = f"{evaluation.run} ({evaluation.fusion}{variant}) on {evaluation.split}"
        show_accuracy(evaluation.accuracy, title, evaluation.interval)
        console.print(f"ceiling of the answer vocabulary: {evaluation.ceiling:.2f} %")
    if evaluation.left_out:
        console.print(
            f"{evaluation.left_out:,} questions are left out: their pictures could not be read"
        )
    console.print(f"results in the official form: {evaluation.results}", soft_wrap=True)
    if evaluation.logits:
        console.print(f"logits: {evaluation.logits}", soft_wrap=True)


def show_comparison(ours: "Evaluation", theirs: Path, rows: "Sequence[Difference]") -> None:
    """Print the paired difference of two heads."""
    title = f"{ours.run} against {theirs} on {ours.split}"
    show_differences(title, (ours.run.name, theirs.name), rows)


def show_differences(title: str, names: tuple[str, str], rows: "Sequence[Difference]") -> None:
    """Print the paired difference of two sides."""
    table = Table(title=title, caption="p: McNemar's exact test, questions as if independent")
    for name in ("", "questions", *names, "difference", "95 % interval", "p"):
        table.add_column(name, justify="right" if name else "left")
    kind = "overall"
    for row in rows:
        if row.kind != kind:
            table.add_section()
            kind = row.kind
        table.add_row(
            row.group,
            f"{row.questions:,}",
            _spread(row.ours, row.ours_sd),
            _spread(row.theirs, row.theirs_sd),
            f"{row.difference:+.2f}",
            f"[{row.interval[0]:+.2f}, {row.interval[1]:+.2f}]",
            probability(row.test.p),
        )
    console.print(table)


def _spread(mean: float, sd: float | None) -> str:
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def probability(p: float) -> str:
    """Return a probability for people: 0.04321 -> '0.0432', 3e-9 -> '<0.0001'."""
    return f"{p:.4f}" if p >= 1e-4 else "<0.0001"


def show_seeds(name: str, by_type: Mapping[str, tuple[float, float | None]]) -> None:
    """Print mean and standard deviation over the seeds of one side."""
    table = Table("", "mean ± sd %", title=name, min_width=44)
    table.columns[1].justify = "right"
    for group, (mean, sd) in by_type.items():
        table.add_row(group, _spread(mean, sd))
    console.print(table)


def show_sweep(result: "SweepResult") -> None:
    """Print the heads of a sweep, the most accurate one first."""
    table = Table()
    for title in ("", "head", "accuracy %", "epoch", "parameters"):
        table.add_column(title, justify="left" if title == "head" else "right", overflow="fold")
    for rank, (name, head) in enumerate(result.heads.items(), start=1):
        table.add_row(
            str(rank),
            name,
            f"{head.best_accuracy:.2f}",
            f"{head.best_epoch}/{head.epochs}",
            f"{head.trainable_parameters:,}",
        )
    for name in result.failed:
        table.add_row("", name, "failed", "", "")
    console.print(table)
    console.print(f"{len(result.heads)} heads in one pass, {duration(result.seconds)}")
