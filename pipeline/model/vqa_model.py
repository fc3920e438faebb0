"""The trainable half: cached features of a batch in, answer logits out.

    patch_embeddings ── projection + position ─┐
                                               ├─ layers ─ pooling ─ fusion ─ head ─ logits
    hidden_states ───── projection ────────────┘

`reference.py` has the same function as plain formulas, question by question. Nothing here knows
where features come from. Axis names are those of `pipeline/model/attention.py`.
"""

import math
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.model.attention import cast_for_autocast
from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.model.layers import CoAttentionLayer
from frozen_vqa.pipeline.model.own_fusion import FusionModule, build_fusion, fuse
from frozen_vqa.pipeline.model.patch_features import Patches, normalise
from frozen_vqa.pipeline.model.pooling import Pooling
from frozen_vqa.pipeline.model.prefix_index import PrefixIndex, Text, gather_rows
from frozen_vqa.pipeline.plugins import is_own


class Projection(nn.Module):
    """A linear map of normalised features, of which training drops a share of the channels."""

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, width)

    def forward(self, x: Tensor) -> Tensor:
        """(prefixes, features) or (..., length, features) -> the same with `width`."""
        mask = self._draw_mask(x)
        return self.linear(x if mask is None else x * mask)

    def average(self, x: Tensor, score_vector: Tensor) -> Tensor:
        """Average over the length, weighted by a softmax of the projected features' scores.

        Equals `pool` of the projection in `reference.py`: (images, length, features) -> (images, 1,
        width). All of it is linear, so only the average is projected. `score_vector` is (width,),
        as in `Pooling`.
        """
        mask = self._draw_mask(x)
        # (1, features); the bias adds the same to all scores.
        vector = (score_vector @ self.linear.weight)[None]
        vector = vector if mask is None else vector * mask
        scores = x @ cast_for_autocast(vector).transpose(-1, -2)  # (images, length, 1)
        at_least_single = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.softmax(1, dtype=at_least_single).to(x.dtype)
        average = weights.transpose(1, 2) @ x
        return self.linear(average if mask is None else average * mask)

    def _draw_mask(self, x: Tensor) -> Tensor | None:
        """Draw the factors of the channels, if any are dropped."""
        if not (self.training and self.dropout.p):
            return None
        # One draw for all patches of a picture or tokens of a question, as in the MLPs.
        return self.dropout(torch.ones_like(x if x.dim() == 2 else x[..., :1, :]))


class PositionEmbedding(nn.Module):
    """A learned vector for each row and each column of the patch grid, added to every patch.

    Frozen features need not say where a patch is, and "left of" cannot be answered without it.
    """

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(grid[0], width))
        self.columns = nn.Parameter(torch.empty(grid[1], width))
        for vectors in (self.rows, self.columns):
            if not vectors.is_meta:  # there it would only load PyTorch's compiler, for seconds
                nn.init.normal_(vectors, std=0.5)

    def forward(self, patches: Tensor) -> Tensor:
        """(..., patches, width) -> the same, patches of each picture in row-major order."""
        grid = (self.rows[:, None] + self.columns[None]).flatten(0, 1)
        return patches + grid.repeat(patches.shape[-2] // len(grid), 1)


class PictureMarks(nn.Module):
    """A learned vector for each picture of a question, added to all patches of that picture.

    "The left picture" cannot be found without it, because the pictures' patches lie side by side.
    """

    def __init__(self, pictures: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(pictures, width))
        if not self.vectors.is_meta:
            nn.init.normal_(self.vectors, std=0.5)

    def forward(self, patches: Tensor) -> Tensor:
        """(..., patches, width) -> the same, patches of the first picture first."""
        pictures = len(self.vectors)
        each = self.vectors[:, None].expand(-1, patches.shape[-2] // pictures, -1)
        return patches + each.flatten(0, 1)


class VqaModel(nn.Module):
    """Projections, fusion and answer head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, fusion = config.width, config.fusion
        sees, reads = config.sees_pictures, fusion != "image-only"
        attends = fusion in ("co-attention", "text-to-image")
        self.own_fusion = build_fusion(config) if is_own(fusion) else None
        own = self.own_fusion is not None
        project = partial(Projection, width=width, dropout=config.feature_dropout)
        self.vision_projection = project(config.vision_dim) if sees else None
        self.text_projection = project(config.text_dim) if reads else None
        embeds = (attends or own) and config.position_embedding
        self.position_embedding = PositionEmbedding(config.grid, width) if embeds else None
        marks = (attends or own) and config.pictures > 1
        self.picture_marks = PictureMarks(config.pictures, width) if marks else None
        layers = config.layers if attends else 0
        self.layers = nn.ModuleList(
            CoAttentionLayer(config, last=i == layers - 1) for i in range(layers)
        )
        # Where there are layers, the last one pools; a fusion of the user's own does all of it.
        pools = not (attends or own)
        self.text_pooling = Pooling(config.pooling, width) if reads and pools else None
        self.patches_pooling = Pooling(config.pooling, width) if sees and pools else None
        pooled = (sees + reads) * width
        if self.own_fusion is not None:
            pooled = cast(FusionModule, self.own_fusion).out_features
        self.fusion = nn.Sequential(nn.LayerNorm(pooled))
        if config.answer_head == "mlp":
            dropout = nn.Dropout(config.dropout)
            self.fusion.extend([nn.Linear(pooled, 2 * width), nn.GELU(), dropout])
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
        own = set(self.own_fusion.modules() if self.own_fusion else ())
        for module in self.modules():
            if isinstance(module, nn.Linear) and module not in own:
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Pooling) and module.score is not None:
                nn.init.zeros_(module.score.weight)
        nn.init.constant_(self.head.bias, -math.log(self.config.answers))

    def forward(
        self,
        patch_embeddings: Tensor | Patches | None,
        hidden_states: Tensor,
        attention_mask: Tensor,
        patch_scales: Tensor | None = None,
        *,
        picture_prefixes: Tensor | None = None,
        token_prefixes: Tensor | None = None,
        question_slots: Tensor | None = None,
    ) -> Tensor:
        """Return (questions, answers) logits, in the order of the slots that are not empty.

        Args:
            patch_embeddings: (images, patches, vision_dim), any float type, or int8 with scales. Or
                `Patches`, which share between heads what needs none of their weights. None for a
                head that sees no picture. Where questions are about several pictures, an image is
                all of them, side by side.
            hidden_states: (images, slots, tokens, text_dim); padding may hold anything, even NaN.
                Or, with `picture_prefixes`, (prefixes, text_dim): each distinct prefix once.
            attention_mask: (images, slots, tokens), True = real token.
            patch_scales: (images, patches), the factor of each patch embedding; (images, patches,
                parts) of its parts if it has several.
            picture_prefixes, token_prefixes: As in `pipeline.model.prefix_index.PrefixIndex`.
            question_slots: (questions,) which of the images * slots are not empty. Without it the
                head looks for them, and waits for a GPU.
        """
        if isinstance(patch_embeddings, Tensor):
            patch_embeddings = Patches(patch_embeddings, patch_scales)
        slots = attention_mask.shape[1]
        if question_slots is None:
            question_slots = attention_mask.any(-1).flatten().nonzero().squeeze(1)
        index = PrefixIndex(attention_mask, picture_prefixes, token_prefixes)
        text, patches = self._project_text(hidden_states, index), self._project(patch_embeddings)
        pooled: list[Tensor] = []  # (images, slots, width) each
        if self.own_fusion is not None:
            fused = self._fuse_by_own(self.own_fusion, text, patches, question_slots)
            return self._answer(fused)
        if self.layers:
            *layers, last = self.layers
            for layer in layers:
                text, patches = layer(text, patches)
            pooled_text, patches = last(text, patches)
            pooled.append(pooled_text)
        elif text is not None and self.text_pooling is not None:
            pooled.append(self.text_pooling.over_text(text)(text.x))
        if patches is not None:
            pooled.append(patches.expand(-1, slots, -1))
        # (questions, 1 or 2 widths)
        fused = gather_rows(torch.cat(pooled, dim=-1).flatten(0, 1), question_slots)
        return self._answer(fused)

    def _fuse_by_own(
        self, fusion: nn.Module, text: Text | None, patches: Tensor | None, slots: Tensor
    ) -> Tensor:
        """Return (questions, out_features) of the user's own fusion."""
        assert text is not None
        assert patches is not None
        mask = text.index.attention_mask
        tokens = text.per_token().x.masked_fill(~mask[..., None], 0).flatten(0, 1)[slots]
        patches = patches.squeeze(1)[slots // mask.shape[1]]
        return fuse(self.config.fusion, fusion, patches, tokens, mask.flatten(0, 1)[slots])

    def _answer(self, fused: Tensor) -> Tensor:
        """Return logits: (questions, features) -> (questions, answers)."""
        fused = self.fusion(fused)
        # In bfloat16 logits that are near each other would become the same number.
        with torch.autocast(fused.device.type, enabled=False):
            return self.head(fused.to(self.dtype))

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.head.weight.dtype

    def _project_text(self, hidden_states: Tensor, index: PrefixIndex) -> Text | None:
        """Return the projected hidden states, if the head reads the question."""
        if self.text_projection is None:
            return None
        text = Text(hidden_states, "prefix", index)
        if index.picture_prefixes is None:
            # Zeros in place of padding: NaN times a weight of zero would still be NaN.
            hidden_states = hidden_states.masked_fill(~index.attention_mask[..., None], 0)
            text = Text(hidden_states, "token", index)
        parts = self.config.text_parts
        text = text.map(lambda x: normalise(cast_for_autocast(x, self.dtype), parts))
        return text.map(self.text_projection)

    def _project(self, patches: Patches | None) -> Tensor | None:
        """Return the projected patches, if the head sees the picture.

        (images, 1, patches, width), or (images, 1, width) where it only needs their average: the
        average of projected patches is the projection of their average, one row a picture.
        """
        if self.vision_projection is None:
            return None
        assert patches is not None
        parts = self.config.vision_parts
        if self.patches_pooling is not None:
            vector = self.patches_pooling.score_vector
            if vector is None:
                return self.vision_projection(patches.average(self.dtype, parts))
            return self.vision_projection.average(patches.each(self.dtype, parts), vector)
        projected = self.vision_projection(patches.each(self.dtype, parts)).unsqueeze(1)
        if self.position_embedding is not None:
            projected = self.position_embedding(projected)
        return projected if self.picture_marks is None else self.picture_marks(projected)
