"""The settings of a training run: defaults, a TOML file, flags, in that order."""

import difflib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.model.layers import Merge
from frozen_vqa.pipeline.model.pooling import PoolingKind
from frozen_vqa.pipeline.model.vqa_model import CHOICES, AnswerHead, Fusion
from frozen_vqa.pipeline.presets import PRESETS
from frozen_vqa.pipeline.system.device import PRECISIONS, Precision

KINDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
}
"""How a setting's type is called in a message."""

ANSWERS = "answers.json"
"""Where a run keeps its answers."""

COUNTS = ("layers", "heads", "epochs", "batch_size", "accumulate", "min_answer_count")
SEEDS = ("seed", "order_seed")
LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **{name: (lambda count: count >= 1, "at least 1") for name in COUNTS},
    "width": (lambda width: width >= 0, "at least 0"),
    "top_answers": (lambda count: count >= 0, "at least 0"),
    "patience": (lambda epochs: epochs >= 0, "at least 0"),
    **{name: (lambda seed: 0 <= seed < 2**63, "at least 0 and below 2**63") for name in SEEDS},
    "lr": (lambda rate: 0 < rate <= 10, "above 0 and at most 10"),
    "clip": (lambda norm: 0 < norm <= 1e9, "above 0 and at most 1e9"),
    "warmup": (lambda share: 0 <= share <= 1, "from 0 to 1"),
    "weight_decay": (lambda decay: 0 <= decay <= 10, "from 0 to 10"),
    "dropout": (lambda share: 0 <= share < 1, "at least 0 and below 1"),
    "ema": (lambda decay: 0 <= decay < 1, "at least 0 and below 1"),
    "feature_dropout": (lambda share: 0 <= share < 1, "at least 0 and below 1"),
    "precision": (lambda kind: kind in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    **{name: (kinds.__contains__, f"one of {', '.join(kinds)}") for name, kinds in CHOICES.items()},
}
"""What a value has to satisfy, and how that is said."""


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of stage two. Names are those of the TOML file and of the flags."""

    fusion: Fusion = "co-attention"
    """How pictures and questions meet."""
    layers: int = 1
    """Cross-attention layers."""
    width: int = 256
    """Size of everything between the projections and the head; 0 is that of a hidden state."""
    heads: int = 4
    """Attention heads."""
    dropout: float = 0.0
    """Share of activations dropped in training."""
    feature_dropout: float = 0.0
    """Share of the encoders' channels dropped in training."""
    place: bool = True
    """Whether patches are told where they are."""
    text_self_attention: bool = False
    """Whether the words of a question look at each other before each layer."""
    merge: Merge = "concat"
    """How original and attended features come together."""
    pooling: PoolingKind = "attention"
    """How words and patches become one vector each."""
    post_norm: bool = False
    """Whether norms come after each residual sum, and not before each look."""
    answer_head: AnswerHead = "mlp"
    """What makes logits of the pooled vectors."""
    epochs: int = 15
    """Passes over the training split."""
    patience: int = 0
    """Epochs without a better validation accuracy that end a training early; 0 is no such end."""
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
    ema: float = 0.0
    """Decay of a moving average of the weights, which is scored and kept; 0 is none."""
    group_by_image: bool = True
    """Whether a batch takes pictures with all their questions, or questions one by one."""
    precision: Precision = "auto"
    """In what matrices are multiplied: bfloat16 where the device has it, or float32."""
    seed: int = 0
    """Of initial weights and dropout."""
    order_seed: int = 0
    """Of the order of the batches; heads with the same one see the same batches."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split that is scored after every epoch and chooses the best weights."""
    min_answer_count: int = 9
    """Training questions that must have an answer as majority for it to be a class."""
    top_answers: int = 0
    """Keep at most so many classes; 0 keeps all."""
    answers_file: str = ""
    """File of the answers that are classes, in place of both counts; empty is none."""

    def __post_init__(self) -> None:
        needed = {}
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if kind is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif type(value) is not kind:
                needed[field.name] = f"{KINDS[kind]} is needed"
        for name, (holds, limits) in LIMITS.items():
            if name not in needed and not holds(getattr(self, name)):
                needed[name] = f"it must be {limits}"
        if needed:
            raise ConfigError(
                "; ".join(
                    f"{name} is {getattr(self, name)!r}; {what}" for name, what in needed.items()
                )
            )

    def kept(self) -> "TrainConfig":
        """Return the settings as a run keeps them: with its own file of the answers it was given.

        So no folder of this machine is among them, and the run needs no file but its own.
        """
        return replace(self, answers_file=ANSWERS if self.answers_file else "")

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
        path: A TOML file, or None. A relative path in it begins at its folder.
        overrides: Settings that win; those that are None are as if not given. Here as in the file,
            `preset` is a name of `pipeline/presets.py`, over whose settings all others win.

    Raises:
        ConfigError: if the file cannot be read, a name or value is not known, or two that win
            exclude each other.
    """
    settings = beside(path, read_settings(path)) if path is not None else {}
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        config = make_config(settings | given)
        require_one_rule(given, config)
        return config
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None


def kept_config(run: Path) -> TrainConfig:
    """Return the settings that a run keeps."""
    return load_config(run / "config.toml", {}).kept()


def read_settings(path: Path, also: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a TOML file sets; the values are not checked.

    Args:
        path: The file.
        also: Keys that may be there beside the settings.

    Raises:
        ConfigError: if the file cannot be read, or a name is not known.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from error
    require_known(path, settings, also)
    return settings


def beside(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file, of which a relative path begins at its folder."""
    answers = settings.get("answers_file")
    if not isinstance(answers, str) or not answers:
        return dict(settings)
    return {**settings, "answers_file": str(path.parent / answers)}


def require_one_rule(given: Mapping[str, Any], config: TrainConfig) -> None:
    """Raise `ConfigError` if a count is given where a file says which answers are classes.

    In a TOML file both may stand, for that of a run has every setting.
    """
    for name in ("min_answer_count", "top_answers"):
        if name in given and config.answers_file:
            raise ConfigError(
                f"{name} is given, and the answers are those of {config.answers_file}; "
                f"leave one of the two out"
            )


def require_known(path: Path, names: Iterable[str], also: Sequence[str] = ()) -> None:
    """Raise `ConfigError` unless all names are those of settings, or among the others."""
    known = [*(field.name for field in fields(TrainConfig)), "preset", *also]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
            raise ConfigError(f"{path}: unknown key {name!r}; {hint}")


def make_config(settings: Mapping[str, Any]) -> TrainConfig:
    """Return the settings that are given, over those of a `preset` among them, over the defaults.

    Raises:
        ConfigError: if a value is not allowed.
    """
    given = {name: value for name, value in settings.items() if name != "preset"}
    return TrainConfig(**preset_settings(settings.get("preset")) | given)


def preset_settings(name: str | None) -> dict[str, Any]:
    """Return the settings of a preset; none without a name.

    Raises:
        ConfigError: if there is no such preset.
    """
    if name is not None and name not in list(PRESETS):
        raise ConfigError(f"preset is {name!r}; it must be one of {', '.join(PRESETS)}")
    return dict(PRESETS[name]) if name is not None else {}
