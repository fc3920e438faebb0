"""A small data set and encoders made of arithmetic, for tests of stage one.

A picture is one colour in each of six fields, and its patch embeddings are computed from these.
The state at a token depends on all tokens up to it and on nothing else, as Llama's does.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from PIL import Image

from frozen_vqa.pipeline.encoders.reading import Reading
from frozen_vqa.pipeline.errors import SourceError
from frozen_vqa.pipeline.extract.models.several import ImageEncoders
from frozen_vqa.pipeline.sources.example import Id, LeftOut, Picture, VqaExample

GRID = (2, 3)
VISION_DIM, TEXT_DIM, BOS = 5, 17, 256
BAD = b"\xff\xd8 this is no picture"
IMAGE_IDS: list[Id] = [7, "a", 3, 9, 5, 4, 8, 6]
SPLITS = {
    "train": [VqaExample(i, image, f"ab{i}", ("x",)) for i, image in enumerate(IMAGE_IDS[:6])],
    "val": [VqaExample(i, image, f"{i}xy", ("y",)) for i, image in enumerate(IMAGE_IDS[3:])],
}

Calls = Callable[[], None]


def picture(seed: int) -> bytes:
    """A PNG of six fields in random colours."""
    fields = np.random.default_rng(seed).integers(0, 256, (*GRID, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(fields.repeat(4, axis=0).repeat(4, axis=1)).save(buffer, "PNG")
    return buffer.getvalue()


class Source:
    """Questions about pictures in memory; notes which pictures were read."""

    def __init__(
        self,
        splits: Mapping[str, list[VqaExample]],
        pictures: Mapping[Id, bytes],
        left_out: Mapping[str, Sequence[LeftOut]] | None = None,
    ) -> None:
        self.splits, self.pictures = splits, dict(pictures)
        self.unusable = left_out or {}
        self._read: list[Id] = []

    def examples(self, split: str) -> list[VqaExample]:
        if split not in self.splits:
            raise SourceError(f"no split {split!r}")
        return list(self.splits[split])

    def left_out(self, split: str) -> Sequence[LeftOut]:
        return self.unusable.get(split, ())

    def picture(self, image_id: Id) -> Picture:
        self._read.append(image_id)
        return self.pictures[image_id]

    @property
    def read(self) -> list[Id]:
        """Ids in the order of `pictures`; threads read them in any order.

        Bytes are asked for twice: to be compared, and to be decoded.
        """
        return [image_id for image_id in self.pictures if image_id in self._read]

    def where(self, image_id: Id) -> str:
        return f"picture {image_id}.png"


def nothing() -> None:
    """What happens before a batch, unless a test wants more."""


class Images:
    """Six patches of numbers that are linear in the colours; stands in for DINOv2."""

    name, image_size, device, grid, dim = "fake-vision", 12, "cpu", GRID, VISION_DIM
    reading = Reading()

    def __init__(self, before: Calls = nothing, *, memory: int = 1000, scale: float = 1.0) -> None:
        self.before, self.memory, self.scale = before, memory, scale
        self.encoded: list[bytes] = []
        self.batches: list[int] = []

    @property
    def settings(self) -> dict[str, object]:
        return {"model": self.name, "image size": self.image_size, "scale": self.scale}

    def pixels(self, image: Image.Image) -> np.ndarray:
        return np.array(image)[::4, ::4]

    def encode(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        self.before()
        if len(pixels) > self.memory:
            raise torch.OutOfMemoryError(f"{len(pixels)} pictures are too many")
        self.batches.append(len(pixels))
        self.encoded += [one.tobytes() for one in pixels]
        mix = np.arange(1, 1 + 3 * VISION_DIM).reshape(3, VISION_DIM) % 7 - 2.5
        patches = pixels.reshape(len(pixels), -1, 3) @ mix * (self.scale / 512)
        patches = torch.from_numpy(patches.astype(np.float32))
        return patches, patches.sum(1) / 8


class FinerImages(Images):
    """Four times as many patches, no two of them alike."""

    grid = (2 * GRID[0], 2 * GRID[1])

    def pixels(self, image: Image.Image) -> np.ndarray:
        return np.array(image)[::2, ::2]

    def encode(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        patches, cls = super().encode(pixels)
        return patches * (1 + torch.arange(patches.shape[1]) / 7)[:, None], cls


class Text:
    """A random state for each distinct prefix of bytes; stands in for Llama."""

    name, device, dim = "fake-text", "cpu", TEXT_DIM
    causal, encodes_trees = True, False

    def __init__(self, before: Calls = nothing, *, layer: int = -1, max_tokens: int = 512) -> None:
        self.before, self.layer, self.max_tokens = before, layer, max_tokens
        self.encoded: list[tuple[int, ...]] = []
        self.batches: list[int] = []

    @property
    def settings(self) -> dict[str, object]:
        return {"model": self.name, "layer": self.layer}

    def tokens(self, questions: Sequence[str]) -> list[list[int]]:
        return [[BOS, *question.encode()] for question in questions]

    def encode(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        self.before()
        assert len({len(question) for question in tokens}) == 1, "lengths differ"
        self.batches.append(len(tokens))
        self.encoded += [tuple(question) for question in tokens]
        return torch.from_numpy(np.stack([self.states(question) for question in tokens]))

    def states(self, tokens: Sequence[int]) -> np.ndarray:
        prefixes = (np.array(tokens[: i + 1]).tobytes() for i in range(len(tokens)))
        seeds = (xxhash.xxh3_64_intdigest(prefix) for prefix in prefixes)
        rows = [np.random.default_rng(seed).standard_normal(TEXT_DIM) for seed in seeds]
        return np.stack(rows).astype(np.float32)


class SecondImages(Images):
    """Another encoder of the same pictures: its numbers are few and large."""

    name, dim = "fake-second", 3

    def encode(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        patches, cls = super().encode(pixels)
        return 1000 * patches[..., :3], cls[..., 1:4]


class LayeredText(Text):
    """Two layers of the same model, of which the last one is what `Text` gives."""

    layers, depth, dim = (-2, -1), 4, 2 * TEXT_DIM

    def settings_at(self, layer: int) -> dict[str, object]:
        return {"model": self.name, "layer": layer}

    def states(self, tokens: Sequence[int]) -> np.ndarray:
        last = super().states(tokens)
        return np.concatenate([-last, last], -1)


def several(before: Calls = nothing) -> dict[str, Any]:
    """Encoders of a cache whose features have two parts each."""
    images = ImageEncoders([Images(before), SecondImages(before)])  # type: ignore[list-item]
    return {"images": images, "text": LayeredText(before)}


def files(directory: Path) -> dict[str, bytes]:
    """Every file of a cache but the lock and the log, with its bytes."""
    there = (
        path
        for path in directory.rglob("*")
        if path.is_file()
        and not path.name.startswith((".lock", ".frozen-vqa", "extractions.jsonl"))
    )
    return {str(path.relative_to(directory)): path.read_bytes() for path in there}
