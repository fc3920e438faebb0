"""Pretrained checkpoints: find them, identify them, load them frozen; each failure is one sentence.

transformers and its Hub client print advice and progress bars, so they are silenced here.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from frozen_vqa.cache.disk.files import open_regular
from frozen_vqa.pipeline.encoders.checks.hub_errors import explain
from frozen_vqa.pipeline.encoders.checks.no_code import require_known_type, require_no_code
from frozen_vqa.pipeline.encoders.checks.quantise import Quantize, quantising
from frozen_vqa.pipeline.encoders.checks.repository import (
    ADAPTER,
    LARGEST_TEXT,
    Repository,
    adapter,
    indexed_weights,
    no_revisions,
    pickle_only,
)
from frozen_vqa.pipeline.encoders.families.family import F, Family, family_of
from frozen_vqa.pipeline.encoders.shape import (
    count_weights,
    require_possible_sizes,
    require_whole_weights,
)
from frozen_vqa.pipeline.errors import ModelError, is_out_of_memory, reason_of, unless_out_of_memory
from frozen_vqa.pipeline.system.library_files import require_library_files

if TYPE_CHECKING:
    import torch

SAMPLE_BLOCKS = 16_384
BLOCK_BYTES = 4_096


class Checkpoint:
    """A model on the Hub or in a local folder. With `local_only`, the Hub is not asked.

    No code of a model's own runs, and nothing asks whether it may: a configuration that names some
    is refused, unless transformers itself knows the type of model.

    `commit` is the commit on the Hub that `config` found; None for a folder. Everything else of the
    model is loaded from this commit, so that all of it fits together.

    Args:
        place: A name on the Hub or a folder.
        revision: A branch, a tag or a commit on the Hub; None for the main branch.
        local_only: Whether the Hub is not asked for anything.
    """

    def __init__(
        self, place: str | Path, *, revision: str | None = None, local_only: bool = False
    ) -> None:
        self.place = str(place)
        self.local_only = local_only
        self.commit: str | None = None
        self.folder = Path(place)  # of a model on the Hub, once its config.json is here
        self._asked = revision
        self._repository: Repository | None = None
        self._numbers: int | None = None
        self._family = Family("")

    def config(self, families: Mapping[str, F]) -> tuple[Any, F]:
        """Load the configuration of the part that is used, and find its family by its type.

        Raises:
            ModelError: if that fails, or it is of none of the types that `families` has.
        """
        from transformers import AutoConfig, PretrainedConfig

        if os.path.isdir(self.place):
            if self._asked:
                raise no_revisions(self.place)
            _require_own_files(self.folder)
        else:
            self._repository = self._open()
            self.commit, self.folder = self._repository.commit, self._repository.folder
        if (self.folder / ADAPTER).exists():
            raise adapter(self.place)
        require_no_code(self.place, self.folder)
        with loading(self.place):
            found = PretrainedConfig.get_config_dict(self.folder, **self.options)[0]
            require_known_type(self.place, found)
            require_possible_sizes(found)
        if found.get("quantization_config"):  # another library would unpack them
            raise ModelError(
                f"{self.place} has quantised weights (quantization_config in its config.json), "
                f"which are not read; give the model as it was before"
            )
        config = self.part(AutoConfig)
        self._family = family = family_of(self.place, config.model_type, families)
        config = getattr(config, family.part) if family.part else config
        # A file may name a program of the Hub here, which transformers would fetch and run.
        config._attn_implementation = None
        for key, value in family.settings.items():
            setattr(config, key, value)
        return config, family

    @property
    def options(self) -> dict[str, Any]:
        """What `from_pretrained` of any class is given, wherever it is called."""
        return {"trust_remote_code": False, "local_files_only": True}

    def _open(self) -> Repository:
        from huggingface_hub.errors import LocalEntryNotFoundError

        with loading(self.place):
            try:
                return Repository(self.place, self._asked, local_only=self.local_only)
            except LocalEntryNotFoundError:
                if not self.local_only:
                    raise
        at = f" --revision {self._asked}" if self._asked else ""
        raise ModelError(
            f"{self.place} is not on this machine, and the Hub is not asked for a model that only "
            f"a run names. If you trust it: `hf download {self.place}{at}`, then try again"
        )

    def fetch(self, last: str, before: Sequence[str] = ()) -> None:
        """Fetch some small files of a model on the Hub; those that it lacks are left out.

        Raise `ModelError` if one of them names code; none is fetched after it.
        """
        if self._repository:
            with loading(self.place):
                self._repository.fetch(last, before)

    def missing_bytes(self) -> int:
        """Return the bytes of weights that have to be fetched; `ModelError` if they cannot be."""
        if not self._repository:
            return 0
        with loading(self.place):
            return self._repository.missing_bytes()

    def count_weights(self, config: Any) -> int:
        """Return how many numbers a model has by its configuration."""
        if self._numbers is None:
            self._numbers = count_weights(self.place, config, self._family.leave_out)
        return self._numbers

    def moved_to(self) -> str | None:
        """Return the commit to which the main branch on the Hub has moved; None if it has not."""
        if not self._repository or self.local_only:
            return None
        with quiet_transformers():
            newest = self._repository.newest()
        return newest if newest not in (None, self.commit) else None

    def part(self, kind: Any, **options: Any) -> Any:
        """Load what the class `kind` of transformers reads; raise `ModelError` if that fails."""
        with loading(self.place):
            return kind.from_pretrained(self.folder, **self.options, **options)

    @property
    def revision(self) -> str:
        """The commit on the Hub, or a digest of a local folder's files."""
        return self.commit or weights_digest(Path(self.place))

    def load(
        self, config: Any, dtype: "torch.dtype", device: "torch.device", how: Quantize | None = None
    ) -> "torch.nn.Module":
        """Load the weights: in `dtype`, on `device`, in eval mode, without gradients.

        Raises:
            ModelError: if they cannot be loaded, are incomplete, or do not fit the device.
        """
        from transformers import AutoModel

        quantised = quantising(how, dtype, device) if how else {}
        if self._repository:
            with loading(self.place):
                self._repository.fetch_weights()
        require_whole_weights(self.place, self.folder, self.count_weights(config))
        model, found = self.part(
            AutoModel,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            key_mapping=dict(self._family.keys) or None,
            **self._family.leave_out,
            **quantised,
        )
        # transformers fills missing weights with random numbers. The mask token is never used.
        lacking = {name for name in found["missing_keys"] if not name.endswith("mask_token")}
        lacking |= {name for name, *_ in found["mismatched_keys"]}
        if lacking:
            raise ModelError(
                f"{self.place}: {len(lacking)} of its weights are missing or of another size than "
                f"its config.json says, such as {min(lacking)}; download it again"
            )
        # Those that are quantised are there already, and cannot be moved.
        placed = model if quantised else unless_out_of_memory(partial(model.to, device))
        if placed is None:
            raise ModelError(
                f"{self.place} does not fit the memory of {device}; use --device cpu or a smaller "
                f"model"
            )
        return placed.eval().requires_grad_(False)


def _require_own_files(folder: Path) -> None:
    """Raise `ModelError` if a folder holds what no library may open, or has its weights elsewhere.

    A pipe would be waited for, and a device never ends.
    """
    require_library_files(folder, ModelError, largest_text=LARGEST_TEXT)
    with loading(str(folder)):
        indexed_weights(folder)


def weights_digest(folder: Path) -> str:
    """Return a digest of the weights, config and tokenizer in `folder`.

    A file of up to 64 MB is read whole. Of a larger one, evenly spread blocks are read: they tell
    any two checkpoints apart within milliseconds. A folder without weights is a `ModelError`.
    """
    if not any(folder.glob("*.safetensors")):
        raise ModelError(pickle_only(str(folder)))
    hasher = xxhash.xxh3_128()
    patterns = ("*.safetensors", "*.json", "*.model")  # .model: a tokenizer of the older kind
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        with loading(str(folder)), open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            hasher.update(f"{path.name} {size}\n".encode())
            step = max(BLOCK_BYTES, size // SAMPLE_BLOCKS)
            for offset in range(0, size, step):
                file.seek(offset)
                hasher.update(file.read(BLOCK_BYTES))
    return f"xxh3:{hasher.hexdigest()}"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence warnings and progress bars in the block, except for downloads on a terminal."""
    from huggingface_hub.utils import logging as hub
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    verbosity, hub_verbosity = logging.get_verbosity(), hub.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub.set_verbosity_error()  # it would report each attempt to reach the Hub
    logging.disable_progress_bar()
    if sys.stderr.isatty():
        enable_progress_bars()  # gigabytes should not arrive in silence
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub.set_verbosity(hub_verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn any error of transformers about the model `name` into a `ModelError` of one sentence."""
    try:
        with quiet_transformers():
            yield
    except ModelError:
        raise
    except Exception as error:  # damaged files raise nearly any class
        if is_out_of_memory(error):
            raise
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{name} can only be loaded by code of its own (auto_map), and no code of a model "
                f"is run; give a model of a type that transformers knows itself"
            ) from error
        raise ModelError(explain(name, error)) from error


@contextmanager
def computing(name: str) -> Iterator[None]:
    """Turn any error of a tokenizer or a forward pass into a `ModelError` of one sentence.

    A configuration has values that only these read.
    """
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"{name}: cannot compute with what its configuration says ({reason_of(error)}); take "
            f"another copy of the model"
        ) from error
