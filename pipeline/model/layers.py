"""A layer of the head: tokens and patches attend to each other, then each goes through an MLP.

Axis names are those of `pipeline/model/attention.py`.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozen_vqa.pipeline.model.attention import Attention, cast_for_autocast
from frozen_vqa.pipeline.model.config import Merge, ModelConfig
from frozen_vqa.pipeline.model.pooling import Pooling
from frozen_vqa.pipeline.model.prefix_index import Pool, Text


class Mlp(nn.Module):
    """Two-layer MLP on original and attended features; equals `reference.ReferenceMlp`.

    `original` and `attended` are the two halves of the first layer's input matrix, kept apart so
    that the half that reads the original features runs once where questions share them. With
    `merge` "concat" the first layer reads both side by side, so the halves are added. With "gated"
    a sigmoid that reads both mixes them number by number (the gated unit of Arevalo et al., 2017,
    without its tanh).
    """

    def __init__(self, width: int, hidden: int, dropout: float, merge: Merge = "concat") -> None:
        super().__init__()
        self.gated = merge == "gated"
        size = 2 * hidden if self.gated else hidden
        self.original = nn.Linear(width, size)
        self.attended = nn.Linear(width, size, bias=False)
        # A third of GELU's time (docs/speed.md).
        self.activation = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, width)

    @property
    def drops(self) -> bool:
        """Whether hidden numbers are dropped."""
        return self.training and self.dropout.p > 0

    def merge(self, original: Tensor, attended: Tensor) -> Tensor:
        """Merge the two halves and activate: (..., size) each -> (..., hidden)."""
        if not self.gated:
            return self.activation(attended + original)
        (original, original_gate), (attended, attended_gate) = (
            half.chunk(2, -1) for half in (original, attended)
        )
        gate = (original_gate + attended_gate).sigmoid()
        return self.activation(attended + gate * (original - attended))

    def forward(self, hidden: Tensor, pool: Pool | None) -> Tensor:
        """Finish from the activated first layer: (..., length, hidden) -> (..., length, width).

        `pool` averages over the length. It commutes with the last matrix, and comes before it.
        """
        if pool is not None:
            return self.finish_pooled(pool(hidden))
        if self.drops:
            # One draw for all tokens or patches of a row: a draw for each takes longer than all
            # else that is done to them.
            hidden = hidden * self.dropout(torch.ones_like(hidden[..., :1, :]))
        return self.output(hidden)

    def finish_pooled(self, hidden: Tensor) -> Tensor:
        """Finish from the pooled first layer: (..., hidden) -> (..., width)."""
        return self.output(self.dropout(hidden))


class LayerNorm(nn.LayerNorm):
    """LayerNorm in the type of what it normalises; its sums are of single precision.

    On a GPU autocast would copy that to single precision, and the result back.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if x.device.type != "cpu":  # where a kernel takes only one type
            weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class CoAttentionLayer(nn.Module):
    """Tokens attend to patches and patches to tokens, each with a residual connection.

    Equals `reference.ReferenceLayer`; the `last` layer also averages tokens and patches at its end.
    With fusion "text-to-image" only the text changes.
    """

    def __init__(self, config: ModelConfig, *, last: bool = False) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        both = config.fusion == "co-attention"
        self.last, self.post_norm = last, config.post_norm
        self.self_norm = LayerNorm(width) if config.text_self_attention else None
        self.self_attention = (
            Attention(width=width, heads=heads) if config.text_self_attention else None
        )
        self.text_norm = LayerNorm(width)
        self.patches_norm = LayerNorm(width) if both or not self.post_norm else nn.Identity()
        self.text_to_image = Attention(width=width, heads=heads)
        self.text_mlp = Mlp(width, 2 * width, config.dropout, config.merge)
        self.image_to_text = Attention(width=width, heads=heads) if both else None
        # Patches of all questions are by far the most that a step computes; half the size was as
        # accurate here (docs/speed.md).
        self.patches_mlp = Mlp(width, width, config.dropout, config.merge) if both else None
        if last:
            # Scores come from where they are free: before the MLP's last matrix, or after a norm.
            self.text_pooling = Pooling(config.pooling, width if self.post_norm else 2 * width)
            self.patches_pooling = Pooling(config.pooling, width)

    def forward(self, text: Text, patches: Tensor) -> tuple[Text | Tensor, Tensor]:
        """Return updated text and patches, (images, groups, patches, width).

        After attention to text, patches have `slots` groups. The last layer returns the averages,
        (images, slots, width) and (images, groups or slots, width).
        """
        if self.self_attention is not None:
            text = self._attend_to_self(text, self.self_attention)
        t, p = self._before(text, self.text_norm), self._normalise(patches, self.patches_norm)
        new_text = self._update_text(text, t, p)
        return new_text, self._update_patches(patches, p, t)

    def _attend_to_self(self, text: Text, attention: Attention) -> Text:
        assert self.self_norm is not None
        attended = attention.text_to_text(self._before(text, self.self_norm))
        tokens = text.per_token()
        tokens = replace(tokens, x=tokens.x + attended)
        return tokens.map(self.self_norm) if self.post_norm else tokens

    def _update_text(self, text: Text, t: Text, p: Tensor) -> Text | Tensor:
        mlp, groups = self.text_mlp, p.shape[1]
        attended = self.text_to_image.text_to_patches(t, p, mlp.attended)
        original = t.map(mlp.original).meet_patches(groups)
        hidden = replace(attended, x=mlp.merge(original.x, attended.x))
        text = text.meet_patches(groups)
        pools_first = self.last and not self.post_norm
        if mlp.drops and self.image_to_text is not None and not pools_first:
            # Each question draws what it drops, so nothing is shared from here on. Nor is it in
            # the next layer. With text-to-image it would be, which saves more (docs/heads.md).
            hidden, text = hidden.per_token(), text.per_token()

        def pool_by(scored: Tensor) -> Pool:
            return self.text_pooling.over_text(replace(hidden, x=scored))

        x = self._finish(text.x, hidden.x, mlp, self.text_norm, pool_by if self.last else None)
        return x if self.last else replace(hidden, x=x)

    def _update_patches(self, patches: Tensor, p: Tensor, t: Text) -> Tensor:
        pool_by = self.patches_pooling.over_patches if self.last else None
        if self.image_to_text is None or self.patches_mlp is None:
            return pool_by(p)(patches) if pool_by else patches
        mlp, attend = self.patches_mlp, self.image_to_text.patches_to_text
        original = mlp.original(p)
        if mlp.gated:
            hidden = mlp.merge(original, attend(p, t, mlp.attended, None).sums())
        else:
            attention = attend(p, t, mlp.attended, original)
            if self.last and not self.post_norm:
                pooled, pool = self.patches_pooling.over_attention(attention)
                return pool(patches) + mlp.finish_pooled(pooled)
            hidden = mlp.activation(attention.sums())
        return self._finish(patches, hidden, mlp, self.patches_norm, pool_by)

    def _before(self, text: Text, norm: nn.Module) -> Text:
        return text.map(lambda x: self._normalise(x, norm))

    def _normalise(self, x: Tensor, norm: nn.Module) -> Tensor:
        return cast_for_autocast(x if self.post_norm else norm(x))

    def _finish(
        self,
        x: Tensor,
        hidden: Tensor,
        mlp: Mlp,
        norm: nn.Module,
        pool_by: Callable[[Tensor], Pool] | None,
    ) -> Tensor:
        """Finish the MLP, add it to `x`, and pool with scores of what `pool_by` is called with."""
        if self.post_norm:
            x = norm(x + mlp(hidden, None))
            return pool_by(x)(x) if pool_by else x
        pool = pool_by(hidden) if pool_by else None
        return (pool(x) if pool else x) + mlp(hidden, pool)
