"""The picture of an attention strip in the manual, of a head that `make demo` has trained.

    python -m benchmarks.attention_picture demo/runs/co-attention docs/attention.png

One scene, picked because its maps are easy to see. `python -m benchmarks.accuracy.regions` counts
how often attention falls on what is asked about.
"""

import argparse
import tempfile
from pathlib import Path

from frozen_vqa.pipeline.commands.ask import ask_command
from frozen_vqa.pipeline.sources.shapes import MAX_IMAGES, SPLITS, ShapesSource

SCENE = MAX_IMAGES * (SPLITS.index("val") + 1) + 12
QUESTION = "what color is the square?"


def main() -> None:
    """Ask the head about the scene, and keep the strip."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    source = ShapesSource()
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "scene.png"
        source.picture(SCENE).save(picture)
        ask_command(
            run=options.run,
            image=picture,
            questions=[QUESTION],
            file=None,
            top=1,
            table=None,
            strip=options.out,
            device="cpu",
        )


if __name__ == "__main__":
    main()
