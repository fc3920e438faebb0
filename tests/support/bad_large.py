"""Rows of docs/bad-inputs.md: a disk that has no room for the plan of a large data set."""

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.cache.large import nameless
from frozen_vqa.pipeline.sources.own.source import OwnSource
from tests.support.bad_inputs import REFUSED, STORED, Row
from tests.support.jsonl_files import LINE, write
from tests.support.large import in_files


def _reading(call: str, error: int, folder: Path) -> Row:
    """Read questions that all lie in a file, with an error of the system in one call."""

    def fail(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    file = write(folder / "train.jsonl", *[LINE] * 100)
    with in_files(0), pytest.MonkeyPatch.context() as patch:
        patch.setattr(nameless, "folder", lambda: folder)
        patch.setattr(os, call, fail)
        try:
            OwnSource(file).examples("train")
        except CacheError as found:
            return REFUSED, str(found)
    return STORED, ""


def _nowhere(folder: Path) -> Row:
    with in_files(0), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder / "gone"))
        patch.setenv("TMPDIR", str(folder / "gone"))
        try:
            OwnSource(write(folder / "train.jsonl", LINE)).examples("train")
        except CacheError as found:
            return REFUSED, str(found)
    return STORED, ""


LARGE: dict[str, Callable[[Path], Row]] = {
    "a disk that fills up": partial(_reading, "pwrite", errno.ENOSPC),
    "a quota that is used up": partial(_reading, "pwrite", errno.EDQUOT),
    "a disk without room for what finds an id": partial(_reading, "posix_fallocate", errno.ENOSPC),
    "a folder for temporary files that went away": _nowhere,
}
