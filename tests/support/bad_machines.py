"""The rows of docs/bad-inputs.md about a training on several machines."""

from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.commands.train_head import _begins
from frozen_vqa.pipeline.config import TrainConfig
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.system.ranks import Ranks
from frozen_vqa.pipeline.train.resume import require_same_settings
from tests.support.bad_inputs import REFUSED, Row
from tests.support.bad_options import PLAIN, make_inputs, run_in, setting


class Heard(Ranks):
    """A first rank, which hears that another one has a training."""

    def largest(self, *numbers: int) -> tuple[int, ...]:
        return tuple(1 for _ in numbers)


def on_another_machine(folder: Path) -> Row:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "0")
        patch.setenv("WORLD_SIZE", "1")
        with pytest.raises(RunError) as found:
            _begins(folder / "run", folder, Heard())
    return REFUSED, str(found.value)


def resumed(asked: int) -> Any:
    """A case of a training that began with two shares."""

    def make(folder: Path) -> Row:
        with pytest.raises(ConfigError) as found:
            require_same_settings(folder / "run", {"shares": 2}, TrainConfig(shares=asked))
        return REFUSED, str(found.value)

    return make


def under_torchrun(words: str, **environment: str) -> Any:
    """A case of a command that torchrun started, one rank of one."""

    def make(folder: Path) -> Row:
        make_inputs(folder)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"RANK": "0", "WORLD_SIZE": "1", **environment}.items():
                patch.setenv(name, value)
            outcome, line = run_in(folder, words)
        return outcome, line.removeprefix("rank 0: ")

    return make


SEVERAL_MACHINES = {
    "a run that another machine has": on_another_machine,
    "`--resume` of nothing, without a cache": under_torchrun("train-head --run DATA/new --resume"),
    "GROUP_WORLD_SIZE that is no number": under_torchrun(
        f"{PLAIN} --min-answer-count 1", GROUP_WORLD_SIZE="two"
    ),
    "another number of shares": resumed(3),
    "shares below 0": setting("shares = -1"),
    "shares for more machines than there are": setting("shares = 10001"),
    "shares that are no number": setting("shares = 'two'"),
    "sweep whose heads have other shares": setting("shares = [1, 2]", "--sweep"),
}
"""How each input is made."""
