"""Ensembles of heads, and heads that are shown other pictures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.evaluate.variants import Ensemble, assign_other_images


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


class Head(nn.Module):
    """A head whose logits are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self) -> Tensor:
        return self.logits


LOGITS = st.lists(st.floats(-300, 300, width=32), min_size=1, max_size=5)


@settings(deadline=None)
@given(LOGITS, st.integers(1, 5))
def test_an_ensemble_of_a_head_with_itself_is_that_head(logits: list[float], times: int) -> None:
    """However sure the head is: at 40 a float64 rounds its probability to 1."""
    head = torch.tensor([logits])
    torch.testing.assert_close(Ensemble([Head(head)] * times)(), head, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(-15, 15, width=32)] * 3), min_size=1, max_size=5))
def test_an_ensemble_has_the_logit_of_the_mean_probability(rows: list[tuple[float, ...]]) -> None:
    each = torch.tensor(rows).T  # (heads, answers)
    expected = torch.logit(each.double().sigmoid().mean(0)).float()
    found = Ensemble([Head(logits[None]) for logits in each])()
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-6)
