"""One batch of cached features: each picture once for all its questions in the batch, and each
distinct prefix once for all questions that begin with it, so each is read and projected once.

A batch has several parts where a few of its questions are far longer than the others and would pad
them all (`divide_by_length` in `plan.py`). A head computes the logits part by part; loss and
gradients are those of the whole batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.model.patch_features import Patches

NO_CHOICE = -1e17
"""The logit of a choice that a question lacks: its probability is 0, and so is 0 times it."""


@dataclass(frozen=True)
class BatchPart:
    """Features of questions of about the same length, and of their pictures.

    Attributes:
        image_rows: (images * pictures,) rows of the pictures in the cache, those of one question
            beside each other; the last ones may be padding.
        patch_embeddings: (images, patches, vision_dim); None until the GPU gathers them, and where
            no head sees them.
        patch_scales: (images, patches) of an int8 cache, or (images, patches, parts), else None.
        hidden_states: (prefixes, text_dim), each distinct prefix of the batch once, then padding.
        picture_prefixes, token_prefixes, attention_mask: As in `PrefixIndex`; `token_prefixes` are
            0 where there is padding.
        question_slots: (questions and padding,) which of the images * slots hold a question,
            rising; the padding repeats the first.
        questions: (questions,) rows of the split, in the order of `question_slots`.
    """

    image_rows: Tensor
    patch_embeddings: Tensor | None
    patch_scales: Tensor | None
    hidden_states: Tensor
    picture_prefixes: Tensor
    token_prefixes: Tensor | None
    attention_mask: Tensor
    question_slots: Tensor
    questions: np.ndarray

    @cached_property
    def patches(self) -> Patches | None:
        """The patch embeddings, with the results that do not depend on a head's weights."""
        if self.patch_embeddings is None:
            return None
        return Patches(self.patch_embeddings, self.patch_scales)

    def logits(self, head: nn.Module) -> Tensor:
        """Return a head's (questions, answers) logits in the order of `questions`."""
        logits: Tensor = head(
            self.patches,
            self.hidden_states,
            self.attention_mask,
            picture_prefixes=self.picture_prefixes,
            token_prefixes=self.token_prefixes,
            question_slots=self.question_slots,
        )
        return logits[: len(self.questions)]

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.attention_mask.device


@dataclass(frozen=True)
class FeatureBatch:
    """Features and soft targets of some questions.

    Attributes:
        parts: At least one; the largest has the shortest questions and comes first.
        target_indices: (2, entries) question of the batch and class of each soft target that is not
            zero; None without targets.
        target_values: (entries,) those soft targets.
        asked: (questions,) rows of the split, where each slot holds one choice of a question; the
            `questions` of the parts are those choices then. None without choices.
        choices: The most choices of a question of the split.
        choice_places: (2, choices of all questions) number of the question in `asked`, and of the
            choice, that each slot of the parts holds, one after the other.
    """

    parts: Sequence[BatchPart]
    target_indices: Tensor | None = None
    target_values: Tensor | None = None
    asked: np.ndarray | None = None
    choices: int = 0
    choice_places: Tensor | None = None

    @cached_property
    def questions(self) -> np.ndarray:
        """The rows of the split: (questions,)."""
        if self.asked is not None:
            return self.asked
        return np.concatenate([part.questions for part in self.parts])

    def soft_targets(self, answers: int) -> Tensor:
        """Return all soft targets: (questions, answers)."""
        assert self.target_indices is not None
        assert self.target_values is not None
        zeros = self.target_values.new_zeros(len(self.questions), answers)
        return zeros.index_put_(tuple(self.target_indices), self.target_values)

    def logits(self, head: nn.Module) -> Tensor:
        """Return a head's (questions, answers) logits in the order of `questions`.

        With choices they are (questions, choices), very low where a question has fewer.
        """
        each = [part.logits(head) for part in self.parts]
        logits = each[0] if len(each) == 1 else torch.cat(each)
        if self.choice_places is None:
            return logits
        every = logits.new_full((len(self.questions), self.choices), NO_CHOICE)
        return every.index_put(tuple(self.choice_places), logits.squeeze(1))

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.parts[0].device

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "FeatureBatch":
        """Return the batch with its tensors on a device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "FeatureBatch":
        """Return the batch in pinned memory, as `DataLoader(pin_memory=True)` asks for it."""
        return self.map(Tensor.pin_memory)

    def map(self, change: Callable[[Tensor], Tensor]) -> "FeatureBatch":
        """Return the batch with each of its tensors changed."""
        parts = [replace(part, **_changed(part, change)) for part in self.parts]
        return replace(self, parts=parts, **_changed(self, change))


def _changed(one: BatchPart | FeatureBatch, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    tensors = {name: value for name, value in vars(one).items() if isinstance(value, Tensor)}
    return {name: change(tensor) for name, tensor in tensors.items()}
