"""The model card of a run: README.md, from the run's own settings and figures.

`train-head` writes it at the end of a training, and `evaluate` writes it again. It names no folder
of this machine and no time, so that the same training leaves the same card.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from frozen_vqa.cache.disk.files import read_file, write_atomically
from frozen_vqa.cache.names import path_in
from frozen_vqa.pipeline.config import TrainConfig, load_run_config
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.plugins import is_own
from frozen_vqa.pipeline.runs.description import (
    Description,
    Outcome,
    Scores,
    caveats_of,
    named_parts,
    read_description,
    read_sealed_json,
)
from frozen_vqa.pipeline.runs.folder import LARGEST_TEXT, explain_run_write_errors, own_run
from frozen_vqa.pipeline.system.texts import markdown, markdown_table, printable

CARD = "README.md"
UNKNOWN = "unknown"

MARK = "<!-- Written by frozen-vqa, and again by its next command while this line is here. -->"


def write_card(run: Path, outcome: Outcome) -> None:
    """Write the card of a training, or raise `RunError`; leave a README.md of someone else."""
    if owns_card(run):
        with explain_run_write_errors(run):
            write_atomically(run / CARD, render_card(run, outcome).encode())


def remove_card(run: Path) -> None:
    """Remove the card of a run before the run is replaced."""
    if owns_card(run):
        (run / CARD).unlink(missing_ok=True)


def owns_card(run: Path) -> bool:
    """Whether a run has no README.md, or one that we wrote."""
    path = run / CARD
    try:
        found = read_file(path, most=LARGEST_TEXT)
    except OSError:
        return not os.path.lexists(path)
    return MARK.encode() in found or not found.strip()


def render_card(run: Path, outcome: Outcome) -> str:
    """Return the card as Markdown."""
    description, config = read_description(run), load_run_config(run)
    ceiling = _percent(outcome.get("train_ceiling"))
    on_training = (
        f"; on {markdown(repr(config.train_split))} that is {ceiling} %" if ceiling else ""
    )
    own = config.fusion if is_own(config.fusion) else ""  # every command has to name it again
    option, argument = (f" --fusion {own}", f', fusion="{own}"') if own else ("", "")
    usual = outcome.get("answers") != 0 and description.model.pictures == 1
    command = "ask --run FOLDER --image FILE --question TEXT"
    command = command if usual else "evaluate --run FOLDER --cache CACHE"
    return f"""---
library_name: frozen-vqa
pipeline_tag: visual-question-answering
---
{MARK}

# {config.fusion} head for visual question answering

{outcome["trainable_parameters"]:,} trained parameters {_task(description, outcome)}. They read \
features of two frozen encoders, which are
not in this folder.

## Accuracy

{_accuracies(run, config.validation, outcome)}
{_caveats(description)}\
These are the weights of epoch {outcome["best_epoch"]} of {outcome["epochs"]}, \
{_choice(config)}. The ceiling is the score of the best answer for each question\
{on_training}.

## Trained on

{_encoders(description, outcome)}
This command trains it again from a cache of these features (`frozen-vqa extract-features`):

```
frozen-vqa train-head --cache CACHE --run RUN --config config.toml{option}
```

`config.toml` holds every setting; `environment.json` holds versions, device and digests of the
cache.

```toml
{_plain(config.to_toml())}```

## Use

```python
from frozen_vqa import VqaHead

head = VqaHead.from_pretrained("FOLDER OR REPOSITORY"{argument})
```

or `frozen-vqa {command}{option}`.

## Licences

The encoders and the data set have their own licences, which may also apply to this head.
"""


def _task(description: Description, outcome: Outcome) -> str:
    """Return what the head does, in words."""
    answers, pictures = description.model.answers, description.model.pictures
    task = "score the choices of each question"
    if outcome.get("answers") != 0:
        task = f"choose among {answers:,} answers"
    return task if pictures == 1 else f"{task} about {pictures} pictures"


def _choice(config: TrainConfig) -> str:
    """Return how the epoch was chosen."""
    if config.keep == "last":
        return "the last one, which no score chose"
    where = f"split {markdown(repr(config.validation))}"
    if config.val_fraction:
        share = f"{100 * config.val_fraction:g} % of the pictures of {config.train_split!r}"
        where = f"{markdown(repr(config.validation))}, {markdown(share)} that were not trained on"
    return f"the best on {where}; a score there is a little higher than on new questions"


def _plain(text: str) -> str:
    """Return the lines of a text in a block of code, without characters that a terminal obeys."""
    return "".join(f"{printable(line)}\n" for line in text.split("\n")[:-1])


def strip_folders(name: str) -> str:
    """Return the name of a model or data set, or only the last part of it if it is a path."""
    kind, colon, rest = name.rpartition(":")
    return kind + colon + (Path(rest).name if Path(rest).is_absolute() else rest)


def _accuracies(run: Path, val_split: str, outcome: Outcome) -> str:
    in_training, ceiling = f"{outcome['best_accuracy']:.2f}", _percent(outcome.get("val_ceiling"))
    dataset, where = strip_folders(outcome.get("dataset") or UNKNOWN), f"{val_split} (in training)"
    own: list[Sequence[str]] = [
        (dataset, where, in_training, "", ceiling, "", outcome["metric"]),
    ]
    elsewhere: list[Sequence[str]] = []
    for path in _score_files(run):
        try:
            scores = read_sealed_json(path, Scores)
        except RunError:
            continue  # a damaged file
        if {"accuracy", "metric"} <= scores.keys():  # a split without answers has none
            (own if scores.get("own_cache") else elsewhere).append(_scored(scores))
    figures = ("accuracy, %", "95 % interval", "ceiling, %", "by answer type", "metric")
    head = ("data set", "split", *figures)
    return markdown_table([head, *own, *sorted(elsewhere, key=tuple)])


def _score_files(run: Path) -> list[Path]:
    """Return the scores that we wrote into a run, none of them by way of a link."""
    try:
        noted = own_run(run).names()
    except OSError:  # no mark that can be read
        return []
    scores = (name for name in noted if re.fullmatch("evaluation/[^/]+/scores.json", name))
    paths = sorted(path_in(run, name) for name in scores)
    return [path for path in paths if not path.is_symlink()]


def _caveats(description: Description) -> str:
    found = caveats_of(description.encoders)
    return "".join(f"**{caveat[0].upper()}{caveat[1:]}.**\n\n" for caveat in found)


def _scored(scores: Scores) -> Sequence[str]:
    types = dict(scores["accuracy"])
    overall, bounds = types.pop("overall"), scores["interval"]
    by_type = ", ".join(f"{name} {value:.2f}" for name, value in types.items())
    why = scores.get("no_interval", UNKNOWN)
    interval = f"{bounds[0]:.2f} to {bounds[1]:.2f}" if bounds else f"none: {why}"
    where = f"{scores['split']} ({scores['questions']:,} questions)"
    if scores.get("trained_on"):
        where += ", trained on it"
    if scores.get("chosen_on"):
        where += ", which chose the weights"
    return (
        _scored_data(scores),
        where,
        f"{overall:.2f}",
        interval,
        _percent(scores["ceiling"]),
        by_type,
        scores["metric"],
    )


def _scored_data(scores: Scores) -> str:
    """Return the data set of a score, with the digest of a cache that is not the training's."""
    if "cache_digest" not in scores:
        return "not recorded (scored by an earlier version)"
    name, digest = strip_folders(scores.get("dataset") or UNKNOWN), scores["cache_digest"][:8]
    return name if scores.get("own_cache") else f"{name} (other cache, {digest})"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _encoders(description: Description, outcome: Outcome) -> str:
    rows = [("", ""), ("data set", strip_folders(outcome.get("dataset") or UNKNOWN))]
    for part, settings in named_parts(description.encoders).items():
        rows += [
            (f"{part} {name}", strip_folders(value) if isinstance(value, str) else str(value))
            for name, value in settings.items()
        ]
    rows.append(("features stored as", description.dtype))
    return markdown_table(rows)
