"""Scores a trained head on a split and writes its answers in the official form.

RUN/evaluation/<split>/results.json         [{"question_id": ..., "answer": ...}, ...]
RUN/evaluation/<split>/scores.json          accuracy, ceiling, interval, and a digest
RUN/evaluation/<split>/logits.safetensors   on request (`pipeline/evaluate/logits.py`)
RUN/evaluation/<split>/<variant>/           these of what is not the head as it is: see `evaluate`
RUN/README.md                               the model card of a finished training, with these
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from frozen_vqa.cache import CacheError, FeatureCache, SplitTable
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import Features
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.bootstrap import Interval, mean_interval
from frozen_vqa.pipeline.evaluate.logits import save_logits, split_logits
from frozen_vqa.pipeline.metrics.vqa_accuracy import (
    Accuracy,
    Rules,
    accuracy,
    normalise,
    percent,
    pick_rules,
    question_score,
)
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.runs.card import write_card
from frozen_vqa.pipeline.runs.run import Run, outcome, require_same_encoders
from frozen_vqa.pipeline.runs.sealed_json import seal_json
from frozen_vqa.pipeline.system.device import use_cores


@dataclass(frozen=True)
class Evaluation:
    """A head's answers to the questions of one split, and what they score.

    Attributes:
        run: The run folder.
        fusion: The fusion kind of the head.
        split: Name of the split.
        table: The questions.
        answers: One predicted answer per question.
        results: The file in the official form.
        scores: (questions,) in [0, 1]; None where the split has no answers, and so the rest.
        accuracy: In percent, overall and by type.
        ceiling: Percent that the best choice from the vocabulary would reach.
        interval: 95 % bootstrap interval of the overall accuracy, in percent.
        left_out: Questions that the cache lacks because their picture could not be read.
        seed: Of the training.
        variant: "" for the head as it is; else see `evaluate`.
        logits: The file, if they were saved.
    """

    run: Path
    fusion: str
    split: str
    table: SplitTable
    answers: Sequence[str]
    results: Path
    scores: np.ndarray | None = None
    accuracy: Accuracy | None = None
    ceiling: float | None = None
    interval: Interval | None = None
    left_out: int = 0
    seed: int = 0
    variant: str = ""
    logits: Path | None = None

    @property
    def name(self) -> str:
        """Name of the run folder, and of the variant."""
        return f"{self.run.name} ({self.variant})" if self.variant else self.run.name

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        found = self.accuracy.to_json() if self.accuracy else {"questions": len(self.answers)}
        return {
            "run": str(self.run),
            "fusion": self.fusion,
            "split": self.split,
            **found,
            "ceiling": self.ceiling,
            "interval": self.interval and [round(bound, 2) for bound in self.interval],
            "left_out": self.left_out,
            "seed": self.seed,
            "results": str(self.results),
            **({"logits": str(self.logits)} if self.logits else {}),
        }


def evaluate(
    run: Run,
    cache: FeatureCache,
    split: str,
    *,
    rules: Rules | None = None,
    variant: str = "",
    image_rows: np.ndarray | None = None,
    keep_logits: bool = False,
) -> Evaluation:
    """Let a head answer a split, write the results, and score them if there are answers.

    Args:
        run: The trained head.
        cache: Features of the encoders that it was trained on.
        split: Name of a split in the cache.
        rules: "2021", "2017" or "plain"; None chooses by the number of given answers.
        variant: Name of a folder below that of the split, for what is not the head as it is:
            "shuffled-images" or "ensemble".
        image_rows: (questions,) picture that the head is shown in place of each question's own.
        keep_logits: Whether to write them too.

    Raises:
        CacheError: if the cache lacks the split or is another encoder's.
        RunError: if the results cannot be written.
    """
    require_same_encoders(run, cache)
    table = cache.split(split)
    if not len(table):
        raise CacheError(f"{cache.directory}: split {split!r} has no questions to evaluate on")
    use_cores()
    device = next(run.model.parameters()).device
    features = Features(cache, device=device)
    asked = table if image_rows is None else replace(table, image_rows=image_rows)
    reader, size = BatchReader(features, asked), run.config.batch_size
    folder = run.path / "evaluation" / split / variant
    logits = folder / "logits.safetensors"
    if keep_logits:
        known = run.vocabulary.answers
        found = split_logits(run.model, reader, asked, batch_size=size, answers=len(known))
        save_logits(logits, found, question_ids=table.question_ids, answers=known)
        classes = found.argmax(1)
    else:
        classes = predict(run.model, reader, asked, batch_size=size)
        _remove(logits)  # older ones need not be those of the answers beside them
    answers = [run.vocabulary.answers[i] for i in classes]
    official = json.dumps(results(table, answers), ensure_ascii=False)
    _write(folder / "results.json", official.encode())
    evaluation = Evaluation(
        run=run.path,
        fusion=run.config.fusion,
        split=split,
        table=table,
        answers=answers,
        results=folder / "results.json",
        left_out=cache.manifest.splits[split].left_out,
        seed=run.config.seed,
        variant=variant,
        logits=logits if keep_logits else None,
    )
    if any(table.answers):
        _require_all_answered(cache, split, table)
        evaluation = _scored(evaluation, run.vocabulary, rules)
    _write(folder / "scores.json", seal_json(evaluation.to_json()))
    if trained := outcome(run.path):
        write_card(run.path, trained)
    return evaluation


def results(table: SplitTable, answers: Sequence[str]) -> list[dict[str, Any]]:
    """Return predictions in the official form, each question once."""
    pairs = zip(table.question_ids, answers, strict=True)
    return [{"question_id": question_id, "answer": answer} for question_id, answer in pairs]


def _require_all_answered(cache: FeatureCache, split: str, table: SplitTable) -> None:
    without = sum(1 for given in table.answers if not given)
    if without:
        raise CacheError(
            f"{cache.directory}: {without:,} of {len(table):,} questions of split {split!r} have "
            f"no answers, the others do; a split is scored as a whole or not at all"
        )


def _scored(evaluation: Evaluation, vocabulary: Vocabulary, rules: Rules | None) -> Evaluation:
    table = evaluation.table
    chosen = pick_rules((len(given) for given in table.answers), rules)
    pairs = zip(evaluation.answers, table.answers, strict=True)
    scores = [question_score(answer, given, rules=chosen) for answer, given in pairs]
    best = ceiling_scores(table.answers, vocabulary, rules=chosen)
    return Evaluation(
        **{
            **vars(evaluation),
            "scores": np.array(scores),
            "accuracy": accuracy(scores, table.answer_types, table.question_types, chosen),
            "ceiling": percent(float(best.mean()), chosen),
            "interval": mean_interval(100 * np.array(scores), table.image_rows),
        }
    )


def ceiling_scores(
    answers: Sequence[tuple[str, ...]], vocabulary: Vocabulary, *, rules: Rules
) -> np.ndarray:
    """Return the best score in [0, 1] that any answer of the vocabulary reaches: (questions,)."""

    @lru_cache(maxsize=1 << 18)
    def best(given: tuple[str, ...]) -> float:
        known = {vocabulary.classes.get(normalise(answer)) for answer in given} - {None}
        candidates = (vocabulary.answers[i] for i in known if i is not None)
        return max((question_score(c, given, rules=rules) for c in candidates), default=0.0)

    return np.array([best(given) for given in answers])


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def _remove(path: Path) -> None:
    try:
        if path.exists():
            path.unlink()
    except OSError as error:
        raise RunError(f"{path}: cannot be removed ({error.strerror})") from error
