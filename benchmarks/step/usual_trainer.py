"""A trainer of the usual kind for the features of a cache: what it is compared with.

A `Dataset` over an HDF5 file of its own, read through h5py one question at a time; a `DataLoader`
with worker processes, shuffling, a collate function that pads to the longest question; the head of
`pipeline/model/reference.py`; AdamW. It is meant to be written well: files are opened once a
worker, rows travel as float16, gradients are set to None, nothing waits for the device within an
epoch, and workers outlive it. Loss, optimizer groups, schedule, clipping and first weights are
those of our trainer.

    features        (pictures, patches, vision_dim), in chunks of one row or contiguous
    hidden_states   (all tokens, text_dim), question after question
    offsets         (questions + 1,) where each question's tokens begin and end
    image_rows      (questions,)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from frozen_vqa.cache import FeatureCache, SplitTable
from frozen_vqa.pipeline.answers.targets import ClassScores
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.model.reference import ReferenceModel, reference_twin
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.train.loss import soft_target_loss
from frozen_vqa.pipeline.train.optimizer import build_optimizer, learning_rate

Item = tuple[Tensor, Tensor, Tensor]
"""Patch embeddings, hidden states and soft targets of one question."""

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""The same of many questions, hidden states padded, and before the targets the attention mask."""

WRITTEN_AT_ONCE = 64


def write_usual_file(
    path: Path, cache: FeatureCache, split: SplitTable, *, one_row_chunks: bool
) -> None:
    """Write the features of a split as its own HDF5 file, laid out as above."""
    spec, questions = cache.spec, cache.questions
    states = [questions.states(row) for row in split.question_rows]
    rows, image_rows = np.unique(split.image_rows, return_inverse=True)
    shape = (len(rows), spec.patches, spec.vision_dim)
    with h5py.File(path, "w") as file:
        features = file.create_dataset(
            "features", shape, spec.dtype, chunks=(1, *shape[1:]) if one_row_chunks else None
        )
        for first in range(0, len(rows), WRITTEN_AT_ONCE):
            some = rows[first : first + WRITTEN_AT_ONCE]
            out = np.empty((len(some), *shape[1:]), spec.dtype)
            cache.read_images(some, out)
            features[first : first + len(some)] = out
        file["hidden_states"] = np.concatenate(states)
        file["offsets"] = np.cumsum([0, *(len(one) for one in states)])
        file["image_rows"] = image_rows


class UsualDataset(Dataset[Item]):
    """Questions of one split, one at a time.

    Args:
        path: From `write_usual_file`.
        scores: Soft targets of its questions.
        answers: Size of the vocabulary.
    """

    def __init__(self, path: Path, scores: ClassScores, answers: int) -> None:
        self.path = path
        self.scores = scores
        self.answers = answers
        with h5py.File(path, "r") as file:
            self.offsets: np.ndarray = file["offsets"][:]
            self.image_rows: np.ndarray = file["image_rows"][:]
        # Opened in the worker that reads: handles must not cross a fork.
        self.features: h5py.Dataset | None = None
        self.hidden_states: h5py.Dataset | None = None

    def __len__(self) -> int:
        return len(self.image_rows)

    def __getitem__(self, i: int) -> Item:
        if self.features is None or self.hidden_states is None:
            file = h5py.File(self.path, "r")
            self.features, self.hidden_states = file["features"], file["hidden_states"]
        patches = torch.from_numpy(self.features[self.image_rows[i]])
        states = torch.from_numpy(self.hidden_states[self.offsets[i] : self.offsets[i + 1]])
        targets = torch.zeros(self.answers)
        entries = slice(self.scores.offsets[i], self.scores.offsets[i + 1])
        targets[self.scores.classes[entries]] = torch.from_numpy(self.scores.targets[entries])
        return patches, states, targets


def collate(items: list[Item]) -> Batch:
    """Stack questions, hidden states padded with zeros to the longest."""
    patches, states, targets = zip(*items, strict=True)
    lengths = torch.tensor([len(one) for one in states])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return (
        torch.stack(patches),
        pad_sequence(list(states), batch_first=True),
        mask,
        torch.stack(targets),
    )


def usual_loader(
    dataset: UsualDataset, config: TrainConfig, *, workers: int, shuffle: bool = True
) -> DataLoader[Item]:
    """Return the usual loader; the order is a function of the seed."""
    return DataLoader(
        dataset,
        batch_size=config.batch_size,
        shuffle=shuffle,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(config.seed),
    )


@dataclass
class UsualTrainer:
    """The usual training loop.

    Attributes:
        first: A head of ours with its first weights, which this one shares.
        loader: Of the training split.
    """

    config: TrainConfig
    device: torch.device
    first: VqaModel
    loader: DataLoader[Item]
    model: ReferenceModel = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)
    step: int = 0

    def __post_init__(self) -> None:
        self.model = reference_twin(self.first).to(self.device)
        self.optimizer = build_optimizer(self.model, self.config)

    def epoch(self, after_step: Callable[[int], None] = lambda _: None) -> float:
        """Train for one epoch and return its mean loss.

        Args:
            after_step: Called after each step with the number of its questions.
        """
        steps = self.config.epochs * len(self.loader)
        total = torch.zeros((), device=self.device)
        questions = 0
        self.model.train()
        for batch in self.loader:
            patches, states, mask, targets = self._on_device(batch)
            with self._autocast():
                logits = self.model(patches, states, mask)
            loss = soft_target_loss(logits.float(), targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.step, steps=steps, config=self.config)
            self.optimizer.step()
            self.step += 1
            total += loss.detach() * len(targets)
            questions += len(targets)
            after_step(len(targets))
        return total.item() / questions

    @torch.inference_mode()
    def predict(self, loader: DataLoader[Item]) -> np.ndarray:
        """Return the most likely class of every question of a loader that does not shuffle."""
        self.model.eval()
        predicted = []
        for batch in loader:
            patches, states, mask, _ = self._on_device(batch)
            with self._autocast():
                predicted.append(self.model(patches, states, mask).argmax(-1))
        return torch.cat(predicted).cpu().numpy()

    def _on_device(self, batch: Batch) -> Batch:
        patches, states, mask, targets = (part.to(self.device, non_blocking=True) for part in batch)
        return patches, states, mask, targets

    def _autocast(self) -> torch.autocast:
        """Return bfloat16 arithmetic on a GPU, and no change on a CPU."""
        on_gpu = self.device.type == "cuda"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on_gpu)
