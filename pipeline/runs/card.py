"""The model card of a run: README.md, from the run's own settings and figures.

`train-head` writes it when a training is finished, `evaluate` writes it again. It names no folder
of this machine and no time, so that the same training leaves the same card.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.pipeline.config import kept_config
from frozen_vqa.pipeline.runs.sealed_json import unseal_json
from frozen_vqa.pipeline.runs.weights import writing

CARD = "README.md"
MARK = "<!-- Written by frozen-vqa, and again by its next command while this line is here. -->"


def write_card(run: Path, outcome: Mapping[str, Any]) -> None:
    """Write the card of a trained head, unless a README.md of someone else is there.

    Args:
        run: The run folder.
        outcome: What is recorded of the training; see `pipeline.runs.run.finish_run`.

    Raises:
        RunError: if it cannot be written.
    """
    if _ours(run / CARD):
        with writing(run):
            write_atomically(run / CARD, card(run, outcome).encode())


def remove_card(run: Path) -> None:
    """Remove the card of a run that is to be replaced."""
    if _ours(run / CARD):
        (run / CARD).unlink(missing_ok=True)


def _ours(path: Path) -> bool:
    try:
        found = path.read_bytes()
    except OSError:
        return not path.exists()
    return MARK.encode() in found or not found.strip()


def card(run: Path, outcome: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    description = json.loads((run / "config.json").read_bytes())
    config = kept_config(run)
    return f"""---
library_name: frozen-vqa
pipeline_tag: visual-question-answering
---
{MARK}

# {config.fusion} head for visual question answering

{outcome["trainable_parameters"]:,} trained parameters choose among \
{description["model"]["answers"]:,} answers. They read features of two frozen encoders, which are
not part of this.

## Accuracy

{_accuracies(run, config.val_split, outcome)}

The split {config.val_split!r} chose the epoch that is kept: {outcome["best_epoch"]} of \
{outcome["epochs"]}. The ceiling is what the best of the answers for each question scores\
{_on_training(config.train_split, outcome)}.

## Trained on

{_encoders(description, outcome)}

From a cache of these features (`frozen-vqa extract-features`), this trains it again:

```
frozen-vqa train-head --cache CACHE --run RUN --config config.toml
```

`config.toml` holds every setting; versions, device and digests of the cache are in
`environment.json`.

```toml
{config.to_toml()}```

## Use

```python
from frozen_vqa.pipeline.model.vqa_model import VqaModel

head = VqaModel.from_pretrained("FOLDER OR REPOSITORY")
```

or `frozen-vqa ask --run FOLDER --image FILE --question TEXT`.

## Licences

The encoders and the data set have licences of their own, which may bind what was trained on them.
"""


def without_folders(name: str) -> str:
    """Return the name of a model or data set, and of a path its last part alone."""
    kind, colon, rest = name.rpartition(":")
    return kind + colon + (Path(rest).name if Path(rest).is_absolute() else rest)


def _accuracies(run: Path, val_split: str, outcome: Mapping[str, Any]) -> str:
    in_training = f"{outcome['best_accuracy']:.2f}"
    ceiling = _percent(outcome.get("val_ceiling"))
    rows = [(f"{val_split} (in training)", in_training, "", ceiling, "", outcome["metric"])]
    for path in sorted((run / "evaluation").glob("*/scores.json")):
        try:
            rows.append(_scored(unseal_json(json.loads(path.read_bytes()))))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # a split without answers, or a damaged file
    return _table(
        ("split", "accuracy, %", "95 % interval", "ceiling, %", "by answer type", "rules"), rows
    )


def _on_training(train_split: str, outcome: Mapping[str, Any]) -> str:
    found = _percent(outcome.get("train_ceiling"))
    return f"; on {train_split!r} that is {found} %" if found else ""


def _scored(scores: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
    types = dict(scores["accuracy"])
    overall, (low, high) = types.pop("overall"), scores["interval"]
    by_type = ", ".join(f"{name} {value:.2f}" for name, value in types.items())
    where = f"{scores['split']} ({scores['questions']:,} questions)"
    interval, ceiling = f"{low:.2f} to {high:.2f}", _percent(scores["ceiling"])
    return where, f"{overall:.2f}", interval, ceiling, by_type, scores["metric"]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _encoders(description: Mapping[str, Any], outcome: Mapping[str, Any]) -> str:
    rows = [("data set", without_folders(outcome.get("dataset") or "unknown"))]
    for part, settings in description["encoders"].items():
        rows += [
            (f"{part} {name}", without_folders(value) if isinstance(value, str) else str(value))
            for name, value in settings.items()
        ]
    rows.append(("features stored as", description["dtype"]))
    return _table(("", ""), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
