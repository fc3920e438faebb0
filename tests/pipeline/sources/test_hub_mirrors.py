"""Copies of known data sets on the Hub, whose columns have other names."""

from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources.open_source import open_source
from tests.support import hub_data
from tests.support.hub_data import plain, png

_offline = hub_data._offline

PICTURE = {"image": [{"bytes": png("red"), "path": None}], "question": ["What is it?"]}
CHOICES = {"choices": [["ice", "steam"]]}
MIRRORS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "VizWiz-VQA": (
        {"question_id": ["VizWiz_val_1.jpg"], "answers": [["a", "b"]], "category": ["other"]},
        {"question_id": "VizWiz_val_1.jpg", "answers": ("a", "b"), "answer_type": "other"},
    ),
    "textvqa": (
        {"question_id": [3], "image_id": ["00ab"], "answers": [["a"] * 10], "ocr_tokens": [["x"]]},
        {"question_id": 3, "image_id": "00ab", "answers": ("a",) * 10},
    ),
    "OK-VQA": (
        {"question_id": ["3"], "answers": [["a"]], "question_type": ["four"]},
        {"question_id": "3", "answers": ("a",), "question_type": "four"},
    ),
    "ScienceQA": (
        {**CHOICES, "answer": [1], "hint": [""]},
        {"answers": ("steam",), "choices": ("ice", "steam"), "right_choice": 1},
    ),
    "A-OKVQA": (
        {"question_id": ["Ab"], "correct_choice_idx": [0], "direct_answers": ["['a', 'it\\'s']"]}
        | CHOICES,
        {"answers": ("a", "it's"), "choices": ("ice", "steam"), "right_choice": 0},
    ),
    "choices without a right one": ({**CHOICES}, {"answers": (), "choices": ("ice", "steam")}),
    "a column of one's own": (
        {"choices": [{"text": ["x"], "label": ["A"]}], "answer": ["ice"], "right_choice": [3]},
        {"answers": ("ice",), "choices": (), "right_choice": None},
    ),
    "a category that is no text": ({"answer": ["ice"], "category": [4]}, {"answer_type": ""}),
}


@pytest.mark.parametrize("name", MIRRORS)
def test_the_columns_of_a_mirror_are_found(name: str, tmp_path: Path) -> None:
    columns, seen = MIRRORS[name]
    plain(tmp_path / "val.parquet", **PICTURE, **columns)

    (example,) = open_source(f"hub:{tmp_path}").examples("val")
    assert {field: getattr(example, field) for field in seen} == seen


def test_gqa_without_its_pictures_is_refused_with_the_remedy(tmp_path: Path) -> None:
    plain(tmp_path / "val.parquet", id=["1"], imageId=["n1"], question=["What?"], answer=["a"])

    with pytest.raises(SourceError, match=r"another configuration\. Read its official files: gqa"):
        open_source(f"hub:{tmp_path}").examples("val")


@pytest.mark.parametrize("text", ["['a'", "a", "[" * 300, "__import__('os')"])
def test_direct_answers_that_are_no_list_cost_one_question(text: str, tmp_path: Path) -> None:
    columns = {name: values * 2 for name, values in (PICTURE | CHOICES).items()}
    plain(tmp_path / "val.parquet", **columns, direct_answers=["['a']", text])
    source = open_source(f"hub:{tmp_path}")

    assert [one.answers for one in source.examples("val")] == [("a",)]
    assert "a list is needed" in source.left_out("val")[0].reason
