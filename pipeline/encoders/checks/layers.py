"""Which layers of a model are stored, and their states.

Layer -1 is the last one, after the model's final norm. The layers before it are as they leave the
model, without that norm; layer 0 is what goes into the first one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from frozen_vqa.cache.format.parts import LAST
from frozen_vqa.pipeline.errors import ModelError


def stored_layers(
    asked: int | Sequence[int], depth: int, model: str, option: str
) -> tuple[int, ...]:
    """Return the layers that are asked for, each counted from the last one.

    Raises `ModelError` if the model, of `depth` layers, has no such layer, or one is named twice.
    """
    layers = [asked] if isinstance(asked, int) else list(asked)
    kind = option.removeprefix("--").replace("-", " ")
    for layer in layers:
        if not -depth - 1 <= layer <= depth:
            raise ModelError(
                f"{kind} {layer} does not exist in {model}: it has {depth} layers, so {option} "
                f"goes from {-depth - 1} to {depth}"
            )
    found = [layer - depth - 1 if layer >= 0 else layer for layer in layers]
    if repeated := [layer for layer in found if found.count(layer) > 1]:
        raise ModelError(
            f"{kind} {repeated[0]} of {model}, which is also {repeated[0] + depth + 1}, is given "
            f"twice; give each layer once"
        )
    return tuple(found)


def one_layer(asked: int | Sequence[int], model: str, what: str, option: str) -> None:
    """Raise `ModelError` unless the last layer alone is asked for."""
    if asked not in (LAST, [LAST], (LAST,)):
        raise ModelError(f"{model} gives the {what} of one layer; leave out {option}")


def every_state(layers: Sequence[int]) -> bool:
    """Whether a model has to return the states of other layers than the last one."""
    return tuple(layers) != (LAST,)


def states_of(output: Any, layers: Sequence[int], norm: torch.nn.Module | None = None) -> Tensor:
    """Return the states of some layers side by side: (..., dim of all).

    `norm` is the model's final norm, where its last state comes before it.
    """
    last: Tensor = output.last_hidden_state
    if norm and LAST in layers:
        last = norm(last)
    each = [last if layer == LAST else output.hidden_states[layer] for layer in layers]
    return each[0] if len(each) == 1 else torch.cat(each, -1)
