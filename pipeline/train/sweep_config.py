"""The heads of a sweep: a TOML file of settings, some of which have several values.

    epochs = 10                     shared by all heads
    lr = [0.001, 0.0005]            a list: one head for each value
    seed = [0, 1, 2]                several lists: one head for each combination
    vision = ["a", "b", "a+b"]      encoders of one cache, and two of them side by side

    [[head]]                        a separate head, or several: lists in it, and those above,
    name = "wide"                   are combined
    width = 512

Heads train on the same batches, so all have the same settings that decide these: see `SHARED`.
Those that read the same parts of the features share their reading.
"""

import itertools
import json
import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from frozen_vqa.cache import load_manifest
from frozen_vqa.cache.format.parts import EACH, labels
from frozen_vqa.pipeline.config import (
    TrainConfig,
    make_config,
    read_settings,
    require_known,
    require_one_rule,
    resolve_paths,
)
from frozen_vqa.pipeline.errors import ConfigError

SHARED = (
    "train_split",
    "val_split",
    "val_fraction",
    "val_seed",
    "min_answer_count",
    "top_answers",
    "answers_file",
    "metric",
    "epochs",
    "batch_size",
    "accumulate",
    "group_by_image",
    "order_seed",
    "shares",
)
"""Settings that decide which questions make a batch and a step, and which targets they have."""

MOST_HEADS = 1_000
"""All heads of a sweep are in memory at once."""

NAME = re.compile(r"\w[\w.,=+-]{0,149}")
"""A head's name is that of its run folder."""


@dataclass(frozen=True)
class _Asked:
    """A head of the file: its name there, the values it has from lists, and all its settings."""

    name: str | None
    chosen: Mapping[str, Any]
    config: TrainConfig


def load_sweep(path: Path, overrides: Mapping[str, Any]) -> dict[str, TrainConfig]:
    """Return the settings of each head by its name.

    The name of a head lists the settings that differ from other heads, as in "lr=0.001,seed=0". If
    the file gives it a name, that comes first, and only values from lists follow. `overrides` win
    for all heads, except where they are None.

    Raises `ConfigError` if the file cannot be read, a name or value is not known, two heads have
    the same name, or they cannot train on the same batches.
    """
    settings = read_settings(path, also=("head",))
    tables = settings.pop("head", [{}])
    if not (tables and isinstance(tables, list) and all(isinstance(t, dict) for t in tables)):
        raise ConfigError(f"{path}: head has to be tables, each beginning with [[head]]")
    given = {name: value for name, value in overrides.items() if value is not None}
    asked: list[_Asked] = []
    for table in tables:
        asked += _expand_table(path, settings, table, given)
        if len(asked) > MOST_HEADS:
            raise ConfigError(
                f"{path}: there are more than {MOST_HEADS:,} heads in it; make several sweeps"
            )
    _require_shared(path, [head.config for head in asked])
    return _name_heads(path, asked)


def _expand_table(
    path: Path, settings: Mapping[str, Any], table: Mapping[str, Any], given: Mapping[str, Any]
) -> list[_Asked]:
    """Return the heads of one table: one for each combination of values."""
    require_known(path, table, also=("name",))
    name = table.get("name")
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ConfigError(
            f"{path}: name is {name!r:.60}; the name of a folder is needed: letters, digits, .,=+-"
        )
    merged = {**settings, **table, **given}
    merged.pop("name", None)
    lists = {key: value for key, value in merged.items() if isinstance(value, list)}
    if empty := [key for key, values in lists.items() if not values]:
        raise ConfigError(f"{path}: {empty[0]} is an empty list; give it a value")
    if (count := math.prod(map(len, lists.values()))) > MOST_HEADS:
        raise ConfigError(
            f"{path}: the lists {', '.join(lists)} combine to {count:,} heads; make the lists "
            f"shorter, to at most {MOST_HEADS:,}"
        )
    heads = []
    for combination in itertools.product(*lists.values()):
        chosen = dict(zip(lists, combination, strict=True))
        try:
            config = make_config({**resolve_paths(path, {**merged, **chosen}), **given})
            require_one_rule(given, config)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        heads.append(_Asked(name, chosen, config))
    return heads


def _require_shared(path: Path, configs: Sequence[TrainConfig]) -> None:
    for name, other in itertools.product(SHARED, configs[1:]):
        one, two = getattr(configs[0], name), getattr(other, name)
        if one != two:
            raise ConfigError(
                f"{path}: {name} is {one!r} for one head and {two!r} for another, but heads of a "
                f"sweep train on the same batches. Give it one value, or make two sweeps."
            )


def _name_heads(path: Path, asked: Sequence[_Asked]) -> dict[str, TrainConfig]:
    settings = [asdict(head.config) for head in asked]
    first = settings[0]
    differing = [name for name in first if any(one[name] != first[name] for one in settings)]
    found: dict[str, TrainConfig] = {}
    for head in asked:
        keys = differing if head.name is None else [key for key in differing if key in head.chosen]
        parts = [f"{key}={_spell(getattr(head.config, key))}" for key in keys]
        name = ",".join([head.name, *parts] if head.name else parts) or "head"
        if name in found:
            raise ConfigError(f"{path}: two heads have the name {name!r}; give each its own name")
        found[name] = head.config
    return found


def _spell(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    # A folder has no slash in its name: of "facebook/dinov2-base+google/siglip" the last parts.
    return "+".join(one.rpartition("/")[2] for one in value.split("+"))


def each_part(cache: Path, config: TrainConfig, each: Container[str]) -> dict[str, TrainConfig]:
    """Return a head for each part of the features of a cache, and one for all of them.

    `each` names the settings that choose parts: "vision", "text_layer", or both.
    """
    spec = load_manifest(cache).spec
    parts = {
        "vision": labels(spec.vision_parts),
        "text_layer": [str(part.layer) for part in spec.text_parts],
    }
    lists = {name: [*parts[name], ""] for name in parts if name in each}
    for name, values in lists.items():
        if len(values) == 2:
            raise ConfigError(
                f"{cache}: {name} is {EACH!r}, but this cache has {values[0]} alone; leave it out"
            )
    found = {}
    for some in itertools.product(*lists.values()):
        one: dict[str, Any] = dict(zip(lists, some, strict=True))
        name = ",".join(f"{key}={_spell(value) or 'all'}" for key, value in one.items())
        found[name] = replace(config, **one)
    return found
