"""A layer of the head: words and patches look at each other, and an MLP makes something of it.

Axis names are those of `pipeline/attention.py`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.attention import CrossAttention, lowered, mean
from pipeline.words import Words

Pool = Callable[[Tensor], Tensor]


class Mlp(nn.Module):
    """Two-layer MLP on the concatenation of original and attended features.

    `original` and `attended` are the two halves of the first layer's input matrix, kept apart so
    that the half that reads the original features runs once where questions share them.

    Args:
        width: Of the features.
        hidden: Size between the two layers.
        dropout: Share of it that is dropped.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.original = nn.Linear(width, hidden)
        self.attended = nn.Linear(width, hidden, bias=False)
        # A third of GELU's time (docs/speed.md).
        self.activation = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, width)

    def forward(self, summed: Tensor, pool: Pool | None) -> Tensor:
        """Finish from the sum of both halves.

        Args:
            summed: (..., length, hidden).
            pool: Averages over the length. It commutes with the last matrix, and comes before it.

        Returns:
            (..., length, width), or what pooling makes of that.
        """
        hidden = self.activation(summed)
        if pool is not None:
            return self.output(self.dropout(pool(hidden)))
        if self.training:
            # One draw for all words or patches that lie together: drawing for each takes longer
            # than all else that is done to them.
            hidden = hidden * self.dropout(torch.ones_like(hidden[..., :1, :]))
        return self.output(hidden)


class CoAttentionLayer(nn.Module):
    """Words look at patches, patches look at words; each side keeps what it was (residual).

    Args:
        both: Whether patches look at words too; otherwise only words change.
        last: Whether words and patches are averaged at the end.
    """

    def __init__(
        self, *, width: int, heads: int, dropout: float, both: bool, last: bool = False
    ) -> None:
        super().__init__()
        self.last = last
        self.words_norm = nn.LayerNorm(width)
        self.patches_norm = nn.LayerNorm(width)
        self.text_to_image = CrossAttention(width=width, heads=heads)
        self.words_mlp = Mlp(width, 2 * width, dropout)
        self.image_to_text = CrossAttention(width=width, heads=heads) if both else None
        # Patches of all questions are by far the most that a step computes; half the size was as
        # accurate here (docs/speed.md).
        self.patches_mlp = Mlp(width, width, dropout) if both else None

    def forward(self, words: Tensor, patches: Tensor, places: Words) -> tuple[Tensor, Tensor]:
        """Return updated words and patches.

        Args:
            words: At any of the places of `pipeline/words.py`.
            patches: (images, groups, patches, width).
            places: Of the words.

        Returns:
            Words, (images, words, width) while questions share them, else (images, slots, tokens,
            width), and patches, (images, groups or slots, patches, width); of the last layer
            (images, slots, width) and (images, groups or slots, width).
        """
        w, p = lowered(self.words_norm(words)), lowered(self.patches_norm(patches))
        mlp = self.words_mlp
        seen = self.text_to_image.words_to_patches(w, p, mlp.attended, places)
        spread = places.at_images if seen.dim() == 3 else places.at_slots
        over_words = places.mean if self.last else None
        words = over_words(words) if over_words else spread(words)
        words = words + mlp(seen + spread(mlp.original(w)), over_words)
        over_patches = mean if self.last else None
        patches = over_patches(patches) if over_patches else patches
        if self.image_to_text is None or self.patches_mlp is None:
            return words, patches
        mlp = self.patches_mlp
        read = self.image_to_text.patches_to_words(p, w, mlp.attended, mlp.original(p), places)
        return words, patches + mlp(read, over_patches)
