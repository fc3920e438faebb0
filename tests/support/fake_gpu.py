"""A GPU that knows the shape, type and device of every result and computes none.

PyTorch's fake tensors claim to be on a device that this build of PyTorch need not have. They refuse
operands on two devices, and any read of a number by Python, for which a real GPU would make the
step wait. "cuda" itself serves for little in a build without CUDA, where indexing and gradients
look for its driver. So this takes PyTorch's device for backends written in Python, and gives it
CUDA's rules of autocast. Source of the rules: PyTorch's "Autocast Op Reference", CUDA's tables.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

from frozen_vqa.pipeline.batches.batch import FeatureBatch

NAME = "fakegpu"
LOWER = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "conv2d")
LOWER_TOO = ("scaled_dot_product_attention",)
SINGLE = ("layer_norm", "softmax.int", "log_softmax.int", "sum", "sum.dim_IntList", "norm.Scalar")
NOT_REPEATABLE = (
    "index_add",
    "index_copy",
    "put_",
    "scatter_reduce",
    "cumsum",
    "median",
    "kthvalue",
    "histc",
    "bincount",
    "_embedding_bag",
    "_scaled_dot_product",
    "_flash_attention",
    "_efficient_attention",
    "_cudnn_attention",
    "grid_sampler",
    "upsample",
    "adaptive_avg_pool",
    "max_pool",
)
"""Beginnings of operations whose order of sums a GPU does not fix, or only by a slower kernel that
PyTorch may lack. Source: `torch.use_deterministic_algorithms`, and the notes on SDPA's kernels."""


@dataclass(frozen=True)
class Result:
    """One tensor that an operation gave."""

    operation: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    given: tuple[str, ...]  # kinds of the devices of its operands


@dataclass
class Seen(TorchDispatchMode):
    """Every result of a block, backward too."""

    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        found = operation(*args, **(kwargs or {}))
        given = tuple(x.device.type for x in args if isinstance(x, Tensor))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, Tensor):
                name = operation.name().removeprefix("aten::")
                self.results.append(Result(name, (*one.shape,), one.dtype, one.device.type, given))
        return found

    def moved_to_the_cpu(self) -> list[Result]:
        """Return the copies for which the processor waits."""
        return [one for one in self.results if one.device == "cpu" and NAME in one.given]

    def not_repeatable(self) -> set[str]:
        return {r.operation for r in self.results if r.operation.startswith(NOT_REPEATABLE)}


@contextmanager
def fake_gpu() -> Iterator[tuple[torch.device, Seen]]:
    """Let tensors of the block be fake; yield the GPU and what is seen on it."""
    _register()
    with FakeTensorMode(allow_non_fake_inputs=True):
        seen = Seen()
        with seen:
            yield torch.device(NAME, 0), seen


def head_on(device: torch.device, head: nn.Module) -> nn.Module:
    """Give a head or an encoder fake numbers on a device; to be called in the block."""
    for module in head.modules():
        for name, parameter in module.named_parameters(recurse=False):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
            setattr(module, name, nn.Parameter(empty, parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=device))
    return head


def batch_on(device: torch.device, batch: FeatureBatch) -> FeatureBatch:
    """Return a real batch as a fake one on a device."""
    return batch.map(lambda x: torch.empty(x.shape, dtype=x.dtype, device=device))


@cache
def _register() -> None:
    """Make the device known, once for a process, with CUDA's rules of autocast."""
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    module: Any = getattr(torch, NAME)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    key = torch._C.DispatchKey.AutocastPrivateUse1
    rest = torch.library.Library("_", "IMPL", key.name)
    rest.fallback(torch.library.fallthrough_kernel)
    library = torch.library.Library("aten", "IMPL", key.name)
    for name in (*LOWER, *LOWER_TOO, *SINGLE):
        library.impl(name, _casting(name, torch._C.DispatchKeySet(key)))
    _LIBRARIES.extend([rest, library])


_LIBRARIES: list[Any] = []
"""They are undone when they are collected."""


def _casting(name: str, key: Any) -> Any:
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(key):
            dtype = torch.float32 if name in SINGLE else torch.get_autocast_dtype(NAME)
            return operation(*_cast(args, dtype), **kwargs)

    return call


def _cast(x: Any, dtype: torch.dtype) -> Any:
    if isinstance(x, Tensor) and x.is_floating_point() and x.device.type == NAME:
        return x.to(dtype)
    return type(x)(_cast(one, dtype) for one in x) if isinstance(x, tuple | list) else x
