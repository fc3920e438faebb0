"""The trainable half: cached features of a batch in, answer logits out.

    patch_embeddings ── projection + place ─┐
                                            ├─ layers ─ pooling ─ fusion ─ head ─ logits
    hidden_states ───── projection ─────────┘

Nothing here knows where features come from. Axis names are those of `pipeline/model/attention.py`.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.model.attention import lowered
from frozen_vqa.pipeline.model.layers import MERGES, CoAttentionLayer, Merge
from frozen_vqa.pipeline.model.patch_features import Patches, normalised
from frozen_vqa.pipeline.model.pooling import POOLINGS, Pooling, PoolingKind
from frozen_vqa.pipeline.model.prefix_index import Words

Fusion = Literal["co-attention", "text-to-image", "concat", "question-only", "image-only"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
AnswerHead = Literal["mlp", "linear"]
ANSWER_HEADS: tuple[AnswerHead, ...] = get_args(AnswerHead)
CHOICES: dict[str, tuple[str, ...]] = {
    "fusion": FUSIONS,
    "merge": MERGES,
    "pooling": POOLINGS,
    "answer_head": ANSWER_HEADS,
}
"""Settings that are one of a few names."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shape of a head.

    Attributes:
        vision_dim: Size of one patch embedding.
        text_dim: Size of one hidden state.
        grid: Rows and columns of patches.
        answers: Size of the answer vocabulary.
        fusion: How pictures and questions meet; see `FUSIONS`.
        width: Size of everything between the projections and the head.
        heads: Attention heads; divides `width`.
        layers: Cross-attention layers; the kinds without attention ignore it.
        dropout: Share of activations dropped in training, 0 to below 1.
        feature_dropout: Share of the encoders' channels dropped in training, 0 to below 1; drawn
            for each picture and each distinct prefix.
        place: Whether patches are told where they are.
        text_self_attention: Whether the words of a question look at each other before each layer.
        merge: How original and attended features come together; see `MERGES`.
        pooling: How words and patches become one vector each; see `POOLINGS`.
        post_norm: Whether norms come after each residual sum, and not before each look.
        answer_head: What makes logits of the pooled vectors: an MLP or a linear map.
    """

    vision_dim: int
    text_dim: int
    grid: tuple[int, int]
    answers: int
    fusion: Fusion = "co-attention"
    width: int = 256
    heads: int = 4
    layers: int = 1
    dropout: float = 0.0
    feature_dropout: float = 0.0
    place: bool = True
    text_self_attention: bool = False
    merge: Merge = "concat"
    pooling: PoolingKind = "attention"
    post_norm: bool = False
    answer_head: AnswerHead = "mlp"

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))  # JSON brings a list
        for name, kinds in CHOICES.items():
            if (found := getattr(self, name)) not in kinds:
                raise ConfigError(f"{name} is {found!r}; it must be one of {', '.join(kinds)}")
        for name in ("vision_dim", "text_dim", "answers", "width", "heads", "layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.heads:
            raise ConfigError(
                f"width {self.width} cannot be split over {self.heads} heads; "
                f"choose a width that is a multiple of the heads"
            )
        for name in ("dropout", "feature_dropout"):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise ConfigError(f"{name} is {share}; it must be at least 0 and below 1")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class Projection(nn.Module):
    """A linear map: normalised features of an encoder into the width of the head.

    Args:
        features: Size of an encoder's vector.
        width: Of the head.
        dropout: Share of the features' channels that is dropped in training.
    """

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, width)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, features) or (..., length, features) -> the same with `width`."""
        kept = self._kept(x)
        return self.linear(x if kept is None else x * kept)

    def average(self, x: Tensor, by: Tensor) -> Tensor:
        """Average over the length with the softmax of scores as weights, as of what is projected.

        All of it is linear, so that nothing but the average need be projected.

        Args:
            x: (images, length, features).
            by: (width,), by what a projected vector is multiplied for its score.

        Returns:
            (images, 1, width).
        """
        kept = self._kept(x)
        by = (by @ self.linear.weight)[None]  # (1, features); the bias adds the same to all scores
        by = by if kept is None else by * kept
        scores = x @ lowered(by).transpose(-1, -2)  # (images, length, 1)
        at_least_single = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.softmax(1, dtype=at_least_single).to(x.dtype)
        average = weights.transpose(1, 2) @ x
        return self.linear(average if kept is None else average * kept)

    def _kept(self, x: Tensor) -> Tensor | None:
        """Draw by what channels are multiplied, if any are dropped."""
        if not (self.training and self.dropout.p):
            return None
        # One draw for all patches of a picture or words of a question, as in the MLPs.
        return self.dropout(torch.ones_like(x if x.dim() == 2 else x[..., :1, :]))


class Place(nn.Module):
    """A learned vector for each row and each column of the patch grid, added to every patch.

    Frozen features need not say where a patch is; "left of" cannot be answered without.
    """

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(grid[0], width) * 0.5)
        self.columns = nn.Parameter(torch.randn(grid[1], width) * 0.5)

    def forward(self, patches: Tensor) -> Tensor:
        """(images, patches, width) -> the same, patches in row-major order."""
        return patches + (self.rows[:, None] + self.columns[None]).flatten(0, 1)


class VqaModel(nn.Module):
    """Projections, fusion and answer head.

    Args:
        config: Shapes and the fusion kind.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, fusion = config.width, config.fusion
        sees, reads = fusion != "question-only", fusion != "image-only"
        attends = fusion in ("co-attention", "text-to-image")
        dropped = config.feature_dropout
        self.vision_projection = Projection(config.vision_dim, width, dropped) if sees else None
        self.text_projection = Projection(config.text_dim, width, dropped) if reads else None
        self.place = Place(config.grid, width) if attends and config.place else None
        self.layers = nn.ModuleList(
            CoAttentionLayer(
                width=width,
                heads=config.heads,
                dropout=config.dropout,
                both=fusion == "co-attention",
                last=i == config.layers - 1,
                self_attention=config.text_self_attention,
                merge=config.merge,
                pooling=config.pooling,
                post_norm=config.post_norm,
            )
            for i in range(config.layers if attends else 0)
        )
        # Where there are layers, the last one pools.
        words, patches = reads and not attends, sees and not attends
        self.words_pooling = Pooling(config.pooling, width) if words else None
        self.patches_pooling = Pooling(config.pooling, width) if patches else None
        pooled = (sees + reads) * width
        self.fusion = nn.Sequential(nn.LayerNorm(pooled))
        if config.answer_head == "mlp":
            self.fusion.extend(
                [nn.Linear(pooled, 2 * width), nn.GELU(), nn.Dropout(config.dropout)]
            )
            pooled = 2 * width
        self.head = nn.Linear(pooled, config.answers)
        self._initialise()

    def _initialise(self) -> None:
        """Draw the first weights.

        Xavier's scale makes the first attention scores differ by about 1. With PyTorch's default
        for linear layers they differ by a third of that, attention starts as a plain average, and
        takes far longer to leave it: on the demo's scenes text-to-image reached 60 % in 12 epochs
        with the default and 75 % with Xavier's (one seed). The head starts at the share of one
        answer among all, because most answers are wrong for most questions.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Pooling) and module.score is not None:
                nn.init.zeros_(module.score.weight)
        nn.init.constant_(self.head.bias, -math.log(self.config.answers))

    def forward(
        self,
        patch_embeddings: Tensor | Patches,
        hidden_states: Tensor,
        attention_mask: Tensor,
        patch_scales: Tensor | None = None,
        *,
        words: Tensor | None = None,
        paths: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Return logits of the questions in slots that are not empty, in the order of the slots.

        Args:
            patch_embeddings: (images, patches, vision_dim), any float type, or int8 with scales.
                Or `Patches`, which keep for other heads what this one makes without its weights.
            hidden_states: (images, slots, tokens, text_dim); padding may hold anything, even NaN.
                Or (rows, text_dim) with `words`: each distinct prefix once.
            attention_mask: (images, slots, tokens), True = real token.
            patch_scales: (images, patches), by what each patch embedding is multiplied.
            words, paths: As `rows` and `paths` of `pipeline.model.prefix_index.Words`.
            places: (questions,) which of the images * slots are not empty. Without it they are
                looked for, and a GPU has to be waited for.

        Returns:
            (questions, answers) float logits, before the sigmoid.
        """
        if isinstance(patch_embeddings, Tensor):
            patch_embeddings = Patches(patch_embeddings, patch_scales)
        slots = attention_mask.shape[1]
        if places is None:
            places = attention_mask.any(-1).flatten().nonzero().squeeze(1)
        if words is None:
            # Zeros in place of padding: NaN times a weight of zero would still be NaN.
            hidden_states = hidden_states.masked_fill(~attention_mask[..., None], 0)
        at = Words(attention_mask, words, paths)
        dtype = self.head.weight.dtype
        text = patches = None
        if self.text_projection:
            text = self.text_projection(normalised(lowered(hidden_states, dtype)))
        if self.vision_projection and self.patches_pooling:
            patches = self._average(patch_embeddings, dtype, self.vision_projection)
        elif self.vision_projection:
            patches = self.vision_projection(patch_embeddings.each(dtype)).unsqueeze(1)
        if self.place is not None and patches is not None:
            patches = self.place(patches)  # (images, 1, patches, width)
        for layer in self.layers:
            text, patches = layer(text, patches, at)
        if text is not None and self.words_pooling is not None:
            text = self.words_pooling.over_words(text, at)(text)
        pooled = [text] if text is not None else []  # (images, slots, width)
        if patches is not None:
            pooled.append(patches.expand(-1, slots, -1))
        # (questions, 1 or 2 widths)
        fused = torch.cat(pooled, dim=-1).flatten(0, 1).index_select(0, places)
        fused = self.fusion(fused)
        # In bfloat16 logits that are near each other would be the same number.
        with torch.autocast(fused.device.type, enabled=False):
            return self.head(fused.to(dtype))

    def _average(self, patches: Patches, dtype: torch.dtype, projection: Projection) -> Tensor:
        """Project the average over each picture's patches: (images, 1, width).

        It is the average of what is projected, with one row a picture to be projected.
        """
        assert self.patches_pooling is not None
        by = self.patches_pooling.by
        if by is None:
            return projection(patches.average(dtype))
        return projection.average(patches.each(dtype), by)
