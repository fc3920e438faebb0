"""Several heads as one: the mean of their probabilities.

A head's probability of an answer is the sigmoid of its logit, because training treats each answer
as a yes or no of its own. An ensemble returns the logit of the mean probability.
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
"""Probabilities keep this distance from 0 and 1, where the logit is infinite."""


class Ensemble(nn.Module):
    """Heads over the same answers, called like one of them."""

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, *features: Any, **named: Any) -> Tensor:
        """Return (questions, answers) float32 logits of the mean probabilities."""
        # float64, because float32 rounds many confident answers to a probability of 1.
        each = [head(*features, **named).double().sigmoid() for head in self.heads]
        return torch.logit(torch.stack(each).mean(0), eps=SMALLEST).float()


def ensemble(runs: Sequence[Run]) -> Run:
    """Return the first run, with the mean of all heads in place of its own head.

    Raises:
        RunError: if two runs have different answers.
    """
    for run in runs[1:]:
        _require_same_answers(runs[0], run)
    heads = Ensemble([run.model for run in runs]).eval()
    return replace(runs[0], model=cast(VqaModel, heads))  # evaluation only calls a run's model


def _require_same_answers(one: Run, other: Run) -> None:
    mine, theirs = one.vocabulary.answers, other.vocabulary.answers
    if mine == theirs:
        return
    ours, others = set(mine), set(theirs)
    lacking = [answer for answer in mine if answer not in others]
    more = [answer for answer in theirs if answer not in ours]
    found = [f"{one.path} alone has {len(lacking)}, such as {lacking[0]!r}"] if lacking else []
    found += [f"{other.path} alone has {len(more)}, such as {more[0]!r}"] if more else []
    raise RunError(
        f"{one.path} and {other.path} have different answers, so their probabilities cannot be "
        f"averaged: {'; '.join(found) or 'the same answers in another order'}. Train both on one "
        f"split with the same min_answer_count and top_answers, or train one with the answers of "
        f"the other: --answers {one.path / ANSWERS}."
    )
