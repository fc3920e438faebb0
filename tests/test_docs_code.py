"""The Python blocks of the manual run, each page as one program, and so does the notebook."""

import json
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline import plugins
from tests.support.repository import ROOT
from tests.support.tiny_commands import _home  # noqa: F401  # in force in every test

PAGES = {
    page.stem: re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    for page in sorted((ROOT / "docs").glob("*.md"))
}
SHOWN = {"training"}
"""Its block loads a run that only a reader has."""
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def run(sources: Sequence[str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run pieces of a program one after the other, as one module."""
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(plugins, "_trusted", {})
    for source in sources:
        exec(compile(source, name, "exec"), vars(module))


@pytest.mark.parametrize("page", [name for name in PAGES if PAGES[name] and name not in SHOWN])
def test_the_blocks_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(PAGES[page], f"page_{page}", monkeypatch)


def test_the_commands_of_a_page_name_code_that_it_shows() -> None:
    """my_fusion:MyFusion is `class MyFusion` in a block that begins with `# my_fusion.py`."""
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(my_\w+):(\w+)", text))
    shown = {
        (block.partition("\n")[0].removeprefix("# ").removesuffix(".py"), name)
        for block in PAGES["extend"]
        for name in re.findall(r"^class (\w+)", block, re.M)
    }
    assert len(named) == 4
    assert named == shown


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]  # type: ignore[no-any-return]


def test_the_notebook_holds_no_output() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert code
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    run(code, "notebook", monkeypatch)
