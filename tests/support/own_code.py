"""Code as a user writes it: fusions, sources and encoders, right and wrong.

Tests name it `tests.support.own_code:NAME`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from frozen_vqa import Source, VqaExample
from frozen_vqa.pipeline import plugins

HOME = __name__


@pytest.fixture(autouse=True)
def _nothing_named() -> Iterator[None]:
    """Each test begins as a new process does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "_trusted", {})
        yield


class Attends(nn.Module):
    """A right one, with a table that is not among its weights, and settings of every kind."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.out_features = config.width + 3
        layers = [
            nn.MultiheadAttention(config.width, config.heads, config.dropout, batch_first=True)
            for _ in range(config.layers)
        ]
        self.layers = nn.ModuleList(layers)
        self.table: Tensor
        self.register_buffer("table", torch.full((1, 1, config.width), 0.5), persistent=False)
        self.end = nn.Linear(config.width, config.width + 3)

    def forward(self, patches: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = tokens + layer(tokens + self.table, patches, patches)[0]
        weights = mask / mask.sum(1, keepdim=True)
        return self.end((weights[..., None] * tokens).sum(1))


class Rounds(Attends):
    """A right one, of which padding changes the last digits, as it may on a GPU."""

    def forward(self, patches: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        return super().forward(patches, tokens, mask) * (1 + 1e-6 * mask.shape[1])


class Wrong(Attends):
    """What all wrong ones inherit from."""


class CountsPadding(Wrong):
    def forward(self, patches: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        return super().forward(patches, tokens, torch.ones_like(mask))


class MixesQuestions(Wrong):
    def forward(self, patches: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        found = super().forward(patches, tokens, mask)
        return found - found.mean(0, keepdim=True)


class DrawsElsewhere(Wrong):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if not self.end.weight.is_meta:
            self.end.weight.data.normal_(generator=_generator)


_generator = torch.Generator().manual_seed(0)


class IsIdle(Wrong):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.never = nn.Linear(2, 2)


class ReturnsTokens(Wrong):
    def forward(self, patches: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens


class Fails(Wrong):
    def forward(self, patches: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        raise KeyError("of\nthe user")


class TakesNothing(nn.Module):
    out_features = 3


class HasNoSize(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()


class IsNotFinite(Wrong):
    def forward(self, patches: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        return super().forward(patches, tokens, mask) / 0


class CountsSteps(Wrong):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


FAULTS = {
    "CountsPadding": "padding changes the result",
    "MixesQuestions": "depends on the other questions of the batch",
    "DrawsElsewhere": "differs with the same seed",
    "IsIdle": "never.weight takes no part in the result",
    "ReturnsTokens": "its forward returned (3, 5, 16); (3, 19) is needed",
    "Fails": "its forward failed in .*own_code.py, line [0-9]+ \\(KeyError: 'of\\\\nthe user'\\)",
    "TakesNothing": "its __init__ failed in .* \\(TypeError: ",
    "HasNoSize": "found HasNoSize with out_features None",
    "IsNotFinite": "numbers that are not finite",
    "CountsSteps": "steps is torch.int64 (); float32",
}


class Colours(Source):
    """Two pictures of one colour each, and a question about each; two questions are unusable."""

    def examples(self, split: str) -> list[VqaExample]:
        asked = [
            VqaExample(i, colour, "what colour is it?", [colour])  # type: ignore[arg-type]
            for i, colour in enumerate(["red", "blue"])
        ]
        return [*asked, VqaExample(1, "red", "again?", ("x",)), VqaExample(9, "red", " ", ("x",))]

    def picture(self, image_id: int | str) -> Image.Image:
        return Image.new("RGB", (40, 30), str(image_id))


class HasMetric(Colours):
    metric = "vizwiz"


class HasNoSuchMetric(Colours):
    metric = "vizwis"


class Means:
    """Patch embeddings that are mean colours."""

    revision, image_size, grid, dim = "1", 32, (4, 4), 12

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.spread = torch.linspace(-1, 1, 36).reshape(3, 12).to(device, dtype)

    def encode(self, pixels: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(pixels, 8).flatten(2).transpose(1, 2) @ self.spread


class Letters:
    """A token for each byte, and states that add up."""

    revision, dim, max_tokens = "1", 16, 200

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(256, 16, generator=generator).to(device, dtype)

    def tokens(self, questions: list[str]) -> list[list[int]]:
        return [list(question.encode()) for question in questions]

    def encode(self, ids: Tensor) -> Tensor:
        return self.table[ids].cumsum(1)


class LooksAhead(Letters):
    def encode(self, ids: Tensor) -> Tensor:
        return self.table[ids].flip(1).cumsum(1).flip(1)


class HasNoRevision:
    image_size, grid, dim = 32, (4, 4), 12

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        pass

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels


class GivesPixels(HasNoRevision):
    revision = "1"


class HasNoPictures:
    def examples(self, split: str) -> list[VqaExample]:
        return []


class GivesTexts(Colours):
    def examples(self, split: str) -> Any:
        return ["what is it?"]


class FailsOnPictures(Colours):
    def picture(self, image_id: int | str) -> Image.Image:
        if image_id == "red":
            raise RuntimeError("no red today")
        return super().picture(image_id)
