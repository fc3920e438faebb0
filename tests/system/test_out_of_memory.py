"""Memory that does not suffice, wherever that shows, is one line that says what to make smaller."""

import errno
import itertools
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest

from frozen_vqa.pipeline.errors import is_out_of_memory
from tests.support.command import Finished, run_command
from tests.support.command_lines import working_lines
from tests.support.memory_errors import ERRORS
from tests.support.tiny_commands import (
    _home,  # noqa: F401  (a fixture)
)

ALLOCATE = (
    *(f"numpy.{name}" for name in ("empty", "zeros", "stack", "concatenate", "take", "fromiter")),
    *(f"torch.{name}" for name in ("empty", "zeros", "cat", "from_numpy", "ones", "tensor")),
    *("torch.nn.functional.linear", "torch.nn.functional.layer_norm", "torch.Tensor.backward"),
    *("torch.optim.AdamW.step", "safetensors.torch.load", "safetensors.torch.save"),
    *("mmap.mmap", "PIL.Image.Image.resize"),
)
SMALLER = {
    "extract-features": "smaller",
    "train-head": "--batch-size, --width or --layers",
    "evaluate": "a smaller head",
    "ask": "a smaller head",
    "convert-cache": "Take a machine with more",
}
BACK_OFF = ("extract-features", "train-head", "evaluate")
"""Commands with steps that try again with less at once, as the report of a training does."""

STEPS = 9
"""At how many allocations a command is tried, evenly spread over those that it makes."""


class Memory:
    """Counts allocations, and lets one of them fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made, self.fails, self.error = 0, -1, MemoryError
        for target in ALLOCATE:
            home, _, name = target.rpartition(".")
            patch.setattr(target, self._wrap(getattr(resolve_name(home), name)))

    def _wrap(self, real: Any) -> Any:
        def allocate(*args: Any, **options: Any) -> Any:
            self.made += 1
            if self.made - 1 == self.fails:
                raise self.error()
            return real(*args, **options)

        return allocate

    def run(self, *words: object, fails: int, error: Any = MemoryError) -> Finished:
        self.made, self.fails, self.error = 0, fails, error
        return run_command(*words)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory(monkeypatch)


@pytest.mark.stops
@pytest.mark.parametrize("command", SMALLER)
def test_every_allocation_may_fail(
    command: str, place: Path, memory: Memory, tmp_path: Path
) -> None:
    def line(number: int) -> list[str]:
        words = working_lines(place, tmp_path / f"{number}")[command]
        return [word for word in words if word != "--dry-run"]

    assert memory.run(*line(0), fails=-1).code == 0
    kinds = itertools.cycle(ERRORS)
    for number, fails in enumerate(np.linspace(0, memory.made - 1, STEPS).astype(int), start=1):
        found = memory.run(*line(number), fails=fails, error=next(kinds))
        if found.code == 0 and command in BACK_OFF:
            continue
        errors = [one for one in found.err.splitlines() if one.startswith("error: ")]
        assert found.code == 1, (fails, found)
        assert len(errors) == 1, (fails, found)
        assert found.err.endswith(f"{errors[0]}\n"), (fails, found)
        assert "does not suffice" in errors[0] or "does not fit" in errors[0], (fails, errors)
        assert SMALLER[command] in errors[0], (fails, errors)


def test_other_errors_are_not_of_memory() -> None:
    for error in (RuntimeError("shape"), ValueError("out of memory"), OSError(errno.EIO, "x")):
        assert not is_out_of_memory(error)
    assert is_out_of_memory(OSError(errno.ENOMEM, "x"))
