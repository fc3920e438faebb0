"""Made-up evaluations of 240 questions about eighty pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from frozen_vqa.cache import SplitTable
from frozen_vqa.pipeline.commands.tables import Row
from frozen_vqa.pipeline.evaluate.compare import compare
from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
from frozen_vqa.pipeline.evaluate.seed_groups import SeedGroup
from frozen_vqa.pipeline.metrics.vqa_accuracy import accuracy

QUESTIONS = 240
PICTURES = np.arange(QUESTIONS) // 3
ANSWER_TYPES = ["yes/no"] * 210 + ["number"] * 10 + ["other"] * 18 + [""] * 2
QUESTION_TYPES = ["is [the]"] * 200 + ["what"] * 20 + ["how many"] * 20


def make_evaluation(name: str, scores: np.ndarray | None, *, first_id: int = 0) -> Evaluation:
    table = SplitTable(
        question_ids=list(range(first_id, first_id + QUESTIONS)),
        image_rows=PICTURES,
        question_rows=np.zeros(QUESTIONS, dtype=np.int64),
        answers=[("red",)] * QUESTIONS,
        question_types=QUESTION_TYPES,
        answer_types=ANSWER_TYPES,
    )
    answers = ["red"] * QUESTIONS
    return Evaluation(Path(name), "concat", "val", table, answers, Path("results.json"), scores)


def scored(name: str, scores: np.ndarray, seed: int = 0) -> Evaluation:
    found = accuracy(list(scores), ANSWER_TYPES, QUESTION_TYPES, "2021")
    return replace(make_evaluation(name, scores), accuracy=found, seed=seed)


def make_heads() -> tuple[Evaluation, Evaluation]:
    """Two heads: the first is better on number questions, and as good elsewhere on the mean."""
    rng = np.random.default_rng(4)
    theirs = rng.choice([0, 0.3, 0.6, 0.9, 1], QUESTIONS)
    ours = rng.permutation(theirs)
    number = np.array(ANSWER_TYPES) == "number"
    ours[number], theirs[number] = rng.choice([0.9, 1], 10), rng.choice([0, 0.3], 10)
    return make_evaluation("ours", ours), make_evaluation("theirs", theirs)


def group(*heads: Evaluation) -> SeedGroup:
    return SeedGroup(heads)


def make_rows() -> list[Row]:
    ours = group(*(scored("at_ten&", np.full(QUESTIONS, value)) for value in (0.9, 0.6)))
    theirs = group(scored("a|b", np.full(QUESTIONS, 0.9)))
    return [Row(ours), Row(theirs, compare(ours, theirs))]
