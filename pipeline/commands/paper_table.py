"""A table of heads for a paper or a README: Markdown or LaTeX, by the file's ending."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.pipeline.commands.tables import format_interval, format_probability, format_spread
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.evaluate.compare import Difference
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup


@dataclass(frozen=True)
class Row:
    """A row of the table; `overall` is the paired difference from the first row, None in that."""

    group: SeedGroup
    overall: Difference | None = None


def require_table_ending(path: Path) -> None:
    """Raise `ConfigError` unless a table can be written to a file of this name."""
    if path.suffix not in FORMS:
        raise ConfigError(
            f"{path}: the ending decides whether a table is Markdown or LaTeX; end the name with "
            f"{' or '.join(FORMS)}"
        )


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write one head a row: accuracy overall and by answer type, difference from the first.

    Raises:
        ConfigError: if the file has another ending.
        MetricError: if the split has no answers.
        RunError: if the file cannot be written.
    """
    require_table_ending(path)
    text = FORMS[path.suffix](fill_cells(rows))
    with explain_write_errors(path, RunError, "Make room or give another --table."):
        write_atomically(path, text.encode())


def fill_cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return the table as text, the header first."""
    first = rows[0].group
    header = ["head", *first.spreads()]
    compared = len(rows) > 1
    if compared:
        header += [f"{first.name} minus it [95 % interval]", "p (McNemar)"]
    table = [header]
    for row in rows:
        values = row.group.spreads()
        line = [f"{row.group.name}, {row.group.first.fusion}"]
        line += [format_spread(*values[name]) for name in first.spreads()]
        if row.overall:
            difference = f"{row.overall.difference:+.2f} {format_interval(row.overall.interval)}"
            line += [difference, format_probability(row.overall.test.p)]
        elif compared:
            line += ["", ""]
        table.append(line)
    return table


def to_markdown(table: Sequence[Sequence[str]]) -> str:
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


def to_latex(table: Sequence[Sequence[str]]) -> str:
    """Return a LaTeX tabular that needs no package."""
    escaped = [["".join(LATEX.get(c, c) for c in cell) for cell in row] for row in table]
    # A minus is longer than a hyphen; a minus stands before a digit and behind no letter.
    minus = [[re.sub(r"(?<![\w-])-(?=\d)", "$-$", cell) for cell in row] for row in escaped]
    lines = [" & ".join(row) + r" \\" for row in minus]
    columns = "l" + "r" * (len(table[0]) - 1)
    body = [r"\hline", lines[0], r"\hline", *lines[1:], r"\hline"]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}"]) + "\n"


FORMS: dict[str, Callable[[Sequence[Sequence[str]]], str]] = {".md": to_markdown, ".tex": to_latex}
"""How to write a table, by the ending of the file."""
