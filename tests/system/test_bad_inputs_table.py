"""docs/bad-inputs.md against the code: each row is made, read, and compared with the page."""

from pathlib import Path

import pytest

from tests.support.bad_inputs_page import (
    SECTIONS,
    lines_of,
    make_row,
    stay_offline,
    write_line,
)

CASES = [(section, name) for section, cases in SECTIONS.items() for name in cases]


@pytest.fixture(autouse=True)
def _offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    stay_offline(monkeypatch, tmp_path_factory.mktemp("cache"))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("section", "name"), CASES)
def test_the_page_says_what_happens(section: str, name: str, tmp_path: Path) -> None:
    row = make_row(section, name, tmp_path / "data")
    assert write_line(name, row) in lines_of(section)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_these_rows_once_and_no_other(section: str) -> None:
    names = [line.removeprefix("| ").split(" | ")[0] for line in lines_of(section)]
    assert names == [name.replace("|", r"\|") for name in SECTIONS[section]]
