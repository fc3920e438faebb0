"""Warnings about scores and comparisons that mean less than they seem to."""

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.pipeline.runs.data import is_trained_on
from frozen_vqa.pipeline.runs.description import open_cache
from frozen_vqa.pipeline.runs.run import Run


def warn_of_training_split(run: Run, cache: FeatureCache, split: str) -> list[str]:
    """Warn if a head was trained on the split that it is scored on."""
    if not is_trained_on(run.data, run.config, cache, split):
        return []
    return [
        f"{run.path} was trained on split {split!r}: its score there does not measure how well it "
        f"answers new questions"
    ]


def warn_of_training_data(run: Run, other: Run) -> list[str]:
    """Warn if two heads were trained on different questions."""
    mine, theirs = run.config.train_split, other.config.train_split
    if mine == theirs and _same_questions(run, other) and run.data.held_out == other.data.held_out:
        return []
    return [
        f"{run.path} was trained on {_trained_on(run)}, {other.path} on {_trained_on(other)}: the "
        f"different training data explain a part of the difference"
    ]


def _trained_on(run: Run) -> str:
    without = f" without {run.data.held_out!r}" if run.data.held_out else ""
    return f"split {run.config.train_split!r} of {run.cache}{without}"


def _same_questions(run: Run, other: Run) -> bool:
    """Whether the training splits of two runs are known to be the same."""
    noted = [(r.data.splits or {}).get(r.config.train_split) for r in (run, other)]
    if None not in noted:
        return noted[0] == noted[1]
    if run.cache == other.cache:
        return True
    try:
        one, two = (
            open_cache(r.path, None).manifest.splits[r.config.train_split] for r in (run, other)
        )
    except (CacheError, KeyError):
        return False
    return one.xxh3 == two.xxh3
