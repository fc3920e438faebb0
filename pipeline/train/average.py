"""An exponential moving average of a head's weights: steadier than those of any one step."""

import copy

from torch.optim.swa_utils import get_ema_multi_avg_fn

from frozen_vqa.pipeline.model.vqa_model import VqaModel


class Average:
    """A copy of a head whose weights follow those of its training.

    Args:
        model: The head before its first step, on its device.
        decay: Share of the average that a late step keeps, 0 to below 1.

    Attributes:
        model: The copy, without gradients.
    """

    def __init__(self, model: VqaModel, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay

    def update(self, model: VqaModel, step: int) -> None:
        """Move towards the weights after a step, counted from 1.

        A step n keeps min(decay, (1 + n) / (10 + n)) of the average, so that the first weights,
        which are random, are soon forgotten. Source: `num_updates` of TensorFlow's
        `tf.train.ExponentialMovingAverage`.
        """
        lerp = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        lerp(list(self.model.parameters()), list(model.parameters()), step)
