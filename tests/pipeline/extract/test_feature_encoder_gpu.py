"""Copies from a GPU, without one: a stream that copies as late as it may."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from frozen_vqa.pipeline.extract.feature_encoder import FeatureEncoder
from frozen_vqa.pipeline.extract.speed.batch_size import BatchSize
from frozen_vqa.pipeline.extract.speed.throughput import PhaseTimer
from tests.support.extractions import plan_of, source_of
from tests.support.frozen import Images, Text


class LateStream:
    """A copy stream: what it is given is done when somebody waits for it, and no sooner."""

    def __init__(self, device: torch.device) -> None:
        self.late: list[Callable[[], Any]] = []
        self.events: list[str] = []

    def wait_stream(self, encoder: object) -> None:
        self.events.append("wait for the encoder")

    def synchronize(self) -> None:
        self.events.append("synchronize")
        for copy in self.late:
            copy()
        self.late.clear()


def test_a_gpu_encodes_on_while_features_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[LateStream] = []
    pinned: list[Any] = []
    copy_, empty = torch.Tensor.copy_, torch.empty

    def stream(device: torch.device) -> LateStream:
        streams.append(LateStream(device))
        return streams[-1]

    def late(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> None:
        assert non_blocking
        assert target.dtype == source.dtype  # narrowed on the device
        assert any(np.shares_memory(target.numpy(), one) for one in pinned)
        streams[0].late.append(lambda: copy_(target, source))

    def memory(shape: tuple[int, ...], *, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        assert pin_memory
        made = empty(shape, dtype=dtype)
        pinned.append(made.numpy())
        return made

    def extracted(device: str) -> list[Any]:
        images = Images(lambda: streams and streams[0].events.append("encode"))  # type: ignore[func-returns-value, arg-type, return-value]
        images.device = device  # type: ignore[misc]
        source = source_of()
        plan = plan_of(source)
        encoder = FeatureEncoder(source, plan, images, Text(), "float16")  # type: ignore[arg-type]
        chunks = [plan.images[:5], plan.images[5:]]
        timer = PhaseTimer()
        with closing(encoder.encode_images(chunks, BatchSize(2), timer)) as encoded:
            return [
                (one.new.image_ids, one.new.patch_embeddings.copy(), one.new.cls.copy())
                for one in encoded
            ]

    expected = extracted("cpu")
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "Stream", stream)
        patch.setattr(torch.cuda, "current_stream", lambda device: None)
        patch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        patch.setattr(torch.Tensor, "record_stream", lambda features, stream: None)
        patch.setattr(torch.Tensor, "copy_", late)
        patch.setattr(torch, "empty", memory)
        found = extracted("cuda")

    for (ids, *arrays), (same_ids, *same) in zip(found, expected, strict=True):
        assert ids == same_ids
        for one, other in zip(arrays, same, strict=True):
            np.testing.assert_array_equal(one, other)
    a_batch = ["encode", "wait for the encoder", "wait for the encoder"]
    rest = len(expected[1][0])
    batches = [3, -(-rest // 2)]
    assert streams[0].events == [
        event for count in batches for event in [*a_batch * count, "synchronize"]
    ]
