"""Several heads as one: the mean of their probabilities.

Each head's probability of an answer is the sigmoid of its logit, for heads are trained with an
independent yes or no for each answer. What an ensemble returns is the logit of the mean.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.config import ANSWERS
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.runs.run import Run

SMALLEST = 1e-15
"""Probabilities are kept so far from 0 and 1, where the logit is infinite."""


class Ensemble(nn.Module):
    """Heads over the same answers, called as each of them is."""

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, *features: Any, **named: Any) -> Tensor:
        """Return (questions, answers) float32 logits of the mean probabilities."""
        # In float64, in which far more of the sure answers differ from 1.
        each = [head(*features, **named).double().sigmoid() for head in self.heads]
        return torch.logit(torch.stack(each).mean(0), eps=SMALLEST).float()


def ensemble(runs: Sequence[Run]) -> Run:
    """Return the first run with the mean of all heads in place of its own.

    Raises:
        RunError: if two have different answers.
    """
    for run in runs[1:]:
        _require_same_answers(runs[0], run)
    heads = Ensemble([run.model for run in runs]).eval()
    together = cast(VqaModel, heads)  # nothing but calling it is asked of a run's model
    return replace(runs[0], model=together)


def _require_same_answers(one: Run, other: Run) -> None:
    mine, theirs = one.vocabulary.answers, other.vocabulary.answers
    if mine == theirs:
        return
    lacking = [answer for answer in mine if answer not in set(theirs)]
    more = [answer for answer in theirs if answer not in set(mine)]
    found = [f"{one.path} alone has {len(lacking)}, such as {lacking[0]!r}"] if lacking else []
    found += [f"{other.path} alone has {len(more)}, such as {more[0]!r}"] if more else []
    raise RunError(
        f"{one.path} and {other.path} have different answers, so their probabilities cannot be "
        f"averaged: {'; '.join(found) or 'the same ones in another order'}. Train them on "
        f"one split with the same min_answer_count and top_answers, or one with the other's "
        f"answers: --answers {one.path / ANSWERS}."
    )
