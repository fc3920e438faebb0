"""What a GPU is asked for, with a fake of each kind; none is needed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch

from frozen_vqa.pipeline.system import device as ours
from frozen_vqa.pipeline.system.device import (
    encoder_dtype,
    generator_state,
    repeatable,
    set_generator_state,
    tensor_cores,
    training_dtype,
)

T4, A100, CPU, MPS = (torch.device(name) for name in ("cuda:1", "cuda:0", "cpu", "mps"))


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """An A100 as the current GPU and a T4 beside it, which emulates bfloat16."""
    current = [A100]

    @contextmanager
    def at(device: torch.device) -> Iterator[None]:
        before, current[0] = current[0], device
        yield
        current[0] = before

    monkeypatch.setattr(torch.cuda, "device", at)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or current[0] == A100,
    )


@pytest.mark.parametrize("native_cpu", [True, False])
def test_only_native_bfloat16_is_taken(native_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_cpu_has_bfloat16", lambda: native_cpu)
    has = {A100: True, T4: False, CPU: native_cpu, MPS: False}
    for device, native in has.items():
        expected = torch.bfloat16 if native else torch.float32
        assert training_dtype("auto", device) == expected, device
        assert training_dtype("bfloat16", device) == torch.bfloat16
        assert training_dtype("float32", device) == torch.float32
        assert encoder_dtype(device) == (expected if device.type == "cuda" else torch.float32)


@pytest.mark.parametrize("device", [A100, CPU, MPS])
@pytest.mark.parametrize("before", [True, False])
def test_products_and_order_are_those_of_a_training_only_in_its_block(
    device: torch.device, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = before

    def found() -> tuple[bool, bool, bool]:
        return (
            matmul.allow_tf32,
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )

    outside, on_gpu = found(), device == A100
    with tensor_cores(device):
        assert found() == (before or on_gpu, *outside[1:])
    with suppress(KeyError), repeatable(device):
        assert found() == (before or on_gpu, on_gpu, on_gpu)
        raise KeyError
    assert found() == outside
    matmul.allow_tf32 = False


@pytest.mark.parametrize("device", [A100, MPS])
def test_the_generator_of_each_device_is_kept(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = getattr(torch, device.type)
    drawn = {"state": torch.tensor([1, 2], dtype=torch.uint8)}
    monkeypatch.setattr(module, "get_rng_state", lambda *_: drawn["state"])
    monkeypatch.setattr(module, "set_rng_state", lambda state, *_: drawn.update(state=state))
    before = generator_state(device)
    assert before is not None
    set_generator_state(device, torch.tensor([3, 4], dtype=torch.uint8))
    assert drawn["state"].tolist() == [3, 4]
    set_generator_state(device, before)
    assert drawn["state"].tolist() == [1, 2]
    assert generator_state(CPU) is None
