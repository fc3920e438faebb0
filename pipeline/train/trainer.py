"""One training in memory: the model, its optimizer, and a place in an epoch's plan of batches.

Nothing here writes a file. Between two steps a trainer can be taken apart into tensors and put
together again (`tensors`, `restore`), and goes on as if nothing had happened: there are no
gradients then, and whatever is drawn comes from generators whose states are among the tensors.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from frozen_vqa.cache import CacheSpec, SplitTable
from frozen_vqa.pipeline.answers.targets import ClassScores
from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.plan import BatchPlan, plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import NotFiniteError
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.predict import batch_logits, predict
from frozen_vqa.pipeline.system.console import progress
from frozen_vqa.pipeline.system.device import training_dtype
from frozen_vqa.pipeline.system.ranks import ALONE, Ranks
from frozen_vqa.pipeline.train.average import Average
from frozen_vqa.pipeline.train.data import TrainData
from frozen_vqa.pipeline.train.optimizer import build_optimizer, learning_rate, soft_target_loss
from frozen_vqa.pipeline.train.parallel import parallel, seed_draws, summed


@dataclass
class Trainer:
    """One training run in memory: everything that `train` needs between its steps.

    Attributes:
        average: Of the weights, or None; what is scored and kept then.
        steps: Of the whole training; the learning rate depends on it.
        step: Steps so far.
        running: The epoch that is running or was the last to, from 0.
        planned: Batches of its plan,
        batch: and those of them that are done: up to the last step,
        seen: or up to now.
        loss: Sum over its questions so far, of this rank's part.
        questions: That this process has trained on.
        epoch_seconds: What it has taken so far.
    """

    config: TrainConfig
    device: torch.device
    model: VqaModel
    optimizer: torch.optim.AdamW
    train_split: SplitTable
    val_split: SplitTable
    train_reader: BatchReader
    val_reader: BatchReader
    val_scores: ClassScores
    average: Average | None
    steps: int
    ranks: Ranks = ALONE
    step: int = 0
    running: int = 0
    planned: int = 0
    batch: int = 0
    seen: int = 0
    loss: Tensor = field(init=False)
    epoch_seconds: float = 0.0
    questions: int = 0

    def __post_init__(self) -> None:
        self.loss = torch.zeros((), device=self.device)
        self._parallel = parallel(self.model, self.ranks, self.device)

    def plan(self, number: int) -> BatchPlan:
        """Return the batches of an epoch."""
        return plan_batches(
            self.train_split.image_rows,
            batch_size=self.config.batch_size,
            grouped=self.config.group_by_image,
            shuffle=(self.config.order_seed, number),
        )

    def epoch(self, number: int, after_step: Callable[[], None] = lambda: None) -> float:
        """Train for what is left of one epoch and return its mean loss.

        Args:
            number: From 0. The running one goes on, any other begins.
            after_step: Called between two steps; what it raises leaves a trainer that can go on.

        Raises:
            NotFiniteError: if the loss is not finite.
        """
        plan = self.begin(number)
        left = plan[self.batch :]
        mine = left.part(self.ranks.rank, self.ranks.world)
        clock = time.perf_counter()
        with progress(f"epoch {number + 1}/{self.config.epochs}", left.questions) as advance:
            # All ranks take part in every batch: one that has no question of it reads another's,
            # and counts none.
            batches = self.train_reader.batches(mine.fill_empty(left))
            sizes = zip(mine.sizes.tolist(), left.sizes.tolist(), strict=True)
            for batch, (own, everyones) in zip(batches, sizes, strict=True):
                ends_step = self.learn(batch, own)
                advance(everyones)
                if ends_step:
                    self.epoch_seconds += time.perf_counter() - clock
                    after_step()
                    clock = time.perf_counter()
        return self.mean_loss()

    def begin(self, number: int) -> BatchPlan:
        """Begin an epoch, or go on with it if it is the running one; return its batches."""
        if number != self.running:
            self.running, self.batch, self.epoch_seconds = number, 0, 0.0
            self.loss.zero_()
        plan = self.plan(number)
        self.seen, self.planned = self.batch, len(plan)
        self.model.train()
        return plan

    def learn(self, batch: FeatureBatch, own: int | None = None) -> bool:
        """Take the next batch of the epoch; return whether a step ended with it.

        Only then can the trainer be taken apart.

        Args:
            batch: This rank's part of it.
            own: How many of its questions count: all (None), or 0 where it is another's.
        """
        config, ranks = self.config, self.ranks
        own = len(batch.questions) if own is None else own
        dtype = training_dtype(config.precision, self.device)
        self.seen += 1
        ends_step = self.seen % config.accumulate == 0 or self.seen == self.planned
        if ranks.world > 1:
            seed_draws(config.seed, self.running, self.seen, ranks.rank)
        with summed(self._parallel, now=ends_step):
            logits = batch_logits(self._parallel, batch, dtype)
            loss = soft_target_loss(logits, batch.soft_targets(logits.shape[-1]))
            # Batches differ a little in size; each question counts the same.
            share = ranks.world * own / (config.batch_size * config.accumulate)
            (loss * share).backward()
        self.loss += loss.detach() * own
        self.questions += own
        if not ends_step:
            return False
        self._update()
        self.batch = self.seen
        return True

    def mean_loss(self) -> float:
        """Return the mean loss of an epoch that is over. All ranks have to call it.

        Raises:
            NotFiniteError: if it is not finite.
        """
        mean = self._losses().sum().item() / len(self.train_split)
        epoch = self.running + 1
        if not math.isfinite(mean):
            kept = "the best weights so far are kept" if self.running else "no weights were kept"
            raise NotFiniteError(
                f"the loss of epoch {epoch} is {mean}; {kept}. "
                f"Lower --lr (it is {self.config.lr:g}) or --clip (it is {self.config.clip:g})."
            )
        return mean

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, steps=self.steps, config=self.config)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)

    @property
    def scored(self) -> VqaModel:
        """The head that is validated and kept: of the averaged weights where there are any."""
        return self.model if self.average is None else self.average.model

    def accuracy(self, after_batch: Callable[[], object] = lambda: None) -> float:
        """Return the accuracy on the validation split, in percent; see `predict`."""
        predicted = predict(
            self.scored,
            self.val_reader,
            self.val_split,
            batch_size=self.config.batch_size,
            ranks=self.ranks,
            after_batch=after_batch,
        )
        return self.accuracy_of(predicted)

    def accuracy_of(self, predicted: np.ndarray) -> float:
        """Return the accuracy of the classes predicted for the validation split, in percent."""
        return 100 * float(self.val_scores.score(predicted).mean())

    def _losses(self) -> Tensor:
        """Return `loss` of each rank: (ranks,), on the CPU."""
        losses = torch.zeros(self.ranks.world)
        losses[self.ranks.rank] = self.loss
        return self.ranks.total(losses)

    def tensors(self) -> dict[str, Tensor]:
        """Return what `restore` needs beside the numbers above; see `pipeline/runs/state.py`.

        All ranks have to call it.
        """
        found = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            averages = self.average.model.state_dict()
            found |= {f"average.{name}": tensor for name, tensor in averages.items()}
        for name, parameter in self.model.named_parameters():
            for key, tensor in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer.{name}.{key}"] = tensor
        found |= {"epoch.loss": self._losses(), "rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            found["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the place of the trainer whose tensors these are.

        Raises:
            KeyError, RuntimeError: if they are those of another model.
        """
        tensors = dict(tensors)
        torch.set_rng_state(tensors.pop("rng.cpu"))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors.pop("rng.cuda"), self.device)
        self.loss.copy_(tensors.pop("epoch.loss")[self.ranks.rank])
        self.model.load_state_dict(_below("model", tensors))
        if self.average is not None:
            self.average.model.load_state_dict(_below("average", tensors))
        for name, parameter in self.model.named_parameters():
            # Copies, because arithmetic may round otherwise on memory that begins elsewhere than
            # where an allocation does.
            self.optimizer.state[parameter] = {
                key: torch.empty_like(tensor, device=self.device).copy_(tensor)
                for key, tensor in _below(f"optimizer.{name}", tensors).items()
            }


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors PREFIX.NAME by their names."""
    start = prefix + "."
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def untrained_head(spec: CacheSpec, answers: int, config: TrainConfig) -> VqaModel:
    """Return the head with which a training begins: a function of its settings and its seed."""
    torch.manual_seed(config.seed)
    shapes = config.with_shapes(
        vision_dim=spec.vision_dim, text_dim=spec.text_dim, grid=spec.grid, answers=answers
    )
    return VqaModel(shapes)


def build_trainer(
    features: ResidentFeatures,
    data: TrainData,
    *,
    config: TrainConfig,
    ranks: Ranks = ALONE,
) -> Trainer:
    """Return a trainer before its first step. All ranks have to call it.

    Raises:
        ConfigError: if settings and data do not fit together.
    """
    device = features.device
    train_split, val_split = data.splits[config.train_split], data.splits[config.val_split]
    model = untrained_head(features.cache.spec, len(data.vocabulary), config).to(device)
    plan = plan_batches(
        train_split.image_rows,
        batch_size=config.batch_size,
        grouped=config.group_by_image,
        shuffle=(config.order_seed, 0),
    )
    return Trainer(
        config=config,
        device=device,
        model=model,
        optimizer=build_optimizer(model, config),
        train_split=train_split,
        val_split=val_split,
        train_reader=BatchReader(features, train_split, scores=data.scores[config.train_split]),
        val_reader=BatchReader(features, val_split),
        val_scores=data.scores[config.val_split],
        average=Average(model, config.ema) if config.ema else None,
        # Epochs may differ by a batch; the schedule only needs to be about right at its end.
        steps=config.epochs * math.ceil(len(plan) / config.accumulate),
        ranks=ranks,
    )
