"""The errors of a cache, as one small tree.

    CacheError               also: there is no cache here, a split is missing, the disk is full
    ├── CacheMismatchError   its settings are not those that the command asks for
    ├── CacheDamagedError    its bytes are not those that were written
    ├── CacheBusyError       another process is writing to it
    ├── StoreError           the URL that it should lie at cannot be used
    │   └── ObjectError      a file there is gone, or not what was written
    └── UnsafeNameError      a name in a file leads elsewhere

Every message says where, what was found, what was needed and what to do next.
"""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from frozen_vqa.cache.arrivals import arrivals_of


class CacheError(Exception):
    """Base of everything that is wrong with a cache."""


class CacheMismatchError(CacheError):
    """The cache was made with other settings than the command asks for."""


class CacheDamagedError(CacheError):
    """The bytes of a cache are not those that were written."""


class CacheBusyError(CacheError):
    """Another process is writing to the cache."""


class StoreError(CacheError):
    """A URL cannot be used: none of a store, no access, no answer, or not what was written."""


class ObjectError(StoreError):
    """An object at a URL is gone, or not what was written; another try changes nothing."""


class UnsafeNameError(CacheError):
    """A name that stands in a file is none of a file beside it."""


def remedy(directory: Path) -> str:
    """Return what to do about damage."""
    arrivals = arrivals_of(directory)
    stage = f" --stage {quoted(arrivals.folder)}" if arrivals else ""
    return (
        f"Run `frozen-vqa verify-cache {quoted_cache(directory)}{stage}`: it names every damaged "
        f"file and the command that makes it again."
    )


def made_by(found: object, reads: int) -> str:
    """Return which version of frozen-vqa reads a file of format `found`; this one reads `reads`."""
    if not isinstance(found, int) or found < 1:
        return "No version writes such a one, so the file is damaged."
    if found > reads:
        return "A newer version made it: update this one."
    return "An older version made it and still reads it."


_SECRET = re.compile(
    r"(?<=://)[^/\s]*@|(?<=[?&])[\w-]*(?:token|signature|credential|password|secret|key)[\w-]*=[^\s&]*",
    re.IGNORECASE,
)
"""What a URL may hold in front of its host, or among its parameters."""


def without_secrets(text: str) -> str:
    """Return a text without the passwords and tokens of the URLs in it."""
    return _SECRET.sub("…", text)


def link_to_nothing(path: Path) -> str:
    """Return which part of a path is a link to nothing; "" if none is."""
    for one in (path, *path.parents):
        if os.path.islink(one) and not os.path.exists(one):
            return f"{one} is a link to {os.readlink(one)}, which is not there"
    return ""


def no_folder(path: Path) -> str:
    """Return which folder that a path needs is something else; "" if none is."""
    there = next((one for one in path.parents if os.path.lexists(one)), None)
    return f"{there} is no folder, and one is needed there" if there and not there.is_dir() else ""


KNOWN_BY = {
    "cache": ("cache.json", "extract-features --cache FOLDER --dataset ..."),
    "run": ("run.json", "train-head --cache CACHE --run FOLDER"),
}
"""The file that tells a cache or a run, and the command that makes one."""


def wrong_folder(folder: Path, kind: Literal["cache", "run"], missing: str) -> str:
    """Return what a folder is that lacks a file of a cache or run, and which one may be meant."""
    file, command = KNOWN_BY[kind]
    others = [
        other for other in KNOWN_BY if other != kind and (folder / KNOWN_BY[other][0]).exists()
    ]
    if folder.is_file():
        found = f"this is a file; the folder of a {kind} is needed"
    elif others:
        found = f"this is a {others[0]}; the folder of a {kind} is needed"
    else:
        why = f"{missing} is missing" if folder.exists() else "there is no such folder"
        why = link_to_nothing(folder) or why
        found = f"there is no {kind} here ({why})"
    start = folder if folder.is_dir() else folder.parent  # a name may be mistyped
    near = [path.parent for path in sorted(start.glob(f"*/{file}"))]
    near += [above for above in list(folder.parents)[:2] if (above / file).is_file()]
    shown = ", ".join(map(quoted, near[:3])) + (", …" if near[3:] else "")
    meant = f" Did you mean {'one of ' if near[1:] else ''}{shown}?" if near else ""
    return f"{folder}: {found}.{meant} `frozen-vqa {command}` makes one."


def quoted(path: Path) -> str:
    """Return a path as a user can paste it into a command line."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def quoted_cache(directory: Path) -> str:
    """Return the folder of a cache, or its URL, as a user can paste it into a command line."""
    arrivals = arrivals_of(directory)
    return shlex.quote(arrivals.address) if arrivals else quoted(directory)


def damaged_row(path: Path, row: int, directory: Path) -> CacheDamagedError:
    """Return the error for a row of features that is not what was written."""
    return CacheDamagedError(
        f"{path}: row {row} differs from its digest, so it is not what was written. "
        f"{remedy(directory)}"
    )


def unusable_row(path: Path, row: int, what: str, directory: Path) -> CacheDamagedError:
    """Return the error for a row of features, those of `what`, that no head can compute with."""
    return CacheDamagedError(
        f"{path}: row {row}, of {what}, holds a number that is not finite or beyond 1e18, which "
        f"extract-features never writes. {remedy(directory)}"
    )


@contextmanager
def explain_read_errors(path: Path, error: type[CacheError]) -> Iterator[None]:
    """Turn an `OSError` of the block into `error`, whose message says where and what."""
    try:
        yield
    except OSError as found:
        raise error(f"{path}: cannot be read ({found.strerror})") from found


@contextmanager
def explain_write_errors(path: Path, error: type[Exception], advice: str = "") -> Iterator[None]:
    """Turn an `OSError` of the block into `error`; `advice` is a sentence on what to do."""
    try:
        yield
    except OSError as found:
        reason = found.strerror or str(found)
        raise error(f"{path}: cannot be written ({reason}). {advice}".rstrip()) from found
