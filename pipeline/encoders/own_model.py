"""A frozen model of the user's own: what a picture's and a question's have to be."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from frozen_vqa.pipeline.errors import ModelError, PluginError
from frozen_vqa.pipeline.plugins import is_own, running, trusted

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class PictureModel(Protocol):
    """It is called as `MyEncoder(device, dtype)` and moves itself to that device and type.

    Attributes:
        revision: Recorded in caches and runs; give it another one whenever numbers change.
        image_size: Side in pixels of the square that it sees.
        grid: Rows and columns of patches.
        dim: Size of one patch embedding.
    """

    revision: str
    image_size: int
    grid: tuple[int, int]
    dim: int

    def encode(self, pixels: "Tensor") -> "Tensor":
        """Return patch embeddings: (pictures, rows * columns, dim), patches in row-major order.

        Args:
            pixels: (pictures, 3, image_size, image_size), RGB from 0 to 1.
        """
        ...


class QuestionModel(Protocol):
    """It is called as `MyEncoder(device, dtype)` and moves itself to that device and type.

    Attributes:
        revision: Recorded in caches and runs; give it another one whenever numbers change.
        dim: Size of one hidden state.
        max_tokens: Longest question that it reads.
    """

    revision: str
    dim: int
    max_tokens: int

    def tokens(self, questions: Sequence[str]) -> Sequence[Sequence[int]]:
        """Return the token ids of each question, at least one."""
        ...

    def encode(self, ids: "Tensor") -> "Tensor":
        """Return hidden states: (questions, length, dim). A state depends on no later token.

        Args:
            ids: (questions, length), token ids of questions of equal length.
        """
        ...


def is_own_model(name: str) -> bool:
    """Whether a model is code of the user's own, and not a folder with such a name."""
    return is_own(name) and not os.path.isdir(name)


def make_own_model(
    name: str, option: str, device: "torch.device", dtype: "torch.dtype", needs: Sequence[str]
) -> Any:
    """Return a model of the user's own with what it needs, or raise `PluginError`."""
    make = trusted(name, option=option)
    with running(name, "its __init__"):
        made = make(device, dtype)
    lacking = [one for one in ("revision", "encode", *needs) if not hasattr(made, one)]
    if lacking:
        raise PluginError(f"{name}: lacks {', '.join(lacking)}; see docs/extend.md")
    if not isinstance(made.revision, str):
        raise PluginError(f"{name}: revision is {made.revision!r:.40}; a text is needed")
    return made


def require_shape(name: str, found: Any, needed: tuple[int, ...]) -> None:
    """Raise `ModelError` unless a model returned a tensor of floats of this shape."""
    shape = tuple(getattr(found, "shape", ())) or type(found).__name__
    if shape != needed or not found.is_floating_point():
        raise ModelError(f"{name}: its encode returned {shape}; floats of {needed} are needed")
