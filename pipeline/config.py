"""The settings of a training run: defaults, a TOML file, flags, in that order."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.model import FUSIONS, Fusion


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of stage two. Names are those of the TOML file and of the flags."""

    fusion: Fusion = "co-attention"
    """How pictures and questions meet."""
    layers: int = 1
    """Cross-attention layers."""
    width: int = 256
    """Size of everything between the projections and the head."""
    heads: int = 4
    """Attention heads."""
    dropout: float = 0.1
    """Share of activations dropped in training."""
    epochs: int = 15
    """Passes over the training split."""
    batch_size: int = 256
    """Questions per step, before accumulation."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.01
    """AdamW's decay of matrices; norms, biases and places have none."""
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises linearly; then a cosine to zero."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    group_by_image: bool = True
    """Whether a batch takes pictures with all their questions, or questions one by one."""
    seed: int = 0
    """Of initial weights, order and dropout."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split that is scored after every epoch and chooses the best weights."""
    min_answer_count: int = 9
    """Training questions that must have an answer as majority for it to be a class."""
    top_answers: int = 0
    """Keep at most so many classes; 0 keeps all."""

    def __post_init__(self) -> None:
        problems = []
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if kind is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not kind:
                problems.append(f"{field.name} is {value!r}; a {kind.__name__} is needed")
        if problems:
            raise ConfigError("; ".join(problems))
        problems += [
            f"{name} is {getattr(self, name)}; it must be at least 1"
            for name in ("layers", "width", "heads", "epochs", "batch_size", "accumulate")
            if getattr(self, name) < 1
        ]
        for name, low, high in (("lr", 0, 10), ("clip", 0, 1e9), ("warmup", -1, 1)):
            if not low < getattr(self, name) <= high:
                problems.append(f"{name} is {getattr(self, name)}; it must be above {max(low, 0)}")
        if self.fusion not in FUSIONS:
            problems.append(f"fusion is {self.fusion!r}; it must be one of {', '.join(FUSIONS)}")
        if problems:
            raise ConfigError("; ".join(problems))

    def to_toml(self) -> str:
        """Return the settings as a TOML file."""
        # JSON's spelling of numbers, texts and truth values is TOML's too.
        lines = (
            f"{name} = {json.dumps(value, ensure_ascii=False)}"
            for name, value in asdict(self).items()
        )
        return "\n".join(lines) + "\n"


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a TOML file (or the defaults) with some replaced.

    Args:
        path: A TOML file, or None.
        overrides: Settings that win; those that are None are as if not given.

    Raises:
        ConfigError: if the file cannot be read, or a name or value is not known.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not a TOML file ({error})") from error
    known = [field.name for field in fields(TrainConfig)]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
            raise ConfigError(f"{path}: unknown key {name!r}; {hint}")
    settings |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return TrainConfig(**settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None
