"""What makes a score or a comparison less than it seems, as warnings."""

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.pipeline.runs.run import Run


def trained_on(run: Run, split: str) -> list[str]:
    """Warn of a split that a head was trained on."""
    if run.config.train_split != split:
        return []
    return [
        f"{run.path} was trained on split {split!r}: what it scores there is no measure of how it "
        f"answers new questions"
    ]


def trained_otherwise(run: Run, other: Run) -> list[str]:
    """Warn of two heads that were trained on different questions."""
    mine, theirs = run.config.train_split, other.config.train_split
    if mine == theirs and _same_questions(run, other):
        return []
    return [
        f"{run.path} was trained on split {mine!r} of {run.cache}, {other.path} on split "
        f"{theirs!r} of {other.cache}: their difference is also one of training data"
    ]


def _same_questions(run: Run, other: Run) -> bool:
    """Whether the training splits of two runs are the same as far as can be told now."""
    if run.cache == other.cache:
        return True
    try:
        one, two = (
            FeatureCache(r.cache).manifest.splits[r.config.train_split] for r in (run, other)
        )
    except (CacheError, KeyError):
        return False
    return one.xxh3 == two.xxh3
