"""The training data of a cache: two splits, the scores of their answers, and the classes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from frozen_vqa.cache import CacheError, FeatureCache, SplitTable
from frozen_vqa.pipeline.answers.questions import (
    counted,
    given_answers,
    metric_of,
    require_choices,
)
from frozen_vqa.pipeline.answers.targets import ClassScores, choice_scores, class_scores
from frozen_vqa.pipeline.answers.vocabulary import (
    CHOICES,
    Vocabulary,
    build_vocabulary,
    read_vocabulary,
)
from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.batches.rows import Rows, same_pictures
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.metrics.find import pick_metric
from frozen_vqa.pipeline.metrics.metric import Metric
from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.plugins import is_own
from frozen_vqa.pipeline.runs.held_out import (
    read_split,
    read_training,
    require_pictures,
    split_of,
)
from frozen_vqa.pipeline.system.device import training_dtype
from frozen_vqa.pipeline.system.ranks import ALONE, Ranks

if TYPE_CHECKING:  # questions and answers need no torch
    import torch

LOW_CEILING = 90.0
"""Percent; a vocabulary that allows less is rarely meant."""
COUNTS, TOPS = (1, 3, 5, 9), (100, 1000, 3000)
"""What a low ceiling is compared with: least counts and numbers of the most frequent answers."""


@dataclass(frozen=True)
class TrainData:
    """Everything but the features; trainings with the same splits and answers can share it."""

    cache: FeatureCache
    splits: Mapping[str, SplitTable]  # the questions to train on and to validate with, by name
    vocabulary: Vocabulary
    metric: Metric

    @property
    def chooses(self) -> bool:
        """Whether a head scores the choices of each question; else the answers are classes."""
        return self.vocabulary == CHOICES

    def shape_head(self, config: TrainConfig) -> ModelConfig:
        """Return the settings of a head with the shapes of the data.

        Raises:
            ConfigError: if they do not fit together.
        """
        if self.chooses and config.fusion == "image-only":
            raise ConfigError(
                "fusion is 'image-only', but the questions have choices, which are texts that such "
                "a head does not read; take another fusion"
            )
        return config.with_shapes(
            **self.cache.spec.shapes,
            answers=len(self.vocabulary) or 1,
            pictures=self.splits[config.train_split].picture_rows.shape[1],
        )

    def bytes_of_steps(self, heads: Sequence[TrainConfig], device: "torch.device") -> int:
        """Return how many bytes of a GPU trainings on the same batches take beside the features.

        All keep weights, gradients, moments and averages. One at a time makes a step, on the
        batch with the most padding; its backward pass takes about as much again as it finds kept.
        """
        from frozen_vqa.pipeline.model.size import bound_parameters, bytes_for_backward

        first, split = heads[0], self.splits[heads[0].train_split]
        plan = plan_batches(
            same_pictures(split),
            batch_size=first.batch_size,
            grouped=first.group_by_image,
            shuffle=(first.order_seed, 0),
            shares=first.shares or 1,
        )
        grid = max(plan, key=lambda grid: len(grid) * max(map(len, grid)))
        rows = Rows.of(split, choosing=self.chooses)
        lengths = self.cache.questions.lengths()[rows.text_rows]
        kept = steps = 0
        for config in heads:
            shape = self.shape_head(config)
            kept += 4 * bound_parameters(shape) * (4 + bool(config.ema))
            if is_own(config.fusion):  # of which nothing is known before a step is made
                continue
            one = bytes_for_backward(
                shape,
                images=len(grid),
                slots=max(map(len, rows.spread(grid))),
                tokens=int(np.quantile(lengths, 0.95)),
                dtype=training_dtype(config.precision, device),
            )
            steps = max(steps, 2 * one)
        return kept + steps

    @cached_property
    def scores(self) -> dict[str, ClassScores]:
        """The score of each class on each question, by split; a choice's number is its class."""
        metric = self.metric
        if self.chooses:
            return {name: choice_scores(split, metric) for name, split in self.splits.items()}
        return {
            name: class_scores(given_answers(split, metric), self.vocabulary, metric=metric)
            for name, split in self.splits.items()
        }

    @cached_property
    def counted(self) -> dict[str, np.ndarray]:
        """Which questions the metric counts, by split: (questions,) bool."""
        return {name: counted(split, self.metric) for name, split in self.splits.items()}

    @cached_property
    def ceilings(self) -> dict[str, float]:
        """Percent that the best class for each question scores, by split."""
        return {
            name: self.metric.percent(float(scores.best()[self.counted[name]].mean()))
            for name, scores in self.scores.items()
        }

    def describe(self) -> str:
        """Return a line for people: the number of classes, and the highest score of a head.

        With choices: how many there are, and what a guess scores.
        """
        if self.chooses:
            counts = [len(some) for split in self.splits.values() for some in split.choices]
            chances = (
                f"{100 * np.mean([1 / len(some) for some in split.choices]):.2f} % on {name}"
                for name, split in self.splits.items()
            )
            return (
                f"multiple choice: a head scores the {min(counts)} to {max(counts)} choices of "
                f"each question, and a guess scores {' and '.join(chances)}"
            )
        return (
            f"{len(self.vocabulary):,} answers are classes; a head that always picks the best of "
            f"them scores {self._spell_ceilings()}"
        )

    def advise(self, config: TrainConfig) -> Iterator[str]:
        """Yield warnings about settings that do not fit the data."""
        questions, batch = len(self.splits[config.train_split]), config.batch_size
        if batch > questions:
            yield (
                f"warning: a batch of {batch:,} is larger than split {config.train_split!r}, which "
                f"has {questions:,} questions; so an epoch is one step. Give a smaller --batch-size"
            )
        if min(self.ceilings.values()) < LOW_CEILING:
            yield (
                f"warning: a head is wrong wherever the answer is no class, and cannot exceed "
                f"{min(self.ceilings.values()):.2f} % here. With other classes it could reach:"
            )
            split = self.splits[config.train_split]
            yield from self._other_ceilings(given_answers(split, self.metric))

    def _other_ceilings(self, answers: Sequence[Sequence[str]]) -> Iterator[str]:
        """Yield the ceilings with other classes, which are answers of the training split."""
        build = partial(build_vocabulary, answers, normalise=self.metric.normalise)
        every = build(min_count=1)
        choices: list[tuple[str, int, int | None]]
        choices = [(f"--min-answer-count {count}", count, None) for count in COUNTS]
        choices += [(f"top_answers = {top}", 1, top) for top in TOPS if top < len(every)]
        for name, count, top in choices:
            with suppress(ConfigError):  # no answer is so frequent
                vocabulary = build(min_count=count, top=top)
                there = replace(self, vocabulary=vocabulary)._spell_ceilings()
                yield f"  {name:<22} {len(vocabulary):>7,} answers, {there}"

    def _spell_ceilings(self) -> str:
        return " and ".join(f"{value:.2f} % on {name}" for name, value in self.ceilings.items())


def load_train_data(cache_path: Path | str, config: TrainConfig, ranks: Ranks = ALONE) -> TrainData:
    """Read the splits of the settings; read or build the vocabulary. All ranks have to call it.

    Raises:
        CacheError: if the cache or a split is missing, damaged, or has no answers.
        ConfigError: if no answer can be a class, or the file of answers is not one.
    """
    cache = FeatureCache(cache_path).pick(config.vision, config.text_layer)
    require_validation(cache, config)
    splits = {
        config.train_split: read_training(cache, config),
        config.validation: read_split(cache, config.validation),
    }
    training = splits[config.train_split]
    counts = (len(a) for split in splits.values() for a in split.answers)
    metric = pick_metric(counts, config.metric, metric_of(cache, config.train_split, training))
    for name, split in splits.items():
        _require_answers(cache, name, split, metric)
    for name, split in splits.items():
        require_pictures(cache, name, split, training.picture_rows.shape[1])
    if metric.chooses and training.choices:
        if config.answers_file:
            raise ConfigError(
                f"{config.answers_file}: the questions have choices, and a head scores those "
                f"instead of answers of a file; leave it out, or give the --metric of open answers"
            )
        for name, split in splits.items():
            require_choices(cache, name, split)
        return TrainData(cache, splits, CHOICES, metric)
    if config.answers_file:
        read = partial(read_vocabulary, Path(config.answers_file), metric.normalise)
        vocabulary = ranks.tell(read)
    else:
        vocabulary = build_vocabulary(
            given_answers(training, metric),
            min_count=config.min_answer_count,
            top=config.top_answers or None,
            normalise=metric.normalise,
        )
    data = TrainData(cache, splits, vocabulary, metric)
    if not len(data.scores[config.train_split].classes):
        raise ConfigError(
            f"{config.answers_file}: no question of split {config.train_split!r} has one of its "
            f"{len(vocabulary):,} answers; give the answers of this data set"
        )
    return data


def require_validation(cache: FeatureCache, config: TrainConfig) -> None:
    """Raise `CacheError` with ways out if the cache has no split to validate with."""
    there = cache.manifest.splits
    if config.train_split in there and split_of(config.validation, there) not in there:
        raise CacheError(
            f"{cache.name}: there is no split {config.val_split!r} to choose the best epoch "
            f"with (splits: {', '.join(there)}). If the data set has one, extract it too, or name "
            f"it by --val-split. If not, hold out a tenth of the training pictures by "
            f"--val-fraction 0.1, or keep the last epoch by --val-split {config.train_split} "
            f"--keep last."
        )


def _require_answers(cache: FeatureCache, name: str, split: SplitTable, metric: Metric) -> None:
    if unanswered := sum(1 for answers in given_answers(split, metric) if not answers):
        lack = "no known right choice" if metric.chooses and split.choices else "no answers"
        mend = "extract it again, which leaves them out, or " if unanswered < len(split) else ""
        raise CacheError(
            f"{cache.name}: {unanswered:,} of {len(split):,} questions of split {name!r} have "
            f"{lack}, so it can be used neither for training nor for validation; {mend}name "
            f"another split"
        )
    if not len(split):
        raise CacheError(f"{cache.name}: split {name!r} has no questions; name another split")
