"""Tables to paste: what stands in them, and that names cannot break them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frozen_vqa.pipeline.commands.tables import Row, require_table_ending, write_table
from frozen_vqa.pipeline.errors import ConfigError, RunError
from tests.support.evaluations import QUESTIONS, group, make_rows, scored

DIFFERENCE = "-15.00 [none: no two pictures differ]"


@pytest.fixture
def rows() -> list[Row]:
    return make_rows()


def test_markdown(rows: list[Row], tmp_path: Path) -> None:
    write_table(tmp_path / "t.md", rows)
    lines = (tmp_path / "t.md").read_text(encoding="utf-8").splitlines()
    cells = [re.split(r" \| ", line.strip("| ")) for line in lines]
    assert cells[0][:5] == ["head", "overall", "number", "other", "yes/no"]
    assert cells[0][5] == r"at\_ten\& (2 seeds) minus it \[95 % interval\]"
    assert cells[1] == ["---", *["---:"] * 6]
    assert cells[2][:2] == [r"at\_ten\& (2 seeds), concat", "75.00 ± 21.21"]
    assert cells[3][0] == r"a\|b, concat"
    assert cells[3][1:] == [
        *["90.00"] * 4,
        DIFFERENCE.replace("[", r"\[").replace("]", r"\]"),
        r"\<0.001",
    ]
    assert len(lines) == 4


def test_latex(rows: list[Row], tmp_path: Path) -> None:
    write_table(tmp_path / "t.tex", rows)
    text = (tmp_path / "t.tex").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrr}"
    assert lines[-1] == r"\end{tabular}"
    bodies = [line for line in lines if line.endswith(r" \\")]
    assert len(bodies) == 3
    assert all(len(re.split(r"(?<!\\)&", line)) == 7 for line in bodies)
    assert r"at\_ten\& (2 seeds), concat & 75.00 $\pm$ 21.21 &" in bodies[1]
    assert bodies[2].endswith(rf"& $-${DIFFERENCE[1:]} & $<$0.001 \\")


def test_a_single_head_has_no_difference(tmp_path: Path) -> None:
    write_table(tmp_path / "t.md", [Row(group(scored("one", np.full(QUESTIONS, 0.3))))])
    last = (tmp_path / "t.md").read_text(encoding="utf-8").splitlines()[-1]
    assert last == "| one, concat | 30.00 | 30.00 | 30.00 | 30.00 |"


def test_files_that_cannot_be_written(rows: list[Row], tmp_path: Path) -> None:
    for name in ("t.html", "md"):
        with pytest.raises(ConfigError, match=rf"{name}: .*Markdown or LaTeX; end .*\.md or \.tex"):
            require_table_ending(Path(name))
    (tmp_path / "t.md").mkdir()
    with pytest.raises(RunError, match=r"t\.md: cannot be written"):
        write_table(tmp_path / "t.md", rows)


def test_a_variant_is_named(tmp_path: Path) -> None:
    one = replace(scored("one", np.full(QUESTIONS, 0.3)), variant="ensemble")
    write_table(tmp_path / "t.md", [Row(group(one))])
    assert "| one (ensemble), concat |" in (tmp_path / "t.md").read_text(encoding="utf-8")
