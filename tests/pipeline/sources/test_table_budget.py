"""Columns without end: refused before any library makes a column of each."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources import table_budget
from frozen_vqa.pipeline.sources.open_source import open_source

MOST = 20


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(table_budget, "MOST_COLUMNS", MOST)
    monkeypatch.setattr(table_budget, "MOST_HEADER", 1000)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "home")


def names(count: int) -> list[str]:
    return ["question", "answer", *(f"a{i}" for i in range(count - 2))]


def keys(count: int) -> str:
    return json.dumps(dict.fromkeys(names(count), "x"))


def spread(count: int) -> str:
    """Other keys in each line."""
    return "".join(json.dumps({"question": "q", name: 1}) + "\n" for name in names(count)[1:])


FORMS: dict[str, Callable[[int], str]] = {
    "csv": lambda count: ",".join(names(count)) + "\n" + "x," * (count - 1) + "x\n",
    "tsv": lambda count: "\t".join(names(count)) + "\n" + "x\t" * (count - 1) + "x\n",
    "json": lambda count: f"[{keys(count)}]",
    "jsonl": lambda count: keys(count) + "\n",
    "spread.jsonl": spread,
    "long.csv": lambda count: "question,answer\n" + "x," * (count - 1) + "x\n",
    "lines.csv": lambda count: ",".join(f'"{name}\n"' for name in names(count)) + "\nx,x\n",
}


@pytest.mark.parametrize("kind", ["hub", "jsonl"])
@pytest.mark.parametrize("form", FORMS)
def test_more_columns_than_anybody_has_are_refused_by_file(
    tmp_path: Path, kind: str, form: str
) -> None:
    if (kind, form) == ("jsonl", "long.csv"):
        return  # its own reader leaves such a row out
    for count in (MOST, MOST + 1):
        (folder := tmp_path / str(count)).mkdir()
        (folder / f"train.{form.rpartition('.')[2]}").write_text(FORMS[form](count))
        with pytest.raises(SourceError) as found:  # they all lack a picture
            open_source(f"{kind}:{folder}").examples("train")
        assert (f"more than {MOST} columns" in str(found.value)) == (count > MOST)
        assert count == MOST or f"{folder / 'train.'}"[:-1] in str(found.value)


def test_a_row_of_names_that_does_not_end_is_refused(tmp_path: Path) -> None:
    for text in ("a" * 1001, '"' + "a\n" * 600, "a,b\n" + "x" * 1000):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(SourceError, match="too long names"):
            table_budget.require_few_columns(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("a,b\nx,y\n" + "x" * 1000)
    table_budget.require_few_columns(tmp_path / "a.csv")


JSON = st.recursive(
    st.text() | st.integers(), lambda some: st.dictionaries(st.text(), some) | st.lists(some)
)


def all_keys(value: object) -> set[str]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {*(value if isinstance(value, dict) else ()), *(k for v in inside for k in all_keys(v))}


@given(value=JSON, spaces=st.sampled_from((None, 1)))
def test_keys_are_told_from_texts_whatever_both_hold(value: object, spaces: int | None) -> None:
    """As many keys as a parser finds, and each is known by its spelling."""
    text = json.dumps(value, indent=spaces)
    found = {one[1] for one in table_budget._STRING.finditer(text.encode()) if one[2]}
    assert found == {json.dumps(key)[1:-1].encode() for key in all_keys(value)}
