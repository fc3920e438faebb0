"""Whether a head looks at the object that a question names, and whether its answer rests on it.

    python -m benchmarks.accuracy.regions --run demo/runs/co-attention [--scenes 200] [--split test]
        [--quick] [--json] [--out FILE]

The run has to be of generated scenes (`shapes`), such as that of `make demo`. Of each scene comes
one question that a single region answers: the color, shape or size of an object that the question
names. The region is the patches that the object touches. Measured are

- how much of the attention of the word that names the object falls on the region, as a multiple of
  the region's share of the patches, which is what a head gets that looks anywhere;
- how much the probability of the answer changes when the region's patches are replaced by the mean
  patch of the picture, against as many random patches of the rest.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Json, finish, machine, show
from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.evaluate.statistics import mean_interval
from frozen_vqa.pipeline.report.attention import see_split
from frozen_vqa.pipeline.report.deletion import probabilities_without
from frozen_vqa.pipeline.report.words import read_words
from frozen_vqa.pipeline.runs.run import load_run
from frozen_vqa.pipeline.sources.open_source import open_source
from frozen_vqa.pipeline.sources.shapes import RADIUS, REACH, ShapesSource
from frozen_vqa.pipeline.sources.shapes_questions import Thing

RANDOM = 8
"""Random sets of patches that stand against each region."""

SEED = 0


@dataclass(frozen=True)
class Asked:
    """A question about one object: its row in the split, the word that names it, its patches."""

    row: int
    word: str
    region: np.ndarray  # (patches,) bool


def find_questions(cache: FeatureCache, split: str, scenes: int) -> list[Asked]:
    """Return one question of each scene that a single region answers, for some scenes."""
    table, ids = cache.split(split), cache.image_ids()
    source = open_source(str(cache.manifest.splits[split].origin["dataset"]))
    assert isinstance(source, ShapesSource), "the run has to be of generated scenes"
    found: dict[int, Asked] = {}
    for row, kind in enumerate(table.question_types):
        image = int(table.image_rows[row])
        named = re.fullmatch(
            r"what \w+ is the (?:(\w+) object|(\w+))\?",
            cache.questions.texts[int(table.question_rows[row])],
        )
        if not (kind.startswith("attribute") and named) or image in found:
            continue
        word = named[1] or named[2]
        things = source.scene(int(ids[image])).things
        (thing,) = (one for one in things if word in (one.color, one.shape))
        found[image] = Asked(row, word, region_of(thing, cache.spec.grid))
        if len(found) == scenes:
            break
    return list(found.values())


def region_of(thing: Thing, grid: tuple[int, int]) -> np.ndarray:
    """Return which patches an object may touch: (patches,) bool."""
    reach, (right, down) = RADIUS[thing.size] * REACH, thing.center
    rows, columns = (np.arange(count) / count for count in grid)
    tall = (rows < down + reach) & (rows + 1 / grid[0] > down - reach)
    wide = (columns < right + reach) & (columns + 1 / grid[1] > right - reach)
    return (tall[:, None] & wide).reshape(-1)


def measure(run_path: Path, split: str, scenes: int) -> Json:
    """Return the attention on the regions and what their deletion changes, with intervals."""
    run = load_run(run_path, torch.device("cpu"))
    cache = FeatureCache(run.cache)
    table, asked = cache.split(split), find_questions(cache, split, scenes)
    seen = see_split(run, cache, table, {one.row for one in asked})
    words, amiss = read_words(cache, [int(table.question_rows[one.row]) for one in asked])
    assert not amiss, amiss
    rng = np.random.default_rng(SEED)
    times, without_region, without_random, right = [], [], [], []
    for one in asked:
        own, attended = words[int(table.question_rows[one.row])], seen.attended[one.row]
        place = own.texts.index(one.word)
        share = own.mean(attended.to_patches)[place][:, one.region].sum(-1)  # (heads,)
        times.append([share.mean(), *share] / one.region.mean())
        answer = int(seen.classes[one.row, 0])
        gone = [np.zeros_like(one.region), one.region, *_random_regions(one.region, rng)]
        whole, region, *others = probabilities_without(
            run.model, cache, table, one.row, np.stack(gone), answer
        )
        without_region.append(abs(whole - region))
        without_random.append(np.mean([abs(whole - other) for other in others]))
        right.append(run.vocabulary.answers[answer] in table.answers[one.row])
    every = np.array(times)
    pictures = np.arange(len(asked))
    region, random = np.array(without_region), np.array(without_random)
    largest = 1 / min(one.region.mean() for one in asked)
    return {
        "questions": len(asked),
        "accuracy": round(100 * float(np.mean(right)), 2),
        "region_share": round(100 * float(np.mean([one.region.mean() for one in asked])), 2),
        "attention_times_chance": _summary(every[:, 0], pictures, 0, largest),
        "by_head": [round(float(mean), 2) for mean in every[:, 1:].mean(0)],
        "change_without_region": _summary(100 * region, pictures, 0, 100),
        "change_without_random": _summary(100 * random, pictures, 0, 100),
        "deletion_times_random": round(float(region.mean() / random.mean()), 2),
    }


def _random_regions(region: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Return sets of as many patches outside a region."""
    outside = np.flatnonzero(~region)
    found = []
    for _ in range(RANDOM):
        gone = np.zeros_like(region)
        gone[rng.choice(outside, min(int(region.sum()), len(outside)), replace=False)] = True
        found.append(gone)
    return found


def _summary(values: np.ndarray, pictures: np.ndarray, least: float, largest: float) -> Json:
    found: dict[str, Any] = mean_interval(values, pictures, least=least, largest=largest).to_json()
    return {"mean": round(float(values.mean()), 2), **found}


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True, help="trained on generated scenes")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--split", default="test")
    parser.add_argument("--quick", action="store_true", help="fewer scenes")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    options = parser.parse_args()
    found = measure(options.run, options.split, 5 if options.quick else options.scenes)
    result: Json = {"machine": machine(), "split": options.split, **found}
    show(
        f"{found['questions']} questions that one region answers",
        [
            {
                "attention on the region, times chance": found["attention_times_chance"]["mean"],
                "change without the region, points": found["change_without_region"]["mean"],
                "without random patches": found["change_without_random"]["mean"],
                "times random": found["deletion_times_random"],
            }
        ],
    )
    finish(result, as_json=options.json, path=options.out)


if __name__ == "__main__":
    main()
