"""Scores a trained head on a split and writes its answers in the official form.

RUN/evaluation/<split>/results.json         answers in the official form of the metric's data set
RUN/evaluation/<split>/scores.json          accuracy, ceiling, interval, and a digest
RUN/evaluation/<split>/logits.safetensors   on request (`pipeline/evaluate/logits.py`)
RUN/evaluation/<split>/<variant>/           the same files for a variant of the head: see `evaluate`
RUN/README.md                               the model card of a finished training, with the scores

A score on another cache than that of the training is in a folder of its own, which is named after
the split and the digest of what was read, so that it never replaces the run's own.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from frozen_vqa.cache import CacheError, FeatureCache, SplitTable
from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.folders import OwnFolder
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.cache.left_out import NONE, LeftOutQuestions, left_out_of
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.answers.questions import (
    counted,
    given_answers,
    metric_of,
    require_choices,
    with_groups,
)
from frozen_vqa.pipeline.answers.targets import choice_scores, class_scores
from frozen_vqa.pipeline.batches.reader import BatchReader
from frozen_vqa.pipeline.batches.residency import ResidentFeatures
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.evaluate.clusters import UNITS, By, cluster_questions
from frozen_vqa.pipeline.evaluate.evaluation import Evaluation
from frozen_vqa.pipeline.evaluate.logits import WRITE_ADVICE, save_logits, split_logits
from frozen_vqa.pipeline.evaluate.official import (
    Results,
    find_unanswerable,
    official_text,
    score_answers,
)
from frozen_vqa.pipeline.evaluate.statistics import mean_interval
from frozen_vqa.pipeline.metrics.find import pick_metric
from frozen_vqa.pipeline.metrics.metric import Answered, Metric
from frozen_vqa.pipeline.metrics.score import score_answered
from frozen_vqa.pipeline.predict import in_fitting_batches, predict
from frozen_vqa.pipeline.runs.card import write_card
from frozen_vqa.pipeline.runs.data import describe_score
from frozen_vqa.pipeline.runs.description import caveats_of, open_cache
from frozen_vqa.pipeline.runs.folder import (
    LOGITS,
    RESULTS,
    require_place_for_results,
    writing_results,
)
from frozen_vqa.pipeline.runs.held_out import find_held_out, read_split, require_pictures, split_of
from frozen_vqa.pipeline.runs.run import Run, features_of, load_run, read_outcome
from frozen_vqa.pipeline.runs.sealed import seal_json
from frozen_vqa.pipeline.system.console import beside_the_work
from frozen_vqa.pipeline.system.device import choose_device, use_cores
from frozen_vqa.pipeline.system.texts import valid


def evaluate(
    run: Run | Path | str,
    cache: FeatureCache | Path | str | None = None,
    split: str | None = None,
    *,
    metric: str | None = None,
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
        metric: The name of one; without it that of the run's settings, or of the data; see
            `pick_metric`.
        variant: "" for the head itself. Results of any other variant, such as "shuffled-images" or
            "ensemble", get a folder of that name below the split's.
        image_rows: (questions,) picture to show in place of each question's own; (questions,
            pictures) where a question has several.
        cluster_by: What the interval takes as drawn at random; see `clusters.py`.
        write: False leaves the run's folder as it is, because it is only compared with.

    Raises:
        CacheError: if the cache lacks the split or holds features of other encoders.
        MetricError: if there is no such metric.
        RunError: if the results cannot be written, or the run was trained anew in the meantime.
        RunBusyError: if another process trains the run.
    """
    if not isinstance(run, Run):
        run = load_run(run, choose_device("auto"))
    if not isinstance(cache, FeatureCache):
        cache = open_cache(run.path, cache)
    split = split or run.config.validation
    cache = features_of(run, cache)
    table = read_split(cache, split)
    counts, whole = (len(given) for given in table.answers), split_of(split, cache.manifest.splits)
    chosen = pick_metric(counts, metric, run.config.metric, metric_of(cache, whole, table))
    _require_all_or_none_answered(cache, split, table, chosen)
    require_pictures(cache, split, table, run.model.config.pictures)
    if run.chooses:
        require_choices(cache, split, table)
    heads = [(one.data, one.config) for one in (run, *run.others)]
    data = describe_score(heads, cache, split, table)
    name = split if data.own_cache else f"{split}-{data.cache_digest[:8]}"
    folder = path_in(run.path / "evaluation", f"{name}/{variant}" if variant else name)
    asked = table if image_rows is None else _show(table, image_rows)
    results = path_in(folder, chosen.layout.results)
    if write:
        names = _names_in(run, results)
        require_place_for_results(run.path, run.stamp, names if keep_logits else names[:2])
    doubt, keep_logits = find_unanswerable(run.vocabulary, chosen), keep_logits and write
    classes, found = _predict(run, cache, asked, keep_logits=keep_logits or doubt is not None)
    answers = [run.vocabulary.answers[i] for i in classes if not run.chooses] or [
        choices[i] for choices, i in zip(table.choices, classes, strict=True)
    ]
    doubts = None if found is None or doubt is None else found[:, doubt]
    evaluation = Evaluation(
        run=run.path,
        fusion=run.config.fusion,
        split=split,
        table=table,
        answers=answers,
        results=results if write else None,
        data=data,
        left_out=_left_out(cache, split, table),
        chooses=run.chooses,
        seed=run.config.seed,
        variant=variant,
        cluster_by=cluster_by,
        clusters=cluster_questions(cache, table, cluster_by),
        caveats=tuple(caveats_of(run.encoders)),
    )
    answered = score_answers(table, answers, chosen, doubts)
    text = official_text(chosen.layout, answered, evaluation.left_out.ids)
    if any(given_answers(table, chosen)):
        evaluation = _score(evaluation, answered, run, chosen)
    if write:
        written = Results(text, table.question_ids, found if keep_logits else None)
        evaluation = _write_evaluation(run, evaluation, results, written)
    return evaluation


def _show(table: SplitTable, image_rows: np.ndarray) -> SplitTable:
    """Return a split whose questions are about other pictures."""
    rows = image_rows.reshape(len(table), -1)
    more = [tuple(some) for some in rows[:, 1:].tolist()] if table.more_images else ()
    return replace(table, image_rows=rows[:, 0], more_images=more)


def _left_out(cache: FeatureCache, split: str, table: SplitTable) -> LeftOutQuestions:
    """Return what a split lacks; a part that is held out lacks nothing."""
    if find_held_out(split, cache.manifest.splits):
        return NONE
    return left_out_of(cache.manifest, split, table.question_ids)


def _write_evaluation(
    run: Run, evaluation: Evaluation, results: Path, written: Results
) -> Evaluation:
    """Write results, scores and card, then the logits if they can be; all of one run's weights."""
    with writing_results(run.path, run.stamp) as own:
        names = _names_in(run, results)
        others = [results.with_name(name) for name in RESULTS if name != results.name]
        with explain_write_errors(results.parent, RunError, WRITE_ADVICE):
            own.note(*names[:2])
            if (
                written.logits is None
            ):  # those of an earlier evaluation need not fit the new answers
                own.remove(names[2:])
            own.remove(str(path.relative_to(run.path)) for path in others)  # of another metric
        _write(results, written.text.encode())
        _write(results.with_name("scores.json"), seal_json(valid(evaluation.to_json())))
        if trained := read_outcome(evaluation.run):
            write_card(evaluation.run, trained)
        if written.logits is None:
            return evaluation
        return _keep_logits(evaluation, own, path_in(run.path, names[2]), written, run)


def _names_in(run: Run, results: Path) -> list[str]:
    """Return the names that a run has for the files of an evaluation, the logits last."""
    names = (results.name, "scores.json", LOGITS)
    return [str(path_in(results.parent, name).relative_to(run.path)) for name in names]


def _keep_logits(
    evaluation: Evaluation, own: OwnFolder, path: Path, written: Results, run: Run
) -> Evaluation:
    """Write the logits if they can be; the evaluation says why not."""
    lost: list[str] = []
    with beside_the_work(lost):
        with explain_write_errors(path, RunError, WRITE_ADVICE):
            own.note(str(path.relative_to(evaluation.run)))
        assert written.logits is not None
        columns: Sequence[str] = run.vocabulary.answers
        if run.chooses:
            columns = [f"choice {i + 1}" for i in range(written.logits.shape[1])]
        save_logits(path, written.logits, question_ids=written.question_ids, answers=columns)
    return replace(
        evaluation, logits=None if lost else path, not_written=(*evaluation.not_written, *lost)
    )


def _predict(
    run: Run, cache: FeatureCache, asked: SplitTable, *, keep_logits: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the predicted class of each question, (questions,), and the logits if asked for."""
    use_cores()
    device, sees = next(run.model.parameters()).device, run.config.sees_pictures
    features = ResidentFeatures(cache, device=device, pictures=sees)
    reader = BatchReader(features, asked, choosing=run.chooses)
    answers = reader.most_choices if run.chooses else len(run.vocabulary)

    def answer(size: int) -> tuple[np.ndarray, np.ndarray | None]:
        if not keep_logits:
            return predict([run.model], reader, asked, batch_size=size)[0], None
        found = split_logits(run.model, reader, asked, batch_size=size, answers=answers)
        return found.argmax(1), found

    return in_fitting_batches(answer, run.config.batch_size)


def _require_all_or_none_answered(
    cache: FeatureCache, split: str, table: SplitTable, metric: Metric
) -> None:
    if not len(table):
        raise CacheError(f"{cache.name}: split {split!r} has no questions; name another")
    without = sum(1 for given in given_answers(table, metric) if not given)
    if 0 < without < len(table):
        raise CacheError(
            f"{cache.name}: {without:,} of {len(table):,} questions of split {split!r} have "
            f"no answers, but a split is scored as a whole. Extract the answered questions as a "
            f"split of their own."
        )


def _score(
    evaluation: Evaluation, answered: Sequence[Answered], run: Run, metric: Metric
) -> Evaluation:
    """Score the questions that the metric counts; the evaluation is of no others from here on."""
    table, inside = evaluation.table, counted(evaluation.table, metric)
    if run.chooses:
        classes = choice_scores(table, metric)
    else:
        classes = class_scores(given_answers(table, metric), run.vocabulary, metric=metric)
    best = classes.best()
    evaluation = replace(evaluation, table=with_groups(table, metric))
    evaluation = evaluation.take(np.flatnonzero(inside))
    scores = np.array([one.score for one, count in zip(answered, inside, strict=True) if count])
    found, lost = score_answered(answered, metric, figures=False), list[str]()
    with beside_the_work(lost):
        found = replace(found, figures=metric.figures(answered))
    return replace(
        evaluation,
        scores=scores,
        accuracy=found,
        ceiling=metric.percent(float(best[inside].mean())),
        interval=mean_interval(
            100 * scores, evaluation.drawn, least=0, largest=100, unit=UNITS[evaluation.cluster_by]
        ),
        not_written=tuple(lost),
    )


def _write(path: Path, data: bytes) -> None:
    with explain_write_errors(path, RunError, WRITE_ADVICE):
        write_atomically(path, data)
