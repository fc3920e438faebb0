"""The figures that a run gives to Prometheus, by name: what each means, and its labels.

Names follow Prometheus: base units, and `_total` at the end of what only grows. Each figure is read
where the command itself keeps it, so it is what the line of progress, extractions.jsonl and the
result say. All begin with `frozen_vqa_` and carry the label `folder`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "frozen_vqa_"

Values = Mapping[str, float | Mapping[tuple[str, ...], float]]
"""Figures by name without `PREFIX`: a number, or numbers by the values of the figure's labels."""


@dataclass(frozen=True)
class Figure:
    """What a figure means, and the labels that it has besides `folder`."""

    help: str
    labels: tuple[str, ...] = ()


NODE = ("node",)
FIGURES: Mapping[str, Figure] = {
    "running": Figure("1 while the command runs, 0 once it has ended.", ("command",)),
    "succeeded": Figure("1 once the command has ended without an error.", ("command",)),
    "start_time_seconds": Figure("When the command began, as a Unix time.", ("command",)),
    "extract_pictures_total": Figure("Pictures that this run has stored."),
    "extract_questions_total": Figure("Distinct questions that this run has stored."),
    "extract_pictures_left": Figure("Pictures that this run has yet to store or to give up."),
    "extract_questions_left": Figure("Distinct questions that this run has yet to store."),
    "extract_chunks_left": Figure("Shards that this run has yet to store.", ("kind",)),
    "extract_chunks_waiting": Figure("Finished shards that wait for one before them."),
    "extract_unreadable_pictures": Figure("Pictures listed as unreadable in the cache."),
    "extract_cache_bytes": Figure("Bytes of the cache."),
    "extract_phase_seconds_total": Figure(
        "Seconds of a phase, of all workers of a node together.", ("phase", "node")
    ),
    "extract_workers": Figure("Processes that encode now.", NODE),
    "extract_workers_lost_total": Figure("Workers of a cluster that died.", NODE),
    "extract_node_pictures_total": Figure("Pictures that a node of a cluster has encoded.", NODE),
    "extract_node_questions_total": Figure("Questions that a node of a cluster has encoded.", NODE),
    "extract_node_chunks_total": Figure("Shards that a node of a cluster has made.", NODE),
    "store_requests_total": Figure("Requests to the store of a URL, tries included."),
    "train_steps_total": Figure("Steps done since the training began, before a resume too."),
    "train_steps_planned": Figure("Steps of the whole training, about; patience may end it."),
    "train_epochs_total": Figure("Epochs that are trained and scored."),
    "train_epochs_planned": Figure("Epochs of the whole training."),
    "train_seconds_total": Figure("Seconds of training, without validation."),
    "train_waiting_seconds_total": Figure("Seconds of these in which steps waited for features."),
    "train_loss": Figure("Mean loss of the last epoch."),
    "train_accuracy_ratio": Figure("Accuracy after the last epoch, from 0 to 1."),
    "train_best_accuracy_ratio": Figure("Accuracy of the weights that are kept, from 0 to 1."),
    "train_learning_rate": Figure("Learning rate at the end of the last epoch."),
}
