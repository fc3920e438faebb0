"""A name that stands in a file becomes a path here, and nowhere else: `path_in`.

Caches, runs, models and data sets come from anybody, and a name in one may be "../../x". So each
name that is not spelled in our code comes through here; tests/test_paths.py forbids other joins.
"""

import os
import re
from pathlib import Path

from frozen_vqa.cache.errors import CacheError, UnsafeNameError

LONGEST_NAME = 255
"""Bytes of the name of a file, which most file systems allow."""
LONGEST_SPLIT = LONGEST_NAME - len("~999999.h5.partial")
"""Bytes of a split's name, because its file has a longer name while it is written."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def path_in(folder: Path, name: str) -> Path:
    """Return FOLDER/NAME; raise `UnsafeNameError` unless this is below the folder.

    A name may have several parts, as "images/00000.h5" has. Whether one of them is a link on the
    disk is for who writes there to find out (`disk/folders.py`).
    """
    if not all(map(_is_name, name.split("/"))):
        raise UnsafeNameError(
            f"{folder}: {name!r:.80} is not the name of a file in this folder, so nothing was read "
            f"or written there. Give another name, or take another copy of what names it."
        )
    return folder / name


def require_split_name(name: str) -> None:
    """Raise `CacheError` unless a split can have this name, which becomes a file's."""
    fits = name.isprintable() and len(name.encode()) <= LONGEST_SPLIT
    if not fits or name in ("", ".", "..") or "/" in name:
        raise CacheError(
            f"split {name!r}: a file cannot have this name. Give a name without '/' and control "
            f"characters, of at most {LONGEST_SPLIT} bytes."
        )


def _is_name(part: str) -> bool:
    try:
        size = len(os.fsencode(part))
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return part not in (".", "..") and 0 < size <= LONGEST_NAME and not _CONTROLS.search(part)
