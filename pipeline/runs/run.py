"""A run folder: settings, weights, answers and the curve of one training.

    RUN/config.toml     every setting, resolved     RUN/model.safetensors   the best weights
    RUN/config.json     shapes and encoders         RUN/answers.json        the vocabulary
    RUN/metrics.jsonl   one line per epoch          RUN/run.json            cache and outcome
    RUN/environment.json   versions and machine (`pipeline/runs/environment.py`)
    RUN/tensorboard/    on request (`pipeline/train/tensorboard.py`)
    RUN/state/          during training: where to resume (`pipeline/runs/state.py`)
    RUN/evaluation/     results of `evaluate`
    RUN/.frozen-vqa     the names of all these files; RUN/.lock: who writes them now (`folder.py`)
    RUN/README.md       the model card (`pipeline/runs/card.py`)

No file is a pickle, and no file that is loaded can run code. Every file of a run that a command
relies on is checked against a digest: the weights carry a digest of themselves and of the three
files that say what they mean (`pipeline/runs/weights.py`); run.json, written last, carries its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from frozen_vqa.cache import CacheError, CacheSpec, FeatureCache
from frozen_vqa.cache.arrivals import address_of
from frozen_vqa.cache.disk.files import read_file, write_atomically
from frozen_vqa.cache.format.digests import digest
from frozen_vqa.cache.format.parts import LAST, Part
from frozen_vqa.cache.names import path_in
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.answers.vocabulary import CHOICES, Vocabulary, load_vocabulary
from frozen_vqa.pipeline.config import ANSWERS, TrainConfig, load_run_config
from frozen_vqa.pipeline.errors import RunError, reason_of
from frozen_vqa.pipeline.model.config import ModelConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.plugins import is_own, trust, trusted
from frozen_vqa.pipeline.runs.card import remove_card
from frozen_vqa.pipeline.runs.data import TrainingData, record_data
from frozen_vqa.pipeline.runs.description import (
    FORMAT,
    RESTORE,
    Encoders,
    Outcome,
    named_parts,
    read_description,
    read_record,
)
from frozen_vqa.pipeline.runs.folder import (
    CURRENT,
    LARGEST_TEXT,
    Stamp,
    claim_run,
    explain_run_write_errors,
    require_free,
    stamp_weights,
    training_files,
)
from frozen_vqa.pipeline.runs.sealed import json_bytes, require_fit, seal_json
from frozen_vqa.pipeline.runs.state import remove_state
from frozen_vqa.pipeline.runs.weights import Weights, load_weights

MEANING = ("config.toml", "config.json", ANSWERS)
"""The files that say what the weights mean."""


@dataclass(frozen=True)
class Run:
    """A trained head, loaded."""

    path: Path
    config: TrainConfig
    model: VqaModel  # with its best weights, on the device, in eval mode
    vocabulary: Vocabulary
    encoders: Encoders  # settings of the encoders whose features it was trained on
    dtype: str  # of these features in the cache
    data: TrainingData
    stamp: Stamp  # tells its file of weights from any other
    others: tuple["Run", ...] = ()  # whose answers are averaged with its own, in an ensemble

    @property
    def chooses(self) -> bool:
        """Whether it scores the choices of each question, and has no answers of its own."""
        return self.vocabulary == CHOICES

    @property
    def needs(self) -> str:
        """What it reads beside a question and one picture; "" if that is all."""
        pictures = self.model.config.pictures
        needs = ["the choices of each question"] if self.chooses else []
        needs += [f"{pictures} pictures a question"] if pictures > 1 else []
        return " and ".join(needs)

    def require_no_needs(self, but: str) -> None:
        """Raise `RunError`, which says `but`, if it reads more than a question and one picture."""
        if self.needs:
            raise RunError(
                f"{self.path}: the head reads {self.needs}, but {but}; use `frozen-vqa evaluate`"
            )

    @property
    def cache(self) -> str:
        """Folder or URL of the cache that it was trained from; `open_cache` asks no URL."""
        return self.data.cache


def start_run(
    path: Path,
    *,
    config: TrainConfig,
    model: ModelConfig,
    vocabulary: Vocabulary,
    cache: FeatureCache,
    overwrite: bool,
) -> dict[str, str]:
    """Make a run folder with everything but weights; return the digests to save with the weights.

    Raises `RunError` if the folder holds a run and `overwrite` is not set, or cannot be written.
    """
    if not overwrite:
        require_free(path)
    own, files, replaces = claim_run(path), training_files(path), (path / "config.json").exists()
    with explain_run_write_errors(path):
        own.note(*files)
    with explain_run_write_errors(path, replaces=replaces):
        # States first, because they must not outlive the files that belong to them; what the
        # weights answered goes with them. What says what they mean is replaced below.
        own.remove((name for name in files if name not in MEANING), forget=False)
        own.remove(own.names().difference(files))
        remove_card(path)
        write_atomically(path / "config.toml", config.without_folders().to_toml().encode())
        vocabulary.save(path / ANSWERS)
        description: dict[str, Any] = {"format": FORMAT, "model": asdict(model)}
        description |= {"encoders": encoder_settings(cache.spec), "dtype": cache.spec.dtype}
        write_atomically(path / "config.json", json_bytes(description))
        where = {"cache": address_of(cache.directory), **record_data(cache, config)}
        write_atomically(path / "run.json", seal_json(where))
        return read_digests(path)


def read_digests(path: Path) -> dict[str, str]:
    """Return the digests of `MEANING`; raise `RunError` if one of them cannot be read."""
    found = {}
    for name in MEANING:
        try:
            found[name] = digest(read_file(path_in(path, name), most=LARGEST_TEXT))
        except OSError as error:  # of a failing disk, it names no file
            raise RunError(
                f"{path_in(path, name)}: cannot be read ({error.strerror}). {RESTORE}"
            ) from error
    return found


def encoder_settings(spec: CacheSpec) -> Encoders:
    """Return the settings of all encoders, without how the cache stores their features."""
    found = Encoders(vision=dict(spec.vision), text=dict(spec.text))
    if spec.more_vision:
        found["more_vision"] = [dict(part.settings) for part in spec.more_vision]
    if spec.more_text:
        found["more_text"] = [dict(part.settings) for part in spec.more_text]
    return found


def finish_run(path: Path, cache: FeatureCache, summary: Mapping[str, Any]) -> None:
    """Record the outcome of a training and remove its states, or raise `RunError`."""
    with explain_run_write_errors(path):
        found = {"cache": address_of(cache.directory), **summary}
        write_atomically(path / "run.json", seal_json(found))
        remove_state(path)


def read_outcome(path: Path) -> Outcome | None:
    """Return what `finish_run` recorded, None if unfinished; raise `RunError` if it is damaged."""
    if not (path / "run.json").exists():
        return None
    found = read_record(path)
    return cast(Outcome, found) if "best_accuracy" in found else None


def load_run(
    path: Path | str,
    device: torch.device | str = "cpu",
    *,
    fusion: str | Callable[[ModelConfig], Any] | None = None,
) -> Run:
    """Load a trained head.

    Args:
        path: The run folder.
        fusion: The fusion of your own that the head was trained with, which `trust` imports.

    Raises:
        RunError: if there is no run, or a file was changed since.
        PluginError: if the run names a fusion that the user has not named.
    """
    if fusion is not None:
        trust(fusion)
    path, device = Path(path), torch.device(device)
    description = read_description(path)
    where = read_record(path)
    stamp = stamp_weights(path)
    weights = load_weights(path)
    require_meaning(path, weights)
    cache, dtype, encoders = where["cache"], description.dtype, description.encoders
    splits, held_out = where.get("splits"), where.get("held_out")
    data = TrainingData(cache, dtype, where.get("dataset"), splits, held_out)
    try:
        if is_own(description.model.fusion):
            trusted(description.model.fusion, where=path, option="--fusion")
        model = _load_head(description.model, weights.tensors, device)
    except (ValueError, RuntimeError) as error:
        reason = reason_of(error)
        raise RunError(f"{path / CURRENT}: does not fit this run ({reason}). {RESTORE}") from error
    vocabulary = load_vocabulary(path / ANSWERS)
    if (len(vocabulary) or 1) != model.config.answers:
        raise RunError(
            f"{path / ANSWERS}: it has {len(vocabulary):,} answers, but the head tells "
            f"{model.config.answers:,} apart. {RESTORE}"
        )
    config = load_run_config(path)
    return Run(path, config, model.eval(), vocabulary, encoders, dtype, data, stamp)


def _load_head(
    config: ModelConfig, tensors: Mapping[str, Tensor], device: torch.device
) -> VqaModel:
    """Return the head of these weights.

    A run may come from elsewhere, so its config allocates no memory until it fits the weights;
    otherwise this raises `ValueError` or `RuntimeError`.
    """
    own = is_own(config.fusion)
    if config.layers > len(tensors) and not own:
        raise ValueError(f"layers is {config.layers}, but there are {len(tensors)} tensors")
    with torch.device("meta"):
        model = VqaModel(config)
    require_fit(tensors, model.state_dict())
    if own:  # it may keep tensors of its own that are not among the weights
        with torch.random.fork_rng(devices=[]):
            model = VqaModel(config)
        model.to(device)
    else:
        model.to_empty(device=device)  # its own memory, aligned as that of any tensor
    model.load_state_dict(tensors, strict=True)
    return model


def require_meaning(path: Path, weights: Weights) -> None:
    """Raise unless the files beside the weights are those with which they were saved."""
    for name, found in read_digests(path).items():
        if found != weights.files.get(name):
            raise RunError(
                f"{path_in(path, name)}: not the file that the weights were saved with; it was "
                f"changed or damaged. {RESTORE}"
            )


def features_of(run: Run, cache: FeatureCache) -> FeatureCache:
    """Return a cache with the parts alone that a run was trained on.

    Raises `CacheError`, which names both values, if it lacks one of them or has other shapes.
    """
    found = cache.take(*parts_of_run(run, cache.manifest.spec, cache.name))
    for name, stored in found.spec.shapes.items():
        if getattr(run.model.config, name) != stored:
            wanted = getattr(run.model.config, name)
            raise CacheError(
                f"{cache.name}: {name} is {stored}, but the head of {run.path} reads {wanted}"
                f". Give the cache it was trained from."
            )
    return found


def parts_of_run(run: Run, spec: CacheSpec, cache: object) -> tuple[list[int], list[int]]:
    """Return which parts of a cache a run was trained on; raise `CacheError` if it lacks one."""
    found: tuple[list[int], list[int]] = ([], [])
    for name, settings in named_parts(run.encoders).items():
        texts = name.startswith("text")
        parts = spec.text_parts if texts else spec.vision_parts
        found[texts].append(_find_part(run, cache, name, settings, parts))
    return found


def _find_part(
    run: Run, cache: object, name: str, wanted: Mapping[str, Json], parts: Sequence[Part]
) -> int:
    """Return the number of the part that has the wanted settings and no others."""
    wanted = {**wanted, "layer": wanted.get("layer", LAST)}
    stored = [{**part.settings, "layer": part.layer} for part in parts]
    lacking = [[k for k in {**wanted, **one} if one.get(k) != wanted.get(k)] for one in stored]
    near = min(range(len(parts)), key=lambda i: len(lacking[i]))
    if lacking[near]:
        key = lacking[near][0]
        raise CacheError(
            f"{cache}: {name} {key} is {stored[near].get(key)!r}, but the run {run.path} was "
            f"trained with {wanted.get(key)!r}. Give the cache it was trained from, or one made "
            f"with the same settings."
        )
    return near
