"""The settings of a training run: defaults, a preset, a TOML file, flags, in that order."""

import difflib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.model.config import (
    AT_LEAST_0,
    AT_LEAST_1,
    SHARE,
    AnswerHead,
    HeadSettings,
    Limit,
    Merge,
    ModelConfig,
    PoolingKind,
)
from frozen_vqa.pipeline.system.device import Precision

Keep = Literal["best", "last"]

ANSWERS = "answers.json"
"""Where a run keeps its answers."""

LARGEST_SETTINGS = 1 << 20
"""Bytes of a TOML file that are read; a sweep of 1,000 tables has about a tenth of them."""

MOST_DOTS = 200
"""In a line of it: a key of 40,000 parts takes 6 GB and 20 s to read."""

SEEDS = ("seed", "order_seed")

_DEEP = {"layers": 6, "text_self_attention": True, "dropout": 0.1}

PRESETS: dict[str, Mapping[str, Any]] = {
    "basic": {
        "layers": 1,
        "width": 0,
        "heads": 8,
        "position_embedding": False,
        "text_self_attention": False,
        "merge": "concat",
        "pooling": "mean",
        "post_norm": True,
        "answer_head": "linear",
    },
    "small": {**_DEEP, "width": 512, "heads": 8, "lr": 2e-4},
    "large": {**_DEEP, "width": 1024, "heads": 16, "lr": 1e-4},
}
"""Named sets of settings, which a TOML file and flags override.

`basic` is the plainest form: as wide as the hidden states, post-norm, one layer, a ReLU MLP on
original and attended features, masked means, a linear head. `small` and `large` have the depth and
widths of MCAN (Yu et al., 2019)."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(HeadSettings):
    """Every setting of stage two. Names are those of the TOML file and of the flags."""

    LIMITS: ClassVar[Mapping[str, Limit]] = {
        **HeadSettings.LIMITS,
        **dict.fromkeys(("epochs", "batch_size", "accumulate", "min_answer_count"), AT_LEAST_1),
        **dict.fromkeys(("top_answers", "patience"), AT_LEAST_0),
        "shares": (lambda shares: 0 <= shares <= 10_000, "from 0 to 10000"),
        **dict.fromkeys(
            (*SEEDS, "val_seed"), (lambda seed: 0 <= seed < 2**63, "at least 0 and below 2**63")
        ),
        "lr": (lambda rate: 0 < rate <= 10, "above 0 and at most 10"),
        "clip": (lambda norm: 0 < norm <= 1e9, "above 0 and at most 1e9"),
        "warmup": (lambda share: 0 <= share <= 1, "from 0 to 1"),
        "weight_decay": (lambda decay: 0 <= decay <= 10, "from 0 to 10"),
        **dict.fromkeys(("ema", "val_fraction"), SHARE),
    }

    epochs: int = 15
    """Passes over the training split."""
    patience: int = 0
    """Stop after this many epochs without a better validation accuracy; 0: never."""
    batch_size: int = 256
    """Questions per step, before accumulation."""
    accumulate: int = 1
    """Batches whose gradients one step adds up."""
    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.01
    """AdamW's decay of matrices; norms, biases and position embeddings have none."""
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises linearly; a cosine to zero follows."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.0
    """Decay of a moving average of the weights, which is validated and kept; 0: no average."""
    group_by_image: bool = True
    """Whether a batch takes pictures with all their questions, or single questions."""
    precision: Precision = "auto"
    """Type of matrix products in training; auto: bfloat16 where the device has it, else float32."""
    seed: int = 0
    """Seed of initial weights and dropout."""
    order_seed: int = 0
    """Seed of the order of batches; heads with the same one see the same batches."""
    shares: int = 0
    """Shares of the pictures with an equal part in each batch; 0: one for each machine at a URL."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str = "val"
    """Split that validates each epoch and chooses the best weights."""
    val_fraction: float = 0.0
    """Share of the training pictures that is held out in place of `val_split`; 0: none."""
    val_seed: int = 0
    """Seed of which pictures are held out."""
    keep: Keep = "best"
    """Whether a run keeps the weights of the epoch that validates best, or of the last one."""
    min_answer_count: int = 9
    """An answer is a class if it is the majority of at least this many training questions."""
    top_answers: int = 0
    """Keep at most this many classes; 0: all."""
    answers_file: str = ""
    """File of the answers that are classes, in place of both counts; empty: none."""
    metric: str = ""
    """What soft targets and accuracy are of; empty: what the data name, else VQA accuracy."""
    vision: str = ""
    """Parts of the patch embeddings of a cache of several, as "NAME@LAYER+NAME"; empty: all."""
    text_layer: str = ""
    """Layer of the hidden states of a cache of several, or "-1+8" for two; empty: all."""

    @property
    def validation(self) -> str:
        """The split that validates, or the name of the part that is held out (`held_out.py`)."""
        if not self.val_fraction:
            return self.val_split
        seed = f"@{self.val_seed}" if self.val_seed else ""
        return f"{self.train_split}@{self.val_fraction!r}{seed}"

    def without_folders(self) -> "TrainConfig":
        """Return the settings as a run keeps them: with its own file of the answers.

        So they name no folder of this machine, and the run needs no file but its own.
        """
        return replace(self, answers_file=ANSWERS if self.answers_file else "")

    def to_toml(self) -> str:
        """Return the settings as a TOML file."""
        # JSON's spelling of numbers, texts and truth values is TOML's too.
        spell = partial(json.dumps, ensure_ascii=False)
        return "".join(f"{name} = {spell(value)}\n" for name, value in asdict(self).items())


class TrainSettings(TypedDict, total=False):
    """The settings of `TrainConfig` as arguments, of which any may be given, and a `preset`."""

    preset: str
    fusion: str | Callable[[ModelConfig], Any]
    layers: int
    width: int
    heads: int
    dropout: float
    feature_dropout: float
    position_embedding: bool
    text_self_attention: bool
    merge: Merge
    pooling: PoolingKind
    post_norm: bool
    answer_head: AnswerHead
    epochs: int
    patience: int
    batch_size: int
    accumulate: int
    lr: float
    weight_decay: float
    warmup: float
    clip: float
    ema: float
    group_by_image: bool
    precision: Precision
    seed: int
    order_seed: int
    shares: int
    train_split: str
    val_split: str
    val_fraction: float
    val_seed: int
    keep: Keep
    min_answer_count: int
    top_answers: int
    answers_file: str
    metric: str
    vision: str
    text_layer: str


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a TOML file (or the defaults) with some replaced.

    A relative path in the file begins at its folder. `overrides` win, except where they are None.
    Here as in the file, `preset` is a name in `PRESETS`, and all other settings win over its own.

    Raises:
        ConfigError: if the file cannot be read, a name or value is not known, or two of the
            overrides exclude each other.
    """
    settings = resolve_paths(path, read_settings(path)) if path is not None else {}
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        config = make_config(settings | given)
        require_one_rule(given, config)
        return config
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from None


def load_run_config(run: Path) -> TrainConfig:
    """Return the settings of a run folder."""
    return load_config(run / "config.toml", {}).without_folders()


def read_settings(path: Path, also: Sequence[str] = ()) -> dict[str, Any]:
    """Return the unchecked settings in a TOML file, which may also have the keys in `also`.

    Raises:
        ConfigError: if the file cannot be read, or a name is not known.
    """
    try:
        # Some editors put a byte order mark first.
        text = read_file(path, most=LARGEST_SETTINGS).decode("utf-8-sig")
        if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
            raise ValueError(f"a line has more than {MOST_DOTS} dots")
        settings = tomllib.loads(text)
        repr(settings)  # fails if a hexadecimal number has more digits than Python prints
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:  # ValueError: also a number of 5,000 digits
        raise ConfigError(f"{path}: not a TOML file ({error})") from error
    require_known(path, settings, also)
    return settings


def resolve_paths(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file, with its relative paths resolved against its folder."""
    answers = settings.get("answers_file")
    if not isinstance(answers, str) or not answers:
        return dict(settings)
    return {**settings, "answers_file": str(path.parent / answers)}


def require_one_rule(given: Mapping[str, Any], config: TrainConfig) -> None:
    """Raise `ConfigError` if a setting is given that another one leaves without an effect.

    A file of answers takes the place of counts, and a held-out part that of a validation split. A
    TOML file may have both, because that of a run has every setting.
    """
    if "val_split" in given and config.val_fraction:
        raise ConfigError(
            f"val_split is given, and val_fraction is {config.val_fraction:g}, which holds out a "
            f"part of {config.train_split!r} instead; leave one of the two out"
        )
    for name in ("min_answer_count", "top_answers"):
        if name in given and config.answers_file:
            raise ConfigError(
                f"{name} is given, and the answers are those of {config.answers_file}; "
                f"leave one of the two out"
            )


def require_known(path: Path | None, names: Iterable[str], also: Sequence[str] = ()) -> None:
    """Raise `ConfigError` unless each name is a setting or in `also`."""
    known = [*(field.name for field in fields(TrainConfig)), "preset", *also]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
            raise ConfigError(
                f"{f'{path}: unknown key' if path else 'unknown setting'} {name!r:.60}; {hint}"
            )


def make_config(settings: Mapping[str, Any]) -> TrainConfig:
    """Return the given settings, which win over those of a `preset` and over the defaults.

    Raises `ConfigError` if a name is not known, or a value is not allowed.
    """
    require_known(None, settings)
    given = {name: value for name, value in settings.items() if name != "preset"}
    return TrainConfig(**preset_settings(settings.get("preset")) | given)


def preset_settings(name: str | None) -> dict[str, Any]:
    """Return the settings of a preset; none without a name; `ConfigError` if it is not known."""
    if name is None:
        return {}
    if name not in list(PRESETS):  # a list, because a value from a file may be unhashable
        raise ConfigError(f"preset is {name!r:.60}; it must be one of {', '.join(PRESETS)}")
    return dict(PRESETS[name])
