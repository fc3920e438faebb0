"""A head's logits for one batch, and its answers to a whole split."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cache import SplitTable
from pipeline.batches import BatchReader, FeatureBatch
from pipeline.model import VqaModel
from pipeline.order import plan_batches


def batch_logits(
    model: VqaModel, batch: FeatureBatch, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return (questions, answers) float32 logits in the order of `batch.questions`.

    Args:
        model: The head.
        batch: On the head's device.
        dtype: In what matrices are multiplied. Answers come from float32, so that they do not
            depend on the other questions of the batch; training may take bfloat16.
    """
    assert batch.patch_embeddings is not None
    device = batch.attention_mask.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = model(
            batch.patch_embeddings,
            batch.hidden_states,
            batch.attention_mask,
            batch.patch_scales,
            words=batch.words,
            paths=batch.paths,
            places=batch.places,
        )
    return logits[: len(batch.questions)]


def predict(
    model: VqaModel, reader: BatchReader, split: SplitTable, *, batch_size: int
) -> np.ndarray:
    """Return the most likely class of every question of a split: (questions,) int64."""
    (predicted,) = predict_several([model], reader, split, batch_size=batch_size)
    return predicted


@torch.inference_mode()
def predict_several(
    models: Sequence[VqaModel], reader: BatchReader, split: SplitTable, *, batch_size: int
) -> list[np.ndarray]:
    """Return what `predict` returns for each of several heads, from one reading of the split."""
    for model in models:
        model.eval()
    order = plan_batches(split.image_rows, batch_size=batch_size, grouped=True, shuffle=None)
    classes = [
        (batch.questions, [batch_logits(model, batch).argmax(-1) for model in models])
        for batch in reader.batches(order)
    ]
    predicted = [np.zeros(len(split), dtype=np.int64) for _ in models]
    for questions, found in classes:  # after all batches, so that none waits for a GPU
        for head, ones in zip(predicted, found, strict=True):
            head[questions] = ones.cpu().numpy()
    return predicted
