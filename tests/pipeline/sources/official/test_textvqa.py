"""The module that the manual shows as an example of a data set."""

import re

from tests.support.repository import ROOT


def test_the_manual_shows_the_module_as_it_is() -> None:
    module = (ROOT / "pipeline" / "sources" / "official" / "textvqa.py").read_text(encoding="utf-8")
    manual = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")

    assert f"```python\n{module}```\n" in manual
    for file in (ROOT / "pipeline" / "sources" / "official").rglob("*.py"):
        shared = file.stem in ("reader", "joined")
        assert shared or file.read_text(encoding="utf-8").count("\n") <= 80, file


def test_the_manual_has_a_row_for_each_data_set() -> None:
    from frozen_vqa.pipeline.commands.parse.shared import DATA
    from frozen_vqa.pipeline.sources.open_source import OFFICIAL, open_source

    manual = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    floors = manual.partition("## Floor and ceiling")[2].partition("\n## ")[0]
    for name in OFFICIAL:
        source = open_source(f"{name}:{ROOT}")
        rows = [line for line in manual.splitlines() if f"`{name}:PATH`" in line]
        assert len(rows) == 1, name
        assert f"`{source.metric}`" in rows[0], name
        assert name in DATA, name
        title = rows[0].split("|")[1].strip().removesuffix("-VQA").removesuffix(", telling")
        assert len(re.findall(rf"^\|.*\b{title}\b", floors, re.M)) >= 1, title
