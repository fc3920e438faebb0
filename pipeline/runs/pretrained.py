"""A head from a run folder or from the Hub, and to the Hub: `from_pretrained`, `push_to_hub`.

A repository on the Hub is a run folder without what belongs to this machine, so that what is
downloaded loads, answers and is checked as any run is.
"""

import os
from pathlib import Path
from typing import Any, Self, cast

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from torch import nn

from frozen_vqa.pipeline.errors import RunError
from frozen_vqa.pipeline.runs.weights import load_weights


class Pretrained(PyTorchModelHubMixin, nn.Module):
    """What a head gets from the Hub's library.

    Attributes:
        folder: The run that it was loaded from; None for a new head.
    """

    folder: Path | None = None

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
    ) -> Self:
        """Return the head of a run, in eval mode: the one that `load_run` returns.

        Args:
            pretrained_model_name_or_path: A run folder, or the name of a repository on the Hub.
            force_download, token, cache_dir, local_files_only, revision: As in `huggingface_hub`.
            map_location: The device to load it to.

        Raises:
            RunError: if the folder is no run, or a file is not what was saved.
            huggingface_hub.errors.HfHubHTTPError: if there is no such repository.
        """
        from frozen_vqa.pipeline.runs.run import load_run  # which imports the model

        place = str(pretrained_model_name_or_path)
        if not os.path.isdir(place):
            place = snapshot_download(
                place,
                force_download=force_download,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                revision=revision,
            )
        model = load_run(Path(place), torch.device(map_location)).model
        model.folder = Path(place)
        return cast(Self, model)

    def save_pretrained(self, save_directory: str | Path, **how: Any) -> str | None:
        """Copy the run that the head was loaded from, without what belongs to this machine.

        Args:
            save_directory: A folder, made if need be.
            how: As in `huggingface_hub`.

        Raises:
            RunError: if it was loaded from none, was changed since, or is to be saved over it.
        """
        if self.folder is None or not self._is_that_of(self.folder):
            raise RunError(
                "this head is not that of a run, so nothing says what its answers mean; load one "
                "with VqaModel.from_pretrained(RUN) and save that"
            )
        if Path(save_directory).resolve() == self.folder.resolve():
            raise RunError(f"{self.folder}: the head was loaded from here; save it elsewhere")
        return super().save_pretrained(save_directory, **how)

    def _is_that_of(self, run: Path) -> bool:
        saved, mine = load_weights(run).tensors, self.state_dict()
        return all(torch.equal(mine[name].cpu(), tensor) for name, tensor in saved.items())

    def _save_pretrained(self, save_directory: Path) -> None:
        from frozen_vqa.pipeline.runs.run import publish_run

        assert self.folder is not None  # save_pretrained has seen to it
        publish_run(self.folder, save_directory)
