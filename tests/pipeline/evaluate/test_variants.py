"""No question keeps its picture, and questions about one picture stay together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.evaluate.variants import assign_other_images


@given(st.lists(st.integers(0, 30), min_size=1).filter(lambda rows: len(set(rows)) > 1))
def test_every_question_gets_another_picture_of_the_split(rows: list[int]) -> None:
    own = np.array(rows)
    found = assign_other_images(own)
    assert not (found == own).any()
    pairs = set(zip(own.tolist(), found.tolist(), strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert {a for a, _ in pairs} == {b for _, b in pairs} == set(rows)


def test_it_is_the_same_every_time_and_no_mere_shift() -> None:
    own = np.arange(50)
    found = assign_other_images(own)
    assert (found == assign_other_images(own)).all()
    assert len(set((found - own) % 50)) > 10


def test_a_single_picture_has_no_other() -> None:
    with pytest.raises(MetricError, match="single picture"):
        assign_other_images(np.zeros(3, dtype=np.int64))
