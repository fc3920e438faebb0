"""Pretrained checkpoints: found, identified, loaded frozen; every failure in one sentence."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import xxhash

from frozen_vqa.pipeline.encoders.quiet import quiet_transformers
from frozen_vqa.pipeline.errors import ModelError

SAMPLE_BLOCKS = 16_384
BLOCK_BYTES = 4_096


class Checkpoint:
    """A model on the Hub or in a local folder.

    Args:
        place: Name on the Hub, or a folder.

    Attributes:
        commit: The commit on the Hub that `config` found; None for a folder. Whatever else is
            loaded of the model has to name it, so that all comes from one commit.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place)
        self.commit: str | None = None

    def config(self, model_types: Sequence[str]) -> Any:
        """Return the model's configuration.

        Raises:
            ModelError: if it cannot be had or is not of one of these types.
        """
        from transformers import AutoConfig
        from transformers.utils import cached_file, extract_commit_hash

        with loading(self.place):
            if not os.path.isdir(self.place):
                self.commit = extract_commit_hash(cached_file(self.place, "config.json"), None)
            config = AutoConfig.from_pretrained(self.place, revision=self.commit)
        if config.model_type not in model_types:
            raise ModelError(
                f"{self.place} is a {config.model_type!r} model; "
                f"needed is one of: {', '.join(model_types)}"
            )
        return config

    @property
    def revision(self) -> str:
        """The commit on the Hub, or a digest of a local folder's files."""
        return self.commit or weights_digest(Path(self.place))

    def load(self, config: Any, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
        """Load the weights: in `dtype`, on `device`, in eval mode, without gradients.

        Raises:
            ModelError: if they cannot be had, are not all there, or do not fit the device.
        """
        from transformers import AutoModel

        with loading(self.place):
            model, found = AutoModel.from_pretrained(
                self.place,
                revision=self.commit,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        # transformers fills what is missing with random numbers. The mask token is never used.
        lacking = {name for name in found["missing_keys"] if not name.endswith("mask_token")}
        lacking |= {name for name, *_ in found["mismatched_keys"]}
        if lacking:
            raise ModelError(
                f"{self.place}: {len(lacking)} of its weights are missing or of another size than "
                f"its config.json says, such as {min(lacking)}; download it again"
            )
        try:
            return model.to(device).eval().requires_grad_(False)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{self.place} does not fit the memory of {device}; use --device cpu or a smaller "
                f"model"
            ) from error


def weights_digest(folder: Path) -> str:
    """Return a digest of the weights, config and tokenizer in `folder`, large files read in part.

    Up to 64 MB a file is read whole; of a larger one, blocks spread evenly over it. That tells any
    two checkpoints apart at the price of milliseconds.

    Raises:
        ModelError: if there are none.
    """
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} has no .safetensors file, and weights in another form are not read, for a "
            f"pickle can run code; save the model anew or take another copy"
        )
    hasher = xxhash.xxh3_128()
    patterns = ("*.safetensors", "*.json", "*.model")  # .model: a tokenizer of the older kind
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        size = path.stat().st_size
        hasher.update(f"{path.name} {size}\n".encode())
        step = max(BLOCK_BYTES, size // SAMPLE_BLOCKS)
        with path.open("rb") as file:
            for offset in range(0, size, step):
                file.seek(offset)
                hasher.update(file.read(BLOCK_BYTES))
    return f"xxh3:{hasher.hexdigest()}"


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn what transformers raises for a model that cannot be had into one sentence."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        with quiet_transformers():
            yield
    except Exception as error:  # damaged files raise nearly any class
        causes = list(_chain(error))
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            raise ModelError(
                f"{name} is gated: request access at https://huggingface.co/{name}, then run "
                f"`hf auth login` (or set HF_TOKEN) and try again"
            ) from error
        if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
            raise ModelError(
                f"{name} is neither a local folder nor a model on the Hub; check the spelling, "
                f"or run `hf auth login` if it is private"
            ) from error
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise ModelError(_sentence(name, kind + " ".join(str(error).split()))) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sentence(name: str, text: str) -> str:
    from huggingface_hub import constants

    if os.path.isdir(name):  # unlike Path.is_dir, False for a name that is too long for a file
        return f"{name} is not a complete model folder: {text[:300]}"
    if looks_like_path(name):
        return f"{name}: there is no such folder, and it is not the name of a model on the Hub"
    if constants.HF_HUB_OFFLINE:  # true for "1" and "yes", not for "0"
        return (
            f"{name} is not in the local Hub cache, and offline mode is on; run `hf download "
            f"{name}` with a network, or unset HF_HUB_OFFLINE"
        )
    if "connect" in text.lower() or "resolve" in text.lower():
        return (
            f"{name} is not in the local Hub cache, and huggingface.co cannot be reached; "
            f"run `hf download {name}` with a network, or give a local folder"
        )
    return f"{name} cannot be loaded: {text[:300]}"


def full_name(model: str) -> str:
    """Return a Hub name as it is, and a folder's absolute path, which no later `cd` changes."""
    return str(Path(model).resolve()) if os.path.isdir(model) else model


def looks_like_path(name: str) -> bool:
    """Whether a model's name can only be meant as a folder."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1
