"""A fusion of the user's own: what it has to be, and the test of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.errors import PluginError
from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.plugins import running, trust, trusted

TOLERANCE = 1e-4
"""Largest difference that rounding may make, as a share of the largest number."""


class FusionModule(Protocol):
    """A `torch.nn.Module` that makes one vector of a question and its picture.

    It is called as `MyFusion(config)`; `config.width`, `.heads`, `.layers`, `.dropout` and `.grid`
    are the settings of the head. Its first weights are those that it gives itself. Torch must
    be able to build it on the meta device, and each parameter must take part in the result.

    Attributes:
        out_features: Size of the vector.
    """

    out_features: int

    def __call__(self, patches: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (questions, out_features).

        Args:
            patches: (questions, patches, width), the projected patches of each question's picture
                in row-major order; with `position_embedding` they say where they are. Those of a
                second picture follow, if `config.pictures` says that there is one.
            tokens: (questions, tokens, width), the projected hidden states; zeros where padded.
            mask: (questions, tokens), True = real token. More padding must change no number.
        """
        ...


def build_fusion(config: ModelConfig) -> nn.Module:
    """Return the fusion that the settings name, if the user has named it too.

    Raises:
        PluginError: if the user has not, or it cannot be built.
    """
    name = config.fusion
    make = trusted(name, option="--fusion")
    with running(name, "its __init__"):
        made = make(config)
    size = getattr(made, "out_features", None)
    if not isinstance(made, nn.Module) or type(size) is not int or size < 1:
        raise PluginError(
            f"{name}: found {type(made).__name__} with out_features {size!r:.40}; a "
            f"torch.nn.Module is needed whose out_features is the size of its result"
        )
    return made


def fuse(name: str, fusion: nn.Module, patches: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Return (questions, out_features) of a fusion, or raise `PluginError`; see `FusionModule`."""
    with running(name, "its forward"):
        fused = fusion(patches, tokens, mask)
    needed = f"{(len(tokens), fusion.out_features)}"
    found = f"{tuple(fused.shape)}" if isinstance(fused, Tensor) else type(fused).__name__
    if found != needed:
        raise PluginError(f"{name}: its forward returned {found}; {needed} is needed")
    return fused


def check_fusion(
    fusion: str | Callable[[ModelConfig], Any], config: ModelConfig | None = None
) -> None:
    """Raise `PluginError` unless a fusion keeps the promises of `FusionModule`.

    Every training with a fusion of the user's own begins with it, and a test of yours may call it.
    It tries a few random questions: padding and the other questions of a batch change no number,
    the same seed gives the same weights, and each parameter gets a gradient.

    Args:
        fusion: The class, or "module:Name".
        config: The settings of a head; without them small ones.
    """
    name = trust(fusion)
    if config is None:
        config = ModelConfig(
            fusion=name, width=16, heads=2, vision_dim=8, text_dim=8, grid=(2, 3), answers=4
        )
    config = replace(config, fusion=name)
    with torch.random.fork_rng(devices=[]):
        with torch.device("meta"):
            shapes = build_fusion(config).state_dict()
        torch.manual_seed(0)
        made = build_fusion(config)
        torch.manual_seed(0)
        again = build_fusion(config).state_dict()
        state = made.state_dict()
        for key, tensor in state.items():
            if tensor.dtype != torch.float32 or shapes[key].shape != tensor.shape:
                raise PluginError(
                    f"{name}: {key} is {tensor.dtype} {tuple(tensor.shape)}; float32 of a shape "
                    f"that the settings alone decide is needed (or register_buffer with "
                    f"persistent=False)"
                )
            if not torch.equal(tensor, again[key]):
                raise PluginError(
                    f"{name}: {key} differs with the same seed; draw first weights from torch's "
                    f"own generator"
                )
        _check_numbers(name, made, config)


def _check_numbers(name: str, made: nn.Module, config: ModelConfig) -> None:
    patches = torch.randn(3, config.patches, config.width)
    mask = torch.arange(5) < torch.tensor([[5], [2], [1]])
    tokens = torch.randn(3, 5, config.width) * mask[..., None]
    with torch.no_grad():
        made.eval()
        whole = fuse(name, made, patches, tokens, mask)
        padded = fuse(
            name,
            made,
            patches,
            *(nn.functional.pad(x, p) for x, p in ((tokens, (0, 0, 0, 3)), (mask, (0, 3)))),
        )
        alone = torch.cat(
            [fuse(name, made, patches[i:j], tokens[i:j], mask[i:j]) for i, j in ((0, 1), (1, 3))]
        )
    if not torch.isfinite(whole).all():
        raise PluginError(f"{name}: its forward returned numbers that are not finite")
    room = TOLERANCE * max(1.0, float(whole.abs().max()))
    for found, why in (
        (padded, "padding changes the result; leave out the tokens where the mask is False"),
        (alone, "a question's result depends on the other questions of the batch"),
    ):
        if (found - whole).abs().max() > room:
            raise PluginError(f"{name}: {why}")
    made.train()
    fuse(name, made, patches, tokens, mask).square().sum().backward()
    idle = [key for key, p in made.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        raise PluginError(f"{name}: {idle[0]} takes no part in the result; remove it")
