"""What is scored beside a head: an ensemble with other heads, and the head shown other pictures.

An ensemble returns the logit of the mean probability. A head's probability of an answer is the
sigmoid of its logit, because training treats each answer as a yes or no of its own.

A head that scores as well as before when each question is asked about another picture of the split
does not use the picture. Questions about one picture stay together, so that this control changes
nothing but the picture that is shown.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozen_vqa.pipeline.config import ANSWERS
from frozen_vqa.pipeline.errors import MetricError, RunError
from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.runs.run import Run

IMAGES_SEED = 0


class Ensemble(nn.Module):
    """Heads over the same answers, called like one of them."""

    config: ModelConfig  # of one, in `ensemble`

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, *features: Any, **named: Any) -> Tensor:
        """Return (questions, answers) float32 logits of the mean probabilities.

        Each is the logarithm of the mean p less that of the mean 1 - p, so that no probability is
        rounded to 0 or 1, where all answers would tie.
        """
        each = torch.stack([head(*features, **named).double() for head in self.heads])
        return (F.logsigmoid(each).logsumexp(0) - F.logsigmoid(-each).logsumexp(0)).float()


def ensemble(runs: Sequence[Run]) -> Run:
    """Return the first run, with the mean of all heads in place of its own head.

    Raises:
        RunError: if two runs have different answers, numbers of pictures or parts of features, or
            score choices.
    """
    if runs[0].chooses:
        raise RunError(
            f"{runs[0].path}: scores the choices of each question, and an ensemble averages the "
            f"probabilities of answers; leave --ensemble out"
        )
    for run in runs[1:]:
        _require_same_answers(runs[0], run)
    heads = Ensemble([run.model for run in runs]).eval()
    heads.config = runs[0].model.config
    # Evaluation only calls a run's model.
    return replace(runs[0], model=cast(VqaModel, heads), others=tuple(runs[1:]))


def _require_same_answers(one: Run, other: Run) -> None:
    seen = [run.model.config.pictures for run in (one, other)]
    if seen[0] != seen[1]:
        raise RunError(
            f"{one.path} reads {seen[0]} pictures a question and {other.path} {seen[1]}, so they "
            f"cannot answer together; give heads of the same data"
        )
    if one.encoders != other.encoders:
        raise RunError(
            f"{one.path} and {other.path} read features of different encoders or layers, and an "
            f"ensemble reads each picture once; give heads of the same features"
        )
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


def assign_other_images(image_rows: np.ndarray) -> np.ndarray:
    """Return the picture that each question is asked about, never its own: as `image_rows`.

    The pictures of the split stand in a circle, in an order of a fixed seed. The questions about a
    picture get the next picture of the circle. `image_rows` has the picture of each question,
    (questions,), or its pictures, (questions, pictures), which count as one then.

    Raises:
        MetricError: if the split has a single picture.
    """
    pictures, which = np.unique(image_rows, axis=0, return_inverse=True)
    if len(pictures) < 2:
        raise MetricError(
            "the split has a single picture, so --shuffle-images has no other picture to show; "
            "evaluate a split with more pictures"
        )
    circle = np.random.default_rng(IMAGES_SEED).permutation(len(pictures))
    following = np.empty_like(circle)
    following[circle] = np.roll(circle, -1)
    return np.asarray(pictures[following[which]])
