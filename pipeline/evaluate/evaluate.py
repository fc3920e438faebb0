"""Scores a trained head on a split and writes its answers in the official form.

RUN/evaluation/<split>/results.json         [{"question_id": ..., "answer": ...}, ...]
RUN/evaluation/<split>/scores.json          accuracy, ceiling, interval, and a digest
RUN/evaluation/<split>/logits.safetensors   on request (`pipeline/evaluate/logits.py`)
RUN/evaluation/<split>/<variant>/           the same files for a variant of the head: see `evaluate`
RUN/README.md                               the model card of a finished training, with the scores

A score on another cache than that of the training is in a folder of its own, which is named after
the split and the digest of what was read, so that it never replaces the run's own.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frozen_vqa.cache import CacheError, FeatureCache, SplitTable
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.cache.left_out import NONE, LeftOutQuestions, left_out_of
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.answers.targets import class_scores
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.clusters import UNITS, By, cluster_questions
from frozen_vqa.pipeline.evaluate.logits import WRITE_ADVICE, save_logits, split_logits
from frozen_vqa.pipeline.evaluate.statistics import Interval, mean_interval
from frozen_vqa.pipeline.metrics.vqa_accuracy import (
    Accuracy,
    Rules,
    accuracy,
    percent,
    pick_rules,
    question_score,
)
from frozen_vqa.pipeline.predict import predict
from frozen_vqa.pipeline.runs.card import write_card
from frozen_vqa.pipeline.runs.data import ScoredData, describe_score
from frozen_vqa.pipeline.runs.description import caveats_of, open_cache
from frozen_vqa.pipeline.runs.folder import EVALUATED, require_place_for_results, writing_results
from frozen_vqa.pipeline.runs.held_out import find_held_out, read_split
from frozen_vqa.pipeline.runs.run import Run, load_run, read_outcome, require_same_encoders
from frozen_vqa.pipeline.runs.sealed import seal_json
from frozen_vqa.pipeline.system.console import beside_the_work
from frozen_vqa.pipeline.system.device import choose_device, use_cores
from frozen_vqa.pipeline.system.texts import to_json, valid


@dataclass(frozen=True)
class Evaluation:
    """A head's answers to the questions of one split, and what they score.

    Attributes:
        results: The file in the official form; None if nothing was written.
        scores: (questions,) in [0, 1]. None where the split has no answers; then the accuracy, the
            ceiling and the interval are None too.
        ceiling: Percent that a head would score that always picks the best answer it knows.
        interval: 95 % interval of the overall accuracy, in percent.
        data: What it is a score on.
        left_out: Questions that the cache lacks, and why; the results answer them with "".
        variant: "" for the head itself; see `evaluate`.
        clusters: (questions,) equal for the questions that are drawn together; None: those of a
            picture. See `clusters.py`.
        caveats: What the scores need beside them, such as that the encoders are untrained.
        not_written: Why an extra file is missing; the results are there all the same.
    """

    run: Path
    fusion: str
    split: str
    table: SplitTable
    answers: Sequence[str]
    results: Path | None
    scores: np.ndarray | None = None
    accuracy: Accuracy | None = None
    ceiling: float | None = None
    interval: Interval | None = None
    data: ScoredData | None = None
    left_out: LeftOutQuestions = NONE
    seed: int = 0
    variant: str = ""
    logits: Path | None = None
    cluster_by: By = "image"
    clusters: np.ndarray | None = None
    caveats: tuple[str, ...] = ()
    not_written: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run folder, with the variant if there is one."""
        name = self.run.absolute().name  # "." alone has none
        return f"{name} ({self.variant})" if self.variant else name

    @property
    def drawn(self) -> np.ndarray:
        """What intervals and tests take as drawn at random: (questions,), as `clusters`."""
        return self.table.image_rows if self.clusters is None else self.clusters

    def to_json(self) -> dict[str, Any]:
        found = self.accuracy.to_json() if self.accuracy else {"questions": len(self.answers)}
        return {
            "run": str(self.run),
            "fusion": self.fusion,
            "split": self.split,
            **found,
            **(asdict(self.data) if self.data else {}),
            "ceiling": self.ceiling,
            **(self.interval.to_json() if self.interval else {"interval": None}),
            "left_out": len(self.left_out),
            "left_out_because": self.left_out.to_json(),
            "seed": self.seed,
            **({"cluster_by": self.cluster_by} if self.cluster_by != "image" else {}),
            **({"caveats": list(self.caveats)} if self.caveats else {}),
            **({"results": str(self.results)} if self.results else {}),
            **({"logits": str(self.logits)} if self.logits else {}),
            **({"not_written": list(self.not_written)} if self.not_written else {}),
        }


def evaluate(
    run: Run | Path | str,
    cache: FeatureCache | Path | str | None = None,
    split: str | None = None,
    *,
    rules: Rules | None = None,
    variant: str = "",
    image_rows: np.ndarray | None = None,
    keep_logits: bool = False,
    write: bool = True,
    cluster_by: By = "image",
) -> Evaluation:
    """Let a head answer a split, write the results, and score them if there are answers.

        evaluate("runs/concat").accuracy.overall  # percent of the validation split

    Args:
        run: The head, or its run folder.
        cache: The features, or their folder; without it those that the head was trained from.
        split: Without it the validation split of the training.
        rules: As in `pick_rules`.
        variant: "" for the head itself. Results of any other variant, such as "shuffled-images" or
            "ensemble", get a folder of that name below the split's.
        image_rows: (questions,) picture to show in place of each question's own.
        cluster_by: What the interval takes as drawn at random; see `clusters.py`.
        write: False leaves the run's folder as it is, because it is only compared with.

    Raises:
        CacheError: if the cache lacks the split or holds features of other encoders.
        RunError: if the results cannot be written, or the run was trained anew in the meantime.
        RunBusyError: if another process trains the run.
    """
    if not isinstance(run, Run):
        run = load_run(run, choose_device("auto"))
    if not isinstance(cache, FeatureCache):
        cache = open_cache(run.path, None if cache is None else Path(cache))
    split = split or run.config.validation
    require_same_encoders(run, cache)
    table = read_split(cache, split)
    _require_all_or_none_answered(cache, split, table)
    heads = [(one.data, one.config) for one in (run, *run.others)]
    data = describe_score(heads, cache, split, table)
    name = split if data.own_cache else f"{split}-{data.cache_digest[:8]}"
    folder = path_in(run.path / "evaluation", f"{name}/{variant}" if variant else name)
    asked = table if image_rows is None else replace(table, image_rows=image_rows)
    if write:
        names = _names_in(run, folder)
        require_place_for_results(run.path, run.stamp, names if keep_logits else names[:2])
    classes, found = _predict(run, cache, asked, keep_logits=keep_logits and write)
    answers = [run.vocabulary.answers[i] for i in classes]
    evaluation = Evaluation(
        run=run.path,
        fusion=run.config.fusion,
        split=split,
        table=table,
        answers=answers,
        results=folder / "results.json" if write else None,
        data=data,
        left_out=_left_out(cache, split, table),
        seed=run.config.seed,
        variant=variant,
        cluster_by=cluster_by,
        clusters=cluster_questions(cache, table, cluster_by),
        caveats=tuple(caveats_of(run.encoders)),
    )
    if any(table.answers):
        evaluation = _score(evaluation, run.vocabulary, rules)
    if evaluation.results:
        evaluation = _write_evaluation(run, evaluation, evaluation.results, found)
    return evaluation


def _left_out(cache: FeatureCache, split: str, table: SplitTable) -> LeftOutQuestions:
    """Return what a split lacks; a part that is held out lacks nothing."""
    if find_held_out(split, cache.manifest.splits):
        return NONE
    return left_out_of(cache.manifest, split, table.question_ids)


def _write_evaluation(
    run: Run, evaluation: Evaluation, results: Path, logits: np.ndarray | None
) -> Evaluation:
    """Write results, scores and card, then the logits if they can be; all of one run's weights."""
    # The official tool takes only results of all questions.
    pairs = [
        *zip(evaluation.table.question_ids, evaluation.answers, strict=True),
        *((question_id, "") for question_id in evaluation.left_out.ids),
    ]
    official = [{"question_id": question_id, "answer": answer} for question_id, answer in pairs]
    with writing_results(run.path, run.stamp) as own:
        names = _names_in(run, results.parent)
        with explain_write_errors(results.parent, RunError, WRITE_ADVICE):
            own.note(*names[:2])
            if logits is None:  # those of an earlier evaluation need not fit the new answers
                own.remove(names[2:])
        _write(results, to_json(official, ensure_ascii=False).encode())
        _write(results.with_name("scores.json"), seal_json(valid(evaluation.to_json())))
        if trained := read_outcome(evaluation.run):
            write_card(evaluation.run, trained)
        if logits is None:
            return evaluation
        return _keep_logits(evaluation, own, path_in(run.path, names[2]), logits, run.vocabulary)


def _names_in(run: Run, folder: Path) -> list[str]:
    """Return the names that a run has for the files of an evaluation, the logits last."""
    return [str(path_in(folder, name).relative_to(run.path)) for name in EVALUATED]


def _keep_logits(
    evaluation: Evaluation, own: OwnFolder, path: Path, found: np.ndarray, vocabulary: Vocabulary
) -> Evaluation:
    """Write the logits if they can be; the evaluation says why not."""
    lost: list[str] = []
    with beside_the_work(lost):
        with explain_write_errors(path, RunError, WRITE_ADVICE):
            own.note(str(path.relative_to(evaluation.run)))
        ids = evaluation.table.question_ids
        save_logits(path, found, question_ids=ids, answers=vocabulary.answers)
    return replace(evaluation, logits=None if lost else path, not_written=tuple(lost))


def _predict(
    run: Run, cache: FeatureCache, asked: SplitTable, *, keep_logits: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the predicted class of each question, (questions,), and the logits if asked for."""
    use_cores()
    device, sees = next(run.model.parameters()).device, run.config.sees_pictures
    features = ResidentFeatures(cache, device=device, pictures=sees)
    reader, size = BatchReader(features, asked), run.config.batch_size
    if not keep_logits:
        return predict([run.model], reader, asked, batch_size=size)[0], None
    answers = len(run.vocabulary)
    found = split_logits(run.model, reader, asked, batch_size=size, answers=answers)
    return found.argmax(1), found


def _require_all_or_none_answered(cache: FeatureCache, split: str, table: SplitTable) -> None:
    if not len(table):
        raise CacheError(f"{cache.directory}: split {split!r} has no questions; name another")
    without = sum(1 for given in table.answers if not given)
    if 0 < without < len(table):
        raise CacheError(
            f"{cache.directory}: {without:,} of {len(table):,} questions of split {split!r} have "
            f"no answers, but a split is scored as a whole. Extract the answered questions as a "
            f"split of their own."
        )


def _score(evaluation: Evaluation, vocabulary: Vocabulary, rules: Rules | None) -> Evaluation:
    table = evaluation.table
    chosen = pick_rules((len(given) for given in table.answers), rules)
    pairs = zip(evaluation.answers, table.answers, strict=True)
    scores = [question_score(answer, given, rules=chosen) for answer, given in pairs]
    best = class_scores(table.answers, vocabulary, rules=chosen).best()
    points, unit = 100 * np.array(scores), UNITS[evaluation.cluster_by]
    return replace(
        evaluation,
        scores=np.array(scores),
        accuracy=accuracy(scores, table.answer_types, table.question_types, chosen),
        ceiling=percent(float(best.mean()), chosen),
        interval=mean_interval(points, evaluation.drawn, least=0, largest=100, unit=unit),
    )


def _write(path: Path, data: bytes) -> None:
    with explain_write_errors(path, RunError, WRITE_ADVICE):
        write_atomically(path, data)
