"""A head is measured by its settings alone, before any of it is allocated."""

from dataclasses import replace

import pytest
import torch

from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.train import train
from frozen_vqa.pipeline.train.data import load_train_data
from frozen_vqa.pipeline.train.train import require_memory
from frozen_vqa.pipeline.train.trainer import build_untrained_head
from tests.support.caches import Made

SMALL = TrainConfig(width=8, heads=2, min_answer_count=1)
CPU = torch.device("cpu")


def test_heads_that_exceed_the_memory_are_refused_at_once(
    scenes: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_train_data(scenes.directory, SMALL)
    head = build_untrained_head(data, SMALL)
    number = sum(parameter.numel() for parameter in head.parameters())
    heads = {"a": SMALL, "b": replace(SMALL, ema=0.9)}
    need = 4 * number * (4 + 5)
    for free in (need, None):  # None where the system does not say
        monkeypatch.setattr(train, "free_memory", lambda free=free: free)
        require_memory(heads, data, CPU)
    monkeypatch.setattr(train, "free_memory", lambda: need - 1)
    with pytest.raises(ConfigError, match=r"^2 heads with .* make --width or --layers smaller$"):
        require_memory(heads, data, CPU)
    largest = replace(SMALL, width=10**6, layers=10**6)
    with pytest.raises(ConfigError, match=r"^the head with 17,000,0"):
        require_memory({"a": largest}, data, CPU)
