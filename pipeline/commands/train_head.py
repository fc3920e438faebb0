"""The `train-head` command: one head, or the heads of a sweep."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frozen_vqa.pipeline.batches.residency import Residency
from frozen_vqa.pipeline.commands.tables import show_sweep
from frozen_vqa.pipeline.config import load_config
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.system.console import console, duration
from frozen_vqa.pipeline.system.device import choose_device
from frozen_vqa.pipeline.system.ranks import Ranks, torchrun_ranks
from frozen_vqa.pipeline.train.resume import load_resumed_config
from frozen_vqa.pipeline.train.sweep import sweep
from frozen_vqa.pipeline.train.sweep_config import load_sweep
from frozen_vqa.pipeline.train.train import train


@dataclass(frozen=True)
class TrainRequest:
    """The arguments of `train-head`.

    Attributes:
        cache: Folder of the feature cache.
        run: Folder of the trained head, or of the folders of a sweep.
        config: TOML file of settings, or None.
        sweep: TOML file of many heads, or None; it takes the place of `config`.
        settings: Settings by name that win over those of the file; None is not given.
        overwrite: Whether existing runs may be replaced.
        resume: Whether to continue a stopped training.
        residency: Where to keep the features during training.
        tensorboard: Whether to write curves for TensorBoard.
        device: Name of the device.
    """

    cache: Path
    run: Path
    config: Path | None
    sweep: Path | None
    settings: Mapping[str, str | float | bool | None]
    overwrite: bool
    resume: bool
    residency: Residency
    tensorboard: bool
    device: str


def train_command(request: TrainRequest) -> dict[str, Any] | None:
    """Run stage two, or resume it; None from all ranks of `torchrun` but the first."""
    with torchrun_ranks() as ranks:
        if request.sweep is not None:
            return _train_sweep(request, request.sweep, ranks)
        return _train_one(request, ranks)


def _train_one(request: TrainRequest, ranks: Ranks) -> dict[str, Any] | None:
    run, settings = request.run, request.settings
    if request.resume:
        config = load_resumed_config(run, request.config, settings)
    else:
        config = load_config(request.config, settings)
    result = train(
        request.cache,
        run,
        config=config,
        device=choose_device(request.device),
        residency=request.residency,
        overwrite=request.overwrite,
        resume=request.resume,
        tensorboard=request.tensorboard,
        ranks=ranks,
    )
    if not ranks.lead:
        return None
    console.print(
        f"{run}: best accuracy {result.best_accuracy:.2f} % after epoch {result.best_epoch}, "
        f"{result.trainable_parameters:,} parameters, {result.questions_per_second:,.0f} "
        f"questions/s, {100 * result.data_wait_fraction:.1f} % of the time waiting for data, "
        f"{duration(result.seconds)}",
        soft_wrap=True,
    )
    return asdict(result)


def _train_sweep(request: TrainRequest, file: Path, ranks: Ranks) -> dict[str, Any]:
    if ranks.world > 1:
        raise ConfigError(
            f"--sweep trains many heads in one process, and torchrun started {ranks.world}; "
            f"leave one of the two out"
        )
    result = sweep(
        request.cache,
        request.run,
        heads=load_sweep(file, request.settings),
        device=choose_device(request.device),
        residency=request.residency,
        overwrite=request.overwrite,
        resume=request.resume,
        tensorboard=request.tensorboard,
    )
    show_sweep(result)
    return {
        "run": str(request.run),
        "heads": [{"name": name, **asdict(head)} for name, head in result.heads.items()],
        "failed": dict(result.failed),
        "seconds": result.seconds,
    }
