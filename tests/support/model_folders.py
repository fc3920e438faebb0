"""Folders of tiny text models that a test may damage, and the one sentence that refuses them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from frozen_vqa.pipeline.encoders.tiny import tiny_checkpoint
from frozen_vqa.pipeline.errors import ModelError

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        yield


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A copy of a text encoder that a test may damage."""
    return Path(shutil.copytree(tiny_checkpoint("text"), tmp_path / "text"))


def message_of(make: Callable[[], object]) -> str:
    with pytest.raises(ModelError, match=r"\S") as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    state = safetensors.torch.load_file(folder / WEIGHTS)
    change(state)
    safetensors.torch.save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
