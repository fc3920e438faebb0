"""A table of heads to paste into a paper or a README: Markdown or LaTeX, by the file's ending."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.pipeline.commands.tables import probability
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.evaluate.compare import Difference
from frozen_vqa.pipeline.evaluate.evaluate import Evaluation
from frozen_vqa.pipeline.evaluate.seed_groups import side_name, spreads


@dataclass(frozen=True)
class Row:
    """One side.

    Attributes:
        side: One head, or several seeds of one.
        overall: The paired difference from the first side, over all questions; None for itself.
    """

    side: Sequence[Evaluation]
    overall: Difference | None = None


def require_table_ending(path: Path) -> None:
    """Raise `ConfigError` unless a table can be written to a file of this name."""
    if path.suffix not in FORMS:
        raise ConfigError(
            f"{path}: a table is written as Markdown or LaTeX, by the ending of its file: "
            f"{' or '.join(FORMS)}"
        )


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write heads as rows: accuracy overall and by answer type, difference from the first.

    Raises:
        ConfigError: if the file has another ending.
        MetricError: if the split has no answers.
        RunError: if the file cannot be written.
    """
    require_table_ending(path)
    text = FORMS[path.suffix](cells(rows))
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return the table as text, the header first."""
    first = rows[0].side
    types = list(spreads(first))
    header = ["head", *types]
    compared = len(rows) > 1
    if compared:
        header += [f"{side_name(first)} minus it [95 % interval]", "p (McNemar)"]
    table = [header]
    for row in rows:
        values = spreads(row.side)
        line = [f"{side_name(row.side)}, {row.side[0].fusion}"]
        for mean, sd in (values[name] for name in types):
            line.append(f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}")
        if compared:
            line += _difference(row.overall)
        table.append(line)
    return table


def _difference(found: Difference | None) -> list[str]:
    if found is None:
        return ["", ""]
    low, high = found.interval
    return [f"{found.difference:+.2f} [{low:+.2f}, {high:+.2f}]", probability(found.test.p)]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table in GitHub's Markdown."""
    escaped = [[re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", cell) for cell in row] for row in table]
    rule = ["---"] + ["---:"] * (len(table[0]) - 1)
    lines = [escaped[0], rule, *escaped[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
}


def latex(table: Sequence[Sequence[str]]) -> str:
    """Return a LaTeX tabular that needs no package."""
    escaped = [["".join(LATEX.get(c, c) for c in cell) for cell in row] for row in table]
    # A minus is longer than a hyphen; only numbers have one in front of a digit.
    minus = [[re.sub(r"(?<![\w-])-(?=\d)", "$-$", cell) for cell in row] for row in escaped]
    lines = [" & ".join(row) + r" \\" for row in minus]
    columns = "l" + "r" * (len(table[0]) - 1)
    body = [r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]) + "\n"


FORMS: dict[str, Callable[[Sequence[Sequence[str]]], str]] = {".md": markdown, ".tex": latex}
"""How a table is written, by the ending of the file."""
