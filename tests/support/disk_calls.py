"""Every call by which a save changes the disk, watched from before it; a write halfway too."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CALLS: tuple[tuple[Any, str], ...] = (
    (os, "fsync"),
    (os, "link"),
    (os, "open"),
    (os, "replace"),
    (Path, "unlink"),
    (Path, "mkdir"),
)


def watch(
    before: Callable[[], None], patch: pytest.MonkeyPatch, *, also: tuple[tuple[Any, str], ...] = ()
) -> None:
    """Call `before` ahead of each of CALLS and `also`, and when half of a write is done."""
    for owner, name in (*CALLS, *also):
        patch.setattr(owner, name, _watched(before, getattr(owner, name)))
    write = os.write

    def half_writing(handle: int, data: memoryview) -> int:
        half = len(data) // 2
        write(handle, data[:half])
        before()
        return half + write(handle, data[half:])

    patch.setattr(os, "write", half_writing)


def _watched(before: Callable[[], None], real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **settings: Any) -> Any:
        before()
        return real(*args, **settings)

    return call
