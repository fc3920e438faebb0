"""A split of a cache as a PyTorch data set, for a training loop of your own.

    data = FeatureDataset("features", "train")
    loader = DataLoader(data, batch_sampler=data.batches(256), collate_fn=data.collate)

An item is one question; its features are read when they are asked for. `collate` reads a batch at
once: each picture and each distinct prefix a single time, as our own training does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.format.bfloat16 import to_floats
from frozen_vqa.cache.format.quantise import dequantise
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.pipeline.answers.questions import given_answers, metric_of
from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary, build_vocabulary
from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.plan import MAX_SLOTS, Grid, plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.batches.rows import same_pictures
from frozen_vqa.pipeline.metrics.find import find_metric, pick_metric


@dataclass(frozen=True)
class Question:
    """One question of a `FeatureDataset`.

    Attributes:
        row: Its row in the split.
    """

    data: "FeatureDataset"
    row: int

    @property
    def text(self) -> str:
        """The question as its author wrote it."""
        return self.data.cache.questions.texts[self.data.table.question_rows[self.row]]

    @property
    def question_id(self) -> int | str:
        """Its id in the data set."""
        return self.data.table.question_ids[self.row]

    @property
    def image_id(self) -> str:
        """The id of its first picture."""
        one = self.data.table.take(np.array([self.row]))
        return one.ids_of_pictures(self.data.cache.image_ids())[0][0]

    @property
    def answers(self) -> Sequence[str]:
        """All answers that it was given."""
        return self.data.table.answers[self.row]

    @property
    def patch_embeddings(self) -> Tensor:
        """The patches of its pictures, side by side: (patches, vision_dim) floats."""
        cache, spec = self.data.cache, self.data.cache.spec
        rows = self.data.table.picture_rows[self.row]
        out = np.empty((len(rows), spec.patches, spec.vision_dim), spec.image_dtype)
        scales = np.empty((len(rows), *spec.scales), SCALE_DTYPE) if spec.quantised else None
        cache.read_images(rows, out, scales)
        every = to_floats(out) if scales is None else dequantise(out, scales, spec.vision_dims)
        return torch.from_numpy(every.reshape(-1, spec.vision_dim))

    @property
    def hidden_states(self) -> Tensor:
        """The states of its tokens: (tokens, text_dim) floats."""
        question = int(self.data.table.question_rows[self.row])
        return torch.from_numpy(self.data.cache.questions.states(question))

    @property
    def soft_targets(self) -> Tensor:
        """The target of each class, from 0 to 1: (answers,) floats."""
        assert self.data.reader.scores is not None, "the split has no answers"
        _, classes, values = self.data.reader.scores.sparse(np.array([self.row]))
        targets = torch.zeros(len(self.data.vocabulary))
        targets[torch.from_numpy(classes)] = torch.from_numpy(values)
        return targets


class FeatureDataset(Dataset[Question]):
    """The questions of one split, in its order.

    It can be sent to the workers of a `DataLoader`, however they begin. Each opens the cache for
    itself; the features stay in their files.

    Args:
        cache: A cache, or its folder.
        split: Its split.
        answers: The answers that are classes, such as `vocabulary` of the training split; without
            them those of this split that `TrainConfig` would take.
        min_answer_count: As in `TrainConfig`, where there are no `answers`.
        grouped: Whether `collate` puts the questions of one picture beside each other, so that they
            share its reading and its projection, or each for itself (plain order).
        metric: What the soft targets are of; without it as in `TrainConfig`.

    Raises:
        CacheError: if there is no such cache or split, or it is damaged.
        ConfigError: if no answer can be a class.
    """

    def __init__(
        self,
        cache: FeatureCache | Path | str,
        split: str,
        *,
        answers: Vocabulary | Sequence[str] | None = None,
        min_answer_count: int = 9,
        grouped: bool = True,
        metric: str | None = None,
    ) -> None:
        self.cache = cache if isinstance(cache, FeatureCache) else FeatureCache(cache)
        self.table, self.grouped = self.cache.split(split), grouped
        self.pictures = same_pictures(self.table)
        counts = (len(given) for given in self.table.answers)
        chosen = pick_metric(counts, metric, metric_of(self.cache, split, self.table))
        self.metric = chosen.name
        if answers is None:
            answers = build_vocabulary(
                given_answers(self.table, chosen),
                min_count=min_answer_count,
                normalise=chosen.normalise,
            )
        self.vocabulary = answers if isinstance(answers, Vocabulary) else Vocabulary(tuple(answers))

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Question:
        row = range(len(self))[index]  # or raise IndexError
        return Question(self, row)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "reader"}

    @cached_property
    def reader(self) -> BatchReader:
        """What reads batches of the split, in this process."""
        scores = None
        if any(self.table.answers):
            metric = find_metric(self.metric)
            given = given_answers(self.table, metric)
            scores = class_scores(given, self.vocabulary, metric=metric)
        features = ResidentFeatures(self.cache, device=torch.device("cpu"))
        return BatchReader(features, self.table, scores=scores)

    def collate(self, items: Sequence[Question]) -> FeatureBatch:
        """Return the features and the soft targets of some questions as one batch, on the CPU.

        `batch.questions` has their rows in the order of the logits; with `grouped` that is by
        picture.

        Raises:
            CacheDamagedError: if a row differs from its digest.
        """
        return self.reader.read(self._grid([item.row for item in items]))

    def batches(self, batch_size: int, *, shuffle: bool = True, seed: int = 0) -> "BatchOrder":
        """Return a `batch_sampler` with the batches of our own training, in the order of `grouped`.

        Each pass over it is the next epoch, with an order of its own if `shuffle` is set.
        """
        return BatchOrder(self.pictures, batch_size, self.grouped, seed if shuffle else None)

    def _grid(self, rows: Sequence[int]) -> Grid:
        if not self.grouped:
            return [np.array([row]) for row in rows]
        pictures: dict[int, list[int]] = {}
        for row in rows:
            pictures.setdefault(int(self.pictures[row]), []).append(row)
        return [
            np.array(one[first : first + MAX_SLOTS])
            for one in pictures.values()
            for first in range(0, len(one), MAX_SLOTS)
        ]


class BatchOrder(Sampler[list[int]]):
    """The rows of each batch; `seed` is None for the order of the split."""

    def __init__(
        self, image_rows: np.ndarray, batch_size: int, grouped: bool, seed: int | None
    ) -> None:
        self._how: Mapping[str, Any] = {"batch_size": batch_size, "grouped": grouped}
        self._image_rows, self._seed = image_rows, seed
        self.epoch = 0
        """The epoch of the next pass, counted from 0."""

    def __iter__(self) -> Iterator[list[int]]:
        # As a generator, because a DataLoader with workers begins each pass twice and uses one.
        plan = self._plan()
        self.epoch += 1
        for i in range(len(plan)):
            yield np.concatenate(plan[i]).tolist()

    def __len__(self) -> int:
        return len(self._plan())

    def _plan(self) -> Sequence[Grid]:
        shuffle = None if self._seed is None else (self._seed, self.epoch)
        return plan_batches(self._image_rows, shuffle=shuffle, **self._how)
