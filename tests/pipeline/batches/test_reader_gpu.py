"""How batches come to a GPU, in the place of which the CPU is; each device by its own way."""

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.batches.batch import FeatureBatch
from frozen_vqa.pipeline.batches.plan import plan_batches
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from tests.support.caches import Made, Row, make_cache

CUDA = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    rows = [Row(image, image % 3) for image in range(7) for _ in range(2)]
    return make_cache(tmp_path_factory.mktemp("batches"), {"train": rows})


def read(made: Made, device: torch.device, *, epochs: int = 2) -> list[FeatureBatch]:
    cache = FeatureCache(made.directory)
    split = cache.split("train")
    reader = BatchReader(ResidentFeatures(cache, device=device), split)
    plan = plan_batches(split.image_rows, batch_size=4, grouped=True, shuffle=(0, 0))
    return [
        batch.map(lambda x: x if x.is_meta else x.clone())
        for _ in range(epochs)
        for batch in reader.batches(plan)
    ]


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let the CPU pass for a GPU; return the streams that are made."""
    made: list[Any] = []
    copy, empty = Tensor.to, torch.empty

    class Stream:
        def __init__(self, device: torch.device) -> None:
            made.append(self)

        def record_event(self) -> Any:
            return SimpleNamespace(device=CUDA, synchronize=lambda: None)

        def wait_event(self, event: Any) -> None:
            assert event.device == CUDA

    def to(x: Tensor, place: Any = None, **how: Any) -> Tensor:
        return x.clone() if place == CUDA else copy(x, place, **how)

    replaced: dict[tuple[Any, str], Callable[..., Any]] = {
        (torch.cuda, "Stream"): Stream,
        (torch.cuda, "stream"): lambda stream: nullcontext(),
        (torch.cuda, "current_stream"): lambda device: Stream.__new__(Stream),
        (torch.cuda, "mem_get_info"): lambda device: (10**9, 10**9),
        (torch, "empty"): lambda *a, pin_memory=False, **how: empty(*a, **how),
        (Tensor, "to"): to,
        (Tensor, "record_stream"): lambda x, stream: None,
    }
    for (owner, name), value in replaced.items():
        monkeypatch.setattr(owner, name, value)
    return made


def test_one_stream_copies_the_batches_of_all_epochs(made: Made, streams: list[Any]) -> None:
    """And they are those of the CPU."""
    found, expected = (read(made, device) for device in (CUDA, torch.device("cpu")))
    assert len(streams) == 1
    assert len(found) == len(expected) > 4
    for batch, same in zip(found, expected, strict=True):
        one, other = batch.parts[0], same.parts[0]
        assert batch.questions.tolist() == same.questions.tolist()
        assert one.patch_embeddings is not None
        assert other.patch_embeddings is not None
        assert torch.equal(one.patch_embeddings, other.patch_embeddings)
        assert torch.equal(one.hidden_states, other.hidden_states)


def test_a_device_without_cuda_needs_nothing_of_it(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place of Apple's GPU: "meta", to which batches can be copied anywhere."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("CUDA is asked for something")

    for owner, name in (torch.cuda, "Stream"), (torch.cuda, "stream"), (Tensor, "pin_memory"):
        monkeypatch.setattr(owner, name, refuse)
    empty = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *a, **how: refuse() if how.get("pin_memory") else empty(*a, **how)
    )
    batches = read(made, torch.device("meta"))
    assert len(batches) > 4
    assert {batch.device.type for batch in batches} == {"meta"}
    assert all(batch.parts[0].hidden_states.is_meta for batch in batches)
