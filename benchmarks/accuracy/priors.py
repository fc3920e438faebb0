"""The accuracy on generated scenes without the picture, or without the question.

    python -m benchmarks.accuracy.priors [--scenes 8000] [--seed 0] [--split test]
        [--quick] [--json] [--out FILE]

The scenes are those of `--dataset shapes:SCENES:SEED`. Nothing is trained: answers are counted.
`question-only` gives each text its most frequent answer in 40,000 other scenes. `image-only` knows
all objects of a scene and gives the answer that is right most often over 40 more rounds of
questions about it. A head without picture or question should reach the same accuracy within a
point: less means a poor head, and more means a leak in the data set.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.harness import Json, finish, machine, show
from frozen_vqa.pipeline.sources.example import VqaExample
from frozen_vqa.pipeline.sources.shapes import ShapesSource
from frozen_vqa.pipeline.sources.shapes_questions import ask

OTHER_SEED = 10**6
OTHER_SCENES = 40_000
TIMES = 40
"""How often each scene is asked about again."""


def question_only(examples: Iterable[VqaExample], others: Iterable[VqaExample]) -> float:
    """Return the accuracy in percent of the usual answer to each text in other scenes."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for other in others:
        counts[other.question][other.answers[0]] += 1
    usual = {text: found.most_common(1)[0][0] for text, found in counts.items()}
    right = [usual.get(example.question) == example.answers[0] for example in examples]
    return 100 * float(np.mean(right))


def image_only(source: ShapesSource, examples: Iterable[VqaExample], times: int) -> float:
    """Return the accuracy in percent of the usual answer to whatever is asked about a scene."""
    usual: dict[int, str] = {}
    right = []
    for example in examples:
        image = int(example.image_id)
        if image not in usual:
            scene, rng = source.scene(image), np.random.default_rng([OTHER_SEED, image])
            asked = (question for _ in range(times) for question in ask(scene, rng))
            usual[image] = Counter(q.answer for q in asked).most_common(1)[0][0]
        right.append(usual[image] == example.answers[0])
    return 100 * float(np.mean(right))


def main() -> None:
    """Count and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenes", type=int, default=8000, help="of the train split")
    parser.add_argument("--seed", type=int, default=0, help="of the data set")
    parser.add_argument("--split", default="test")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    scenes, others, times = (
        (100, 2000, 4) if options.quick else (options.scenes, OTHER_SCENES, TIMES)
    )
    source = ShapesSource(images=scenes, seed=options.seed)
    examples = source.examples(options.split)
    found = {
        "question-only": question_only(
            examples, ShapesSource(images=others, seed=OTHER_SEED).examples("train")
        ),
        "image-only": image_only(source, examples, times),
    }
    result: Json = {
        "machine": machine(),
        "scenes": scenes,
        "questions": len(examples),
        "split": options.split,
        "accuracy": {kind: round(value, 2) for kind, value in found.items()},
    }
    show(
        f"What {len(examples):,} questions come to without the other half, %",
        [{"knows": kind, "accuracy": value} for kind, value in result["accuracy"].items()],
    )
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
