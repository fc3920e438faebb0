"""Whether questions that begin alike may share their states: the model has to be causal.

A cache holds the state of a prefix once. If a state depended on later tokens, on the other
questions of a batch or on where a question ends, the stored one would be wrong for all questions
but one, and nothing later would show it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from frozen_vqa.pipeline.errors import ModelError

QUESTION = "what colour is the large thing that stands left of the two dogs?"
"""Its tokens are those that the states of a model are compared on."""
MOST_TOKENS = 4

NOT_FALSE = ("is_causal", "causal")
NOT_TRUE = (
    *("use_bidirectional_attention", "bidirectional_attention", "bidirectional"),
    *("prefix_lm", "is_prefix_lm"),
)
"""Keys of a config.json that let a token see later ones; "vision" concerns only pictures."""

PLACE = "the length of a question or on its neighbours in a batch"

TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 0.1}
"""Relative L2 distance of two states that only rounding may make different.

One question alone is a product of other sizes than a batch, and a library sums it in another order.
Measured after the 16 layers of Llama-3.2-1B (random weights, CPU), states then differ by 1.5e-6 in
float32, and by 2e-2 in bfloat16, which rounds each sum to 8 bits. float16 keeps 11 bits, and so do
the factors of float32 with TF32. A state that sees one later token differs by 0.8 or more.
"""


def require_causal_config(name: str, config: Any) -> None:
    """Raise `ModelError` if a configuration of transformers says that the model is not causal."""
    for key, value in _walk(config.to_dict()):
        if (key in NOT_FALSE and value is False) or (
            key in NOT_TRUE and value not in (None, False, "vision")
        ):
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            raise _not_causal(f"{name}: its config.json has {key} {shown:.40}, so its states")


def longest_exact(config: Any) -> int:
    """Return the most tokens for which no position depends on how long a question is.

    `longrope` turns by other angles, from the first token on, once a question is longer than those
    that the model was first trained on.
    """
    most: int = config.max_position_embeddings
    rope = getattr(config, "rope_parameters", None) or {}
    for part in (rope, *(one for one in rope.values() if isinstance(one, Mapping))):
        if part.get("rope_type") == "longrope":
            first = part.get("original_max_position_embeddings")
            first = first or getattr(config, "original_max_position_embeddings", None)
            most = min(most, int(first or most))
    return most


def require_shared_prefixes(
    name: str,
    encode: Callable[[Sequence[Sequence[int]]], Tensor],
    tokens: Sequence[int],
    dtype: torch.dtype,
) -> None:
    """Raise `ModelError` unless the states of a prefix are the same wherever it stands.

    A question is encoded beside others that begin with the same one, two, three tokens and so on,
    and a beginning of it alone. Padding at the end would only be more later tokens, so this covers
    it too. It takes two runs of the model: 20 ms for the tiny encoder on a CPU.

    Args:
        encode: From token ids, (questions, length), to states, (questions, length, dim).
        tokens: Those of one question; with fewer than two there is nothing to compare.
        dtype: That of the computation, by which the tolerance is chosen.
    """
    one = list(tokens[:MOST_TOKENS])
    if len(one) < 2:
        return
    shared = range(1, len(one))
    others = [one[:k] + [one[0]] * (len(one) - k) for k in shared]
    states = encode([one, *others]).float()
    short = len(one) // 2
    alone = encode([one[:short]])[0].float()
    _require_finite(name, dtype, states, alone)
    later = max(_distance(states[0, :k], states[k, :k]) for k in shared)
    for distance, on in ((later, "later tokens"), (_distance(states[0, :short], alone), PLACE)):
        if distance > TOLERANCE.get(dtype, TOLERANCE[torch.float32]):
            raise _not_causal(f"{name}: the states of its tokens", on)


def require_own_states(
    name: str,
    encode: Callable[[Sequence[Sequence[int]]], Tensor],
    tokens: Sequence[int],
    dtype: torch.dtype,
) -> None:
    """Raise `ModelError` unless the states of a question are the same whatever it is encoded with.

    This is what is left to hold for a model whose tokens see all of their question; the arguments
    are those of `require_shared_prefixes`.
    """
    one = list(tokens)
    states = encode([one, [one[0]] * len(one)])[0].float()
    alone = encode([one])[0].float()
    _require_finite(name, dtype, states, alone)
    if _distance(states, alone) > TOLERANCE.get(dtype, TOLERANCE[torch.float32]):
        raise ModelError(
            f"{name}: the states of its tokens depend on other questions of a batch, so they "
            f"cannot be stored. Give another text model"
        )


def _require_finite(name: str, dtype: torch.dtype, *states: Tensor) -> None:
    if not all(torch.isfinite(one).all() for one in states):
        raise ModelError(
            f"{name}: its states are not finite in {str(dtype).removeprefix('torch.')}; use "
            f"--compute-dtype float32, or take another copy of the model"
        )


def _distance(states: Tensor, others: Tensor) -> float:
    """Return the largest relative L2 distance of two (tokens, dim)."""
    return float(((states - others).norm(dim=-1) / others.norm(dim=-1).clamp(min=1e-30)).max())


def _not_causal(whose: str, on: str = "later tokens") -> ModelError:
    return ModelError(
        f"{whose} depend on {on}; only a causal model can be used, because questions that begin "
        f"alike share their states. Give another text model"
    )


def _walk(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each key and value of nested objects, which may be nested deeply."""
    waiting = [found]
    while waiting:
        for key, value in waiting.pop().items():
            if isinstance(value, Mapping):
                waiting.append(value)
            else:
                yield key, value
