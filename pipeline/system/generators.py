"""The random generators that one of several trainings in a process draws from."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from frozen_vqa.pipeline.system.device import generator_state, set_generator_state


class Generators:
    """States of the generators of the CPU and of a device, which begin as they are now."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._states = self._now()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let the block draw from these states, and restore those of before."""
        before = self._now()
        self._set(self._states)
        try:
            yield
            self._states = self._now()
        finally:
            self._set(before)

    def _now(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        return torch.get_rng_state(), generator_state(self._device)

    def _set(self, states: tuple[torch.Tensor, torch.Tensor | None]) -> None:
        torch.set_rng_state(states[0])
        if states[1] is not None:
            set_generator_state(self._device, states[1])
