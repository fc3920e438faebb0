"""The head as plain formulas, question by question, with `nn.MultiheadAttention`.

`VqaModel` is the same function, faster. Here each question brings its own copy of its picture's
patches, and nothing is shared, folded or reordered: x is (questions, length, width) throughout.
`reference_twin` copies the weights of a `VqaModel`.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel


class QuestionDropout(nn.Dropout):
    """Dropout with one draw for all tokens or patches of a question."""

    def forward(self, x: Tensor) -> Tensor:
        """(questions, length, features) -> the same."""
        if not (self.training and self.p):
            return x
        return x * super().forward(torch.ones_like(x[:, :1]))


class PartNorm(nn.Module):
    """LayerNorm without scale and shift of each part of the features by itself."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """(..., sum of sizes) -> the same."""
        found = []
        for part in x.split(self.sizes, dim=-1):
            centred = part - part.mean(-1, keepdim=True)
            variance = centred.square().mean(-1, keepdim=True)
            found.append(centred / (variance + 1e-5).sqrt())
        return torch.cat(found, dim=-1)


class ReferenceMlp(nn.Module):
    """An MLP that reads original and attended features side by side, or mixes them by a gate."""

    def __init__(self, hidden: int, config: ModelConfig) -> None:
        super().__init__()
        self.gated = config.merge == "gated"
        size = 2 * hidden if self.gated else hidden
        # The two halves of one matrix: W [x; a] = W_original x + W_attended a.
        self.original = nn.Linear(config.width, size)
        self.attended = nn.Linear(config.width, size, bias=False)
        self.dropout, self.output = QuestionDropout(config.dropout), nn.Linear(hidden, config.width)

    def activate(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the hidden features: (questions, length, width) each -> (.., length, hidden)."""
        original, attended = self.original(x), self.attended(attended)
        if not self.gated:
            return F.relu(original + attended)
        (original, to_gate), (attended, also_to_gate) = original.chunk(2, -1), attended.chunk(2, -1)
        gate = (to_gate + also_to_gate).sigmoid()
        return F.relu(gate * original + (1 - gate) * attended)

    def forward(self, hidden: Tensor) -> Tensor:
        """Finish from the hidden features: (questions, length, hidden) -> (.., length, width)."""
        return self.output(self.dropout(hidden))


class ReferenceLayer(nn.Module):
    """Tokens attend to each other (if asked), then tokens and patches attend to each other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, self.post_norm = config.width, config.post_norm
        self.both = config.fusion == "co-attention"

        def attention() -> nn.MultiheadAttention:
            return nn.MultiheadAttention(width, config.heads, batch_first=True)

        self.text_norm, self.text_to_image = nn.LayerNorm(width), attention()
        self.text_mlp = ReferenceMlp(2 * width, config)
        if self.both or not self.post_norm:
            self.patches_norm = nn.LayerNorm(width)
        if self.both:
            self.image_to_text, self.patches_mlp = attention(), ReferenceMlp(width, config)
        self.self_attention = attention() if config.text_self_attention else None
        if self.self_attention is not None:
            self.self_norm = nn.LayerNorm(width)

    def forward(self, text: Tensor, patches: Tensor, padding: Tensor) -> tuple[Tensor, ...]:
        """Return updated text and patches, and of each the features that pooling scores.

        Text is (questions, tokens, width), patches are (questions, patches, width), and padding is
        (questions, tokens), True = padding.
        """
        if self.self_attention is not None:
            t = text if self.post_norm else self.self_norm(text)
            read, _ = self.self_attention(t, t, t, key_padding_mask=padding, need_weights=False)
            text = self.self_norm(text + read) if self.post_norm else text + read
        t, p = text, patches
        if not self.post_norm:
            t, p = self.text_norm(text), self.patches_norm(patches)
        text_scored = self.text_mlp.activate(t, self.text_to_image(t, p, p, need_weights=False)[0])
        text = text + self.text_mlp(text_scored)
        patches_scored = p
        if self.both:
            read, _ = self.image_to_text(p, t, t, key_padding_mask=padding, need_weights=False)
            patches_scored = self.patches_mlp.activate(p, read)
            patches = patches + self.patches_mlp(patches_scored)
        if self.post_norm:
            text = text_scored = self.text_norm(text)
            if self.both:
                patches = patches_scored = self.patches_norm(patches)
        return text, patches, text_scored, patches_scored


def pool(x: Tensor, scored: Tensor, score: nn.Linear | None, padding: Tensor | None) -> Tensor:
    """Average over tokens or patches, with a softmax of scores or equal weights.

    (questions, length, width), (questions, length, features) -> (questions, width).
    """
    scores = torch.zeros_like(x[..., :1])
    if score is not None:
        scores = score(scored) / scored.shape[-1] ** 0.5
    if padding is not None:
        scores = scores.masked_fill(padding.unsqueeze(-1), -torch.inf)
    return (x * scores.softmax(dim=1)).sum(dim=1)


class ReferenceModel(nn.Module):
    """Projections, fusion, pooling and answer head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, fusion = config.width, config.fusion
        self.sees, self.reads = fusion != "question-only", fusion != "image-only"
        attends = fusion in ("co-attention", "text-to-image")

        def projection(features: int, parts: Sequence[int]) -> nn.Sequential:
            norm = PartNorm(parts or (features,))
            dropout, linear = QuestionDropout(config.feature_dropout), nn.Linear(features, width)
            return nn.Sequential(OrderedDict(norm=norm, dropout=dropout, linear=linear))

        def score(features: int) -> nn.Linear | None:
            return nn.Linear(features, 1, bias=False) if config.pooling == "attention" else None

        if self.sees:
            self.vision_projection = projection(config.vision_dim, config.vision_parts)
            self.patches_score = score(width)
        if self.reads:
            hidden = 2 * width if attends and not config.post_norm else width
            self.text_projection = projection(config.text_dim, config.text_parts)
            self.text_score = score(hidden)
        self.position_embedding = nn.ParameterDict()
        if attends and config.position_embedding:
            for name, length in zip(("rows", "columns"), config.grid, strict=True):
                self.position_embedding[name] = nn.Parameter(torch.zeros(length, width))
        self.picture_marks = nn.ParameterDict()
        if attends and config.pictures > 1:
            self.picture_marks["vectors"] = nn.Parameter(torch.zeros(config.pictures, width))
        self.layers = nn.ModuleList(
            ReferenceLayer(config) for _ in range(config.layers if attends else 0)
        )
        pooled = (self.sees + self.reads) * width
        self.fusion = nn.Sequential(nn.LayerNorm(pooled))
        if config.answer_head == "mlp":
            dropout = nn.Dropout(config.dropout)
            self.fusion.extend([nn.Linear(pooled, 2 * width), nn.GELU(), dropout])
            pooled = 2 * width
        self.head = nn.Linear(pooled, config.answers)

    def forward(
        self, patch_embeddings: Tensor, hidden_states: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Return logits, (questions, answers).

        Patch embeddings are (questions, patches, vision_dim), those of a question's first picture
        first; hidden states (questions, tokens, text_dim) with zeros where padded; and the mask is
        (questions, tokens), True = real token.
        """
        dtype, padding = self.head.weight.dtype, ~attention_mask
        if self.sees:
            patches = patches_scored = self.vision_projection(patch_embeddings.to(dtype))
        if self.position_embedding:
            rows, columns = (self.position_embedding[name] for name in ("rows", "columns"))
            position = (rows[:, None] + columns[None]).flatten(0, 1)
            patches = patches + torch.cat([position] * self.config.pictures)
        if self.picture_marks:
            marks = self.picture_marks["vectors"]
            each = patches.shape[1] // len(marks)
            patches = patches + torch.cat([mark.expand(each, -1) for mark in marks])
        if self.reads:
            text = text_scored = self.text_projection(hidden_states.to(dtype))
        for layer in self.layers:
            text, patches, text_scored, patches_scored = layer(text, patches, padding)
        pooled = []
        if self.reads:
            pooled.append(pool(text, text_scored, self.text_score, padding))
        if self.sees:
            pooled.append(pool(patches, patches_scored, self.patches_score, None))
        return self.head(self.fusion(torch.cat(pooled, dim=-1)))


def score_choices(
    model: ReferenceModel, patch_embeddings: Tensor, choices: Sequence[Tensor]
) -> Tensor:
    """Return the logit of each choice of one question, (choices,): each is read by itself.

    Patch embeddings are (patches, vision_dim); of each choice there are the hidden states of the
    question and it, (tokens, text_dim).
    """
    logits = [
        model(patch_embeddings[None], states[None], torch.ones(1, len(states), dtype=torch.bool))
        for states in choices
    ]
    return torch.cat(logits).squeeze(1)


def translate_weights(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a `VqaModel`'s `state_dict`, or the gradients of it, into that of a `ReferenceModel`."""
    found = {}
    for name, tensor in ours.items():
        if attention := re.fullmatch(r"(.*)\.query\.(.*)", name):
            start, kind = attention.groups()
            # Ours has no bias of the keys, because softmax ignores it.
            key = ours.get(f"{start}.key.{kind}", torch.zeros_like(tensor))
            value = ours[f"{start}.value.{kind}"]
            found[f"{start}.in_proj_{kind}"] = torch.cat([tensor, key, value])
        elif not re.search(r"\.(key|value)\.", name):
            name = re.sub(r"(_to_\w+|self_attention)\.output\.", r"\1.out_proj.", name)
            found[re.sub(r"(?:layers\.\d+\.)?(\w+)_pooling\.score", r"\1_score", name)] = tensor
    return found


def reference_twin(ours: VqaModel) -> ReferenceModel:
    """Return the reference with a copy of the weights of a head."""
    twin = ReferenceModel(ours.config).to(ours.dtype)
    twin.load_state_dict(translate_weights(ours.state_dict()))
    return twin
