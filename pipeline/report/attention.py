"""Where a head looks: the attention weights of the forward pass that gave its answers.

Weights are those of the last layer, because its output is what the answer is read from.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from frozen_vqa.cache import FeatureCache, SplitTable
from frozen_vqa.pipeline.batches.batch import BatchPart
from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.model.layers import CoAttentionLayer
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.predict import batch_logits, in_fitting_batches, require_finite_logits
from frozen_vqa.pipeline.runs.run import Run

TOP = 5
"""Answers that are shown of each question."""


@dataclass(frozen=True)
class Look:
    """The answers to a part of a batch, and what the last layer looked at meanwhile.

    Attributes:
        logits: (questions, answers).
        lengths: (questions,) number of tokens, BOS included.
        to_patches: (questions, tokens, heads, patches): the weights of each token add up to 1 over
            the patches. None if the head has no attention.
        to_words: (questions, tokens, heads, patches): the weights of each patch add up to 1 over
            the tokens. None if patches do not attend to text.
    """

    logits: Tensor
    lengths: Tensor
    to_patches: Tensor | None
    to_words: Tensor | None


@torch.inference_mode()
def look(model: VqaModel, part: BatchPart) -> Look:
    """Answer a part and keep the weights of the last layer, in the order of `part.questions`."""
    count = len(part.questions)
    with watched(model) as seen:
        logits = batch_logits(model, part)
    slots = part.question_slots[:count]

    def chosen(weights: Tensor | None) -> Tensor | None:
        return None if weights is None else weights.flatten(0, 1).index_select(0, slots)

    lengths = part.attention_mask.sum(-1).flatten().index_select(0, slots)
    return Look(logits, lengths, chosen(seen.get("patches")), chosen(seen.get("words")))


@contextmanager
def watched(model: VqaModel) -> Iterator[dict[str, Tensor]]:
    """Yield what fills with the weights of the last layer when the model is called."""
    seen: dict[str, Tensor] = {}
    last = model.layers[-1] if len(model.layers) else None
    both = []
    if isinstance(last, CoAttentionLayer):
        both = [("patches", last.text_to_image), ("words", last.image_to_text)]
    try:
        for name, attention in both:
            if attention is not None:
                # `name=name` keeps the name of this round.
                attention.watch = lambda weights, name=name: seen.update({name: weights})
        yield seen
    finally:
        for _, attention in both:
            if attention is not None:
                attention.watch = None


@dataclass(frozen=True)
class Attended:
    """What one question attends to: (tokens, heads, patches) each, as in `Look`."""

    to_patches: np.ndarray
    to_words: np.ndarray | None

    def question_map(self) -> np.ndarray:
        """Return the map of the whole question: (heads, patches), the mean over all but BOS."""
        return self.to_patches[min(1, len(self.to_patches) - 1) :].mean(0)


@dataclass(frozen=True)
class Seen:
    """A head's answers to a split.

    Attributes:
        classes, probabilities: (questions, up to `TOP`), the most probable answers first.
        attended: What some questions attend to, by their row.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    attended: Mapping[int, Attended]


def see_split(run: Run, cache: FeatureCache, table: SplitTable, rows: Collection[int]) -> Seen:
    """Answer a split in one pass, and keep what the questions in `rows` attend to."""
    device = run.model.head.weight.device
    features = ResidentFeatures(cache, device=device, pictures=run.config.sees_pictures)
    see = partial(_see, run, BatchReader(features, table), table, rows)
    return in_fitting_batches(see, run.config.batch_size)


def _see(
    run: Run, reader: BatchReader, table: SplitTable, rows: Collection[int], size: int
) -> Seen:
    """Do what `see_split` does, in batches of a size."""
    top = min(TOP, len(run.vocabulary))
    classes = np.zeros((len(table), top), dtype=np.int64)
    probabilities = np.zeros((len(table), top))
    attended: dict[int, Attended] = {}
    plan = plan_batches(table.image_rows, batch_size=size, grouped=True, shuffle=None)
    for part in (part for batch in reader.batches(plan) for part in batch.parts):
        found = look(run.model, part)
        require_finite_logits(found.logits, part.questions, reader)
        values, places = found.logits.topk(top)
        classes[part.questions] = places.cpu().numpy()
        probabilities[part.questions] = values.double().sigmoid().cpu().numpy()
        if found.to_patches is None:
            continue
        for i, row in enumerate(part.questions.tolist()):
            if row in rows:
                length = int(found.lengths[i])
                words = None if found.to_words is None else found.to_words[i, :length].cpu().numpy()
                patches = found.to_patches[i, :length].cpu().numpy()
                # Copies, because a view would keep the whole batch in memory.
                attended[row] = Attended(patches.copy(), None if words is None else words.copy())
    return Seen(classes, probabilities, attended)
