"""One stage over any number of pictures with small rows, in the process of this script.

    python -m benchmarks.end_to_end.growth extract CACHE PICTURES    measure stage one
    python -m benchmarks.end_to_end.growth write CACHE PICTURES      write made-up features
    python -m benchmarks.end_to_end.growth train CACHE RUN STARTED   measure the start of stage two

STARTED is the monotonic clock just before this process began. Prints one JSON object.
`python -m benchmarks.end_to_end` starts this.
"""

import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import Json
from frozen_vqa.cache import CacheSpec

GRID, DIM = (4, 4), 64
SIDE = 32
QUESTIONS, DISTINCT, ANSWERS = 5, 1000, 50
SHARD_ROWS = 500
DRAWN = 32
"""Different pictures; an encoder takes as long for one that it has seen."""


def extract(cache: Path, pictures: int) -> Json:
    """Run stage one with an encoder that costs next to nothing."""
    import torch
    from PIL import Image

    import frozen_vqa.pipeline.extract.extract
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
    from frozen_vqa.pipeline.extract.plan import make_plan
    from frozen_vqa.pipeline.sources.example import Id, LeftOut, VqaExample

    rng = np.random.default_rng(0)

    def drawn() -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(buffer, "JPEG")
        return buffer.getvalue()

    class Source:
        """Pictures out of a few, and questions about them."""

        drawn = [drawn() for _ in range(DRAWN)]  # noqa: RUF012

        def examples(self, split: str) -> list[VqaExample]:
            texts = [f"how many of the {i} are there?" for i in range(DISTINCT)]
            return [VqaExample(i, i, texts[i % DISTINCT], ("yes",)) for i in range(pictures)]

        def left_out(self, split: str) -> Sequence[LeftOut]:
            return ()

        def picture(self, image_id: Id) -> bytes:
            return self.drawn[int(image_id) % DRAWN]

        def where(self, image_id: Id) -> str:
            return f"picture {image_id}"

    class Encoder:
        """One matrix in the place of DINOv2."""

        name, grid, dim, image_size, device = "one-matrix", GRID, DIM, SIDE, "cpu"
        window = None
        settings = {"model": "one-matrix"}  # noqa: RUF012
        matrix = torch.from_numpy(rng.standard_normal((SIDE * SIDE * 3 // 16, DIM), np.float32))

        def pixels(self, image: Image.Image) -> np.ndarray:
            return np.asarray(image.resize((SIDE, SIDE)))

        def encode(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            patches = torch.from_numpy(pixels).float().reshape(len(pixels), 16, -1) / 255
            states = patches @ self.matrix
            return states, states.mean(1)

    source, encoder, text = Source(), Encoder(), TextEncoder("tiny")
    report = frozen_vqa.pipeline.extract.extract.extract(
        source,
        make_plan(source, splits=["train"], text=text),
        cache=cache,
        images=encoder,  # type: ignore[arg-type]
        text=text,
        shard_bytes=SHARD_ROWS * (GRID[0] * GRID[1] + 1) * DIM * 2,
    )
    assert report.extraction is not None
    return report.extraction.to_json()


def write(cache: Path, pictures: int) -> Json:
    """Write a cache of made-up features."""
    from benchmarks.generated import write_cache

    write_cache(
        cache,
        images=pictures,
        questions_per_image=QUESTIONS,
        distinct_questions=DISTINCT,
        answers=ANSWERS,
        spec=CacheSpec({}, {}, GRID, DIM, DIM),
        seed=0,
        rows_per_shard=SHARD_ROWS,
    )
    return {}


def train(cache: Path, run: Path, started: float) -> Json:
    """Run `train-head` for an epoch; return when its imports were done, and its first step."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    import frozen_vqa.pipeline.commands.extract_features  # noqa: F401  what the command imports
    from frozen_vqa import cli

    imports = time.monotonic() - started
    steps: list[float] = []

    def stepped(*_: object) -> None:
        if not steps:
            steps.append(time.monotonic() - started)

    hook = register_optimizer_step_post_hook(stepped)
    words = ["--cache", cache, "--run", run, "--epochs", 1, "--width", DIM]
    words += ["--min-answer-count", 1, "--device", "cpu"]
    cli.app(["train-head", *map(str, words)], standalone_mode=False)
    hook.remove()
    return {"imports": imports, "first_step": steps[0]}


def main() -> None:
    """Do what is asked, and print the result."""
    what, place, *rest = sys.argv[1:]
    if what == "train":
        run, started = rest
        found = train(Path(place), Path(run), float(started))
    else:
        found = {"extract": extract, "write": write}[what](Path(place), int(rest[0]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
