"""One training in memory: the model, its optimizer, and a position in an epoch's batches.

A trainer writes no file. Between two steps it can be taken apart into tensors and counters and put
together again (`tensors`, `restore`); it then continues as if nothing had happened, because there
are no gradients between steps and the tensors include the states of the random generators.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.plan import BatchPlan, plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.batches.rows import same_pictures
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import NotFiniteError
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.predict import batch_logits, predict
from frozen_vqa.pipeline.runs.sealed import require_fit
from frozen_vqa.pipeline.runs.state import Counters, select_tensors
from frozen_vqa.pipeline.system.device import generator_state, set_generator_state, training_dtype
from frozen_vqa.pipeline.system.ranks import ALONE, Ranks
from frozen_vqa.pipeline.train.data import TrainData
from frozen_vqa.pipeline.train.loss import choice_loss, soft_target_loss
from frozen_vqa.pipeline.train.optimizer import WeightAverage, build_optimizer, learning_rate
from frozen_vqa.pipeline.train.parallel import (
    distribute,
    pictures_of_rank,
    seed_draws,
    sync_gradients,
)


class Trainer:
    """One training run in memory, on the device of the features.

    All ranks have to make theirs together. Raises `ConfigError` if settings and data do not fit.
    """

    def __init__(
        self,
        features: ResidentFeatures,
        data: TrainData,
        *,
        config: TrainConfig,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config, self.ranks, self.device = config, ranks, features.device
        self.train_split = data.splits[config.train_split]
        self.val_split = data.splits[config.validation]
        features.keep(pictures_of_rank(self.train_split, self.val_split, config, ranks))
        model = build_untrained_head(data, config)
        self.model = model.to(self.device)
        self.optimizer = build_optimizer(self.model, config)
        self.average = WeightAverage(self.model, config.ema) if config.ema else None
        self.val_scores = data.scores[config.validation]
        self.val_counted = data.counted[config.validation]
        scores = data.scores[config.train_split]
        read, self.criterion = partial(BatchReader, features), soft_target_loss
        if data.chooses:
            read, self.criterion = partial(read, choosing=True), choice_loss
        self.train_reader = read(self.train_split, scores=scores)
        self.val_reader = read(self.val_split)
        # Steps of all epochs, for the learning rate. Epochs may differ by a batch; the schedule
        # need not end exactly at the last step.
        self.steps = config.epochs * math.ceil(len(self.plan(0)) / config.accumulate)
        self.counters = Counters(epoch=0, batch=0, step=0, epoch_seconds=0.0, waited=0.0)
        self.planned = 0  # batches in the plan of the current epoch
        self.seen = 0  # batches of it that are done, including those after the last step
        self.sound = 0  # batches of it after which the loss was last known to be finite
        self.questions = 0  # that this process has trained on
        self.loss = torch.zeros((), device=self.device)  # sum over this rank's part of the epoch
        self._distributed = distribute(self.model, ranks, self.device)

    def plan(self, number: int) -> BatchPlan:
        return plan_batches(
            same_pictures(self.train_split),
            batch_size=self.config.batch_size,
            grouped=self.config.group_by_image,
            shuffle=(self.config.order_seed, number),
            shares=self.config.shares or 1,
        )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return learning_rate(step, steps=self.steps, config=self.config)

    def epoch(
        self,
        number: int,
        after_step: Callable[[], None] = lambda: None,
        after_batch: Callable[[int], None] = lambda questions: None,
    ) -> float:
        """Train the rest of one epoch, counted from 0, and return its mean loss.

        `after_step` is called between two steps; if it raises, the trainer can still continue.
        `after_batch` is given the number of questions of each batch.
        """
        left = self.begin(number)[self.counters.batch :]
        mine = left.part(self.ranks.rank, self.ranks.world)
        reader, counters = self.train_reader, self.counters
        clock, waited = time.perf_counter(), reader.waited
        # All ranks take part in every batch: a rank without a question of it reads another rank's
        # question, and does not count it.
        batches = reader.batches(mine.fill_empty(left))
        sizes = zip(mine.sizes.tolist(), left.sizes.tolist(), strict=True)
        for batch, (own, everyones) in zip(batches, sizes, strict=True):
            ends_step = self.learn(batch, own)
            after_batch(everyones)
            if ends_step:
                counters.epoch_seconds += time.perf_counter() - clock
                counters.waited += reader.waited - waited
                after_step()
                clock, waited = time.perf_counter(), reader.waited
        return self.mean_loss()

    def begin(self, number: int) -> BatchPlan:
        """Begin an epoch, or continue it if it is the current one; return its batches."""
        counters = self.counters
        if number != counters.epoch:
            counters.epoch, counters.batch, counters.epoch_seconds = number, 0, 0.0
            self.loss.zero_()
        plan = self.plan(number)
        self.seen, self.planned = counters.batch, len(plan)
        self.sound = self.seen
        self.model.train()
        return plan

    def learn(self, batch: FeatureBatch, own: int | None = None) -> bool:
        """Train on this rank's part of the next batch; return whether a step ended with it.

        The trainer can be taken apart only after the end of a step. `own` says how many questions
        count: all (None), or 0 where they are another rank's.
        """
        config, ranks = self.config, self.ranks
        own = len(batch.questions) if own is None else own
        dtype = training_dtype(config.precision, self.device)
        self.seen += 1
        ends_step = self.seen % config.accumulate == 0 or self.seen == self.planned
        if ranks.world > 1:
            seed_draws(config.seed, self.counters.epoch, self.seen, ranks.rank)
        with sync_gradients(self._distributed, now=ends_step):
            logits = batch_logits(self._distributed, batch, dtype)
            loss = self.criterion(logits, batch.soft_targets(logits.shape[-1]))
            # Batches differ a little in size; each question counts the same.
            share = ranks.world * own / (config.batch_size * config.accumulate)
            (loss * share).backward()
        self.loss += loss.detach() * own
        self.questions += own
        if not ends_step:
            return False
        self._update()
        self.counters.batch = self.seen
        return True

    def mean_loss(self) -> float:
        """Return a complete epoch's mean loss; raise as `require_finite`. All ranks call it."""
        return self.require_finite() / len(self.train_split)

    def require_finite(self) -> float:
        """Return the sum of this epoch's losses; raise unless it is finite. All ranks call it.

        Raises:
            CacheDamagedError: with file and row, if a feature of the batches since the last call is
                not finite.
            NotFiniteError: if the training itself diverged.
        """
        total = self._losses().sum().item()
        if math.isfinite(total):
            self.sound = self.seen
            return total
        epoch = self.counters.epoch
        since = [rows for grid in self.plan(epoch)[self.sound : self.seen] for rows in grid]
        self.train_reader.require_usable(np.concatenate(since))
        kept = "the best weights so far are kept" if epoch else "no weights were kept"
        raise NotFiniteError(
            f"the loss of epoch {epoch + 1} is not finite; {kept}. "
            f"Lower --lr (it is {self.config.lr:g}) or --clip (it is {self.config.clip:g})."
        )

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.counters.step)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.counters.step += 1
        if self.average is not None:
            self.average.update(self.model, self.counters.step)

    @property
    def scored(self) -> VqaModel:
        """The head that is validated and kept: with averaged weights if the settings ask for it."""
        return self.model if self.average is None else self.average.model

    def accuracy(self, after_batch: Callable[[], object] = lambda: None) -> float:
        """Return the accuracy on the validation split, in percent; see `predict`."""
        (predicted,) = predict(
            [self.scored],
            self.val_reader,
            self.val_split,
            batch_size=self.config.batch_size,
            ranks=self.ranks,
            after_batch=after_batch,
        )
        return self.accuracy_of(predicted)

    def accuracy_of(self, predicted: np.ndarray) -> float:
        """Return the percentage that (questions,) int64 classes of the validation split score."""
        return 100 * float(self.val_scores.score(predicted)[self.val_counted].mean())

    def _losses(self) -> Tensor:
        """Return `loss` of each rank: (ranks,), on the CPU."""
        losses = torch.zeros(self.ranks.world)
        losses[self.ranks.rank] = self.loss
        return self.ranks.total(losses)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of `runs/state.py`, which `restore` needs. All ranks call it."""
        found = self._without_optimizer()
        for name, parameter in self.model.named_parameters():
            for key, tensor in self.optimizer.state.get(parameter, {}).items():
                found[f"optimizer.{name}.{key}"] = tensor
        return found

    def _without_optimizer(self) -> dict[str, Tensor]:
        found = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            averages = self.average.model.state_dict()
            found |= {f"average.{name}": tensor for name, tensor in averages.items()}
        found |= {"epoch.loss": self._losses(), "rng.cpu": torch.get_rng_state()}
        if (own := generator_state(self.device)) is not None:
            found[f"rng.{self.device.type}"] = own
        return found

    def _require_possible(self, tensors: Mapping[str, Tensor], counters: Counters) -> None:
        """Raise `ValueError` unless this training could have these tensors and counters."""
        needed = self._without_optimizer()
        for name, parameter in self.model.named_parameters() if counters.step else ():
            moments = dict.fromkeys(("exp_avg", "exp_avg_sq"), parameter)
            for key, tensor in {**moments, "step": torch.zeros(())}.items():
                needed[f"optimizer.{name}.{key}"] = tensor
        require_fit(tensors, needed)
        for name, tensor in tensors.items():
            if name.endswith(".exp_avg_sq") and (tensor < 0).any():
                raise ValueError(f"{name} holds a square below 0")
            if name.startswith("optimizer.") and name.endswith(".step") and tensor != counters.step:
                raise ValueError(f"{name} is not {counters.step}, the steps of the training")
        if counters.epoch >= self.config.epochs:
            raise ValueError(f"it is in epoch {counters.epoch + 1} of {self.config.epochs}")
        done, size, planned = counters.batch, self.config.accumulate, len(self.plan(counters.epoch))
        if done > planned or (done % size and done != planned):
            raise ValueError(f"it is at batch {done} of {planned}, which ends no step")
        steps = math.ceil(planned / size)
        about = counters.epoch * steps + math.ceil(done / size)
        if abs(counters.step - about) > counters.epoch * (1 + steps // 10):  # epochs differ a bit
            raise ValueError(f"it is at step {counters.step}, and about {about} is possible")

    def restore(self, tensors: Mapping[str, Tensor], counters: Counters) -> None:
        """Continue where another trainer was when it returned these tensors and counters.

        Those of another training raise `ValueError` or `RuntimeError`.
        """
        self._require_possible(tensors, counters)
        torch.set_rng_state(tensors["rng.cpu"])
        if generator_state(self.device) is not None:
            set_generator_state(self.device, tensors[f"rng.{self.device.type}"])
        self.loss.copy_(tensors["epoch.loss"][self.ranks.rank])
        self.model.load_state_dict(select_tensors("model", tensors))
        if self.average is not None:
            self.average.model.load_state_dict(select_tensors("average", tensors))
        for name, parameter in self.model.named_parameters():
            # Copies, because arithmetic may round differently on memory with another alignment
            # than an allocation has.
            self.optimizer.state[parameter] = {
                key: torch.empty_like(tensor, device=self.device).copy_(tensor)
                for key, tensor in select_tensors(f"optimizer.{name}", tensors).items()
            }
        self.counters = replace(counters)


def build_untrained_head(data: TrainData, config: TrainConfig) -> VqaModel:
    """Return the head with which a training begins: a function of its settings and its seed.

    Raises `ConfigError` if settings and data do not fit together.
    """
    torch.manual_seed(config.seed)
    return VqaModel(data.shape_head(config))
