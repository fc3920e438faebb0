"""A trained head's answers to a whole split."""

import numpy as np
import torch

from cache import SplitTable
from pipeline.batches import BatchReader, plan_batches
from pipeline.config import TrainConfig
from pipeline.model import VqaModel


@torch.inference_mode()
def predict(
    model: VqaModel,
    reader: BatchReader,
    split: SplitTable,
    config: TrainConfig,
    *,
    device: torch.device,
) -> np.ndarray:
    """Return the most likely class of every question of a split: (questions,) int64."""
    model.eval()
    predicted = np.zeros(len(split), dtype=np.int64)
    plan = plan_batches(
        split.image_rows, batch_size=2 * config.batch_size, grouped=True, shuffle=None
    )
    for batch in reader.batches(plan):
        on_device = batch.to(device)
        logits = model(
            on_device.patch_embeddings,
            on_device.hidden_states,
            on_device.attention_mask,
            on_device.patch_scales,
        )
        predicted[batch.questions] = logits.argmax(-1).cpu().numpy()
    return predicted
