"""Results as tables: on stderr for people, and as a Markdown or LaTeX file for a paper."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Column, Table

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.folders import require_own_file
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.evaluate.clusters import UNITS
from frozen_vqa.pipeline.metrics.accuracy import Accuracy, group_title
from frozen_vqa.pipeline.metrics.find import METRICS
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.texts import markdown_table, printable

if TYPE_CHECKING:  # these import torch, which `score` does without
    from frozen_vqa.pipeline.evaluate.compare import Difference
    from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
    from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
    from frozen_vqa.pipeline.evaluate.statistics import Interval

LONGEST_WORD = 20
"""Letters of a type of question that a narrow terminal does not break."""

CHOSEN = "the best epoch was chosen on these questions, so new ones score a little lower"


def show_accuracy(
    accuracy: Accuracy, title: str, interval: "Interval | None" = None, note: str = ""
) -> None:
    """Print accuracy overall and by group, the figures of the metric, and a note below."""
    rule = METRICS[accuracy.metric].rule
    caption = "; ".join(filter(None, (rule, note, *accuracy.notes)))
    questions, percent = (Column(name, justify="right") for name in ("questions", "accuracy, %"))
    table = Table("", percent, questions, title=title, caption=caption, min_width=44)
    between = f" {format_interval(interval)}" if interval else ""
    overall = f"overall ({accuracy.questions:,} questions)"
    table.add_row(overall, f"{accuracy.overall:.2f}{between}", "")
    for kind, means in accuracy.groups.items():
        table.add_section()
        for name, one in sorted(means.items(), key=lambda pair: _in_order(pair[0])):
            table.add_row(group_title(kind, name), f"{one.value:.2f}", f"{one.questions:,}")
    console.show(table)
    if accuracy.figures:
        value, over = (Column(name, justify="right") for name in ("value", "over"))
        figures = Table("beside the accuracy", value, over, min_width=44)
        for name, one in accuracy.figures.items():
            figures.add_row(name, f"{one.value:.2f} {one.unit}".strip(), f"{one.questions:,}")
        console.show(figures)


def _in_order(name: str) -> tuple[int, str]:
    """Return what sorts names, such as "9 steps" by its number before "10 steps"."""
    digits = name.partition(" ")[0]
    return (int(digits) if digits.isdecimal() and len(digits) < 10 else -1, name)


def show_evaluation(evaluation: "Evaluation") -> None:
    """Print the score of one head, or that there are only predictions."""
    if evaluation.accuracy is None:
        console.show(f"{evaluation.split}: no answers to score against; predictions only")
    else:
        variant = f", {evaluation.variant}" if evaluation.variant else ""
        note = CHOSEN if evaluation.data and evaluation.data.chosen_on else ""
        title = f"{evaluation.run} ({evaluation.fusion}{variant}) on {evaluation.split}"
        show_accuracy(evaluation.accuracy, title, evaluation.interval, note)
        what = "choices" if evaluation.chooses else "answer vocabulary"
        console.show(f"ceiling of the {what}: {evaluation.ceiling:.2f} %")
        for caveat in evaluation.caveats:
            console.warn(caveat)
    _show_left_out(evaluation)
    if evaluation.results:
        console.show(f"results in the official form: {evaluation.results}")
    if evaluation.logits:
        console.show(f"logits: {evaluation.logits}")


def _show_left_out(evaluation: "Evaluation") -> None:
    """Print why questions are left out, and what this means for the file of results."""
    left_out = evaluation.left_out
    for sentence in left_out.describe():
        console.show(sentence)
    if empty := len(left_out.ids):
        score = ""
        if evaluation.accuracy and evaluation.scores is not None:
            share = len(evaluation.scores) / (len(evaluation.scores) + empty)
            score = f"; with them the accuracy is {evaluation.accuracy.overall * share:.2f} %"
        console.show(f"the results answer {empty:,} of these questions with an empty text{score}")
    if left_out.unknown:
        console.show(
            f"the results lack {left_out.unknown:,} of these questions, because the cache has not "
            f"noted their ids; the same extract-features command again notes those that can be read"
        )


def show_seeds(group: "SeedGroup") -> None:
    """Print mean and standard deviation over the seeds of a group."""
    title = f"{group.name} on {group.first.split}"
    table = Table("", Column("mean ± sd %", justify="right"), title=title, min_width=44)
    for name, (mean, sd) in group.spreads().items():
        table.add_row(name, format_spread(mean, sd))
    console.show(table)


def show_comparison(
    ours: "SeedGroup", theirs: "SeedGroup", differences: "Sequence[Difference]"
) -> None:
    """Print the paired difference of two sides."""
    unit = UNITS[ours.first.cluster_by]
    paths = [str(side.first.run.parent / side.name) for side in (ours, theirs)]
    table = Table(
        title=f"{' against '.join(paths)} on {ours.first.split}",
        caption="; ".join([f"p: sign-flip test over {unit}", *ours.first.caveats]),
    )
    words = [word for row in differences for word in group_title(row.kind, row.group).split()]
    table.add_column(min_width=min(LONGEST_WORD, max(map(cell_len, words))))  # breaks at spaces
    for name in ("questions", ours.name, theirs.name, "difference", "95 % interval", "p"):
        table.add_column(name, justify="right")
    kind = "overall"
    for row in differences:
        if row.kind != kind:
            table.add_section()
            kind = row.kind
        table.add_row(
            group_title(row.kind, row.group),
            f"{row.questions:,}",
            format_spread(row.ours, row.ours_sd),
            format_spread(row.theirs, row.theirs_sd),
            f"{row.difference:+.2f}",
            format_interval(row.interval, sign="+"),
            format_probability(row.test.p),
        )
    console.show(table)


def show_heads(accuracies: Mapping[str, Accuracy], title: str) -> None:
    """Print one head a row: accuracy overall and by answer type."""
    types = sorted({name for found in accuracies.values() for name in found.by_answer_type})
    figures = (Column(name, justify="right") for name in ("overall", *types))
    table = Table("head", *figures, title=title)
    for head, found in accuracies.items():
        values = (found.overall, *(found.by_answer_type[name] for name in types))
        table.add_row(head, *(f"{value:.2f}" for value in values))
    console.show(table)


def format_spread(mean: float, sd: float | None) -> str:
    """Return a mean, with its standard deviation if there are several seeds."""
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def format_interval(interval: "Interval", sign: str = "") -> str:
    """Return an interval, or why there is none; `sign` "+" is for that of a difference."""
    if interval.bounds is None:
        return f"[none: {interval.reason}]"
    return "[{0:{2}.2f}, {1:{2}.2f}]".format(*interval.bounds, sign)


def format_probability(p: float) -> str:
    """Return a probability for people: 0.4321 -> '0.43', 0.0432 -> '0.043', 3e-9 -> '<0.001'."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


@dataclass(frozen=True)
class Row:
    """A row of a paper's table, and how it differs from the first row: overall, then by type."""

    group: "SeedGroup"
    differences: "Sequence[Difference]" = ()


def require_own_table(path: Path) -> None:
    """Raise `ConfigError` unless a table can be written to a file of this name.

    Its ending has to be known, and no file but a table of ours is replaced.
    """
    if path.suffix not in FORMS:
        raise ConfigError(
            f"{path}: the ending decides whether a table is Markdown or LaTeX; end the name with "
            f"{' or '.join(FORMS)}"
        )
    mark = FIRST_LINES[path.suffix].encode()
    require_own_file(path, lambda found: found.startswith(mark), ConfigError, "--table")


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write one head a row: accuracy overall and by answer type, difference from the first.

    Raises:
        ConfigError: as `require_own_table`.
        MetricError: if the split has no answers.
        RunError: if the file cannot be written.
    """
    text = FORMS[path.suffix](fill_cells(rows))
    require_own_table(path)
    with explain_write_errors(path, RunError, "Make room or give another --table."):
        write_atomically(path, f"{FIRST_LINES[path.suffix]}\n{text}".encode())


def fill_cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return a table for a paper as text, the header first."""
    first = rows[0].group
    header = ["head", *first.spreads()]
    if len(rows) > 1:
        header += [f"{first.name} minus it [95 % interval]", "p (sign flip)"]
    table = [header]
    for row in rows:
        values = row.group.spreads()
        data = row.group.first.data
        chosen = ", epoch chosen on this split" if data and data.chosen_on else ""
        untrained = ", untrained encoders" if row.group.first.caveats else ""
        line = [f"{row.group.name}, {row.group.first.fusion}{chosen}{untrained}"]
        line += [format_spread(*values[name]) for name in first.spreads()]
        for overall in row.differences[:1]:
            interval = format_interval(overall.interval, sign="+")
            line += [f"{overall.difference:+.2f} {interval}", format_probability(overall.test.p)]
        table.append(line + [""] * (len(header) - len(line)))
    return table


LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
}


def to_latex(table: Sequence[Sequence[str]]) -> str:
    """Return a LaTeX tabular that needs no package."""
    cells = [[printable(cell) for cell in row] for row in table]
    escaped = [["".join(LATEX.get(c, c) for c in cell) for cell in row] for row in cells]
    # A minus is longer than a hyphen; a minus stands before a digit and behind no letter.
    minus = [[re.sub(r"(?<![\w-])-(?=\d)", "$-$", cell) for cell in row] for row in escaped]
    lines = [" & ".join(row) + r" \\" for row in minus]
    columns = "l" + "r" * (len(table[0]) - 1)
    body = [r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]) + "\n"


FORMS: dict[str, Callable[[Sequence[Sequence[str]]], str]] = {
    ".md": partial(markdown_table, others="---:"),
    ".tex": to_latex,
}
"""How to write a table, by the ending of the file."""
FIRST_LINES = {
    ".md": "<!-- Written by frozen-vqa evaluate, which may replace what begins so. -->\n",
    ".tex": "% Written by frozen-vqa evaluate, which may replace what begins so.",
}
"""The first line of a table: it tells ours from somebody's file of the same name."""
