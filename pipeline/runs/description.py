"""What a run folder says of itself, read without torch.

So a command can refuse a mistyped folder before it loads what takes seconds.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar

from frozen_vqa.cache import CacheError, FeatureCache
from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.errors import made_by, wrong_folder
from frozen_vqa.cache.format.finite import LARGEST
from frozen_vqa.cache.format.spec import Dtype
from frozen_vqa.cache.stores.address import is_url
from frozen_vqa.cache.typed_json import FILE_PATH, Count, Json, Percent, decode, finite_json
from frozen_vqa.pipeline.config import ANSWERS, TrainConfig, load_config, preset_settings
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.runs.folder import LARGEST_TEXT
from frozen_vqa.pipeline.runs.sealed import unseal_json

FORMAT = 6
RESTORE = "Restore it from a copy, or train the head again."

T = TypeVar("T")

UNTRAINED = "tiny"
"""The encoders of the demo, as `pipeline/encoders/tiny.py` names them."""

Rate = Annotated[float, (0, LARGEST)]


class TrainedFrom(TypedDict):
    """What run.json says of a training that has begun."""

    cache: Annotated[str, FILE_PATH]
    dataset: NotRequired[str | None]
    splits: NotRequired[Mapping[str, str] | None]
    held_out: NotRequired[str | None]


class Outcome(TrainedFrom):
    """What run.json says of a finished training; see `TrainResult`."""

    run: str
    fusion: str
    epochs: Count
    best_accuracy: Percent
    best_epoch: Count
    trainable_parameters: Count
    questions_per_second: Rate
    data_wait_fraction: Rate
    seconds: Rate
    metric: str
    answers: NotRequired[Count | None]
    train_ceiling: NotRequired[Percent | None]
    val_ceiling: NotRequired[Percent | None]
    not_written: NotRequired[Sequence[str]]


class _Overall(TypedDict):
    overall: Percent


class Scores(TypedDict):
    """What is read of scores.json; a split without answers has no accuracy and no metric.

    The other fields that may lack are of later versions.
    """

    split: str
    questions: Count
    accuracy: NotRequired[Annotated[Mapping[str, Percent], _Overall]]
    interval: tuple[Percent, Percent] | None
    no_interval: NotRequired[str]
    ceiling: Percent | None
    metric: NotRequired[str]
    dataset: NotRequired[str | None]
    cache_digest: NotRequired[str]
    own_cache: NotRequired[bool]
    trained_on: NotRequired[bool]
    chosen_on: NotRequired[bool]


class Encoders(TypedDict):
    """The settings of both encoders; with `more`, of the other parts of what a head reads."""

    vision: Mapping[str, Json]
    text: Mapping[str, Json]
    more_vision: NotRequired[Sequence[Mapping[str, Json]]]
    more_text: NotRequired[Sequence[Mapping[str, Json]]]


@dataclass(frozen=True)
class Description:
    """The whole of config.json: the head's shapes, and whose features it reads, of which type."""

    format: int
    model: ModelConfig
    encoders: Encoders
    dtype: Dtype


def eyes_of(encoders: Encoders) -> list[Mapping[str, Json]]:
    """Return the settings of each part of the patch embeddings that a head reads."""
    return [encoders["vision"], *encoders.get("more_vision", ())]


def words_of(encoders: Encoders) -> list[Mapping[str, Json]]:
    """Return the settings of each part of the hidden states that a head reads."""
    return [encoders["text"], *encoders.get("more_text", ())]


def named_parts(encoders: Encoders) -> dict[str, Mapping[str, Json]]:
    """Return the settings of all parts: of "vision", "vision 2", ..., "text", "text 2", ..."""
    found = {}
    for side, parts in (("vision", eyes_of(encoders)), ("text", words_of(encoders))):
        for number, settings in enumerate(parts, start=1):
            found[side if number == 1 else f"{side} {number}"] = settings
    return found


def read_description(path: Path) -> Description:
    """Return config.json of a run.

    Raises `RunError` if there is no run in the folder, or it has another format.
    """
    file = path / "config.json"
    body = _read_json(file)
    found = body.get("format")
    if found != FORMAT:
        raise RunError(
            f"{path}: the run has format {found!r:.40}, but this version of frozen-vqa reads "
            f"format {FORMAT}. {made_by(found, FORMAT)} Or train the head again."
        )
    try:
        return decode(Description, body)
    except (TypeError, ConfigError) as error:
        raise RunError(f"{file}: not the config of a run ({error}). {RESTORE}") from None


def caveats_of(encoders: Encoders) -> list[str]:
    """Return what every score of a head on these encoders needs beside it."""
    every = named_parts(encoders)
    parts = [name for name, one in every.items() if one.get("model") == UNTRAINED]
    if not parts:
        return []
    what = f"the {parts[0]} encoder is" if len(parts) == 1 else "both encoders are"
    if len(every) > 2 and len(parts) > 1:
        what = f"the {', '.join(parts[:-1])} and {parts[-1]} encoders are"
    return [f"{what} untrained ({UNTRAINED}); no score says how good DINOv2 or Llama 3 would be"]


def read_sealed_json(path: Path, kind: type[T]) -> T:
    """Return a JSON file of a run that carries its digest; raise `RunError` if it changed since.

    Or if it does not hold what `kind` has, because a run may come from anybody.
    """
    return _decode_record(path, kind, _unseal(path))


def read_record(run: Path) -> TrainedFrom | Outcome:
    """Return run.json, that of a finished training with its outcome; raise `RunError`."""
    path = run / "run.json"
    found = _unseal(path)
    if "best_accuracy" not in found:
        return _decode_record(path, TrainedFrom, found)
    outcome = _decode_record(path, Outcome, found)
    if outcome["best_epoch"] > outcome["epochs"]:
        raise RunError(
            f"{path}: the best epoch is {outcome['best_epoch']:,} of {outcome['epochs']:,}, so it "
            f"is not the record of a run. {RESTORE}"
        )
    return outcome


def open_cache(run: Path, given: Path | str | None) -> FeatureCache:
    """Open the given cache, or that of the training; `CacheError` says if that one has moved."""
    return FeatureCache(given or recorded_cache(run))


def recorded_cache(run: Path) -> Path:
    """Return the cache of a training; `CacheError` says if it has moved."""
    recorded = read_record(run)["cache"]
    if is_url(recorded):  # a stranger's run must not make this machine ask an address
        raise CacheError(
            f"{run}: the head was trained from the cache at {recorded}. No URL is asked unless "
            f"the command names it: --cache {shlex.quote(recorded)}"
        )
    stored = Path(recorded)
    if not stored.exists():
        raise CacheError(
            f"{run}: the head was trained from the cache {stored}, which is not there now. "
            f"If it has moved, give its new folder: --cache FOLDER."
        )
    return stored


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
    loaded, its = load_config(config or own, overrides), ("", str(run / ANSWERS))
    given = config or overrides.get("answers_file")
    if not given and loaded.answers_file not in its:  # somebody's run, and perhaps somebody's file
        raise RunError(
            f"{own}: names {loaded.answers_file}, but a run keeps its answers in {ANSWERS}. "
            f"{RESTORE}"
        )
    return loaded


def no_state(run: Path) -> RunError:
    """Say that there is nothing to continue from."""
    overwrite = ", and with --overwrite" if (run / "config.json").exists() else ""
    return RunError(
        f"{run}: there is no training here to resume (state/ is empty). "
        f"Train without --resume{overwrite}."
    )


def _unseal(path: Path) -> dict[str, Any]:
    try:
        return unseal_json(_read_json(path))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: {error}. {RESTORE}") from None


def _decode_record(path: Path, kind: type[T], found: object) -> T:
    try:
        return decode(kind, found)
    except TypeError as error:
        raise RunError(f"{path}: not the record of a run ({error}). {RESTORE}") from None


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
