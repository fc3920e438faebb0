"""The rules that all data sets share: usable questions are kept, the others have a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.sources import selection
from frozen_vqa.pipeline.sources.example import Id, LeftOut, VqaExample
from frozen_vqa.pipeline.sources.own.source import OwnSource
from frozen_vqa.pipeline.sources.selection import Selection, did_you_mean, split_like
from frozen_vqa.pipeline.sources.validation import UnusableError


def question(
    question_id: Id, image_id: Id = 1, picture: str = "a.png"
) -> Callable[[], tuple[VqaExample, str]]:
    return lambda: (VqaExample(question_id, image_id, "q?", ()), picture)


def fault(reason: str, where: str = "") -> Callable[[], tuple[VqaExample, str]]:
    def make() -> tuple[VqaExample, str]:
        error = UnusableError(reason)
        error.where = where
        raise error

    return make


def test_the_first_usable_question_of_an_id_is_kept() -> None:
    selection = Selection("line", {}, "!")
    selection.add(1, "file:1", 7, fault("bad", "elsewhere"))
    selection.add(2, "file:2", 7, question(7))
    selection.add(3, "file:3", 7, question(7))

    assert selection.examples == [VqaExample(7, 1, "q?", ())]
    assert selection.numbers == {7: 2}
    reason = "question_id 7 was used before, in line 2; the first is kept!"
    assert selection.left_out == [LeftOut(7, "elsewhere", "bad"), LeftOut(7, "file:3", reason)]


def test_one_image_id_is_one_picture_in_all_splits() -> None:
    pictures: dict[Id, str] = {}
    Selection("line", pictures).add(1, "file:1", 1, question(1, 5, "a.png"))
    selection = Selection("line", pictures)
    selection.add(1, "file:1", 1, question(1, 5, "b.png"))
    selection.add(2, "file:2", 2, question(2, 5, "a.png"))

    assert [example.question_id for example in selection.examples] == [2]
    reason = "image_id 5 is b.png here, but was a.png before; one id must mean one picture"
    assert selection.left_out == [LeftOut(1, "file:1", f"{reason} in all splits")]


def test_a_question_that_is_left_out_claims_no_picture() -> None:
    pictures: dict[Id, str] = {}
    selection = Selection("line", pictures)
    selection.add(1, "file:1", 1, question(1, 5, "a.png"))
    selection.add(2, "file:2", 1, question(1, 6, "b.png"))

    assert pictures == {5: "a.png"}


def test_a_split_needs_one_question() -> None:
    selection = Selection("line", {})
    with pytest.raises(SourceError, match=r"^train: there are no questions; at least one is need"):
        selection.finish("train")
    for n in range(1200):
        selection.add(n, f"line {n}", n, fault(f"reason {n}"))
    with pytest.raises(SourceError) as caught:
        selection.finish("train")
    assert str(caught.value) == (
        "train: none of its 1,200 questions can be used; the first is line 0: reason 0. "
        "Mend them, or check that this is the right data set."
    )
    selection.add(1200, "line 1200", 1200, question(1200))
    selection.finish("train")


@pytest.mark.parametrize(
    ("asked", "known", "found"),
    [
        ("val", ["train", "validation"], "validation"),
        ("validation", ["val"], "val"),
        ("test-dev", ["test", "testdev"], "testdev"),
        ("val", ["val", "validation"], "val"),
        ("val", ["dev", "validation"], None),  # which of the two?
        ("val", ["train", "test"], None),
        ("test", ["testdev"], None),
    ],
)
def test_splits_have_several_usual_names(asked: str, known: list[str], found: str | None) -> None:
    assert split_like(asked, known) == found


def test_hints_name_the_nearest_or_nothing() -> None:
    assert did_you_mean("questoin", ["image", "question"]) == " Did you mean 'question'?"
    assert did_you_mean("zzz", ["image", "question"]) == ""


def test_too_many_unusable_questions_are_a_fault_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a file of a few megabytes would become gigabytes of reasons."""
    monkeypatch.setattr(selection, "MOST_LEFT_OUT", 3)
    (tmp_path / "train.jsonl").write_text("1\n" * 1000)
    with pytest.raises(SourceError, match=r"more than 3 questions .* at .*:4: found 1; one JSON"):
        OwnSource(tmp_path).examples("train")
