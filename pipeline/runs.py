"""A run folder: settings, weights, answers and the curve of one training.

    RUN/config.toml     every setting, resolved     RUN/model.safetensors   the best weights
    RUN/config.json     shapes and encoders         RUN/answers.json        the vocabulary
    RUN/metrics.jsonl   one line per epoch          RUN/run.json            cache and outcome

Nothing here is a pickle, and nothing that is loaded can run code.
"""

import json
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from cache import CacheError, CacheSpec, FeatureCache
from cache.files import write_atomically
from pipeline.answers import Vocabulary, load_vocabulary
from pipeline.config import TrainConfig, load_config
from pipeline.errors import ConfigError, RunError
from pipeline.model import ModelConfig, VqaModel

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A trained head, loaded.

    Attributes:
        path: The run folder.
        config: Settings of the training.
        model: The best weights, on the device, in eval mode.
        vocabulary: The answers of its classes.
        encoders: Settings of the encoders whose features it was trained on.
        cache: The cache it was trained from.
    """

    path: Path
    config: TrainConfig
    model: VqaModel
    vocabulary: Vocabulary
    encoders: Mapping[str, Any]
    cache: Path


def start_run(
    path: Path,
    *,
    config: TrainConfig,
    model: ModelConfig,
    vocabulary: Vocabulary,
    cache: FeatureCache,
    overwrite: bool,
) -> None:
    """Make a run folder and write everything but weights.

    Raises:
        RunError: if the folder holds a run already and `overwrite` was not asked for.
    """
    if (path / "config.json").exists() and not overwrite:
        raise RunError(
            f"{path}: there is a run in this folder already. Give another --run, "
            f"or --overwrite to train this one anew."
        )
    with _writing(path):
        path.mkdir(parents=True, exist_ok=True)
        for old in ("model.safetensors", "metrics.jsonl", "run.json"):
            (path / old).unlink(missing_ok=True)
        shutil.rmtree(path / "evaluation", ignore_errors=True)  # of weights that are gone
        (path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
        vocabulary.save(path / "answers.json")
        _write_json(
            path / "config.json",
            {"format": FORMAT, "model": model.to_dict(), "encoders": encoders(cache.spec)},
        )
        _write_json(path / "run.json", {"cache": str(cache.directory.resolve())})


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}). Make room or give another --run; "
            f"what was saved before is whole."
        ) from error


def encoders(spec: CacheSpec) -> dict[str, Any]:
    """Return the settings of both encoders, without how the cache stores what they said."""
    return {"vision": dict(spec.vision), "text": dict(spec.text)}


def save_weights(path: Path, model: VqaModel) -> None:
    """Write the weights, whole or not at all."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    with _writing(path):
        write_atomically(path / "model.safetensors", safetensors.torch.save(state))


def append_metrics(path: Path, metrics: Mapping[str, Any]) -> None:
    """Add one epoch's line to metrics.jsonl."""
    with _writing(path), (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(metrics) + "\n")


def finish_run(path: Path, cache: FeatureCache, summary: Mapping[str, Any]) -> None:
    """Record what came out."""
    with _writing(path):
        _write_json(path / "run.json", {"cache": str(cache.directory.resolve()), **summary})


def load_run(path: Path, device: torch.device) -> Run:
    """Load a trained head.

    Raises:
        RunError: if the folder is no run, has no weights yet, or they do not fit its config.
    """
    description = _read_json(path / "config.json")
    where = _read_json(path / "run.json")
    if description.get("format") != FORMAT:
        raise RunError(
            f"{path}: run format {description.get('format')!r}, this version reads {FORMAT}; "
            f"train the head again"
        )
    try:
        model = VqaModel(ModelConfig(**description["model"]))
        cache, settings = Path(where["cache"]), description["encoders"]
    except (KeyError, TypeError, ConfigError) as error:
        raise RunError(f"{path / 'config.json'}: not the config of a run ({error})") from error
    weights = path / "model.safetensors"
    try:
        state = safetensors.torch.load(weights.read_bytes())
        model.load_state_dict(state, strict=True)
    except FileNotFoundError:
        raise RunError(
            f"{path}: there are no weights yet; its training was stopped in the first epoch"
        ) from None
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch names every tensor that does not fit; the first few say enough.
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise RunError(f"{weights}: does not fit this run ({reason})") from error
    vocabulary = load_vocabulary(path / "answers.json")
    if len(vocabulary) != model.config.answers:
        raise RunError(
            f"{path}: answers.json has {len(vocabulary)} answers, the head {model.config.answers}"
        )
    config = load_config(path / "config.toml", {})
    return Run(path, config, model.to(device).eval(), vocabulary, settings, cache)


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


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False).encode())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path.parent}: not a run folder ({path.name} is missing). "
            f"Make one with `train-head --cache DIR --run {path.parent}`."
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: a JSON object is needed")
    return value
