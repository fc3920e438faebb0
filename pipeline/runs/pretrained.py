"""A head from a run folder or from the Hub, and to the Hub: `from_pretrained`, `push_to_hub`.

A repository on the Hub is a run folder without states, evaluations and names of local folders, so a
downloaded head loads, answers and is checked as any run is.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download

from frozen_vqa.cache import CacheSpec
from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.model.config import HeadSettings, ModelConfig
from frozen_vqa.pipeline.model.vqa_model import VqaModel
from frozen_vqa.pipeline.runs.folder import claim_published
from frozen_vqa.pipeline.runs.publish import publish_run, read_published
from frozen_vqa.pipeline.runs.run import Run, load_run
from frozen_vqa.pipeline.runs.weights import load_weights


class VqaHead(PyTorchModelHubMixin, VqaModel):
    """A head that the Hub's library can load, save and push."""

    run: Run | None = None
    """The run that it was loaded from; None for a new head."""

    @property
    def folder(self) -> Path | None:
        """The folder of the run that it was loaded from."""
        return self.run.path if self.run else None

    @classmethod
    def from_pretrained(  # type: ignore[override]  # a run's own config.json says all the rest
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        map_location: str = "cpu",
        fusion: str | Callable[[ModelConfig], Any] | None = None,
    ) -> Self:
        """Return the head of a run, in eval mode, with the weights that `load_run` loads.

        Args:
            pretrained_model_name_or_path: A run folder, or the name of a repository on the Hub.
            force_download, token, cache_dir, local_files_only, revision: As in `huggingface_hub`.
            map_location: The device to load it to.
            fusion: The fusion of your own that the head was trained with, as in `load_run`.

        Raises:
            RunError: if the folder is no run, or a file is not the one that was saved.
            PluginError: if the run names a fusion that the user has not named.
            huggingface_hub.errors.HfHubHTTPError: if there is no such repository.
        """
        folder = str(pretrained_model_name_or_path)
        if not os.path.isdir(folder):
            folder = snapshot_download(
                folder,
                force_download=force_download,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                revision=revision,
            )
        run = load_run(Path(folder), map_location, fusion=fusion)
        with torch.device("meta"):  # the loaded layers become its own
            head = cls(run.model.config)
        for name, layer in run.model.named_children():
            setattr(head, name, layer)
        head.run = replace(run, model=head)
        return head.eval()

    @classmethod
    def untrained(cls, spec: CacheSpec, answers: int, config: HeadSettings | None = None) -> Self:
        """Return a head with first weights, for a training loop of your own.

        Args:
            spec: That of the cache that it will read, `FeatureCache.spec`.
            answers: Number of classes.
            config: Its settings; the defaults without it. `TrainConfig` is one.

        Raises:
            ConfigError: if the settings do not fit together.
        """
        return cls((config or HeadSettings()).with_shapes(**spec.shapes, answers=answers))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Copy the run that the head was loaded from to a folder, as `publish_run` does.

        Raises `RunError` if there is none, the head was changed since, or would replace its run,
        if a file of the run is a link, or if the folder may be somebody else's.
        """
        if self.folder is None or not self._has_weights_of(self.folder):
            raise RunError(
                "this head is not that of a run, so nothing says what its answers mean; load one "
                "with VqaHead.from_pretrained(RUN) and save that"
            )
        if Path(save_directory).resolve() == self.folder.resolve():
            raise RunError(f"{self.folder}: the head was loaded from here; save it elsewhere")
        read_published(self.folder)  # before anything is written
        claim_published(Path(save_directory))  # before the library removes its config.json
        return super().save_pretrained(save_directory, **options)

    def _has_weights_of(self, run: Path) -> bool:
        saved, mine = load_weights(run).tensors, self.state_dict()
        return saved.keys() == mine.keys() and all(
            torch.equal(mine[name].cpu(), tensor) for name, tensor in saved.items()
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        assert self.folder is not None  # save_pretrained makes sure of it
        publish_run(self.folder, save_directory)
