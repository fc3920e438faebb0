"""docs/bad-inputs.md against the code: each row is made, read, and compared with the page.

A case makes one input and returns the row's outcome and its sentence, with the folder written as
DATA, the text encoder as MODEL, and words that are a library's as "…". The page must hold exactly
these rows.
"""

import re
from pathlib import Path

import datasets
import pytest

from tests.support.bad_files import FILES
from tests.support.bad_inputs import Row
from tests.support.bad_pictures import PICTURES
from tests.support.bad_questions import QUESTIONS
from tests.support.frozen import Text
from tests.support.repository import ROOT

PAGE = (ROOT / "docs" / "bad-inputs.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


SECTIONS = {
    "Pictures": PICTURES,
    "Questions and answers": QUESTIONS,
    "Files and splits": FILES,
}
CASES = [(section, name) for section, cases in SECTIONS.items() for name in cases]


def rows_of_page(section: str) -> dict[str, Row]:
    """Return the rows of the page's table by input."""
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    rows: dict[str, Row] = {}
    for line in re.findall(r"^\| (.*) \|$", body, re.MULTILINE)[1:]:
        name, outcome, sentence = line.split(" | ")
        assert name not in rows, f"{name} stands twice"
        rows[name] = outcome, re.sub(r"^(`+) ?(.*?) ?\1$", r"\2", sentence)
    return rows


def plainly(sentence: str, folder: Path) -> str:
    """Write the folder as DATA, the encoder as MODEL, and what a library says as "…"."""
    sentence = sentence.replace(str(folder), "DATA").replace(Text.name, "MODEL")
    return re.sub(r"(damaged|cannot be read) \(.*\)$", r"\1 (…)", sentence)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("section", "name"), CASES)
def test_the_page_says_what_happens(section: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()

    outcome, sentence = SECTIONS[section][name](folder)

    assert rows_of_page(section)[name] == (outcome, plainly(sentence, folder))
    assert "\n" not in sentence


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_no_other_rows(section: str) -> None:
    assert list(rows_of_page(section)) == list(SECTIONS[section])
