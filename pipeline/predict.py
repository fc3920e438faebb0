"""A head's logits for one batch, and its answers to a whole split."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from frozen_vqa.cache import SplitTable
from frozen_vqa.pipeline.batches.batch import BatchPart, FeatureBatch
from frozen_vqa.pipeline.batches.plan import BatchPlan, plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.rows import same_pictures
from frozen_vqa.pipeline.errors import NotFiniteError, unless_out_of_memory
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.system.console import console
from frozen_vqa.pipeline.system.device import tensor_cores
from frozen_vqa.pipeline.system.ranks import ALONE, Ranks

T = TypeVar("T")


def batch_logits(
    model: nn.Module, batch: FeatureBatch | BatchPart, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return (questions, answers) float32 logits in the order of `batch.questions`.

    `model` is the head, or its parallel wrapper (`pipeline/train/parallel.py`). `dtype` is the type
    of matrix products. Answers come from float32, so that they do not depend on the other questions
    of the batch; training may take bfloat16.
    """
    kind, autocast = batch.device.type, dtype == torch.bfloat16
    with tensor_cores(batch.device), torch.autocast(kind, dtype=torch.bfloat16, enabled=autocast):
        return batch.logits(model)


def in_fitting_batches(answer: Callable[[int], T], batch_size: int) -> T:
    """Return `answer(batch_size)`, or that of half as many each time that memory runs out.

    An answer does not depend on the other questions of its batch.
    """
    while batch_size > 1:
        found = unless_out_of_memory(partial(answer, batch_size))
        if found is not None:
            return found
        batch_size //= 2
        console.show(f"memory does not suffice for a batch; trying {batch_size:,} questions")
    return answer(batch_size)


def require_finite_logits(logits: Tensor, questions: np.ndarray, reader: BatchReader) -> None:
    """Raise unless the (questions, ...) logits of some rows of a split are finite.

    Raises:
        CacheDamagedError: with file and row, if a feature is not finite.
        NotFiniteError: if all are, so that the head itself computes such numbers.
    """
    bad = questions[~torch.isfinite(logits).all(-1).cpu().numpy()]
    if len(bad):
        reader.require_usable(bad)
        raise NotFiniteError(
            f"the head's answer to question {bad[0] + 1} of the split is not finite, and the "
            f"features of the question are; its weights are too large. Take an earlier head, or "
            f"train again with a lower --lr or --clip."
        )


def plan_answers(split: SplitTable, batch_size: int) -> BatchPlan:
    """Return the batches in which a split is answered.

    They go by picture, so each rank answers a stretch of them, whose pictures are in few shards.
    """
    return plan_batches(same_pictures(split), batch_size=batch_size, grouped=True, shuffle=None)


@torch.inference_mode()
def predict(
    models: Sequence[VqaModel],
    reader: BatchReader,
    split: SplitTable,
    *,
    batch_size: int,
    ranks: Ranks = ALONE,
    after_batch: Callable[[], object] = lambda: None,
) -> np.ndarray:
    """Return each head's most likely class of every question of a split: (heads, questions) int64.

    Raises as `require_finite_logits` does. Several ranks share the work, and all return all
    answers. Each calls `after_batch` equally often.
    """
    for model in models:
        model.eval()
    plan = plan_answers(split, batch_size)
    rounds = range(0, len(plan), ranks.world)
    answers = []
    # Some ranks may have no batch in the last round.
    for _, batch in zip_longest(rounds, reader.batches(ranks.stretch(plan))):
        if batch is not None:
            best = [_best(batch_logits(model, batch)) for model in models]
            largest, classes = zip(*best, strict=True)
            answers.append((batch.questions, torch.stack(largest), torch.stack(classes)))
        after_batch()
    predicted = np.zeros((len(models), len(split)), dtype=np.int64)
    for questions, numbers, every in answers:  # after all batches, so that none waits for a GPU
        require_finite_logits(numbers.T, questions, reader)
        predicted[:, questions] = every.cpu().numpy()
    return ranks.total(torch.from_numpy(predicted)).numpy()


def _best(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest number of each row, or NaN if it has one, and its place."""
    place = logits.argmax(-1, keepdim=True)
    return logits.gather(-1, place).squeeze(-1), place.squeeze(-1)
