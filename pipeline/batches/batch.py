"""One batch of cached features.

It holds each picture once for all questions about it that are in the batch, and each distinct
prefix once for all questions that begin with it: what is cached once is read and projected once.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from torch import Tensor

from frozen_vqa.pipeline.model.patch_features import Patches


@dataclass(frozen=True)
class FeatureBatch:
    """Features of some questions and their pictures.

    Attributes:
        image_rows: (images,) rows of the pictures in the cache; the last ones may be padding.
        patch_embeddings: (images, patches, vision_dim); None until they are gathered on the GPU.
        patch_scales: (images, patches) of an int8 cache, else None.
        hidden_states: (prefixes, text_dim), each distinct prefix of the batch once, then padding.
        words: (images, words) rows of `hidden_states`: the distinct prefixes of each picture's
            questions, then padding.
        paths: (images, slots, tokens) which of its picture's words; 0 where there is padding. None
            where each picture has one slot, whose tokens its words are then.
        attention_mask: (images, slots, tokens), True = real token; a slot without any is empty.
        places: (questions and padding,) which of the images * slots hold a question, rising; the
            padding repeats the first.
        questions: (questions,) rows of the split, in the order of `places`.
        target_places: (2, entries) question of the batch and class of each soft target that is not
            zero; None where none were asked for.
        target_values: (entries,) those soft targets.
    """

    image_rows: Tensor
    patch_embeddings: Tensor | None
    patch_scales: Tensor | None
    hidden_states: Tensor
    words: Tensor
    paths: Tensor | None
    attention_mask: Tensor
    places: Tensor
    questions: np.ndarray
    target_places: Tensor | None = None
    target_values: Tensor | None = None

    @cached_property
    def patches(self) -> Patches:
        """The patch embeddings, and what all heads make of them alike."""
        assert self.patch_embeddings is not None
        return Patches(self.patch_embeddings, self.patch_scales)

    def soft_targets(self, answers: int) -> Tensor:
        """Return all soft targets, on the device: (questions, answers)."""
        assert self.target_places is not None
        assert self.target_values is not None
        zeros = self.target_values.new_zeros(len(self.questions), answers)
        return zeros.index_put_((self.target_places[0], self.target_places[1]), self.target_values)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if isinstance(value, Tensor)}
