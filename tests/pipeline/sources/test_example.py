"""What a source of one's own gets from the interface, if it has only examples and pictures."""

from pathlib import Path

import pytest

from frozen_vqa import Source, VqaExample
from frozen_vqa.pipeline.sources.example import DescribedSource, Id, Picture


class Smallest(Source):
    """Two methods, as the docs promise."""

    def examples(self, split: str) -> list[VqaExample]:
        return [VqaExample(1, "a", "what?", ("red",))]

    def picture(self, image_id: Id) -> Picture:
        return Path(f"{image_id}.png")


def test_a_source_with_two_methods_has_the_others() -> None:
    source = Smallest()
    assert source.left_out("val") == ()
    assert [source.where(one) for one in ("a", 7)] == ["picture 'a'", "picture 7"]
    assert not isinstance(source, DescribedSource)


def test_an_example_is_what_was_given() -> None:
    (example,) = Smallest().examples("val")
    assert (example.question_type, example.answer_type) == ("", "")
    with pytest.raises(AttributeError):
        example.question = "else?"  # type: ignore[misc]
