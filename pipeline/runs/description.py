"""What a run folder says of itself, read without torch.

So a command can refuse a mistyped folder before it loads what takes seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.errors import made_by, wrong_folder
from frozen_vqa.cache.typed_json import finite_json, make_dataclass
from frozen_vqa.pipeline.config import TrainConfig, load_config, preset_settings
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.folder import LARGEST_TEXT
from frozen_vqa.pipeline.runs.sealed import unseal_json

FORMAT = 6
RESTORE = "Restore it from a copy, or train the head again."


UNTRAINED = "tiny"
"""The encoders of the demo, as `pipeline/encoders/tiny.py` names them."""

PERCENT, COUNT = (0.0, 100.0), (0, 1 << 62)
"""Limits of figures."""


@dataclass(frozen=True, kw_only=True)
class TrainedFrom:
    """What run.json says of a training that has begun."""

    cache: str
    dataset: str | None = None
    splits: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome(TrainedFrom):
    """What run.json says of a finished training; see `TrainResult`."""

    run: str
    fusion: str
    epochs: Annotated[int, COUNT]
    best_accuracy: Annotated[float, PERCENT]
    best_epoch: Annotated[int, COUNT]
    trainable_parameters: Annotated[int, COUNT]
    questions_per_second: float
    data_wait_fraction: float
    seconds: float
    metric: str
    answers: int | None = None
    train_ceiling: Annotated[float | int | None, PERCENT] = None
    val_ceiling: Annotated[float | int | None, PERCENT] = None
    not_written: list[str] = field(default_factory=list)


def read_description(path: Path) -> dict[str, Any]:
    """Return config.json of a run: its shapes and encoders, not yet checked one by one.

    Raises `RunError` if there is no run in the folder, or it has another format.
    """
    description = _read_json(path / "config.json")
    found = description.get("format")
    if found != FORMAT:
        raise RunError(
            f"{path}: the run has format {found!r:.40}, but this version of frozen-vqa reads "
            f"format {FORMAT}. {made_by(found, FORMAT)} Or train the head again."
        )
    return description


def untrained_parts(encoders: object) -> list[str]:
    """Return which encoders of a run are untrained: "vision", "text"; none if nothing says so."""
    parts = encoders.items() if isinstance(encoders, Mapping) else ()
    return [n for n, one in parts if isinstance(one, Mapping) and one.get("model") == UNTRAINED]


def caveats_of(encoders: object) -> list[str]:
    """Return what every score of a head on these encoders needs beside it."""
    parts = untrained_parts(encoders)
    if not parts:
        return []
    what = f"the {parts[0]} encoder is" if len(parts) == 1 else "both encoders are"
    return [f"{what} untrained ({UNTRAINED}); no score says how good DINOv2 or Llama 3 would be"]


def read_sealed_json(path: Path) -> dict[str, Any]:
    """Return a JSON file of a run that carries its digest; raise `RunError` if it changed since."""
    try:
        return unseal_json(_read_json(path))
    except ValueError as error:
        raise RunError(f"{path}: {error}. {RESTORE}") from None


def read_record(run: Path) -> dict[str, Any]:
    """Return run.json, whose values have the types of `TrainedFrom` or, at the end, `Outcome`.

    Raises `RunError` otherwise, because a run may come from anybody.
    """
    path = run / "run.json"
    found = read_sealed_json(path)
    kind = Outcome if "best_accuracy" in found else TrainedFrom
    known = {one.name for one in fields(kind)}
    try:
        make_dataclass(kind, {name: value for name, value in found.items() if name in known})
    except TypeError as error:
        raise RunError(f"{path}: not the record of a run ({error}). {RESTORE}") from None
    return found


def open_cache(run: Path, given: Path | None) -> FeatureCache:
    """Open the given cache, or that of the training; `CacheError` says if that one has moved."""
    if given is not None:
        return FeatureCache(given)
    stored = read_record(run)["cache"]
    if "\0" in stored:
        raise RunError(f"{run / 'run.json'}: names no cache. Give it with --cache. {RESTORE}")
    if not Path(stored).exists():
        raise CacheError(
            f"{run}: the head was trained from the cache {stored}, which is not there now. "
            f"If it has moved, give its new folder: --cache FOLDER."
        )
    return FeatureCache(Path(stored))


def load_resumed_config(
    run: Path, config: Path | None, overrides: Mapping[str, Any]
) -> TrainConfig:
    """Return the settings for --resume: those of the run, unless others are given.

    Raises `RunError` if there is no run, and `ConfigError` as `load_config` does.
    """
    own = run / "config.toml"
    if not own.exists():
        raise no_state(run)
    if config is None:  # the run's own file has every setting, and would win over a preset
        overrides = preset_settings(overrides.get("preset")) | {
            name: value for name, value in overrides.items() if value is not None
        }
    return load_config(config or own, overrides)


def no_state(run: Path) -> RunError:
    """Say that there is nothing to continue from."""
    overwrite = ", and with --overwrite" if (run / "config.json").exists() else ""
    return RunError(
        f"{run}: there is no training here to resume (state/ is empty). "
        f"Train without --resume{overwrite}."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = finite_json(read_file(path, most=LARGEST_TEXT))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(wrong_folder(path.parent, "run", path.name)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({error}). {RESTORE}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: found {type(value).__name__}; a JSON object is needed. {RESTORE}")
    return value
