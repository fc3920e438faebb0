"""What a run folder says of itself, read without torch.

So a command can refuse a mistyped folder before it loads what takes seconds.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.pipeline.config import TrainConfig, load_config, preset_settings
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.sealed import unseal_json

FORMAT = 6


def require_free(path: Path) -> None:
    """Raise `RunError` if there is a run in a folder."""
    if (path / "config.json").exists():
        raise RunError(
            f"{path}: there is a run in this folder already. Give another --run, --resume to "
            f"continue this one, or --overwrite to replace it."
        )


def read_description(path: Path) -> dict[str, Any]:
    """Return config.json of a run: its shapes and encoders, not yet checked one by one.

    Raises `RunError` if there is no run in the folder, or it has another format.
    """
    description = _read_json(path / "config.json")
    if description.get("format") != FORMAT:
        raise RunError(
            f"{path}: run format {description.get('format')!r}, this version reads {FORMAT}; "
            f"train the head again, or use it with the version that made it"
        )
    return description


def read_sealed_json(path: Path) -> dict[str, Any]:
    """Return a JSON file of a run that carries its digest; raise `RunError` if it changed since."""
    try:
        return unseal_json(_read_json(path))
    except ValueError as error:
        raise RunError(
            f"{path}: {error}. Restore it from a copy, or train the head again."
        ) from None


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
        value = json.loads(read_file(path))
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
