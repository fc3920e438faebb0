"""A layer of the head: words and patches look at each other, and an MLP makes something of it.

Axis names are those of `pipeline/model/attention.py`.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.model.attention import Attention, lowered
from frozen_vqa.pipeline.model.pooling import Pool, Pooling, PoolingKind
from frozen_vqa.pipeline.model.prefix_index import Words

Merge = Literal["concat", "gated"]
MERGES: tuple[Merge, ...] = get_args(Merge)


class Mlp(nn.Module):
    """Two-layer MLP on original and attended features.

    `original` and `attended` are the two halves of the first layer's input matrix, kept apart so
    that the half that reads the original features runs once where questions share them.

    Args:
        width: Of the features.
        hidden: Size between the two layers.
        dropout: Share of it that is dropped.
        merge: "concat": the first layer reads both side by side, so the halves are added. "gated":
            they are mixed, number by number, by a sigmoid that reads both (the gated unit of
            Arevalo et al., 2017, without its tanh).
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

    def mix(self, original: Tensor, attended: Tensor) -> Tensor:
        """Mix what the two halves of a gated MLP give: (..., 2 hidden) each -> (..., hidden)."""
        (own, own_gate), (seen, seen_gate) = original.chunk(2, -1), attended.chunk(2, -1)
        return seen + (own_gate + seen_gate).sigmoid() * (own - seen)

    def forward(self, hidden: Tensor, pool: Pool | None) -> Tensor:
        """Finish from the activated first layer.

        Args:
            hidden: (..., length, hidden).
            pool: Averages over the length. It commutes with the last matrix, and comes before it.

        Returns:
            (..., length, width), or what pooling makes of that.
        """
        if pool is not None:
            return self.pooled(pool(hidden))
        if self.training:
            # One draw for all words or patches that lie together: drawing for each takes longer
            # than all else that is done to them.
            hidden = hidden * self.dropout(torch.ones_like(hidden[..., :1, :]))
        return self.output(hidden)

    def pooled(self, hidden: Tensor) -> Tensor:
        """Finish from what pooling made of the activated first layer: (..., hidden)."""
        return self.output(self.dropout(hidden))


class CoAttentionLayer(nn.Module):
    """Words look at patches, patches look at words; each side keeps what it was (residual).

    Args:
        width: Of words and patches.
        heads: Of every attention.
        dropout: Share of the MLPs' hidden features that is dropped.
        both: Whether patches look at words too; otherwise only words change.
        last: Whether words and patches are averaged at the end.
        self_attention: Whether the words of a question look at each other first.
        merge: How an MLP reads original and attended features.
        pooling: How the last layer averages.
        post_norm: Whether norms come after each residual sum, and not before each look.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        dropout: float,
        both: bool,
        last: bool = False,
        self_attention: bool = False,
        merge: Merge = "concat",
        pooling: PoolingKind = "attention",
        post_norm: bool = False,
    ) -> None:
        super().__init__()
        self.last, self.post_norm = last, post_norm
        self.self_norm = nn.LayerNorm(width) if self_attention else None
        self.self_attention = Attention(width=width, heads=heads) if self_attention else None
        self.words_norm = nn.LayerNorm(width)
        self.patches_norm = nn.LayerNorm(width) if both or not post_norm else nn.Identity()
        self.text_to_image = Attention(width=width, heads=heads)
        self.words_mlp = Mlp(width, 2 * width, dropout, merge)
        self.image_to_text = Attention(width=width, heads=heads) if both else None
        # Patches of all questions are by far the most that a step computes; half the size was as
        # accurate here (docs/speed.md).
        self.patches_mlp = Mlp(width, width, dropout, merge) if both else None
        if last:
            # Weights come from where they are free: before the MLP's last matrix, or after norm.
            self.words_pooling = Pooling(pooling, width if post_norm else 2 * width)
            self.patches_pooling = Pooling(pooling, width)

    def forward(self, words: Tensor, patches: Tensor, places: Words) -> tuple[Tensor, Tensor]:
        """Return updated words and patches.

        Args:
            words: At any of the places of `prefix_index.py`.
            patches: (images, groups, patches, width).
            places: Of the words.

        Returns:
            Words, (images, words, width) while questions share them, else (images, slots, tokens,
            width), and patches, (images, groups or slots, patches, width); of the last layer
            (images, slots, width) and (images, groups or slots, width).
        """
        if self.self_attention is not None:
            words = self._look_around(words, places)
        w, p = self._before(words, self.words_norm), self._before(patches, self.patches_norm)
        new_words = self._words(words, w, p, places)
        return new_words, self._patches(patches, p, w, places)

    def _look_around(self, words: Tensor, places: Words) -> Tensor:
        assert self.self_attention is not None
        assert self.self_norm is not None
        w = self._before(words, self.self_norm)
        words = places.at_slots(words) + self.self_attention.words_to_words(w, places)
        return self.self_norm(words) if self.post_norm else words

    def _words(self, words: Tensor, w: Tensor, p: Tensor, places: Words) -> Tensor:
        mlp = self.words_mlp
        seen = self.text_to_image.words_to_patches(w, p, mlp.attended, places)
        spread = places.at_images if seen.dim() == 3 else places.at_slots
        own = spread(mlp.original(w))
        hidden = mlp.activation(mlp.mix(own, seen) if mlp.gated else seen + own)
        over = partial(self.words_pooling.over_words, places=places) if self.last else None
        return self._after(spread(words), hidden, mlp, self.words_norm, over)

    def _patches(self, patches: Tensor, p: Tensor, w: Tensor, places: Words) -> Tensor:
        over = self.patches_pooling.over_patches if self.last else None
        if self.image_to_text is None or self.patches_mlp is None:
            return over(p)(patches) if over else patches
        mlp, look = self.patches_mlp, self.image_to_text.patches_to_words
        own = mlp.original(p)
        if mlp.gated:
            hidden = mlp.activation(mlp.mix(own, look(p, w, mlp.attended, None, places).sums()))
        else:
            looked = look(p, w, mlp.attended, own, places)
            if self.last and not self.post_norm:
                pooled, pool = self.patches_pooling.over_looked(looked)
                return pool(patches) + mlp.pooled(pooled)
            hidden = mlp.activation(looked.sums())
        return self._after(patches, hidden, mlp, self.patches_norm, over)

    def _before(self, x: Tensor, norm: nn.Module) -> Tensor:
        return lowered(x if self.post_norm else norm(x))

    def _after(
        self,
        x: Tensor,
        hidden: Tensor,
        mlp: Mlp,
        norm: nn.Module,
        over: Callable[[Tensor], Pool] | None,
    ) -> Tensor:
        """Add what the MLP makes of `hidden` to `x`, and pool if `over` says how."""
        if self.post_norm:
            x = norm(x + mlp(hidden, None))
            return over(x)(x) if over else x
        pool = over(hidden) if over else None
        return (pool(x) if pool else x) + mlp(hidden, pool)
