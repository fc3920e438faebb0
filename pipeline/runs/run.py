"""A run folder: settings, weights, answers and the curve of one training.

    RUN/config.toml     every setting, resolved     RUN/model.safetensors   the best weights
    RUN/config.json     shapes and encoders         RUN/answers.json        the vocabulary
    RUN/metrics.jsonl   one line per epoch          RUN/run.json            cache and outcome
    RUN/environment.json   what it ran with (`pipeline/runs/environment.py`)
    RUN/tensorboard/    on request (`pipeline/train/tensorboard.py`)
    RUN/state/          while it trains: where to go on (`pipeline/runs/state.py`)
    RUN/evaluation/     what `evaluate` wrote
    RUN/README.md       the model card (`pipeline/runs/card.py`)

Nothing here is a pickle, and nothing that is loaded can run code. Nothing that is loaded can have
changed either: the weights carry a digest of themselves and of the three files that say what they
mean (`pipeline/runs/weights.py`), and run.json, which is written last, carries its own.
"""

import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozen_vqa.cache import CacheError, CacheSpec, FeatureCache
from frozen_vqa.cache.disk.files import make_directory, write_atomically
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.spec import DTYPES
from frozen_vqa.pipeline.answers.vocabulary import Vocabulary, load_vocabulary
from frozen_vqa.pipeline.config import ANSWERS, TrainConfig, kept_config
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.model.vqa_model import ModelConfig, VqaModel
from frozen_vqa.pipeline.runs.card import CARD, remove_card, without_folders
from frozen_vqa.pipeline.runs.environment import ENVIRONMENT
from frozen_vqa.pipeline.runs.sealed_json import json_bytes, seal_json, unseal_json
from frozen_vqa.pipeline.runs.state import remove_state
from frozen_vqa.pipeline.runs.weights import CURRENT, Weights, load_weights, remove_weights, writing

FORMAT = 5
MEANING = ("config.toml", "config.json", ANSWERS)
"""Files without which the weights are only numbers."""


@dataclass(frozen=True)
class Run:
    """A trained head, loaded.

    Attributes:
        path: The run folder.
        config: Settings of the training.
        model: The best weights, on the device, in eval mode.
        vocabulary: The answers of its classes.
        encoders: Settings of the encoders whose features it was trained on.
        dtype: How the cache stored these features.
        cache: The cache it was trained from.
    """

    path: Path
    config: TrainConfig
    model: VqaModel
    vocabulary: Vocabulary
    encoders: Mapping[str, Any]
    dtype: str
    cache: Path


def start_run(
    path: Path,
    *,
    config: TrainConfig,
    model: ModelConfig,
    vocabulary: Vocabulary,
    cache: FeatureCache,
    overwrite: bool,
) -> dict[str, str]:
    """Make a run folder, write everything but weights, and return the digests to save with those.

    Raises:
        RunError: if the folder holds a run already and `overwrite` was not asked for.
    """
    if not overwrite:
        require_free(path)
    with writing(path):
        make_directory(path)
        remove_state(path)  # first, for it must not outlive what belongs to it
        remove_weights(path)
        remove_card(path)
        for old in ("metrics.jsonl", "run.json", ENVIRONMENT):
            (path / old).unlink(missing_ok=True)
        for folder in ("evaluation", "tensorboard"):  # of weights that are gone
            shutil.rmtree(path / folder, ignore_errors=True)
        write_atomically(path / "config.toml", config.kept().to_toml().encode())
        vocabulary.save(path / ANSWERS)
        description: dict[str, Any] = {"format": FORMAT, "model": model.to_dict()}
        description |= {"encoders": encoders(cache.spec), "dtype": cache.spec.dtype}
        write_atomically(path / "config.json", json_bytes(description))
        where = {"cache": str(cache.directory.resolve())}
        write_atomically(path / "run.json", seal_json(where))
        return digests(path)


def require_free(path: Path) -> None:
    """Raise `RunError` if there is a run in a folder."""
    if (path / "config.json").exists():
        raise RunError(
            f"{path}: there is a run in this folder already. Give another --run, --resume to go on "
            f"with this one, or --overwrite to train it anew."
        )


def digests(path: Path) -> dict[str, str]:
    """Return the digests of the files of a run that say what its weights mean.

    Raises:
        RunError: if one cannot be read.
    """
    found = {}
    for name in MEANING:
        try:
            found[name] = digest((path / name).read_bytes())
        except OSError as error:
            raise RunError(
                f"{path / name}: cannot be read ({error.strerror}). "
                f"Restore it from a copy, or train the head again."
            ) from error
    return found


def encoders(spec: CacheSpec) -> dict[str, Any]:
    """Return the settings of both encoders, without how the cache stores what they said."""
    return {"vision": dict(spec.vision), "text": dict(spec.text)}


def write_metrics(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Let metrics.jsonl hold these lines, whole or as it was before."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with writing(path):
        if text:
            write_atomically(path / "metrics.jsonl", text.encode())
        else:
            (path / "metrics.jsonl").unlink(missing_ok=True)


def finish_run(path: Path, cache: FeatureCache, summary: Mapping[str, Any]) -> None:
    """Record what came out; then there is nothing to go on with."""
    with writing(path):
        found = {"cache": str(cache.directory.resolve()), **summary}
        write_atomically(path / "run.json", seal_json(found))
        remove_state(path)


def outcome(path: Path) -> dict[str, Any] | None:
    """Return what `finish_run` recorded; None for a run that is not finished.

    Raises:
        RunError: if the record is damaged.
    """
    if not (path / "run.json").exists():
        return None
    found = _read_sealed(path / "run.json")
    return found if "best_accuracy" in found else None


def publish_run(path: Path, target: Path) -> None:
    """Copy a run, without states and evaluations, and without folders of this machine.

    The names of encoders are part of what the weights mean: those of local folders stay.

    Raises:
        RunError: if it cannot be read or written.
    """
    where = _read_sealed(path / "run.json")
    for name in {"cache", "run", "dataset"} & where.keys():
        where[name] = without_folders(where[name] or "")
    with writing(target):
        for name in (*MEANING, CURRENT, "metrics.jsonl", ENVIRONMENT, CARD):
            if (path / name).exists():
                shutil.copyfile(path / name, target / name)
        write_atomically(target / "run.json", seal_json(where))


def load_run(path: Path, device: torch.device) -> Run:
    """Load a trained head.

    Raises:
        RunError: if the folder is no run, has no weights yet, or a file is not what was saved.
    """
    description = _read_json(path / "config.json")
    if description.get("format") != FORMAT:
        raise RunError(
            f"{path}: run format {description.get('format')!r}, this version reads {FORMAT}; "
            f"train the head again, or use it with the version that made it"
        )
    where = _read_sealed(path / "run.json")
    weights = load_weights(path)
    _require_meaning(path, weights)
    try:
        config = ModelConfig(**description["model"])
        cache, settings = Path(where["cache"]), description["encoders"]
        dtype = description["dtype"]
        model = _head(config, weights.tensors, device)
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{path / 'config.json'}: not the config of a run ({error})") from error
    except RuntimeError as error:
        # torch names every tensor that does not fit; the first few say enough.
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise RunError(f"{path / CURRENT}: does not fit this run ({reason})") from error
    vocabulary = load_vocabulary(path / ANSWERS)
    if dtype not in DTYPES:
        raise RunError(f"{path / 'config.json'}: dtype is {dtype!r}; needed: {', '.join(DTYPES)}")
    if len(vocabulary) != model.config.answers:
        raise RunError(
            f"{path}: answers.json has {len(vocabulary)} answers, the head {model.config.answers}"
        )
    trained = kept_config(path)
    return Run(path, trained, model.eval(), vocabulary, settings, dtype, cache)


def _head(config: ModelConfig, tensors: Mapping[str, Tensor], device: torch.device) -> VqaModel:
    """Return the head of these weights.

    A run may come from elsewhere: its config takes no memory until it fits its weights.

    Raises:
        ConfigError, TypeError, RuntimeError: if it does not.
    """
    if config.layers > len(tensors):
        raise ConfigError(f"layers is {config.layers}, but there are {len(tensors)} tensors")
    with torch.device("meta"):
        model = VqaModel(config)
    model.load_state_dict(tensors, strict=True, assign=True)
    model.to_empty(device=device)  # memory of its own, aligned as that of any tensor
    model.load_state_dict(tensors, strict=True)
    return model


def _require_meaning(path: Path, weights: Weights) -> None:
    """Raise unless the files beside the weights are those that they were saved with."""
    for name, found in digests(path).items():
        if found != weights.files.get(name):
            raise RunError(
                f"{path / name}: not the file that the weights were saved with; it was changed or "
                f"damaged. Restore it from a copy, or train the head again."
            )


def require_same_encoders(run: Run, cache: FeatureCache) -> None:
    """Raise unless a cache holds features of the encoders that the run was trained on.

    Raises:
        CacheError: with both values named.
    """
    mine, theirs = run.encoders, encoders(cache.spec)
    for part in ("vision", "text"):
        for name, value in mine[part].items():
            if theirs[part].get(name) != value:
                raise CacheError(
                    f"{cache.directory}: {part} {name} is {theirs[part].get(name)!r}, but the run "
                    f"{run.path} was trained with {value!r}. Give the cache it was trained from, "
                    f"or one made alike."
                )


def _read_sealed(path: Path) -> dict[str, Any]:
    value = _read_json(path)
    try:
        return unseal_json(value)
    except ValueError as error:
        raise RunError(
            f"{path}: {error}. Restore it from a copy, or train the head again."
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path.parent}: not a run folder ({path.name} is missing). "
            f"Make one with `train-head --cache DIR --run {path.parent}`."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: a JSON object is needed")
    return value
