"""One batch of cached features: each picture once for all its questions in the batch, and each
distinct prefix once for all questions that begin with it, so each is read and projected once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.model.patch_features import Patches


@dataclass(frozen=True)
class FeatureBatch:
    """Features of some questions and their pictures.

    Attributes:
        image_rows: (images * pictures,) rows of the pictures in the cache, those of one question
            beside each other; the last ones may be padding.
        patch_embeddings: (images, patches, vision_dim); None until the GPU gathers them.
        patch_scales: (images, patches) of an int8 cache, else None.
        hidden_states: (prefixes, text_dim), each distinct prefix of the batch once, then padding.
        picture_prefixes, token_prefixes, attention_mask: As in `PrefixIndex`; `token_prefixes` are
            0 where there is padding.
        question_slots: (questions and padding,) which of the images * slots hold a question,
            rising; the padding repeats the first.
        questions: (questions,) rows of the split, in the order of `question_slots`.
        target_indices: (2, entries) question of the batch and class of each soft target that is not
            zero; None without targets.
        target_values: (entries,) those soft targets.
        choices: The most choices of a question, if each slot holds one choice of a question; else
            0.
        choice_places: (2, choices of all questions) question of the batch and number of the choice
            that each slot holds, in the order of `question_slots`; None without choices.
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
    target_indices: Tensor | None = None
    target_values: Tensor | None = None
    choices: int = 0
    choice_places: Tensor | None = None

    @cached_property
    def patches(self) -> Patches:
        """The patch embeddings, with the results that do not depend on a head's weights."""
        assert self.patch_embeddings is not None
        return Patches(self.patch_embeddings, self.patch_scales)

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
        logits: Tensor = head(
            self.patches,
            self.hidden_states,
            self.attention_mask,
            picture_prefixes=self.picture_prefixes,
            token_prefixes=self.token_prefixes,
            question_slots=self.question_slots,
        )
        if self.choice_places is None:
            return logits[: len(self.questions)]
        lowest = torch.finfo(logits.dtype).min / 2  # finite, so that 0 times it is 0
        every = logits.new_full((len(self.questions), self.choices), lowest)
        return every.index_put(tuple(self.choice_places), logits[: self.choice_places.shape[1], 0])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "FeatureBatch":
        """Return the batch with its tensors on a device."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "FeatureBatch":
        """Return the batch in pinned memory, as `DataLoader(pin_memory=True)` asks for it."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "FeatureBatch":
        moved: dict[str, Any] = {name: change(tensor) for name, tensor in self.tensors().items()}
        return replace(self, **moved)

    def tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
