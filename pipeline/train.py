"""Stage two: trains the projections, the cross-attention and the head from the cache.

Encoders take no part: the features they gave are read, and nothing here could change them.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cache import CacheError, FeatureCache, SplitTable
from pipeline.answers import ClassScores, Vocabulary, build_vocabulary, class_scores
from pipeline.batches import BatchReader, plan_batches
from pipeline.config import TrainConfig
from pipeline.device import keep_freed_memory
from pipeline.display import console, duration, progress
from pipeline.errors import ConfigError, RunError
from pipeline.metric import Rules, percent, pick_rules
from pipeline.model import ModelConfig, VqaModel
from pipeline.optimizer import build_optimizer, learning_rate, soft_target_loss
from pipeline.predict import predict
from pipeline.runs import append_metrics, finish_run, start_run
from pipeline.weights import Weights, save_weights


@dataclass(frozen=True)
class TrainResult:
    """What a training did.

    Attributes:
        run: The run folder.
        fusion: The fusion kind.
        epochs: Passes over the training split.
        best_accuracy: Accuracy in percent on the validation split of the weights that were kept.
        best_epoch: After which epoch that was, from 1.
        trainable_parameters: Numbers that were trained.
        questions_per_second: In training, without validation.
        data_wait_fraction: Share of the training time in which the step waited for features.
        seconds: Wall time.
    """

    run: str
    fusion: str
    epochs: int
    best_accuracy: float
    best_epoch: int
    trainable_parameters: int
    questions_per_second: float
    data_wait_fraction: float
    seconds: float


@dataclass
class Trainer:
    """One training run in memory: everything that `train` needs between its steps."""

    config: TrainConfig
    device: torch.device
    model: VqaModel
    optimizer: torch.optim.AdamW
    train_split: SplitTable
    val_split: SplitTable
    train_reader: BatchReader
    val_reader: BatchReader
    val_scores: ClassScores
    steps: int
    step: int = 0

    def epoch(self, number: int) -> float:
        """Train for one pass and return the mean loss."""
        config = self.config
        plan = plan_batches(
            self.train_split.image_rows,
            batch_size=config.batch_size,
            grouped=config.group_by_image,
            shuffle=(config.seed, number),
        )
        self.model.train()
        total = torch.zeros((), device=self.device)
        what = f"epoch {number + 1}/{config.epochs}"
        with progress(what, len(self.train_split)) as advance:
            for i, batch in enumerate(self.train_reader.batches(plan)):
                on_device = batch.to(self.device)
                logits = self.model(
                    on_device.patch_embeddings, on_device.hidden_states, on_device.attention_mask
                )
                targets = on_device.soft_targets
                assert targets is not None
                loss = soft_target_loss(logits, targets)
                # Batches differ a little in size; each question counts the same.
                share = len(batch.questions) / (config.batch_size * config.accumulate)
                (loss * share).backward()
                if (i + 1) % config.accumulate == 0 or i + 1 == len(plan):
                    self._update()
                total += loss.detach() * len(batch.questions)
                advance(len(batch.questions))
        mean = total.item() / len(self.train_split)
        if not math.isfinite(mean):
            kept = "the best weights so far are kept" if number else "no weights were kept"
            raise RunError(
                f"the loss of epoch {number + 1} is {mean}; {kept}. "
                f"Lower --lr (it is {config.lr:g}) or --clip (it is {config.clip:g})."
            )
        return mean

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, steps=self.steps, config=self.config)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def accuracy(self) -> float:
        """Return the accuracy on the validation split, in percent."""
        predicted = predict(
            self.model, self.val_reader, self.val_split, self.config, device=self.device
        )
        return 100 * float(self.val_scores.score(predicted).mean())


def train(
    cache_path: Path,
    run: Path,
    *,
    config: TrainConfig,
    device: torch.device,
    overwrite: bool = False,
) -> TrainResult:
    """Train a head and leave a run folder with its best weights.

    Args:
        cache_path: A cache that holds both splits.
        run: Folder to make.
        config: Every setting.
        device: Where to train.
        overwrite: Whether a run that is there may be replaced.

    Raises:
        CacheError: if the cache or a split is missing or damaged.
        ConfigError: if settings and data do not fit together.
        RunError: if the folder is taken, or loss or weights are not finite.
    """
    started = time.monotonic()
    keep_freed_memory()
    cache = FeatureCache(cache_path)
    train_split, val_split = cache.split(config.train_split), cache.split(config.val_split)
    for name, split in ((config.train_split, train_split), (config.val_split, val_split)):
        _require_answers(cache, name, split)
    rules = pick_rules((len(a) for s in (train_split, val_split) for a in s.answers), None)
    vocabulary = build_vocabulary(
        train_split.answers, min_count=config.min_answer_count, top=config.top_answers or None
    )
    trainer = _trainer(
        cache, train_split, val_split, vocabulary, rules, config=config, device=device
    )
    files = start_run(
        run,
        config=config,
        model=trainer.model.config,
        vocabulary=vocabulary,
        cache=cache,
        overwrite=overwrite,
    )
    best, best_epoch, training = -1.0, 0, 0.0
    for number, (loss, accuracy, seconds) in enumerate(_epochs(trainer), start=1):
        training += seconds
        if accuracy > best:
            best, best_epoch = accuracy, number
            save_weights(run, Weights(trainer.model.state_dict(), number, accuracy, files))
        append_metrics(
            run,
            {"epoch": number, "loss": loss, "accuracy": accuracy, "seconds": round(seconds, 3)},
        )
    result = TrainResult(
        run=str(run),
        fusion=config.fusion,
        epochs=config.epochs,
        best_accuracy=percent(best / 100, rules),
        best_epoch=best_epoch,
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters()),
        questions_per_second=round(config.epochs * len(train_split) / training, 1),
        data_wait_fraction=round(trainer.train_reader.waited / training, 4),
        seconds=round(time.monotonic() - started, 3),
    )
    finish_run(run, cache, {**vars(result), "metric": rules})
    return result


def _require_answers(cache: FeatureCache, name: str, split: SplitTable) -> None:
    unanswered = sum(1 for answers in split.answers if not answers)
    if unanswered:
        raise CacheError(
            f"{cache.directory}: {unanswered:,} of {len(split):,} questions of split {name!r} have "
            f"no answers, so it can be neither trained nor validated on; name another split"
        )
    if not len(split):
        raise CacheError(f"{cache.directory}: split {name!r} has no questions")


def _trainer(
    cache: FeatureCache,
    train_split: SplitTable,
    val_split: SplitTable,
    vocabulary: Vocabulary,
    rules: Rules,
    *,
    config: TrainConfig,
    device: torch.device,
) -> Trainer:
    torch.manual_seed(config.seed)
    spec = cache.spec
    model = VqaModel(
        ModelConfig(
            vision_dim=spec.vision_dim,
            text_dim=spec.text_dim,
            grid=spec.grid,
            answers=len(vocabulary),
            fusion=config.fusion,
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            dropout=config.dropout,
        )
    ).to(device)
    train_scores = class_scores(train_split.answers, vocabulary, rules=rules)
    if not len(train_scores.classes):
        raise ConfigError("no training question has an answer in the vocabulary")
    plan = plan_batches(
        train_split.image_rows,
        batch_size=config.batch_size,
        grouped=config.group_by_image,
        shuffle=(config.seed, 0),
    )
    return Trainer(
        config=config,
        device=device,
        model=model,
        optimizer=build_optimizer(model, config),
        train_split=train_split,
        val_split=val_split,
        train_reader=BatchReader(cache, train_split, scores=train_scores, answers=len(vocabulary)),
        val_reader=BatchReader(cache, val_split),
        val_scores=class_scores(val_split.answers, vocabulary, rules=rules),
        # Epochs may differ by a batch; the schedule only needs to be about right at its end.
        steps=config.epochs * math.ceil(len(plan) / config.accumulate),
    )


def _epochs(trainer: Trainer) -> Iterator[tuple[float, float, float]]:
    """Yield loss, validation accuracy and training seconds of each epoch."""
    for number in range(trainer.config.epochs):
        started = time.perf_counter()
        loss = trainer.epoch(number)
        seconds = time.perf_counter() - started
        accuracy = trainer.accuracy()
        console.print(
            f"epoch {number + 1}/{trainer.config.epochs}: loss {loss:.4f}, accuracy "
            f"{accuracy:.2f} % on {trainer.config.val_split}, {duration(seconds)}"
        )
        yield loss, accuracy, seconds
