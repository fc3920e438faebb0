"""Both stages from Python: draw scenes, cache their features, train a head and score it.

    python examples/from_python.py OUT

Uses the tiny untrained encoders, so that it needs no download and takes seconds on a CPU.
"""

import sys
from pathlib import Path

from frozen_vqa import (
    ImageEncoder,
    TextEncoder,
    evaluate,
    extract,
    make_plan,
    open_source,
    train,
)


def main(out: Path) -> None:
    """Write OUT/cache and OUT/run, and print the accuracy on scenes that the head has not seen."""
    source = open_source("shapes:100")
    images, text = ImageEncoder("tiny"), TextEncoder("tiny")
    plan = make_plan(source, splits=["train", "val"], text=text)
    extract(source, plan, cache=out / "cache", images=images, text=text)

    train(out / "cache", out / "run", fusion="co-attention", width=64, epochs=3, min_answer_count=1)
    evaluation = evaluate(out / "run")
    assert evaluation.accuracy is not None  # because the val split has answers
    print(f"{evaluation.accuracy.overall:.2f} % of {len(evaluation.answers)} questions")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
