"""Where the system gives no pinned memory, ordinary memory does."""

from typing import Any

import pytest
import torch

from frozen_vqa.pipeline.system.pinned import pinned_empty


@pytest.mark.parametrize("given", [True, False])
def test_memory_is_pinned_or_ordinary(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, real = [], torch.empty

    def empty(*shape: Any, pin_memory: bool = False, **how: Any) -> torch.Tensor:
        asked.append(pin_memory)
        if pin_memory and not given:
            raise torch.OutOfMemoryError("CUDA error: out of memory")
        return real(*shape, **how)

    monkeypatch.setattr(torch, "empty", empty)
    found = pinned_empty((2, 3), torch.float16)

    assert (found.shape, found.dtype) == ((2, 3), torch.float16)
    assert asked == ([True] if given else [True, False])
