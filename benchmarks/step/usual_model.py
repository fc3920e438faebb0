"""The co-attention head as it is usually written: one row a question, `nn.MultiheadAttention`.

It is the same function as `VqaModel` with fusion "co-attention", computed question
by question: each question brings its own copy of its picture's patches, which are projected, turned
into keys, values and queries, and kept as (questions, patches, width) throughout. `usual_weights`
turns the weights of the one into those of the other, so that both can start from the same point.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from frozen_vqa.pipeline.model.vqa_model import ModelConfig, VqaModel


class QuestionDropout(nn.Dropout):
    """Dropout that draws once for all words or patches of a question, as our head does.

    `nn.Dropout` itself would draw for each of them, which takes far longer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(questions, length, width) -> the same."""
        return x * super().forward(torch.ones_like(x[:, :1])) if self.training else x


class UsualLayer(nn.Module):
    """Words look at patches, patches look at words; MLP on the concatenation, residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.words_norm = nn.LayerNorm(width)
        self.patches_norm = nn.LayerNorm(width)
        self.text_to_image = nn.MultiheadAttention(width, heads, batch_first=True)
        self.image_to_text = nn.MultiheadAttention(width, heads, batch_first=True)
        self.words_mlp, self.patches_mlp = (
            nn.Sequential(
                nn.Linear(2 * width, hidden),
                nn.ReLU(),
                QuestionDropout(dropout),
                nn.Linear(hidden, width),
            )
            for hidden in (2 * width, width)
        )

    def forward(self, words: Tensor, patches: Tensor, padding: Tensor) -> tuple[Tensor, ...]:
        """Return updated words and patches, and what lies between the two layers of their MLPs.

        Args:
            words: (questions, tokens, width).
            patches: (questions, patches, width).
            padding: (questions, tokens), True = padding.
        """
        w, p = self.words_norm(words), self.patches_norm(patches)
        seen, _ = self.text_to_image(w, p, p, need_weights=False)
        read, _ = self.image_to_text(p, w, w, key_padding_mask=padding, need_weights=False)
        of_words = self.words_mlp[:2](torch.cat([w, seen], dim=-1))
        of_patches = self.patches_mlp[:2](torch.cat([p, read], dim=-1))
        words = words + self.words_mlp[2:](of_words)
        patches = patches + self.patches_mlp[2:](of_patches)
        return words, patches, of_words, of_patches


class UsualModel(nn.Module):
    """Projections, co-attention, pooling, fusion and answer head.

    Args:
        config: Shapes, as of our head; fusion "co-attention".
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        if config.fusion != "co-attention":
            raise ValueError(f"the usual model is a co-attention head, not {config.fusion!r}")
        width = config.width
        self.vision_projection = nn.Sequential(
            nn.LayerNorm(config.vision_dim, elementwise_affine=False),
            nn.Linear(config.vision_dim, width),
        )
        self.text_projection = nn.Sequential(
            nn.LayerNorm(config.text_dim, elementwise_affine=False),
            nn.Linear(config.text_dim, width),
        )
        rows, columns = config.grid
        self.place = nn.ParameterDict(
            {"rows": torch.zeros(rows, width), "columns": torch.zeros(columns, width)}
        )
        self.layers = nn.ModuleList(
            UsualLayer(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        if config.pooling == "attention":
            self.words_score = nn.Linear(2 * width, 1, bias=False)
            self.patches_score = nn.Linear(width, 1, bias=False)
        self.fusion = nn.Sequential(
            nn.LayerNorm(2 * width),
            nn.Linear(2 * width, 2 * width),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.head = nn.Linear(2 * width, config.answers)

    def forward(
        self, patch_embeddings: Tensor, hidden_states: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Return logits: (questions, answers).

        Args:
            patch_embeddings: (questions, patches, vision_dim), any float type.
            hidden_states: (questions, tokens, text_dim), zeros where padded.
            attention_mask: (questions, tokens), True = real token.
        """
        patches = self.vision_projection(patch_embeddings.float())
        place = self.place["rows"][:, None] + self.place["columns"][None]
        patches = patches + place.flatten(0, 1)
        words = self.text_projection(hidden_states.float())
        padding = ~attention_mask
        for layer in self.layers:
            words, patches, of_words, of_patches = layer(words, patches, padding)
        if self.config.pooling == "attention":
            scores = self.words_score(of_words) * of_words.shape[-1] ** -0.5
            scores = scores.masked_fill(padding.unsqueeze(-1), -torch.inf)
            text = (words * scores.softmax(1)).sum(1)
            scores = self.patches_score(of_patches) * of_patches.shape[-1] ** -0.5
            image = (patches * scores.softmax(1)).sum(1)
        else:
            weights = attention_mask.unsqueeze(-1).to(words.dtype)
            text = (words * weights).sum(1) / weights.sum(1)
            image = patches.mean(1)
        return self.head(self.fusion(torch.cat([text, image], dim=-1)))


def usual_weights(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the `state_dict` of a `VqaModel` into that of a `UsualModel`, the same function."""
    usual = {}
    for name, tensor in ours.items():
        name = re.sub(r"projection\.linear\.", "projection.1.", name)
        name = re.sub(r"layers\.\d+\.(words|patches)_pooling\.score\.", r"\1_score.", name)
        name = re.sub(r"mlp\.output\.", "mlp.3.", name)
        name = re.sub(r"mlp\.original\.bias", "mlp.0.bias", name)
        name = re.sub(r"(text_to_image|image_to_text)\.output\.", r"\1.out_proj.", name)
        if name.endswith("mlp.original.weight"):
            attended = ours[name.replace("original", "attended")]
            start = name.removesuffix("original.weight")
            usual[f"{start}0.weight"] = torch.cat([tensor, attended], dim=1)
        elif name.endswith(".query.weight"):
            start = name.removesuffix("query.weight")
            parts = [ours[f"{start}{part}.weight"] for part in ("query", "key", "value")]
            usual[f"{start}in_proj_weight"] = torch.cat(parts)
        elif name.endswith(".query.bias"):
            start = name.removesuffix("query.bias")
            # Ours has no bias of the keys, for softmax ignores it.
            parts = [tensor, torch.zeros_like(tensor), ours[f"{start}value.bias"]]
            usual[f"{start}in_proj_bias"] = torch.cat(parts)
        elif not re.search(r"mlp\.attended|\.(key|value)\.", name):
            usual[name] = tensor
    return usual


def usual_twin(ours: VqaModel) -> UsualModel:
    """Return the usual model that is the same function, with weights of its own."""
    twin = UsualModel(ours.config)
    twin.load_state_dict(usual_weights(ours.state_dict()))
    return twin
