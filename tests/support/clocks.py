"""A clock that only tests move, so that a measured time has one right value."""

import time
from types import ModuleType, SimpleNamespace

import pytest


class Clock:
    """Stands in for the module `time` in the modules that measure."""

    def __init__(self, patch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        self.now = 1000.0
        read = lambda: self.now  # noqa: E731
        fake = SimpleNamespace(**{**vars(time), "monotonic": read, "perf_counter": read})
        for module in modules:
            patch.setattr(module, "time", fake)
