"""The Python blocks of the manual run, each page as one program, and so does the notebook."""

import re
import sys
import types
from pathlib import Path

import pytest

from tests.support.repository import ROOT
from tests.support.tiny_commands import _home  # noqa: F401  # in force in every test

PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if "```python" in page.read_text()]
SHOWN = ("VqaHead.from_pretrained(",)
"""Pages that load a run which only a reader has."""


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def run(sources: list[str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run pieces of a program one after the other, as a module of this name."""
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    for source in sources:
        exec(compile(source, name, "exec"), vars(module))


def test_the_pages_are_found() -> None:
    assert {"python.md", "extend.md", "training.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name != "training.md"], ids=lambda p: p.stem
)
def test_the_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(blocks(page), f"page_{page.stem}", monkeypatch)
